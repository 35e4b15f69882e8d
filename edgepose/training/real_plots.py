"""Poses of real clips beside their references, from front, side and above. Needs matplotlib (the `plot` extra)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..show.drawing import REFERENCE, colour_of
from .real_clips import LIMBS, RealClip
from .real_scores import DETECTED, Answers

# Each view's axis to the right and axis up: (axis, sign) of x right, y down, z forward.
VIEWS = {"front": ((0, 1), (1, -1)), "side": ((2, 1), (1, -1)), "above": ((0, 1), (2, 1))}
MOMENTS = {"median error": 0.5, "90 % are better": 0.9}  # which pose of a group is shown: its place among all by error
REACH_M = 1.0  # from the middle of the hips to the edge of a view
BONES = tuple((LIMBS.index(a), LIMBS.index(b)) for a, b in (
    *(pair for side in ("left", "right") for pair in (
        (f"{side}_shoulder", f"{side}_elbow"), (f"{side}_elbow", f"{side}_wrist"), (f"{side}_shoulder", f"{side}_hip"),
        (f"{side}_hip", f"{side}_knee"), (f"{side}_knee", f"{side}_ankle"))),
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")))


def moments_of(answers: dict[RealClip, dict[str, Answers]]) -> dict[str, list[tuple[str, RealClip, Answers, int]]]:
    """{group: for each of MOMENTS (what it is, clip, its answers, which pose)} of detected 2D, at the longest delay."""
    poses: dict[str, list[tuple[float, RealClip, Answers, int]]] = {}
    for clip, kinds in answers.items():
        of_clip = [found for kind, found in kinds.items() if kind.startswith(DETECTED)][-1]
        errors_mm = of_clip.errors_mm().mean(axis=1)
        of_group = poses.setdefault(clip.group, [])
        of_group += [(errors_mm[i], clip, of_clip, i) for i in np.flatnonzero(of_clip.is_known)]
    moments = {}
    for group, of_group in poses.items():
        of_group.sort(key=lambda pose: pose[0])
        moments[group] = [(what, *of_group[int(share * (len(of_group) - 1))][1:]) for what, share in MOMENTS.items()]
    return moments


def plot_real(answers: dict[RealClip, dict[str, Answers]], name: str, file: Path) -> None:
    """Two poses of each group in three views, the reference in grey: errors in depth show from the side and above."""
    from matplotlib.figure import Figure

    moments = moments_of(answers)
    columns = len(MOMENTS) * len(VIEWS)
    figure = Figure(figsize=(2.3 * columns, 2.5 * len(moments) + 0.6), layout="constrained")
    figure.suptitle(f"{Path(name).stem} on real clips, metres from the middle of the hips; "
                    "the reference in grey; left is red, right is blue")
    for row, (group, shown) in zip(figure.subplots(len(moments), columns, squeeze=False), moments.items()):
        row[0].set_ylabel(group)
        for m, (what, clip, of_clip, i) in enumerate(shown):
            error_mm = of_clip.errors_mm()[i].mean()
            for axes, (view, directions) in zip(row[m * len(VIEWS):], VIEWS.items()):
                _draw(axes, of_clip.target_m[i], directions, is_reference=True)
                _draw(axes, of_clip.predicted_m[i], directions)
                axes.set(xlim=(-REACH_M, REACH_M), ylim=(-REACH_M, REACH_M), aspect="equal")
                axes.tick_params(labelsize=6)
                axes.set_title(view, fontsize=7)
            said = f"{what}: {error_mm:.0f} mm in {clip.name} at {of_clip.times_s[i]:.2f} s\n"
            row[m * len(VIEWS)].set_title(said, fontsize=7, loc="left")
    figure.savefig(file, dpi=130)


def _draw(axes, joints_m: np.ndarray, directions: tuple[tuple[int, int], ...], is_reference: bool = False) -> None:
    """The bones of one pose, (12, 3) m, in one view."""
    across, up = (sign * joints_m[:, axis] for axis, sign in directions)
    for a, b in BONES:
        same_side = LIMBS[a].split("_")[0] == LIMBS[b].split("_")[0]
        colour = REFERENCE if is_reference else colour_of(LIMBS[b] if same_side else "across")
        axes.plot(across[[a, b]], up[[a, b]], color=colour, linewidth=3.5 if is_reference else 1.8)
