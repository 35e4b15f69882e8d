"""One person's poses over time, as the writers of files take them; poses at even times; the axes that files have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..skeleton import Skeleton

EVEN_SHARE = 1e-3  # poses that lie within this part of a period of even times lie at them
MOST_PERIODS = 1.5  # between two poses that a time between them is interpolated from; more is a gap
CAMERA_TO_Y_UP = np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]], float)  # x right, y up, z towards the camera
CAMERA_TO_GROUND = np.array([[0, 0, -1], [0, -1, 0], [-1, 0, 0]], float)  # OpenSim's: x towards the camera, y up
CAMERA_TO_Z_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)  # x right, y away from the camera, z up


@dataclass(frozen=True, eq=False)
class Motion:
    """The poses of one person in a recording, in the order of time.

    person: the person's number in the recording. frame (N,): the recording's frame nearest in time. timestamps_s (N,).
    joints_m (N, J, 3) metres from the root, camera axes; confidence (N, J); is_seen (N, J): see Pose.
    """

    person: int
    skeleton: Skeleton
    frame: np.ndarray
    timestamps_s: np.ndarray
    joints_m: np.ndarray
    confidence: np.ndarray
    is_seen: np.ndarray


@dataclass(frozen=True, eq=False)
class EvenMotion:
    """Poses at even times. times_s (F,). joints_m: for each person (F, J, 3), NaN where there is no pose."""

    times_s: np.ndarray
    rate_hz: float
    joints_m: list[np.ndarray]


def evenly(people: Sequence[Motion]) -> EvenMotion:
    """The poses of a recording's people at even times, for files that have a rate; uneven ones are interpolated.

    Raises ValueError if somebody's time goes back, as where a file holds several recordings.
    """
    for motion in people:
        if (np.diff(motion.timestamps_s) <= 0).any():
            raise ValueError(f"the times of person {motion.person} go back, so there are several recordings in one; "
                             "wanted one for a file of even times")
    stamps_s = np.unique(np.concatenate([motion.timestamps_s for motion in people]))
    steps_s = np.diff(stamps_s)
    steps_s = steps_s[steps_s > EVEN_SHARE * np.median(steps_s)] if len(steps_s) else np.ones(1)
    # A gap is several periods, so the mean over all steps is that of one period.
    period_s = steps_s.sum() / np.rint(steps_s / np.median(steps_s)).sum()
    times_s = stamps_s[0] + period_s * np.arange(round((stamps_s[-1] - stamps_s[0]) / period_s) + 1)
    return EvenMotion(times_s, 1 / period_s, [_at(times_s, motion, period_s) for motion in people])


def _at(times_s: np.ndarray, motion: Motion, period_s: float) -> np.ndarray:
    """(F, J, 3): the joints at some times, NaN where no pose is near."""
    after = np.searchsorted(motion.timestamps_s, times_s).clip(max=len(motion.timestamps_s) - 1)
    before = (after - 1).clip(min=0)
    step_s = motion.timestamps_s[after] - motion.timestamps_s[before]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(step_s > 0, (times_s - motion.timestamps_s[before]) / step_s, 1.0)
    joints_m = motion.joints_m[before] + share[:, None, None] * (motion.joints_m[after] - motion.joints_m[before])
    is_between = (share >= 0) & (share <= 1) & (step_s <= MOST_PERIODS * period_s) & (step_s > 0)
    joints_m[~is_between] = np.nan
    for near in (before, after):
        is_at = np.abs(motion.timestamps_s[near] - times_s) <= EVEN_SHARE * period_s
        joints_m[is_at] = motion.joints_m[near[is_at]]
    return joints_m


def zxy_degrees(rotation: np.ndarray) -> np.ndarray:
    """(F, 3): the angles about z, x and y, in this order, of (F, 3, 3) = Rz @ Rx @ Ry."""
    x = np.arcsin(rotation[:, 2, 1].clip(-1, 1))
    z = np.arctan2(-rotation[:, 0, 1], rotation[:, 1, 1])
    y = np.arctan2(-rotation[:, 2, 0], rotation[:, 2, 2])
    return np.degrees(np.stack([z, x, y], axis=-1))
