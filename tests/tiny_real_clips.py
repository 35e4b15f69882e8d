"""A folder of real clips of a person who stands and sways, in the format of edgepose.training.real_clips."""

from pathlib import Path

import numpy as np
from tiny_mocap import standing

from edgepose.adapters import COCO17, MEDIAPIPE33
from edgepose.skeleton import H36M17
from edgepose.training.real_clips import project_distorted

FRAMES, FPS, SIZE = 8, 60, (1000, 1200)
BODY = (*COCO17.joints, "upper_neck", "head_top")


def camera(degrees: float) -> dict[str, np.ndarray]:
    """A camera 4 m from the person and 1 m above the floor, at this angle around the person; 0 is in front."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    return {"camera_K": np.array([[1000.0, 0, 480], [0, 990, 610], [0, 0, 1]]),
            "camera_dist": np.array([-0.04, 0.1, 6e-4, -5e-4]),
            "camera_R": np.diag([1.0, -1, -1]) @ turn, "camera_t": np.array([0, 1.0, 4.0])}


def bodies() -> np.ndarray:
    """(FRAMES, 19, 3) m, the joints of BODY in world axes, y up."""
    joints = dict(zip(H36M17.joints, standing().astype(float)))
    x, y, z = joints["nose"]
    joints |= {"nose": np.array([x, y + 0.02, z + 0.1]), "upper_neck": np.array([x, y, z]),
               "head_top": np.array([x, y + 0.2, z])}
    for side, sign in (("left", 1), ("right", -1)):
        joints |= {f"{side}_eye": np.array([x + 0.03 * sign, y + 0.06, z + 0.08]),
                   f"{side}_ear": np.array([x + 0.07 * sign, y + 0.04, z])}
    still = np.stack([joints[name] for name in BODY])
    sway = np.cumsum(np.random.default_rng(0).normal(0, 0.01, (FRAMES, len(BODY), 3)), 0)
    return still + sway


def seen(world_m: np.ndarray, by: dict[str, np.ndarray]) -> np.ndarray:
    """(..., J, 3) px and confidence 1."""
    px = project_distorted(world_m, by)
    return np.concatenate([px, np.ones((*px.shape[:-1], 1))], -1).astype(np.float32)


def write_clip(file: Path, by: dict[str, np.ndarray], **arrays: np.ndarray) -> None:
    """A clip of `bodies` in a camera; arrays: added to or in place of the usual ones, None leaves one out."""
    world = bodies()[:, :17]
    contents = {"coco17": seen(world, by), "fps": np.float32(FPS), "image_size": np.array(SIZE),
                "reference_coco17_world_m": world.astype(np.float32), **by, **arrays}
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **{key: value for key, value in contents.items() if value is not None})


def own_3d(by: dict[str, np.ndarray], scale: float) -> np.ndarray:
    """(FRAMES, 33, 3) m from the hips in camera axes: the answer of a detector whose only error is a scale; 0 where no
    limb is."""
    world = bodies()[:, :17] @ by["camera_R"].T
    own = np.zeros((FRAMES, len(MEDIAPIPE33), 3), np.float32)
    for joint in COCO17.joints:
        own[:, MEDIAPIPE33.index(joint)] = scale * (world[:, COCO17.index(joint)] - world[:, [11, 12]].mean(1))
    return own


def write_balance(folder: Path, error_m: float = 0.0) -> None:
    """The calibrated detections that edgepose.training.clips makes the shipped clips of: their own calibration is
    `error_m` off, that of pose2sim_balance_refined.npz is right."""
    cameras = [camera(degrees) for degrees in (0, 60, 160)]
    for n, by in enumerate(cameras, 1):
        off = {**by, "camera_t": by["camera_t"] + error_m}
        write_clip(folder / f"pose2sim_balance_cam{n}.npz", off, coco17=seen(bodies()[:, :17], by),
                   keypoints=seen(bodies(), by), keypoint_names=np.array(BODY), layout=np.array("BODY_25B"),
                   reference_coco17_world_m=None)
    np.savez(folder / "pose2sim_balance_refined.npz", reference_coco17_world_m=bodies()[:, :17].astype(np.float32),
             coco17_names=np.array(COCO17.joints), fps=np.float32(FPS),
             **{key: np.stack([by[key] for by in cameras]) for key in cameras[0]})


def write_folder(folder: Path) -> Path:
    """A clip of each kind: AIST++ with a gap in the reference, MediaPipe with its own 3D, OpenPose, two people of whom
    one was found, and one without a camera."""
    world = bodies()[:, :17].astype(np.float32)
    gap = world.copy()
    gap[2, COCO17.index("left_wrist")] = gap[3, COCO17.index("left_eye")] = np.nan
    write_clip(folder / "aist_break_ch01_cam3.npz", camera(30), reference_coco17_world_m=gap)
    pixels = np.zeros((FRAMES, len(MEDIAPIPE33), 3), np.float32)
    for joint in COCO17.joints:
        pixels[:, MEDIAPIPE33.index(joint)] = seen(world[:, COCO17.index(joint)], camera(-40))
    write_clip(folder / "pose2sim_balance_mediapipe_cam2.npz", camera(-40), keypoints=pixels,
               layout=np.array("mediapipe33"), mediapipe_world_m=own_3d(camera(-40), 0.5))
    write_balance(folder, error_m=0.3)
    by = camera(10)
    people = np.stack([seen(world, by), np.zeros((FRAMES, 17, 3), np.float32)])
    people[0, 0] = 0  # not found in the first frame
    write_clip(folder / "pose2sim_multi_mediapipe_cam1.npz", by, coco17=None, coco17_by_person=people,
               person_names=np.array(["man", "woman"]), reference_coco17_world_m=np.stack([world, world]),
               mediapipe_world_m_by_person=np.stack([own_3d(by, 1.0)] * 2))
    write_clip(folder / "walk.npz", camera(0), **dict.fromkeys(("reference_coco17_world_m", *camera(0))))
    return folder
