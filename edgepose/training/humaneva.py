"""HumanEva-I, from the files of VideoPose3D: `data_3d_humaneva15.npz` and `data_2d_humaneva15_gt.npz` or
`..._detectron_pt_coco.npz`.

`positions_3d` {"Train/S1": {"Walking 1 chunk0": (F, 15, 3)}}, metres, world axes with z up; `positions_2d` the same
with three arrays each, one a camera, of 15 joints or of COCO's 17; `metadata` {"layout_name": "humaneva15" or "coco"}.
60 Hz. A take is cut into chunks where the motion capture has gaps. Protocol: S1, S2 and S3, who walk, jog and box; the
frames of "Train/" are for training, those of "Validate/" the test. "Unlabeled/" has no 3D and is left out.

Of our joints it lacks the spine and the nose: put half way between pelvis and thorax, and thorax and head, they are
there for the model, but no figure counts them. The cameras are as VideoPose3D (common/humaneva_dataset.py) states them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..adapters import ADAPTERS
from ..skeleton import H36M17
from .datasets import LabelledClip, assemble, to_camera
from .npz import entries, entry, load_npz, points, views

KEYPOINTS = {"gt": "gt", "detectron": "detectron_pt_coco"}  # the kind of 2D -> the end of its file's name
SUBJECTS = ("S1", "S2", "S3")
ACTIONS = {"Walking": "Walk", "Jog": "Jog", "Box": "Box"}  # the name in the files: the name in the papers
PREFIX = {"training": "Train", "test": "Validate"}
IMAGE_SIZE, FPS = (640, 480), 60.0
JOINTS15 = ("pelvis", "thorax", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow",
            "right_wrist", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle", "head")
MADE = {"spine": ("pelvis", "thorax"), "nose": ("thorax", "head")}
CAMERAS = ("C1", "C2", "C3")
# For each subject the three cameras: orientation (a quaternion w, x, y, z) and position in mm.
EXTRINSICS = {
    "S1": (
        ((0.424207, -0.4983646, -0.5802981, 0.4847012), (4062.227, 663.2477, 1528.397)),
        ((0.6503354, -0.7481602, -0.0919284, 0.0941766), (844.8131, -3805.2092, 1504.9929)),
        ((0.0664734, -0.0690535, 0.7416416, -0.6639132), (-797.67377, 3916.3174, 1433.6602)),
    ),
    "S2": (
        ((0.4214752, -0.4961493, -0.5838273, 0.4851187), (4112.9121, 626.4929, 1545.2988)),
        ((0.6501393, -0.7476588, -0.0954617, 0.0959808), (923.574, -3877.9243, 1504.5518)),
        ((0.0699353, -0.0712403, 0.7421637, -0.662742), (-781.4915, 3838.8853, 1444.9929)),
    ),
    "S3": (
        ((0.424207, -0.4983646, -0.5802981, 0.4847012), (4062.2271, 663.2477, 1528.397)),
        ((0.6503354, -0.7481602, -0.0919284, 0.0941766), (844.8131, -3805.2092, 1504.9929)),
        ((0.0664734, -0.0690535, 0.7416416, -0.6639132), (-797.6738, 3916.3174, 1433.6602)),
    ),
}


def read(path: Path, split: str, keypoints: str) -> list[LabelledClip]:
    """The clips of a split: every chunk of walking, jogging and boxing, once a camera.

    Raises ValueError if a file, a subject, a chunk or a camera is missing, or something has another shape, naming it.
    """
    file_3d, file_2d = path / "data_3d_humaneva15.npz", path / f"data_2d_humaneva15_{KEYPOINTS[keypoints]}.npz"
    (positions_3d,), (positions_2d, metadata) = load_npz(file_3d, "positions_3d"), load_npz(file_2d, "positions_2d",
                                                                                            "metadata")
    layout = entry(metadata, "layout_name", f"{file_2d}: metadata")
    clips = []
    for subject in SUBJECTS:
        key = f"{PREFIX[split]}/{subject}"
        in_2d = entry(positions_2d, key, f"{file_2d}: positions_2d")
        for chunk, world_m in entries(entry(positions_3d, key, f"{file_3d}: positions_3d"),
                                      f"{file_3d}: positions_3d, {key}").items():
            action = ACTIONS.get(chunk.partition(" ")[0])
            if action is None:
                continue
            world_m = points(world_m, (len(JOINTS15),), (3,), f"{file_3d}: positions_3d, {key}, {chunk}")
            in_2d_chunk = f"{file_2d}: positions_2d, {key}, {chunk}"
            seen = views(entry(in_2d, chunk, f"{file_2d}: positions_2d, {key}"), CAMERAS, in_2d_chunk)
            for camera, (orientation, position_mm), view in zip(CAMERAS, EXTRINSICS[subject], seen):
                source = f"{in_2d_chunk}, camera {camera}"
                joints_m = assemble(to_camera(world_m, orientation, np.array(position_mm) / 1000), JOINTS15, MADE)
                clips.append(LabelledClip(
                    source, subject, action, camera, split, IMAGE_SIZE, FPS, _keypoints(view, layout, source),
                    joints_m.astype(np.float32), np.ones(len(world_m), bool), ~np.isin(H36M17.joints, tuple(MADE))))
    return clips


def _keypoints(view: Any, layout: Any, source: str) -> np.ndarray:
    """(F, 15 or 17, 2 or 3) of the file's layout -> (F, 17, 2) px of ours."""
    joints = {"humaneva15": len(JOINTS15), "coco": 17}.get(str(layout))
    if joints is None:
        raise ValueError(f"{source}: its metadata says the layout is {layout!r}; wanted humaneva15 or coco")
    keypoints = points(view, (joints,), (2, 3), source, f", as its layout is {layout}")[..., :2]
    return (ADAPTERS["coco17"](keypoints)[0] if layout == "coco"
            else assemble(keypoints, JOINTS15, MADE)).astype(np.float32)
