"""Where a 2D detector puts its points on a motion-capture body.

Motion capture gives the centres of the joints; a detector trained on COCO gives what annotators clicked. The two differ
in ways that do not average out, so the training input is made from synthetic COCO points, through the same adapter
(recipe A: midpoints) as at run time, while the target stays the motion-capture joints. The model learns the way back.

- Face: the mocap skeleton ends in the skull's base and crown; recipe A gives nose and eyes. They stand at fixed places
  in the frame of the head: its up is the skull bone, its left that of the shoulders, turned by a random look to the
  side and up or down.
- Hips: annotated about 2 cm further out than the joint's centre. Shoulders: about 2 cm further in than the end of the
  clavicle.
- Every other limb joint: its own place, off by about 1 cm for as long as the window lasts (clothes, habit).

Numbers: medians over the calibrated Pose2Sim clips (hips 0.221 m, shoulders 0.334 m, eyes 0.060 m apart; in the head's
frame, nose and eyes 9 and 7 cm before its axis, 13 and 10 cm below its top) against medians over the CMU subjects of
the same thigh (hips 0.18 m, shoulders 0.37 m, skull bone 0.097 m). One person cannot tell habit from build, so hips and
shoulders are drawn from a range around them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..adapters import COCO17
from ..skeleton import H36M17

COCO_JOINTS = COCO17.joints
FACE = {  # (left, up, forward) from the skull's base, in lengths of the skull bone (0.097 m)
    "nose": (0.0, 0.3, 1.05), "left_eye": (0.31, 0.62, 0.87), "right_eye": (-0.31, 0.62, 0.87),
    "left_ear": (0.75, 0.3, 0.05), "right_ear": (-0.75, 0.3, 0.05)}
LIMBS = COCO_JOINTS[len(FACE):]
LOOK_ASIDE_RAD, LOOK_UP_RAD = math.radians(25), math.radians(20)  # standard deviations of the head's turn
SPINE, THORAX = 0.43, 0.89  # heights of those joints between the middles of the hips and of the shoulders
SPINE_BACK = 0.055  # how far the spine is behind that line, over its length
SKULL_BASE, CROWN = 0.45, 0.79  # between the detector's upper neck and top of the head


@dataclass(frozen=True)
class Placement:
    """Where detectors put their points, drawn once a window; pairs are ends of a uniform range.

    hip_width, shoulder_width: the detector's over motion capture's. deviation_m: standard deviation of a limb joint's
    own place along each axis. face_up_m, face_forward_m: how far the face's points stand above and before those of
    FACE. face_size: its width over FACE's.
    """

    hip_width: tuple[float, float]
    shoulder_width: tuple[float, float]
    deviation_m: float
    face_up_m: tuple[float, float] = (0.0, 0.0)
    face_forward_m: tuple[float, float] = (0.0, 0.0)
    face_size: tuple[float, float] = (1.0, 1.0)


OPENPOSE = Placement((1.0, 1.45), (0.84, 1.0), 0.01)
# OpenPose, MediaPipe and AIST++'s detector: eyes 14 to 18 cm above the middle of the shoulders along the trunk (11 to
# 15 for the nose), ears 9.5 to 18 cm apart, hips 19 to 25 cm; `tests/test_detector_fit.py` holds the ranges against
# what each of them measures.
WHERE_DETECTORS_POINT = Placement((0.95, 1.6), (0.8, 1.08), 0.018, (-0.01, 0.09), (-0.03, 0.03), (0.6, 1.2))


def _unit(v: torch.Tensor) -> torch.Tensor:
    return v / v.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def _face(joints_m: torch.Tensor, look_aside: torch.Tensor, look_up: torch.Tensor, size: torch.Tensor,
          moved_m: torch.Tensor) -> torch.Tensor:
    """The five points of the face: (B, T, 17, 3) m; look_aside, look_up (B, 1) rad; size (B, 1, 1); moved_m (B, 1, 3)
    left, up, forward."""
    base, crown, left, right = (joints_m[..., H36M17.index(j), :] for j in ("nose", "head", "left_shoulder",
                                                                           "right_shoulder"))
    up = _unit(crown - base)
    forward = _unit(torch.linalg.cross(left - right, up, dim=-1))
    lateral = torch.linalg.cross(up, forward, dim=-1)
    places = torch.tensor([FACE[joint] for joint in COCO_JOINTS[:len(FACE)]])
    sin_y, cos_y, sin_p, cos_p = look_aside.sin(), look_aside.cos(), look_up.sin(), look_up.cos()
    x, y, z = places[:, 0], places[:, 1], places[:, 2]
    y, z = y * cos_p + z * sin_p, z * cos_p - y * sin_p
    x, z = x * cos_y + z * sin_y, z * cos_y - x * sin_y
    length = (crown - base).norm(dim=-1, keepdim=True)
    local = torch.stack([x * size[:, 0], y, z], -1)[:, None] * length[..., None] + moved_m[:, None]
    return base[..., None, :] + local @ torch.stack([lateral, up, forward], -2)


def coco_landmarks(joints_m: torch.Tensor, generator: torch.Generator | None,
                   placement: Placement = OPENPOSE) -> torch.Tensor:
    """Where a COCO detector sees the joints of these bodies: (B, T, 17, 3) -> the same shape and (right-handed) axes.

    What is drawn at random (widths, placement, the look) is drawn once a window; without a generator all of it is its
    mean.
    """
    batch = len(joints_m)

    def uniform(low_high: tuple[float, float]) -> torch.Tensor:
        is_drawn = generator is not None and low_high[0] < low_high[1]
        drawn = torch.rand(batch, 1, 1, generator=generator) if is_drawn else torch.full((batch, 1, 1), 0.5)
        return low_high[0] + (low_high[1] - low_high[0]) * drawn

    def normal(*shape: int) -> torch.Tensor:
        return torch.zeros(batch, *shape) if generator is None else torch.randn(batch, *shape, generator=generator)

    aside, up = LOOK_ASIDE_RAD * normal(1), LOOK_UP_RAD * normal(1)
    limbs = joints_m[..., [H36M17.index(joint) for joint in LIMBS],
                     :] + placement.deviation_m * normal(1, len(LIMBS), 3)
    widths = uniform(placement.hip_width), uniform(placement.shoulder_width)
    moved = torch.cat([torch.zeros(batch, 1, 1), uniform(placement.face_up_m), uniform(placement.face_forward_m)], -1)
    face = _face(joints_m, aside, up, uniform(placement.face_size), moved)
    for side, width in zip(("hip", "shoulder"), widths):
        left, right = (LIMBS.index(f"{s}_{side}") for s in ("left", "right"))
        outwards = (width - 1) / 2 * (limbs[..., left, :] - limbs[..., right, :])
        limbs[..., left, :] += outwards
        limbs[..., right, :] -= outwards
    return torch.cat([face, limbs], -2)


def mocap_joints(points_m: np.ndarray, upper_neck_m: np.ndarray, head_top_m: np.ndarray) -> np.ndarray:
    """The way back on average: where the motion-capture joints of these COCO points are. For references only.

    points_m: (N, 17, 3) COCO. upper_neck_m, head_top_m: (N, 3), as in BODY_25B. Returns (N, 17, 3) H36M, same axes.
    Spine, thorax, skull's base and crown are put on the lines through the trunk and the head at their median heights
    in the CMU subjects; hips and shoulders are moved by the mean of the widths above.
    """
    joints = np.full((len(points_m), len(H36M17), 3), np.nan, points_m.dtype)
    for joint in LIMBS:
        joints[:, H36M17.index(joint)] = points_m[:, COCO_JOINTS.index(joint)]
    middle = {}
    for side, (low, high) in (("hip", OPENPOSE.hip_width), ("shoulder", OPENPOSE.shoulder_width)):
        left, right = (H36M17.index(f"{s}_{side}") for s in ("left", "right"))
        middle[side] = (joints[:, left] + joints[:, right]) / 2
        for j in (left, right):
            joints[:, j] = middle[side] + (joints[:, j] - middle[side]) * 2 / (low + high)
    trunk, head = middle["shoulder"] - middle["hip"], head_top_m - upper_neck_m
    across = joints[:, H36M17.index("left_shoulder")] - joints[:, H36M17.index("right_shoulder")]
    forward = np.cross(across / np.linalg.norm(across, axis=-1, keepdims=True), trunk)
    joints[:, H36M17.index("pelvis")] = middle["hip"]
    joints[:, H36M17.index("spine")] = middle["hip"] + SPINE * trunk - SPINE_BACK * forward
    joints[:, H36M17.index("thorax")] = middle["hip"] + THORAX * trunk
    joints[:, H36M17.index("nose")] = upper_neck_m + SKULL_BASE * head
    joints[:, H36M17.index("head")] = upper_neck_m + CROWN * head
    return joints
