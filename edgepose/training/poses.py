"""More poses out of the same motion: limbs of other people's moments, limbs and trunk turned, bodies tilted and laid
down.

The nearest training pose lies 41 mm from a pose of the validation subjects and 70 to 110 mm from those of dancers and
of a man on a beam: captured actors walk and stand. What is drawn here is drawn once a window, so that windows stay
smooth in time. Source of the exchange and of the small turns: Li et al. 2020, "Cascaded deep monocular 3D human pose
estimation with evolutionary training data" (EvoSkeleton).
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import normalize

from ..skeleton import H36M17

CROSSED = 0.7  # part of the windows whose limbs may be another window's
LIMB_CROSSED = 0.5  # chance of each limb in them
TURNED = 0.6  # part of the windows whose joints are turned, and the chance of each limb in them
TURN_RAD = math.radians(15)  # deviation of a shoulder's or a hip's turn; an elbow's or a knee's: 0.6 of it
BEND_RAD = math.radians(8)  # deviation of the upper body's turn about the spine
# Deviation of the whole body's lean, and the part of the turned windows that lean.
TILT_RAD, TILTED = math.radians(12), 0.5
LAID_DOWN, LYING_RAD = 0.06, math.pi / 2  # part of the turned windows that are tilted by up to this much more
MOST_BEND_RAD = math.radians(150)  # an elbow's or a knee's, between the two bones' directions
FLOOR_M = 0.03  # no joint is below this

_ARMS = tuple(tuple(H36M17.index(f"{side}_{part}") for part in ("shoulder", "elbow", "wrist"))
              for side in ("left", "right"))
_LEGS = tuple(tuple(H36M17.index(f"{side}_{part}") for part in ("hip", "knee", "ankle")) for side in ("left", "right"))
_SPINE, _THORAX = H36M17.index("spine"), H36M17.index("thorax")
_UPPER = [j for j in range(len(H36M17)) if j >= _THORAX]


def vary_poses(motion_m: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The windows in other poses of the same people: (B, T, 17, 3) m, world axes, y up -> the same.

    Bones keep their lengths; what would be below the floor is lifted with its window.
    """
    def some(part: float) -> torch.Tensor:
        return (torch.rand(len(motion_m), generator=generator) < part)[:, None, None, None]

    motion_m = torch.where(some(CROSSED), cross_limbs(motion_m, generator), motion_m)
    motion_m = torch.where(some(TURNED), turn_joints(motion_m, generator), motion_m)
    below = (FLOOR_M - motion_m[..., 1].amin((1, 2))).clamp(min=0)
    return motion_m + torch.stack([torch.zeros_like(below), below, torch.zeros_like(below)], -1)[:, None, None]


def rotations(axis: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Rotations by `angle` (B,) about unit axes (B, 3): (B, 3, 3). Source: Rodrigues' formula."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    return torch.eye(3) + angle.sin()[:, None, None] * cross + (1 - angle.cos())[:, None, None] * (cross @ cross)


def _random_axes(count: int, generator: torch.Generator) -> torch.Tensor:
    return normalize(torch.randn(count, 3, generator=generator), dim=-1)


def _frame(motion_m: torch.Tensor, left: int, right: int) -> torch.Tensor:
    """Axes of the shoulders or the hips, (B, T, 3, 3), rows: left, up along the trunk, forward."""
    trunk = motion_m[:, :, _THORAX] - motion_m[:, :, H36M17.root]
    across = normalize(motion_m[:, :, left] - motion_m[:, :, right], dim=-1)
    forward = normalize(torch.linalg.cross(across, trunk, dim=-1), dim=-1)
    return torch.stack([across, torch.linalg.cross(forward, across, dim=-1), forward], -2)


def cross_limbs(motion_m: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each limb by chance as another window's, seen from its own shoulders or hips: (B, T, 17, 3) -> the same."""
    batch, crossed = len(motion_m), motion_m.clone()
    for limbs in (_ARMS, _LEGS):
        axes = _frame(motion_m, limbs[0][0], limbs[1][0])
        for limb in limbs:
            other = torch.randperm(batch, generator=generator)
            is_crossed = (torch.rand(batch, generator=generator) < LIMB_CROSSED)[:, None, None]
            place = motion_m[:, :, limb[0]]
            for upper, lower in zip(limb, limb[1:]):
                bone = motion_m[:, :, lower] - motion_m[:, :, upper]
                seen = axes[other] @ (motion_m[other][:, :, lower] - motion_m[other][:, :, upper])[..., None]
                taken = normalize((axes.transpose(-1, -2) @ seen)[..., 0], dim=-1) * bone.norm(dim=-1, keepdim=True)
                place = place + torch.where(is_crossed, taken, bone)
                crossed[:, :, lower] = place
    return crossed


def turn_joints(motion_m: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Limbs, trunk and the whole body turned at random, the same way in every frame: (B, T, 17, 3) -> the same."""
    batch, turned = len(motion_m), motion_m.clone()

    def normal() -> torch.Tensor:
        return torch.randn(batch, generator=generator)

    def chance(part: float) -> torch.Tensor:
        return (torch.rand(batch, generator=generator) < part).float()

    for limb in (*_ARMS, *_LEGS):
        strength, place = TURN_RAD * chance(TURNED), motion_m[:, :, limb[0]]
        upper = rotations(_random_axes(batch, generator), strength * normal().abs())
        lower = upper @ rotations(_random_axes(batch, generator), 0.6 * strength * normal().abs())
        bones = [motion_m[:, :, b] - motion_m[:, :, a] for a, b in zip(limb, limb[1:])]
        first, second = bones[0] @ upper.transpose(1, 2), bones[1] @ lower.transpose(1, 2)
        cosine = (normalize(first, dim=-1) * normalize(second, dim=-1)).sum(-1)
        is_possible = (cosine > math.cos(MOST_BEND_RAD)).all(1)[:, None, None]  # else the joint itself keeps its bend
        second = torch.where(is_possible, second, bones[1] @ upper.transpose(1, 2))
        turned[:, :, limb[1]] = place + first
        turned[:, :, limb[2]] = place + first + second
    azimuth = 2 * math.pi * torch.rand(batch, generator=generator)
    level = torch.stack([azimuth.cos(), torch.zeros(batch), azimuth.sin()], -1)
    lying = LYING_RAD * (2 * torch.rand(batch, generator=generator) - 1)
    tilt = rotations(level, TILT_RAD * normal() * chance(TILTED) + lying * chance(LAID_DOWN))
    root = turned[:, :, H36M17.root:H36M17.root + 1]
    turned = root + (turned - root) @ tilt.transpose(1, 2)[:, None]
    bend = rotations(_random_axes(batch, generator), BEND_RAD * normal())
    spine = turned[:, :, _SPINE:_SPINE + 1]
    turned[:, :, _UPPER] = spine + (turned[:, :, _UPPER] - spine) @ bend.transpose(1, 2)[:, None]
    return turned
