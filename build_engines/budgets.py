"""How far a product's poses may be from those of the model it was made of."""

from __future__ import annotations

import numpy as np

from edgepose.columns import OUTPUTS, joints_of

BUDGET_MM = {"fp32": 0.01, "fp16": 0.5, "w8": 1.0, "int8": 1.0}  # mean distance to float32 that a product may have
ERROR_SHARE = 0.5  # part of that budget for the predicted error: one number, not a distance in space


def errors_mm(poses_m: np.ndarray, reference_m: np.ndarray) -> tuple[float, float]:
    """(mean, largest) distance of joints, in mm. poses_m, reference_m: (N, J, D)."""
    distances = np.linalg.norm(joints_of(poses_m) - joints_of(reference_m), axis=-1) * 1e3
    return float(distances.mean()), float(distances.max())


def over_budget(poses_m: np.ndarray, reference_m: np.ndarray, precision: str) -> str:
    """The budget that poses leave, in words, or nothing: the joints', or that of the errors predicted beside them.

    poses_m, reference_m: (N, J, D). NaN is over every budget.
    """
    if not errors_mm(poses_m, reference_m)[0] <= BUDGET_MM[precision]:
        return f"{BUDGET_MM[precision]} mm mean"
    if poses_m.shape[-1] == len(OUTPUTS):
        off_mm, allowed_mm = float(np.abs(poses_m - reference_m)[..., -1].mean()) * 1e3, ERROR_SHARE * BUDGET_MM[precision]
        if not off_mm <= allowed_mm:
            return f"{allowed_mm} mm mean in the column 'error' ({off_mm:.4f} mm)"
    return ""
