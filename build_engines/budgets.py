"""The distance that an engine's poses may have from those of its model, and from the truth."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from edgepose.columns import OUTPUTS, joints_of
from edgepose.metrics import mpjpe

ERROR_SHARE = 0.5  # part of mean_mm for the predicted error: one number, not a distance in space
TAIL = 99.9  # percentile


@dataclass(frozen=True)
class Budget:
    """The most that an engine may lose. mean_mm: mean distance of its joints to float32; tail_mm: 99.9 % of them are
    nearer; truth_mm: growth of MPJPE."""

    mean_mm: float
    tail_mm: float = inf
    truth_mm: float = inf

    def used(self, poses_m: np.ndarray, reference_m: np.ndarray) -> float:
        """The largest part of it that poses use: above 1 they leave it. poses_m, reference_m: (N, J, D)."""
        mean_mm, _ = errors_mm(poses_m, reference_m)
        return max(mean_mm / self.mean_mm, tail_mm(poses_m, reference_m) / self.tail_mm,
                   _off_mm(poses_m, reference_m) / (ERROR_SHARE * self.mean_mm))


EIGHT_BITS = Budget(1.0, tail_mm=10.0, truth_mm=0.3)
BUDGETS = {"fp32": Budget(0.01), "fp16": Budget(0.5), "w8": EIGHT_BITS, "int8": EIGHT_BITS}


def errors_mm(poses_m: np.ndarray, reference_m: np.ndarray) -> tuple[float, float]:
    """(mean, largest) distance of joints, in mm. poses_m, reference_m: (N, J, D)."""
    distances = _distances_mm(poses_m, reference_m)
    return float(distances.mean()), float(distances.max())


def tail_mm(poses_m: np.ndarray, reference_m: np.ndarray) -> float:
    """The distance that 99.9 % of the joints stay under, in mm. poses_m, reference_m: (N, J, D)."""
    return float(np.percentile(_distances_mm(poses_m, reference_m), TAIL))


def mpjpe_mm(poses_m: np.ndarray, target_m: np.ndarray) -> float:
    """Mean joint error in mm. poses_m (N, J, D), target_m (N, J, 3)."""
    return float(mpjpe(joints_of(poses_m) * 1e3, target_m * 1e3))


def over_budget(poses_m: np.ndarray, reference_m: np.ndarray, precision: str,
                target_m: np.ndarray | None = None) -> str:
    """The budget that poses leave, in words, or nothing: the joints', or that of the errors predicted with them.

    poses_m, reference_m: (N, J, D). target_m: the truth (N, J, 3), of a trained model. NaN is over every budget.
    """
    budget = BUDGETS[precision]
    if not errors_mm(poses_m, reference_m)[0] <= budget.mean_mm:
        return f"{budget.mean_mm} mm mean"
    if not (tail := tail_mm(poses_m, reference_m)) <= budget.tail_mm:
        return f"{budget.tail_mm} mm for 99.9 % of the joints ({tail:.2f} mm)"
    off_mm, allowed_mm = _off_mm(poses_m, reference_m), ERROR_SHARE * budget.mean_mm
    if not off_mm <= allowed_mm:
        return f"{allowed_mm} mm mean in the column 'error' ({off_mm:.4f} mm)"
    if target_m is not None:
        worse_mm = mpjpe_mm(poses_m, target_m) - mpjpe_mm(reference_m, target_m)
        if not worse_mm <= budget.truth_mm:
            return f"{budget.truth_mm} mm more MPJPE ({worse_mm:.2f} mm)"
    return ""


def _distances_mm(poses_m: np.ndarray, reference_m: np.ndarray) -> np.ndarray:
    return np.linalg.norm(joints_of(poses_m) - joints_of(reference_m), axis=-1) * 1e3


def _off_mm(poses_m: np.ndarray, reference_m: np.ndarray) -> float:
    """Mean difference of the predicted errors, in mm; 0 where there are none."""
    return float(np.abs(poses_m - reference_m)[..., -1].mean()) * 1e3 if poses_m.shape[-1] == len(OUTPUTS) else 0.0
