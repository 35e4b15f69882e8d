"""How far a product's poses may be from those of the model it was made of."""

from __future__ import annotations

import numpy as np

BUDGET_MM = {"fp32": 0.01, "fp16": 0.5, "w8": 1.0, "int8": 1.0}  # mean distance to float32 that a product may have


def errors_mm(poses_m: np.ndarray, reference_m: np.ndarray) -> tuple[float, float]:
    """(mean, largest) distance of joints, in mm. poses_m, reference_m: (N, J, 3)."""
    distances = np.linalg.norm(poses_m - reference_m, axis=-1) * 1e3
    return float(distances.mean()), float(distances.max())
