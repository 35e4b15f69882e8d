"""Proportions of people in pictures, as csrc/runtime/doubts.cpp has them: what no person shows for long through any
camera.

    python -m edgepose.training.proportions --motion DIR

prints for each part of the body the largest median over a second of its length in the picture, over the longer side of
the box around all joints: the limit that one window in a thousand goes beyond.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..skeleton import H36M17
from .mocap import read_motion
from .observation import WILD, draw_observed

PARTS = {"trunk": (("pelvis", "thorax"),), "shoulders": (("left_shoulder", "right_shoulder"),),
         "hips": (("left_hip", "right_hip"),),
         "upper arm": (("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow")),
         "forearm": (("left_elbow", "left_wrist"), ("right_elbow", "right_wrist")),
         "thigh": (("left_hip", "left_knee"), ("right_hip", "right_knee")),
         "shank": (("left_knee", "left_ankle"), ("right_knee", "right_ankle")), "head": (("thorax", "head"),)}
FRAMES = 51  # a second
RARE = 1e-3  # part of the windows beyond a limit


def proportions(keypoints: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of each part its median length over a window, over the longer side of the person's box; of two the longer:
    (B, T, 17, 2) -> (B,)."""
    size = (keypoints.amax(2) - keypoints.amin(2)).amax(-1)

    def length(a: str, b: str) -> torch.Tensor:
        return (keypoints[:, :, H36M17.index(a)] - keypoints[:, :, H36M17.index(b)]).norm(dim=-1)

    return {part: torch.stack([(length(a, b) / size).median(1).values for a, b in ends]).amax(0)
            for part, ends in PARTS.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--motion", type=Path, required=True, metavar="DIR", help="the motion capture clips")
    parser.add_argument("--windows", type=int, default=40000)
    options = parser.parse_args(arguments)
    motion, generator = read_motion(options.motion, "training"), torch.Generator().manual_seed(0)
    found: dict[str, list[torch.Tensor]] = {part: [] for part in PARTS}
    for start in range(0, options.windows, 500):
        columns, _ = draw_observed(motion, min(500, options.windows - start), FRAMES, generator, WILD,
                                   ("x", "y", "confidence"))
        whole = (columns[..., 2] > 0).all(-1).all(-1)
        for part, values in proportions(columns[whole][..., :2]).items():
            found[part].append(values)
    print(f"{sum(map(len, found['trunk']))} windows of whole people")
    for part, values in found.items():
        ordered = torch.cat(values).sort().values
        print(f"{part:10} median {ordered[len(ordered) // 2]:.2f}, limit "
              f"{ordered[int((1 - RARE) * len(ordered))]:.2f}, largest {ordered[-1]:.2f}")


if __name__ == "__main__":
    main()
