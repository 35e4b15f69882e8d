"""Writes the clips that ship (edgepose/clip.py reads them): windows of the validation subjects for the build's checks,
and real detections with a reference.

`evaluation*.npz`, of validation subjects, `calibration*.npz`, of training subjects: keypoints_norm (N, T, 17, 2)
float16, target_m (N, 17, 3) float32 for the middle frame; models of fewer frames take those around it.
`balance_cam*.npz`: coco17 (F, 17, 3) px and confidence, reference_m (F, 17, 3) in camera axes from the pelvis, fps,
image_size, camera_K, camera_dist, camera_R, camera_t.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from ..skeleton import H36M17
from .landmarks import mocap_joints
from .mocap import draw_windows, read_motion
from .observation import observe
from .real_clips import CAMERA_KEYS, triangulate

# File: the split of the subjects, the number of windows, their frames.
WINDOWS = {"evaluation.npz": ("validation", 512, 27), "evaluation351.npz": ("validation", 64, 351),
           "calibration.npz": ("training", 128, 27), "calibration351.npz": ("training", 16, 351)}
CAMERAS = ("cam1", "cam2", "cam3")
KEPT = ("coco17", "fps", "image_size")


def write_windows(path: str | Path, data: str | Path, count: int, frames: int, seed: int = 0,
                  split: str = "validation") -> None:
    """Writes `count` windows of the subjects of a split, each through its own camera and a simulated detector.

    float16 rounds a keypoint by up to 0.00025, half a pixel in 4000: a tenth of the detector's jitter.
    """
    generator = torch.Generator().manual_seed(seed)
    keypoints, target = observe(draw_windows(read_motion(data, split), count, frames, generator), generator)
    np.savez_compressed(path, keypoints_norm=keypoints.numpy().astype(np.float16), target_m=target.numpy())


def write_clip(path: str | Path, detections: str | Path, camera: str) -> None:
    """Makes a clip of Pose2Sim's detections, with a refined camera and their triangulation moved to mocap's joints.

    detections: a folder with pose2sim_balance_<camera>.npz of all CAMERAS, as real_clips has them, and
    pose2sim_balance_refined.npz: cameras that agree with each other and the 3D of COCO's joints through them. It lacks
    the neck and the top of the head, which are triangulated here.
    """
    neck_and_top_px = []
    with np.load(Path(detections) / "pose2sim_balance_refined.npz") as file:
        world = file["reference_coco17_world_m"].astype(float)
        cameras = [{key: file[key][i] for key in CAMERA_KEYS} for i in range(len(CAMERAS))]
    for name in CAMERAS:
        with np.load(Path(detections) / f"pose2sim_balance_{name}.npz") as file:
            names = file["keypoint_names"].tolist()
            neck_and_top_px.append(file["keypoints"][:, [names.index(joint) for joint in ("upper_neck", "head_top")]])
            if name == camera:
                fields = {key: file[key] for key in KEPT}
    by = cameras[CAMERAS.index(camera)]
    flat_px = np.stack(neck_and_top_px).reshape(len(CAMERAS), -1, 3)
    neck_and_top = np.moveaxis(triangulate(flat_px, cameras).reshape(len(world), 2, 3), 1, 0)
    points, (neck, top) = (part @ by["camera_R"].T + by["camera_t"].ravel() for part in (world, neck_and_top))
    joints = mocap_joints(points, neck, top)
    reference = joints - joints[:, H36M17.root:H36M17.root + 1]
    if not np.isfinite(reference).all():
        raise ValueError(f"the reference of {camera} has gaps")
    np.savez_compressed(path, reference_m=reference.astype(np.float32), **fields, **by)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--path", required=True, metavar="DIR", help="motion capture, one .npz a subject")
    parser.add_argument("--detections", required=True, metavar="DIR", help="the calibrated clips of real detections")
    parser.add_argument("--out", required=True, metavar="DIR")
    options = parser.parse_args()
    for windows, (subjects, windows_count, windows_frames) in WINDOWS.items():
        write_windows(Path(options.out) / windows, options.path, windows_count, windows_frames, split=subjects)
    for name in CAMERAS:
        write_clip(Path(options.out) / f"balance_{name}.npz", options.detections, name)
