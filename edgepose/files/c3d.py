"""Marker trajectories for motion capture programs (.c3d): a point for each joint, in mm, z up. Needs ezc3d.

Several people are points with their number before the joint, "1:left_knee", as of several subjects. A moment without a
pose has the residual -1, the format's mark of an invalid point. Source: c3d.org, "The C3D File Format".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..checks import need_library
from .motion import CAMERA_TO_Z_UP, Motion, evenly

INVALID = -1.0
MOST_FRAMES = 65535  # a header's number has 16 bits


def write_c3d(path: Path, people: Sequence[Motion]) -> None:
    """Writes the joints of all people as points.

    Raises ImportError, saying what to install, without ezc3d, and ValueError for more frames than a file can have.
    """
    need_library("ezc3d", f"writing {path}")
    import ezc3d

    even = evenly(people)
    if len(even.times_s) > MOST_FRAMES:
        raise ValueError(f"{path}: there are {len(even.times_s)} frames; a .c3d file has at most {MOST_FRAMES}")
    points_mm = 1e3 * np.concatenate(even.joints_m, axis=1) @ CAMERA_TO_Z_UP.T  # (F, points, 3)
    is_missing = np.isnan(points_mm).any(axis=-1)
    labels = [joint if len(people) == 1 else f"{motion.person}:{joint}"
              for motion in people for joint in motion.skeleton.joints]
    file = ezc3d.c3d()
    point = file["parameters"]["POINT"]
    point["RATE"]["value"], point["LABELS"]["value"], point["UNITS"]["value"] = [even.rate_hz], labels, ["mm"]
    file.add_parameter("POINT", "X_SCREEN", ["+X"])
    file.add_parameter("POINT", "Y_SCREEN", ["+Z"])
    file["data"]["points"] = np.concatenate([np.nan_to_num(points_mm), np.ones((*points_mm.shape[:2], 1))], -1).T
    file["data"]["meta_points"]["residuals"] = np.where(is_missing, INVALID, 0.0).T[None]
    file["data"]["meta_points"]["camera_masks"] = np.zeros((7, *is_missing.T.shape), bool)
    file.write(str(path))
