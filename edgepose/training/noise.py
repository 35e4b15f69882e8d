"""A detector's errors on the points it should have found: jitter, a bias, left and right exchanged, lost joints,
confidence.

Jitter is proportional to the person's size in the picture (the longer side of the box around the points) and follows a
bivariate Student t with two degrees of freedom: half of the errors are small, one in a hundred is ten times as large,
as in real detections. From frame to frame it is an autoregressive process of order one; how bad a joint is stays the
same through a window.

A lost joint is where the runtime puts it (`Hold`): at its parent if it was never seen, else at its last offset from its
parent. A pelvis that is lost stands at the hip that is seen, else below the shoulders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..adapters import ADAPTERS
from ..skeleton import H36M17
from .landmarks import COCO_JOINTS

# Jitter's scale in percent of the person's size: Pose2Sim's balance clips, cameras 1 and 2 (OpenPose, 1088 x 1920), as
# first calibrated. What `python -m edgepose.training.detector_fit` measures with better cameras, on three detectors,
# stands in ANY_DETECTOR.
JITTER_PERCENT = {"nose": 0.42, "eye": 0.45, "ear": 1.19, "shoulder": 1.1, "elbow": 1.21, "wrist": 1.17, "hip": 1.19,
                  "knee": 1.23, "ankle": 1.0}
FRAME_CORRELATION = 0.85  # the jitter in one frame with that in the next, at 50 Hz; same clips
WORST = 10.0  # the longest jitter over its scale
# A pelvis without hips stands so far below the middle of the shoulders: the larger of the shoulders' width and the
# distance of the nose from their middle, each times the median in the motion capture.
TRUNK_OVER_SHOULDERS, TRUNK_OVER_NOSE = 1.4, 2.2
LEAST_CONFIDENCE = 0.05  # for a joint that was found
FACE = 5  # the first points of COCO-17: nose, eyes, ears
_HEAD = [H36M17.index("nose"), H36M17.index("head")]
# An honest confidence for a joint whose error has the scale of s percent: exp(-(s / FADING)^1.5). AIST++'s detector,
# median error by confidence: 0.35 % at 0.97, 0.65 % at 0.85, 1.0 % at 0.7, 1.5 % at 0.3.
FADING_PERCENT = 1.2
OPENPOSE_TOP = 0.68  # its limbs' usual confidence
HONEST, OPENPOSE_LIKE = 0.35, 0.3  # parts of the windows; the rest are as MediaPipe, near 1 whatever the error


@dataclass(frozen=True)
class Detector:
    """A detector's errors; chances are for a window.

    jitter: its scale in percent of the person's size, by the last part of a joint's name. bias: the same, the deviation
    along each axis of an error that lasts the whole window; empty: none. levels: a window's jitter, and its bias, over
    the tables', uniform. pixel: largest deviation of jitter that does not shrink with the person, in normalised
    coordinates. confused: a hand taken for the other one. lost: of a joint by itself, by the last part of its name.
    lost_face: nose and head, from behind. lost_legs: knees and ankles, behind a table. lost_hips: these and the hips.
    lost_hip: one of them. spread: a child is lost with its parent. held: a lost joint was seen before. passing: a loss
    does not last the whole window. swapped: both arms, or both legs, are exchanged.
    """

    jitter: Mapping[str, float]
    levels: tuple[float, float]
    lost: Mapping[str, float]
    lost_face: float
    lost_legs: float
    swapped: float
    bias: Mapping[str, float] = field(default_factory=dict)
    pixel: float = 0.0
    confused: float = 0.0
    lost_hips: float = 0.0
    lost_hip: float = 0.0
    spread: float = 0.0
    held: float = 0.0
    passing: float = 0.0


STEADY = Detector(JITTER_PERCENT, (0.0, 1.5), {"knee": 0.01, "ankle": 0.02, "elbow": 0.01, "wrist": 0.02, "head": 0.02},
                  0.05, 0.02, 0.01)
# Jitter and bias: about the largest that `detector_fit` measures for OpenPose, MediaPipe and AIST++'s detector.
ANY_DETECTOR = Detector(
    {"nose": 1.0, "eye": 0.9, "ear": 0.9, "shoulder": 0.75, "elbow": 0.9, "wrist": 0.9, "hip": 0.9,
     "knee": 0.8, "ankle": 0.55}, (0.0, 1.5), {"hip": 0.005, "knee": 0.02, "ankle": 0.03, "shoulder": 0.005,
                                               "elbow": 0.03, "wrist": 0.04, "head": 0.02}, 0.10, 0.04, 0.01,
    bias={"nose": 1.1, "eye": 0.6, "ear": 1.2, "shoulder": 0.6, "elbow": 0.6, "wrist": 0.6, "hip": 1.1, "knee": 0.6,
          "ankle": 0.35}, pixel=0.0015, confused=0.01, lost_hips=0.03, lost_hip=0.02, spread=0.6, held=0.5, passing=0.5)


def _joint(name: str) -> int:
    return COCO_JOINTS.index(name)


def person_size(points: torch.Tensor) -> torch.Tensor:
    """The longer side of the box around the points: (B, T, J, 2) -> (B, T), same unit."""
    return (points.amax(-2) - points.amin(-2)).amax(-1)


def _by_joint(percent: Mapping[str, float]) -> torch.Tensor:
    """A table in percent by the last part of a joint's name as parts of the person's size: (17, 1)."""
    return torch.tensor([[percent[joint.split("_")[-1]] / 100] for joint in COCO_JOINTS])


def add_jitter(points: torch.Tensor, generator: torch.Generator,
               detector: Detector = STEADY) -> tuple[torch.Tensor, torch.Tensor]:
    """The points with a detector's errors, and their scale over the person's size: (B, T, 17, 2) COCO -> the same, (B,
    1, 17)."""
    batch, frames, joints, _ = points.shape
    low, high = detector.levels
    level = low + (high - low) * torch.rand(batch, 1, 1, 1, generator=generator)
    # A bivariate t with 2 degrees of freedom is a normal over the root of an exponential variable.
    spread = -torch.rand(batch, 1, joints, 1, generator=generator).clamp(min=1e-9).log()
    scale = level * _by_joint(detector.jitter) * (1 / spread.sqrt()).clamp(max=WORST)
    normal = torch.randn(batch, frames, joints, 2, generator=generator)
    for t in range(1, frames):
        normal[:, t] = FRAME_CORRELATION * normal[:, t - 1] + math.sqrt(1 - FRAME_CORRELATION**2) * normal[:, t]
    error = scale * normal
    if detector.bias:
        strength = (low + (high - low) * torch.rand(batch, 1, 1, 1, generator=generator)) * _by_joint(detector.bias)
        error = error + strength * torch.randn(batch, 1, joints, 2, generator=generator)
        scale = (scale**2 + strength**2).sqrt()
    seen = points + error * person_size(points)[..., None, None]
    if detector.pixel:
        strength = detector.pixel * torch.rand(batch, 1, 1, 1, generator=generator)
        seen = seen + strength * torch.randn(batch, frames, joints, 2, generator=generator)
    return seen, scale[..., 0]


def confidences(scale: torch.Tensor, frames: int, generator: torch.Generator) -> torch.Tensor:
    """Confidences that a detector gives points whose errors have this scale: (B, 1, 17) over the person's size -> (B,
    T, 17)."""
    batch = len(scale)
    honest = torch.exp(-(100 * scale / FADING_PERCENT) ** 1.5)
    kind, sureness = torch.rand(2, batch, 1, 1, generator=generator)
    confidence = torch.where(kind < HONEST + OPENPOSE_LIKE, OPENPOSE_TOP * honest**0.4,
                             1 - 0.15 * sureness * torch.ones_like(honest))
    confidence = torch.where(kind < HONEST, honest, confidence)
    return (confidence + 0.07 * torch.randn(batch, frames, scale.shape[-1],
                                            generator=generator)).clamp(LEAST_CONFIDENCE, 1)


def swap_sides(points: torch.Tensor, generator: torch.Generator, detector: Detector = STEADY) -> torch.Tensor:
    """The points with arms or legs of some windows exchanged, or one hand taken for the other: (B, T, 17, 2) COCO ->
    the same."""
    points = points.clone()
    for limbs in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
        left, right = ([_joint(f"{side}_{limb}") for limb in limbs] for side in ("left", "right"))
        swapped = (torch.rand(len(points), 1, 1, 1, generator=generator) < detector.swapped)
        both = points[:, :, left + right]
        points[:, :, left + right] = torch.where(swapped, points[:, :, right + left], both)
    if detector.confused:
        left, right = _joint("left_wrist"), _joint("right_wrist")
        for wrist, other in ((left, right), (right, left)):
            confused = torch.rand(len(points), 1, 1, generator=generator) < detector.confused
            points[:, :, wrist] = torch.where(confused, points[:, :, other], points[:, :, wrist])
    return points


def draw_lost(batch: int, frames: int, generator: torch.Generator, detector: Detector = STEADY) -> torch.Tensor:
    """Which joints of H36M-17 are lost: (B, T, 17) bool."""
    def chance(part: float) -> torch.Tensor:
        return torch.rand(batch, 1, generator=generator) < part

    lost = torch.zeros(batch, frames, len(H36M17), dtype=torch.bool)
    time = torch.arange(frames)

    def passing(gone: torch.Tensor) -> torch.Tensor:
        if not detector.passing or frames == 1:
            return gone.expand(batch, frames)
        ends = torch.randint(frames, (2, batch, 1), generator=generator).sort(0).values
        return gone & (~chance(detector.passing) | ((time >= ends[0]) & (time <= ends[1])))

    together = {"face": passing(chance(detector.lost_face)), "legs": passing(chance(detector.lost_legs))}
    for parent, joint in H36M17.bones:  # parents come before their children
        part = H36M17.joints[joint].split("_")[-1]
        gone = passing(chance(detector.lost.get(part, 0.0)))
        if part in ("nose", "head"):
            gone = gone | together["face"]
        elif part in ("knee", "ankle"):
            gone = gone | together["legs"]
        if detector.spread and part in ("knee", "ankle", "elbow", "wrist"):
            gone = gone | (lost[..., parent] & chance(detector.spread))
        lost[..., joint] = gone
    if detector.lost_hips:
        below = [H36M17.index(joint) for joint in H36M17.joints if joint.split("_")[-1] in ("hip", "knee", "ankle")]
        lost[..., below] |= passing(chance(detector.lost_hips))[..., None]
        side = H36M17.index("left_hip"), H36M17.index("right_hip")
        for hip in side:
            lost[..., hip] |= passing(chance(detector.lost_hip / 2))
    hips = lost[..., [H36M17.index("left_hip"), H36M17.index("right_hip")]].any(-1)
    lost[..., H36M17.root] |= hips  # the middle of the hips, and what hangs on it
    lost[..., H36M17.index("spine")] |= hips
    return lost


def place_lost(keypoints: torch.Tensor, lost: torch.Tensor, generator: torch.Generator,
               held: float = 0.0) -> torch.Tensor:
    """The keypoints with lost joints where the runtime puts them: (B, T, 17, 2) H36M, (B, T, 17) bool -> (B, T, 17, 2).

    held: part of the windows in which a joint that is lost from the first frame on was seen before.
    """
    batch, frames = lost.shape[:2]
    placed = keypoints.clone()
    root, thorax, nose, *sides = (H36M17.index(joint) for joint in ("pelvis", "thorax", "nose", "left_hip", "right_hip",
                                                                    "left_shoulder", "right_shoulder"))
    if lost[..., root].any():
        left, right, shoulders = sides[0], sides[1], keypoints[:, :, sides[2]] - keypoints[:, :, sides[3]]
        face = (keypoints[:, :, nose] - keypoints[:, :, thorax]).norm(dim=-1) * ~lost[..., nose]
        trunk = torch.maximum(TRUNK_OVER_SHOULDERS * shoulders.norm(dim=-1), TRUNK_OVER_NOSE * face)
        below = keypoints[:, :, thorax] + torch.stack([torch.zeros_like(trunk), trunk], -1)
        hip = torch.where(lost[..., left, None], keypoints[:, :, right], keypoints[:, :, left])
        none = (lost[..., left] & lost[..., right])[..., None]
        placed[:, :, root] = torch.where(lost[..., root, None], torch.where(none, below, hip), keypoints[:, :, root])
    time = torch.arange(frames)[:, None]
    seen_at = torch.where(lost, -1, time).cummax(1).values  # (B, T, 17), -1: not in this window
    before = (torch.rand(batch, 1, 1, generator=generator)
              < held) if held else torch.zeros(batch, 1, 1, dtype=torch.bool)
    for parent, joint in H36M17.bones:
        offset = keypoints[:, :, joint] - keypoints[:, :, parent]
        at = seen_at[..., joint, None]
        kept = offset.gather(1, at.clamp(min=0).expand(-1, -1, 2))
        kept = torch.where((at >= 0) | before, kept, 0.0)
        placed[:, :, joint] = torch.where(lost[..., joint, None], placed[:, :, parent] + kept, keypoints[:, :, joint])
    return placed


def adapted(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """COCO-17 to the joints of H36M-17 as at run time: (B, T, 17, 2), or 3 with confidence -> (B, T, 17, 2), (B, T,
    17)."""
    joints, confidence = ADAPTERS["coco17"](points.numpy())
    return torch.from_numpy(joints).float(), torch.from_numpy(confidence).float()


def detect(points: torch.Tensor, generator: torch.Generator, detector: Detector = STEADY,
           is_outside: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's input for these points: (B, T, 17, 2) COCO, normalised -> (B, T, 17, 2) H36M, normalised, (B, T, 17)
    confidence.

    is_outside: (B, T, 17) bool, points that the picture does not show.
    """
    batch, frames = points.shape[:2]
    jittered, scale = add_jitter(points, generator, detector)
    jittered = swap_sides(jittered, generator, detector)
    lost = draw_lost(batch, frames, generator, detector)
    confidence = confidences(scale, frames, generator)
    if is_outside is not None:
        confidence = confidence * ~is_outside
    confidence[..., :FACE] *= ~lost[..., _HEAD].all(-1, keepdim=True)
    keypoints, confidence = adapted(torch.cat([jittered, confidence[..., None]], -1))
    # The adapter may know a place for a face that is not seen.
    lost[..., _HEAD] &= ~lost[..., _HEAD].all(-1, keepdim=True)
    lost |= confidence == 0
    return place_lost(keypoints, lost, generator, detector.held), confidence * ~lost
