"""Motion by other people: augmentation of captured motion before any camera sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from ..skeleton import H36M17

NOD_RAD = (math.radians(10), math.radians(20))  # mean and deviation of the neck's turn forward, from the captured one


@dataclass(frozen=True)
class Bodies:
    """Ranges that people's bodies are drawn from; pairs are ends of a uniform range.

    sizes: of the whole person; the subjects stand 1.53 to 1.80 m tall. proportions: a bone is longer or shorter by up
    to this part, left and right alike. trunk: the spine and the thorax's bone, over that. hips: the hips' width, over
    that.
    """

    sizes: tuple[float, float]
    proportions: float
    trunk: tuple[float, float]
    hips: tuple[float, float]


SUBJECTS = Bodies((0.86, 1.16), 0.05, (1.0, 1.0), (1.0, 1.0))  # much as captured
STRANGERS = Bodies((0.82, 1.18), 0.10, (0.97, 1.22), (0.9, 1.15))  # with the trunks that detectors see


def vary_bodies(motion_m: torch.Tensor, generator: torch.Generator, bodies: Bodies = SUBJECTS) -> torch.Tensor:
    """The same motion by other people: (B, T, 17, 3) m, world axes, floor at y = 0 -> the same.

    Half of the windows are mirrored; all is scaled, and every bone by itself; the head is bent forward or back
    (NOD_RAD): people at work look at their hands and feet, captured actors ahead. The lowest joint of a window stays at
    its height times the size.
    """
    batch, joints, mirror = len(motion_m), len(H36M17), list(H36M17.mirror)

    def uniform(low_high: tuple[float, float]) -> torch.Tensor:
        return low_high[0] + (low_high[1] - low_high[0]) * torch.rand(batch, 1, generator=generator)

    mirrored = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
    motion_m = torch.where(mirrored, motion_m[:, :, mirror] * torch.tensor([-1.0, 1.0, 1.0]), motion_m)
    lengths = 1 + bodies.proportions * (2 * torch.rand(batch, joints, generator=generator) - 1)
    lengths = lengths[:, [min(pair) for pair in enumerate(mirror)]]
    size = uniform(bodies.sizes)
    lengths[:, [H36M17.index("spine"), H36M17.index("thorax")]] *= uniform(bodies.trunk)
    lengths[:, [H36M17.index("left_hip"), H36M17.index("right_hip")]] *= uniform(bodies.hips)
    parents = [max(parent, 0) for parent in H36M17.parents]
    root = motion_m[:, :, H36M17.root:H36M17.root + 1]
    bones = (motion_m - motion_m[:, :, parents]) * (size * lengths)[:, None, :, None]
    body = root * size[:, None, None] + _ANCESTRY @ bones
    sunk = size * motion_m[..., 1].amin(2) - body[..., 1].amin(2)
    body[..., 1] += sunk.amax(1)[:, None, None]
    return _nod(body, generator)


def _nod(motion_m: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turns the neck and the head about the line of the shoulders. Source of the rotation: Rodrigues' formula."""
    thorax, left, right = (motion_m[:, :, [H36M17.index(j)]] for j in ("thorax", "left_shoulder", "right_shoulder"))
    axis = nn.functional.normalize(left - right, dim=-1)
    angle = NOD_RAD[0] + NOD_RAD[1] * torch.randn(len(motion_m), 1, 1, 1, generator=generator)
    neck = [H36M17.index("nose"), H36M17.index("head")]
    v = motion_m[:, :, neck] - thorax
    turned = v * angle.cos() + torch.linalg.cross(axis.expand_as(v), v, dim=-1) * angle.sin()
    turned = turned + axis * (axis * v).sum(-1, keepdim=True) * (1 - angle.cos())
    motion_m = motion_m.clone()
    motion_m[:, :, neck] = thorax + turned
    return motion_m


def _ancestry() -> torch.Tensor:
    """(J, J): row j has a one for every joint on the way from the root to j, so that _ANCESTRY @ bones is joints."""
    rows = torch.zeros(len(H36M17), len(H36M17))
    for joint in range(len(H36M17)):
        ancestor = joint
        while ancestor != -1:
            rows[joint, ancestor] = 1
            ancestor = H36M17.parents[ancestor]
    return rows


_ANCESTRY = _ancestry()
