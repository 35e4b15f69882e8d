"""Poses on their way out of a command: one person's or several people's, to the file that its suffix says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..files.motion import Motion
from ..files.writing import SUFFIXES
from ..skeleton import Skeleton
from ..stream import Pose

OUTPUTS = (".npz", *SUFFIXES)


def motion_of(poses: Sequence[Pose], frames: np.ndarray) -> Motion:
    """One person's poses, and the recording's frame of each, (N,)."""
    return Motion(0, poses[0].skeleton, frames, np.array([pose.timestamp_s for pose in poses]),
                  np.stack([pose.joints_m for pose in poses]), np.stack([pose.confidence for pose in poses]),
                  np.stack([pose.is_seen for pose in poses]))


def motions_of(arrays: Mapping[str, np.ndarray], skeleton: Skeleton) -> list[Motion]:
    """The motion of each person in the arrays of `lift_people`, by their numbers."""
    columns = ("frame", "timestamps_s", "joints_m", "confidence", "is_seen")
    return [Motion(int(person), skeleton, *(arrays[name][arrays["person"] == person] for name in columns))
            for person in np.unique(arrays["person"])]
