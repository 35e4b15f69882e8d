"""What a detector makes of the points it should have found: jitter, left and right exchanged, lost joints.

Jitter is proportional to the person's size in the picture (the longer side of the box around the points) and follows a
bivariate Student t with two degrees of freedom: half of the errors are small, one in a hundred is ten times as large,
as in real detections. From frame to frame it is an autoregressive process of order one; how bad a joint is stays the
same through a window.

A lost joint is where the runtime puts one that was never seen, at its parent (`filters.Hold`). One that was seen just
before is held near its place, which is no more than jitter.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from ..adapters import ADAPTERS
from ..skeleton import H36M17
from .cameras import ANYWHERE, Rig, random_cameras
from .landmarks import COCO_JOINTS, coco_landmarks

# Jitter's scale in percent of the person's size. `python -m edgepose.training.noise --detections DIR` on Pose2Sim's
# balance clips, cameras 1 and 2 (OpenPose, 1088 x 1920; camera 3 does not agree with the others' calibration).
JITTER_PERCENT = {"nose": 0.42, "eye": 0.45, "ear": 1.19, "shoulder": 1.1, "elbow": 1.21, "wrist": 1.17, "hip": 1.19,
                  "knee": 1.23, "ankle": 1.0}
FRAME_CORRELATION = 0.85  # of the jitter in one frame with the next at 50 Hz; same command
LEVELS = (0.0, 1.5)  # a window's jitter over the table's, uniform: from a perfect detector to a worse one
WORST = 10.0  # the longest jitter over its scale
LOST = {"knee": 0.01, "ankle": 0.02, "elbow": 0.01, "wrist": 0.02, "head": 0.02}  # chance in a window, each by itself
LOST_FACE, LOST_LEGS = 0.05, 0.02  # nose and head, from behind; knees and ankles, behind a table or the picture's edge
SWAPPED = 0.01  # chance in a window that both arms, or both legs, are exchanged


def _joint(name: str) -> int:
    return COCO_JOINTS.index(name)


def person_size(points: torch.Tensor) -> torch.Tensor:
    """The longer side of the box around the points: (B, T, J, 2) -> (B, T), same unit."""
    return (points.amax(-2) - points.amin(-2)).amax(-1)


def _jitter_scale() -> torch.Tensor:
    return torch.tensor([JITTER_PERCENT[joint.split("_")[-1]] / 100 for joint in COCO_JOINTS])


def add_jitter(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The points with a detector's jitter: (B, T, 17, 2) COCO -> the same, same unit."""
    batch, frames, joints, _ = points.shape
    level = LEVELS[0] + (LEVELS[1] - LEVELS[0]) * torch.rand(batch, 1, 1, 1, generator=generator)
    # A bivariate t with 2 degrees of freedom is a normal over the root of an exponential variable.
    spread = -torch.rand(batch, 1, joints, 1, generator=generator).clamp(min=1e-9).log()
    scale = _jitter_scale()[:, None] * (1 / spread.sqrt()).clamp(max=WORST)
    normal = torch.randn(batch, frames, joints, 2, generator=generator)
    for t in range(1, frames):
        normal[:, t] = FRAME_CORRELATION * normal[:, t - 1] + math.sqrt(1 - FRAME_CORRELATION**2) * normal[:, t]
    return points + level * scale * normal * person_size(points)[..., None, None]


def swap_sides(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The points with arms or legs of some windows exchanged: (B, T, 17, 2) COCO -> the same."""
    points = points.clone()
    for limbs in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
        left, right = ([_joint(f"{side}_{limb}") for limb in limbs] for side in ("left", "right"))
        swapped = (torch.rand(len(points), 1, 1, 1, generator=generator) < SWAPPED)
        both = points[:, :, left + right]
        points[:, :, left + right] = torch.where(swapped, points[:, :, right + left], both)
    return points


def lose_joints(keypoints: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The keypoints with some lost and put at their parent: (B, T, 17, 2) H36M -> the same."""
    keypoints = keypoints.clone()

    def lost(chance: float) -> torch.Tensor:
        return torch.rand(len(keypoints), 1, 1, generator=generator) < chance

    together = {"face": lost(LOST_FACE), "legs": lost(LOST_LEGS)}
    for parent, joint in H36M17.bones:  # parents come before their children
        name = H36M17.joints[joint]
        part = name.split("_")[-1]
        gone = lost(LOST.get(part, 0.0))
        if part in ("nose", "head"):
            gone = gone | together["face"]
        elif part in ("knee", "ankle"):
            gone = gone | together["legs"]
        keypoints[:, :, joint] = torch.where(gone, keypoints[:, :, parent], keypoints[:, :, joint])
    return keypoints


def adapted(points: torch.Tensor) -> torch.Tensor:
    """COCO-17 to the joints of H36M-17 as at run time, recipe A: (B, T, 17, 2) -> (B, T, 17, 2)."""
    return torch.from_numpy(ADAPTERS["coco17"](points.numpy())[0]).float()


def detect(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What the model is given for these points: (B, T, 17, 2) COCO, normalised -> (B, T, 17, 2) H36M, normalised."""
    return lose_joints(adapted(swap_sides(add_jitter(points, generator), generator)), generator)


def observe_frames(motion_m: torch.Tensor, generator: torch.Generator, noisy: bool = True,
                   rig: Rig = ANYWHERE) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of motion as a model meets them: what to give it and what is true in every frame.

    motion_m: (B, T, 17, 3) world axes, y up. Returns the keypoints (B, T, 17, 2) in normalised screen coordinates of a
    random camera of the rig each, and the joints (B, T, 17, 3) in metres from each frame's pelvis, in that camera's axes.
    Without noise the detector finds exactly what it looks for.
    """
    middle, pelvis = motion_m.shape[1] // 2, H36M17.root
    seen_by = random_cameras(motion_m[:, middle, pelvis], generator, rig)
    joints = seen_by.view(motion_m)
    points = seen_by.project(coco_landmarks(joints, generator))
    from_root = joints - joints[:, :, pelvis:pelvis + 1]
    return detect(points, generator) if noisy else adapted(points), from_root


def observe(motion_m: torch.Tensor, generator: torch.Generator, noisy: bool = True, rig: Rig = ANYWHERE) -> tuple[torch.Tensor, torch.Tensor]:
    """As observe_frames, with the joints (B, 17, 3) of the middle frame alone."""
    keypoints, joints = observe_frames(motion_m, generator, noisy, rig)
    return keypoints, joints[:, joints.shape[1] // 2]


def fit_jitter(directory: str | Path, clips: tuple[str, ...] = ("pose2sim_balance_cam1", "pose2sim_balance_cam2"),
               reference: str = "pose2sim_balance_3d") -> tuple[dict[str, float], float]:
    """The table JITTER_PERCENT and FRAME_CORRELATION from calibrated clips of real detections.

    The reference is triangulated from V of the same views and so lies too near to them: errors are multiplied by
    sqrt(2 V / (2 V - 3)), 2 V measurements for 3 unknowns. The scale is the median error over sqrt(2), the median of
    the bivariate t with two degrees of freedom.
    """
    directory, errors, steps = Path(directory), [], []
    with np.load(directory / f"{reference}.npz") as data:
        world = data["positions"][:, :len(COCO_JOINTS)].astype(float)
        views = np.maximum(data["views_used"][:, :len(COCO_JOINTS)], 2).astype(float)
    for clip in clips:
        with np.load(directory / f"{clip}.npz") as data:
            fps = float(data["fps"])
            points = project_distorted(world, data)
            detections = data["coco17"].astype(float)
        size = np.nanmax(np.nanmax(points, 1) - np.nanmin(points, 1), -1)
        error = np.where(detections[..., 2:] > 0, detections[..., :2] - points, np.nan) / size[:, None, None]
        error *= np.sqrt(2 * views / (2 * views - 3))[..., None]
        errors.append(error)
        steps.append(np.diff(error, axis=0))
    lengths, changes = (np.linalg.norm(np.concatenate(e), axis=-1) for e in (errors, steps))
    table = {}
    for part in JITTER_PERCENT:
        joints = [j for j, name in enumerate(COCO_JOINTS) if name.endswith(part)]
        table[part] = float(100 * np.nanmedian(lengths[:, joints]) / math.sqrt(2))
    # A step of the process has the scale sqrt(2 - 2 r) times that of the jitter.
    correlation = 1 - float(np.nanmedian(changes) / np.nanmedian(lengths)) ** 2 / 2
    return table, correlation ** (fps / 50)


def project_distorted(world_m: np.ndarray, clip: np.lib.npyio.NpzFile) -> np.ndarray:
    """World points in a clip's calibrated camera: (..., 3) m -> (..., 2) px. Distortion k1, k2, p1, p2 as in OpenCV."""
    camera = world_m @ clip["camera_R"].T + clip["camera_t"].ravel()
    x, y = camera[..., 0] / camera[..., 2], camera[..., 1] / camera[..., 2]
    k1, k2, p1, p2 = clip["camera_dist"]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    xy = np.stack([x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                   y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], -1)
    return xy @ clip["camera_K"][:2, :2].T + clip["camera_K"][:2, 2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit the detector's jitter to calibrated clips of real detections.")
    parser.add_argument("--detections", required=True, metavar="DIR")
    fitted, correlated = fit_jitter(parser.parse_args().detections)
    print("JITTER_PERCENT =", {part: round(scale, 2) for part, scale in fitted.items()})
    print("FRAME_CORRELATION =", round(correlated, 3))
