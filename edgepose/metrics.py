"""Errors of predicted poses against measured ones. All in float64; every function takes whole clips.

The root is joint 0 (the pelvis). Means run over all joints, the root included, as in the published H36M figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AUC_THRESHOLDS_MM = np.arange(0.0, 151.0, 5.0)  # Mehta et al. 2017: 0 to 150 mm in steps of 5


def mpjpe(predicted_mm: np.ndarray, target_mm: np.ndarray, joints: Sequence[int] | None = None) -> float:
    """Mean joint error after moving both roots to the origin ("Protocol 1"), in mm.

    predicted_mm, target_mm: (N, J, 3), same skeleton. joints: the indices of those that are counted; None counts all.
    Raises ValueError if shapes differ or a value is not finite.
    Source: Ionescu et al. 2014 (Human3.6M), eq. 8.
    """
    return float(_joint_errors(*_rooted(predicted_mm, target_mm), joints).mean())


def n_mpjpe(predicted_mm: np.ndarray, target_mm: np.ndarray, joints: Sequence[int] | None = None) -> float:
    """Mean joint error after moving both roots to the origin and scaling each predicted frame to fit best, in mm.

    A picture does not show a person's size; this is the error without it, where `mpjpe` has it and `p_mpjpe` is without
    the body's turn too. The scale is that of least squared error over the joints counted; an all-zero frame has none.
    predicted_mm, target_mm: (N, J, 3), same skeleton. joints: as for `mpjpe`.
    Raises ValueError if shapes differ or a value is not finite.
    Source: Rhodin et al. 2018, section 4 (NMPJPE).
    """
    predicted, target = (_counted(poses, joints) for poses in _rooted(predicted_mm, target_mm))
    squares = (predicted**2).sum(axis=(1, 2))
    scale = (predicted * target).sum(axis=(1, 2)) / np.where(squares > 0, squares, 1.0)
    return float(_joint_errors(scale[:, None, None] * predicted, target).mean())


def p_mpjpe(predicted_mm: np.ndarray, target_mm: np.ndarray) -> float:
    """Mean joint error after the best similarity alignment of each frame ("Protocol 2"), in mm.

    predicted_mm, target_mm: (N, J, 3), same skeleton, any root.
    Raises ValueError if shapes differ, a value is not finite, or a frame has all joints in one point.
    Source: Umeyama 1991, eq. 40-42; reflections are excluded as there.
    """
    predicted, target = _checked(predicted_mm, target_mm)
    predicted = predicted - predicted.mean(axis=1, keepdims=True)
    target = target - target.mean(axis=1, keepdims=True)
    for name, pose in (("predicted_mm", predicted), ("target_mm", target)):
        flat = np.flatnonzero(np.abs(pose).max(axis=(1, 2)) < 1e-6)  # below a nanometre there is no shape to align
        if len(flat):
            raise ValueError(f"{name} has all joints in one point in frame {flat[0]}; no alignment exists")
    u, d, vt = np.linalg.svd(target.transpose(0, 2, 1) @ predicted)
    sign = np.ones_like(d)
    sign[:, 2] = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)
    rotation = (u * sign[:, None, :]) @ vt
    scale = (d * sign).sum(axis=1) / (predicted**2).sum(axis=(1, 2))
    aligned = scale[:, None, None] * predicted @ rotation.transpose(0, 2, 1)
    return float(np.linalg.norm(aligned - target, axis=-1).mean())


def pck(predicted_mm: np.ndarray, target_mm: np.ndarray, threshold_mm: float = 150.0,
        joints: Sequence[int] | None = None) -> float:
    """Percentage of joints nearer than the threshold to where they should be, after moving both roots to the origin.

    predicted_mm, target_mm: (N, J, 3), same skeleton. A joint exactly at the threshold does not count.
    joints: the indices of those that are counted; None counts all.
    Raises ValueError if shapes differ or a value is not finite.
    Source: Mehta et al. 2017 (MPI-INF-3DHP), 3DPCK.
    """
    return float(100.0 * (_joint_errors(*_rooted(predicted_mm, target_mm), joints) < threshold_mm).mean())


def auc(predicted_mm: np.ndarray, target_mm: np.ndarray, joints: Sequence[int] | None = None) -> float:
    """Mean of `pck` over the thresholds 0, 5, ..., 150 mm, in percent.

    predicted_mm, target_mm: (N, J, 3), same skeleton. joints: as for `pck`.
    The threshold 0 is part of the published mean, so a perfect prediction has 30/31 = 96.8 %.
    Raises ValueError if shapes differ or a value is not finite.
    Source: Mehta et al. 2017 (MPI-INF-3DHP).
    """
    errors = _joint_errors(*_rooted(predicted_mm, target_mm), joints).ravel()
    return float(100.0 * (errors < AUC_THRESHOLDS_MM[:, None]).mean())


def mpjve(predicted_mm: np.ndarray, target_mm: np.ndarray, joints: Sequence[int] | None = None,
          times_s: np.ndarray | None = None) -> float:
    """Mean joint velocity error of a clip, after moving both roots to the origin: mm a frame, or with times a second.

    predicted_mm, target_mm: (N, J, 3), N >= 2 frames of one clip, same skeleton; without times consecutive ones.
    joints: as for `mpjpe`. times_s: (N,) when each was taken, increasing: then clips of several rates compare, and a
    gap is no jump.
    Raises ValueError if shapes differ, a value is not finite, there is only one frame, or the times are not that.
    Source: Pavllo et al. 2019, section 5.
    """
    predicted, target = _rooted(predicted_mm, target_mm)
    if len(predicted) < 2:
        raise ValueError("a velocity needs at least 2 frames; predicted_mm has 1")
    steps = np.ones(len(predicted) - 1) if times_s is None else np.diff(np.asarray(times_s, dtype=np.float64))
    if steps.shape != (len(predicted) - 1,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise ValueError(f"times_s has shape {np.shape(times_s)}; wanted ({len(predicted)},) increasing seconds")
    change = np.diff(_counted(predicted - target, joints), axis=0)
    return float((np.linalg.norm(change, axis=-1) / steps[:, None]).mean())


def _joint_errors(predicted: np.ndarray, target: np.ndarray, joints: Sequence[int] | None = None) -> np.ndarray:
    return np.linalg.norm(_counted(predicted - target, joints), axis=-1)


def _counted(poses: np.ndarray, joints: Sequence[int] | None) -> np.ndarray:
    return poses if joints is None else poses[:, list(joints)]


def _rooted(predicted_mm: np.ndarray, target_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, target = _checked(predicted_mm, target_mm)
    return predicted - predicted[:, :1], target - target[:, :1]


def _checked(predicted_mm: np.ndarray, target_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted = np.asarray(predicted_mm, dtype=np.float64)
    target = np.asarray(target_mm, dtype=np.float64)
    if predicted.shape != target.shape:
        raise ValueError(f"predicted_mm has shape {predicted.shape}, target_mm {target.shape}; they must be the same")
    if predicted.ndim != 3 or predicted.shape[2] != 3 or predicted.size == 0:
        raise ValueError(f"predicted_mm and target_mm have shape {predicted.shape}; wanted (N, J, 3), not empty")
    for name, pose in (("predicted_mm", predicted), ("target_mm", target)):
        if not np.isfinite(pose).all():
            raise ValueError(f"{name} has NaN or infinite values; leave those frames out first")
    return predicted, target
