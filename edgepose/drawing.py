"""Pictures of poses: 2D input beside 3D output. Needs matplotlib (the `plot` extra)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .camera import screen_to_px
from .skeleton import Skeleton
from .stream import Pose

if TYPE_CHECKING:
    from .recording import Clip

SIDES = {"left_": "#d1495b", "right_": "#2a6fbb"}
MIDLINE = "#30343b"
MOMENTS = (0.1, 0.5, 0.9)  # of the clip, one column each


def _colour(skeleton: Skeleton, joint: int) -> str:
    return next((colour for side, colour in SIDES.items() if skeleton.joints[joint].startswith(side)), MIDLINE)


def plot_poses(clip: Clip, poses: list[Pose], file: Path) -> None:
    """Three moments of a clip: above the keypoints the model was shown, in the picture; below the pose, and the clip's
    reference behind it in grey where there is one. Left is red, right is blue. The format is the file name's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(MOMENTS), 6.6))
    for column, moment in enumerate(MOMENTS):
        pose = poses[int(moment * (len(poses) - 1))]
        keypoints_px = screen_to_px(pose.keypoints_norm, clip.image_size)
        flat = figure.add_subplot(2, len(MOMENTS), column + 1)
        solid = figure.add_subplot(2, len(MOMENTS), len(MOMENTS) + column + 1, projection="3d")
        if clip.reference_m is not None:
            reference = clip.reference_m[min(round(pose.timestamp_s * clip.fps), len(clip.reference_m) - 1)]
            _bones_3d(solid, pose.skeleton, reference, lambda _: "#c4c9d1", 3.0)
        _bones_3d(solid, pose.skeleton, pose.joints_m, lambda joint: _colour(pose.skeleton, joint), 2.0)
        for parent, joint in pose.skeleton.bones:
            flat.plot(*keypoints_px[[parent, joint]].T, color=_colour(pose.skeleton, joint), linewidth=2)
        hidden = keypoints_px[~pose.is_seen]
        flat.plot(*hidden.T, "o", color="white", markeredgecolor=MIDLINE, markersize=4)
        low, high = keypoints_px.min(0), keypoints_px.max(0)
        centre, reach = (low + high) / 2, 0.56 * (high - low).max()
        flat.set(xlim=(centre[0] - reach, centre[0] + reach), ylim=(centre[1] + reach, centre[1] - reach), aspect="equal",
                 title=f"{pose.timestamp_s:.2f} s")
        flat.tick_params(labelsize=7)
        for axis, name, low, high in (("x", "x right", -0.8, 0.8), ("y", "z forward", -0.8, 0.8), ("z", "y down", 0.8, -0.8)):
            solid.set(**{f"{axis}lim": (low, high), f"{axis}label": f"{name}, m"})
            solid.locator_params(axis=axis, nbins=4)
        solid.tick_params(labelsize=7, pad=-2)
        solid.view_init(elev=12, azim=-65)
        solid.set_box_aspect((1, 1, 1), zoom=1.05)
    figure.axes[0].set_ylabel("keypoints, px")
    figure.subplots_adjust(left=0.07, right=0.94, bottom=0.04, top=0.94, wspace=0.22, hspace=0.08)
    figure.savefig(file, dpi=140)


def _bones_3d(axes, skeleton: Skeleton, joints_m: np.ndarray, colour, width: float) -> None:
    for parent, joint in skeleton.bones:
        x, y, z = joints_m[[parent, joint]].T
        axes.plot(x, z, y, color=colour(joint), linewidth=width)
