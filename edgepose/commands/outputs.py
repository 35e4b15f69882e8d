"""Poses on their way out of a command: one person's or several people's, to the file that its suffix says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..checks import listed
from ..files.motion import Motion
from ..files.writing import SUFFIXES, write_motions
from ..skeleton import Skeleton
from ..stream import Pose

OUTPUTS = (".npz", *SUFFIXES)


def motion_of(poses: Sequence[Pose], frames: np.ndarray) -> Motion:
    """One person's poses, and the recording's frame of each, (N,)."""
    return Motion(0, poses[0].skeleton, frames, np.array([pose.timestamp_s for pose in poses]),
                  np.stack([pose.joints_m for pose in poses]), np.stack([pose.confidence for pose in poses]),
                  np.stack([pose.is_seen for pose in poses]))


def places_of(poses: Sequence[Pose], name: str) -> np.ndarray:
    """(N, 3): root_m or root_error_m of poses, NaN where the place is not known."""
    values = [getattr(pose, name) for pose in poses]
    return np.array([np.full(3, np.nan) if value is None else value for value in values], np.float64).reshape(-1, 3)


def motions_of(arrays: Mapping[str, np.ndarray], skeleton: Skeleton) -> list[Motion]:
    """The motion of each person in the arrays of `lift_people`, by their numbers."""
    columns = ("frame", "timestamps_s", "joints_m", "confidence", "is_seen")
    return [Motion(int(person), skeleton, *(arrays[name][arrays["person"] == person] for name in columns))
            for person in np.unique(arrays["person"])]


def write_people(motions: Sequence[Motion], path: Path) -> None:
    """Several people's poses: an .npz file with a row a pose and its `person`, or files of another program."""
    if path.suffix == ".npz":
        columns = {name: np.concatenate([getattr(motion, name) for motion in motions])
                   for name in ("frame", "timestamps_s", "joints_m", "confidence", "is_seen")}
        person = np.repeat([motion.person for motion in motions], [len(motion.frame) for motion in motions])
        np.savez(path, person=person, **columns, joint_names=motions[0].skeleton.joints)
        files = [path]
    else:
        files = write_motions(path, motions)
    print(f"  poses         {listed(files)}")
