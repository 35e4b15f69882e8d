"""Windows of a person's motion as a model is given them, and what is true: bodies, poses, cameras and detectors put
together.

`AS_CAPTURED` is what models are scored on and stays as it is, so that figures of different years compare; `WILD` is
what they are trained on: more poses, more bodies, every detector at hand, cameras that move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..columns import LENGTHS, PUBLISHED_INPUTS
from ..skeleton import H36M17
from .bodies import STRANGERS, SUBJECTS, Bodies, vary_bodies
from .cameras import ANYWHERE, IN_THE_WILD, Cameras, Rig, move_cameras, random_cameras
from .landmarks import OPENPOSE, WHERE_DETECTORS_POINT, Placement, coco_landmarks
from .mocap import WINDOW_HZ, Motion, draw_windows
from .noise import ANY_DETECTOR, STEADY, Detector, adapted, detect
from .poses import vary_poses

LENGTH_ERROR = 0.06  # largest deviation of a known length from the true one, over it
# A depth camera: Nguyen et al. 2012, "Modeling Kinect sensor noise", axial noise; the rest is ours, no real recording
# was at hand.
SURFACE_M = (0.02, 0.10)  # how far the surface is before the joint
HIDDEN, HIDDEN_M = 0.12, (0.05, 0.6)  # chance that something is before a joint, and how far
# Chance that the background beside it is measured instead, and its distance behind.
BACKGROUND, BACKGROUND_M = 0.06, (0.3, 3.0)
HOLES = (0.0, 0.3)  # part of the joints without a measurement
MOST_DEPTH_M = 1.5  # a depth is clamped to this from the median, as at run time
GRAVITY_ERROR_RAD, FOCAL_ERROR = 0.01, 0.03  # deviations of an IMU's gravity and of a lens's focal length


@dataclass(frozen=True)
class Recipe:
    """The way windows are made of motion.

    speeds: how many times as fast motion is played. poses: limbs are crossed and turned. known: part of the windows
    with values beside the keypoints: length, depth, elevation.
    """

    bodies: Bodies
    rig: Rig
    placement: Placement
    detector: Detector
    speeds: tuple[float, float] = (1.0, 1.0)
    poses: bool = False
    known: Mapping[str, float] = field(default_factory=dict)


AS_CAPTURED = Recipe(SUBJECTS, ANYWHERE, OPENPOSE, STEADY)
WILD = Recipe(STRANGERS, IN_THE_WILD, WHERE_DETECTORS_POINT, ANY_DETECTOR, (0.67, 1.5), True,
              {"length": 0.5, "depth": 0.2, "elevation": 0.3})


def knowing(recipe: Recipe, *names: str) -> Recipe:
    """The same recipe with these always known, and nothing else."""
    return replace(recipe, known=dict.fromkeys(names, 1.0))


def draw_observed(motion: Motion, count: int, frames: int, generator: torch.Generator, recipe: Recipe = WILD,
                  inputs: Sequence[str] = PUBLISHED_INPUTS) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` windows for training, as observe_frames gives them: other people's poses and bodies, then seen."""
    windows = draw_windows(motion, count, frames, generator, recipe.speeds)
    if recipe.poses:
        windows = vary_poses(windows, generator)
    return observe_frames(vary_bodies(windows, generator, recipe.bodies), generator, True, recipe, inputs)


def observe_frames(motion_m: torch.Tensor, generator: torch.Generator, noisy: bool = True, recipe: Recipe = AS_CAPTURED,
                   inputs: Sequence[str] = PUBLISHED_INPUTS) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of motion as a model meets them: what to give it and what is true in every frame.

    motion_m: (B, T, 17, 3) world axes, y up. Returns the model's columns `inputs`, (B, T, 17, C), seen by a random
    camera of the recipe each, and the joints (B, T, 17, 3) in metres from each frame's pelvis, in that camera's axes.
    Without noise the detector finds exactly what it looks for, and what is known is exact.
    """
    middle, pelvis = motion_m.shape[1] // 2, H36M17.root
    arm = motion_m[:, middle, H36M17.index("left_wrist")] - motion_m[:, middle, H36M17.index("left_shoulder")]
    seen_by = random_cameras(motion_m[:, middle, pelvis], generator, recipe.rig, arm)
    joints = move_cameras(seen_by.view(motion_m), 1 / WINDOW_HZ, generator, recipe.rig)
    points = seen_by.project(coco_landmarks(joints, generator, recipe.placement))
    from_root = joints - joints[:, :, pelvis:pelvis + 1]
    if noisy:
        keypoints, confidence = detect(points, generator, recipe.detector, _outside(points, seen_by)
                                       if recipe.rig.cut else None)
    else:
        keypoints, _ = adapted(points)
        confidence = torch.ones(keypoints.shape[:-1])
    columns = {"x": keypoints[..., 0], "y": keypoints[..., 1], "confidence": confidence}
    for name, measure in (("length", lambda: _lengths(joints, generator, noisy)),
                          ("depth", lambda: _depths(joints, generator, noisy)),
                          ("elevation", lambda: _elevations(keypoints, seen_by, generator, noisy))):
        if name in inputs:
            value, known = measure()
            known = known & (torch.rand(len(motion_m), 1, 1, generator=generator) < recipe.known.get(name, 0.0))
            columns |= {name: value * known, f"{name}_known": known.float().expand_as(confidence)}
    if "gap" in inputs:
        columns["gap"] = torch.full_like(confidence, 1 / WINDOW_HZ)
        columns["gap"][:, 0] = 0
    return torch.stack([columns[name] for name in inputs], -1), from_root


def observe(motion_m: torch.Tensor, generator: torch.Generator, noisy: bool = True, recipe: Recipe = AS_CAPTURED,
            inputs: Sequence[str] = PUBLISHED_INPUTS) -> tuple[torch.Tensor, torch.Tensor]:
    """As observe_frames, with the joints (B, 17, 3) of the middle frame alone."""
    keypoints, joints = observe_frames(motion_m, generator, noisy, recipe, inputs)
    return keypoints, joints[:, joints.shape[1] // 2]


def _outside(points: torch.Tensor, seen_by: Cameras) -> torch.Tensor:
    return (points[..., 0].abs() > 1) | (points[..., 1].abs() > 1 / seen_by.aspect[:, None, None])


def person_lengths(joints_m: torch.Tensor) -> dict[str, torch.Tensor]:
    """The lengths of columns.LENGTHS: (..., 17, 3) m -> (...,) m each."""
    def place(joint: str) -> torch.Tensor:
        return joints_m[..., H36M17.index(joint), :]

    def between(a: str, b: str) -> torch.Tensor:
        return (place(a) - place(b)).norm(dim=-1)

    def limb(upper: str, lower: str) -> torch.Tensor:
        return (between(f"left_{upper}", f"left_{lower}") + between(f"right_{upper}", f"right_{lower}")) / 2

    shoulders, hips = ((place(f"left_{part}") + place(f"right_{part}")) / 2 for part in ("shoulder", "hip"))
    return {"upper_arm": limb("shoulder", "elbow"), "forearm": limb("elbow", "wrist"), "thigh": limb("hip", "knee"),
            "shank": limb("knee", "ankle"), "shoulder_width": between("left_shoulder", "right_shoulder"),
            "hip_width": between("left_hip", "right_hip"), "trunk": (shoulders - hips).norm(dim=-1)}


def _lengths(joints_m: torch.Tensor, generator: torch.Generator, noisy: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The column `length` and where it means something: (B, T, 17), (1, 1, 17)."""
    batch, frames = joints_m.shape[:2]
    column, known = torch.zeros(batch, frames, len(H36M17)), torch.zeros(1, 1, len(H36M17), dtype=torch.bool)
    strength = LENGTH_ERROR * torch.rand(batch, generator=generator)
    for name, lengths in person_lengths(joints_m).items():
        length = lengths.mean(1)
        if noisy:
            length = length * (1 + strength * torch.randn(batch, generator=generator))
        own = [H36M17.index(joint) for joint in LENGTHS[name]]
        column[..., own], known[..., own] = length[:, None, None], True
    return column, known


def _depths(joints_m: torch.Tensor, generator: torch.Generator, noisy: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The columns `depth` and `depth_known`: (B, T, 17), (B, T, 17)."""
    depth = joints_m[..., 2]

    def uniform(low_high: tuple[float, float], shape: Sequence[int] = depth.shape) -> torch.Tensor:
        return low_high[0] + (low_high[1] - low_high[0]) * torch.rand(*shape, generator=generator)

    def some(part: float | torch.Tensor) -> torch.Tensor:
        return torch.rand(*depth.shape, generator=generator) < part

    known = torch.ones_like(depth, dtype=torch.bool)
    if noisy:
        axial = 0.0012 + 0.0019 * (depth.clamp(min=0.4) - 0.4) ** 2
        depth = depth - uniform(SURFACE_M) + axial * torch.randn(*depth.shape, generator=generator)
        depth = torch.where(some(HIDDEN), depth - uniform(HIDDEN_M), depth)
        depth = torch.where(some(BACKGROUND), depth + uniform(BACKGROUND_M), depth)
        known = ~some(uniform(HOLES, (len(depth), 1, 1)))
    middle = torch.where(known, depth, torch.nan).nanmedian(-1, keepdim=True).values.nan_to_num()
    return (depth - middle).clamp(-MOST_DEPTH_M, MOST_DEPTH_M), known


def _elevations(keypoints: torch.Tensor, seen_by: Cameras, generator: torch.Generator,
                noisy: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The column `elevation`, (B, T, 17), and that it is known."""
    focal, up = seen_by.focal, seen_by.rotation @ torch.tensor([0.0, 1.0, 0.0])
    if noisy:
        focal = focal * (1 + FOCAL_ERROR * torch.randn(len(focal), generator=generator))
        up = torch.nn.functional.normalize(up + GRAVITY_ERROR_RAD * torch.randn(*up.shape, generator=generator), dim=-1)
    rays = torch.cat([keypoints / (2 * focal[:, None, None, None]), torch.ones_like(keypoints[..., :1])], -1)
    sine = (torch.nn.functional.normalize(rays, dim=-1) * up[:, None, None]).sum(-1)
    return torch.asin(sine.clamp(-1, 1)), torch.ones_like(sine, dtype=torch.bool)
