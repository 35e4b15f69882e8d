"""Random cameras around a person, and what they see. World: metres, y up. Camera: x right, y down, z forward.

Wide on purpose: phones and webcams held upright or on the side, industrial cameras with longer lenses, Human3.6M's
f = 1.145 w among them, from the floor to the ceiling. The principal point is the centre of the picture, pixels are
square, there is no distortion: lens distortion is to be undone before the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

PERSON_M = 1.9  # the height that must fit into the picture: a tall person, or one with an arm raised
NEAR_M = 0.3  # nothing is seen nearer than this
ARM_SPREAD_RAD = math.radians(15)  # deviation of a camera that stands where an arm points to


@dataclass(frozen=True)
class Rig:
    """Where cameras stand, what lenses they have, and how they move.

    aspects: widths over heights. focal: over the picture's longer side. height_m: above the floor; distance_m: along
    it. roll_rad: standard deviation. tilt_rad: standard deviation of a further turn up or down, in half of the windows.
    cut: part of the windows whose person may be cut off by the picture's edge. facing: part of the windows with an arm
    that points to or away from the camera. pan_rad_s, walk_m_s: standard deviations of the speeds at which half of the
    cameras turn and move.
    """

    aspects: tuple[float, ...]
    focal: tuple[float, float]
    height_m: tuple[float, float]
    distance_m: tuple[float, float]
    roll_rad: float
    tilt_rad: float = 0.0
    cut: float = 0.0
    facing: float = 0.0
    pan_rad_s: float = 0.0
    walk_m_s: float = 0.0


# 85 to 35 degrees of view along the longer side; one of three calibrated cameras on real clips is rolled by 13 degrees.
ANYWHERE = Rig((16 / 9, 4 / 3, 1.0, 3 / 4, 9 / 16), (0.55, 1.6), (0.3, 3.0), (2.0, 8.0), math.radians(8))
# Phones on the floor, ceilings, people far away or half in the picture, hands and gimbals that move the camera.
IN_THE_WILD = Rig(ANYWHERE.aspects, (0.5, 1.8), (0.1, 3.0), (1.8, 14.0), math.radians(8), math.radians(7),
                  0.08, 0.2, math.radians(15), 0.3)
STUDIO = Rig((1.0,), (1.12, 1.17), (1.35, 1.75), (4.0, 6.0), math.radians(1))  # as Human3.6M's four cameras stand


@dataclass(frozen=True)
class Cameras:
    """B pinhole cameras. position_m: (B, 3) world. rotation: (B, 3, 3), x_camera = rotation (x_world - position).
    focal: (B,) over the image width. aspect: (B,) width over height."""

    position_m: torch.Tensor
    rotation: torch.Tensor
    focal: torch.Tensor
    aspect: torch.Tensor

    def view(self, points_m: torch.Tensor) -> torch.Tensor:
        """World to camera axes: (B, T, J, 3) m -> (B, T, J, 3) m."""
        return (points_m - self.position_m[:, None, None]) @ self.rotation.transpose(1, 2)[:, None]

    def project(self, points_m: torch.Tensor) -> torch.Tensor:
        """Camera axes to normalised screen, (2 x - w) / w and (2 y - h) / w: (B, T, J, 3) m -> (B, T, J, 2)."""
        depth = points_m[..., 2:].clamp(min=NEAR_M)
        return 2 * self.focal[:, None, None, None] * points_m[..., :2] / depth


def random_cameras(target_m: torch.Tensor, generator: torch.Generator, rig: Rig = ANYWHERE,
                   arm_m: torch.Tensor | None = None) -> Cameras:
    """One camera for each person, who stands anywhere in its picture, whole if upright (but for rig.cut).

    target_m: (B, 3) world, the point aimed at (the pelvis of the middle frame). arm_m: (B, 3) world, from a shoulder to
    its wrist, which rig.facing needs.
    """
    batch = len(target_m)

    def uniform(low: float | torch.Tensor, high: float | torch.Tensor) -> torch.Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    def some(part: float) -> torch.Tensor:
        return torch.rand(batch, generator=generator) < part

    def normal() -> torch.Tensor:
        return torch.randn(batch, generator=generator)

    aspect = torch.tensor(rig.aspects)[torch.randint(len(rig.aspects), (batch,), generator=generator)]
    focal = torch.exp(uniform(*map(math.log, rig.focal))) * (1 / aspect).clamp(min=1)
    nearest = (PERSON_M * focal * aspect).clamp(min=rig.distance_m[0])  # focal * aspect: over the image height
    distance = torch.exp(uniform(nearest.log(), nearest.clamp(min=rig.distance_m[1]).log()))
    azimuth, height = uniform(-math.pi, math.pi), uniform(*rig.height_m)
    if rig.facing:
        sign = torch.where(some(0.5), -1.0, 1.0)
        along_arm = torch.atan2(sign * arm_m[:, 0], sign * arm_m[:, 2]) + ARM_SPREAD_RAD * normal()
        azimuth = torch.where(some(rig.facing), along_arm, azimuth)
    person = torch.full((batch,), PERSON_M)  # how much of it must be in the picture
    if rig.cut:
        person = torch.where(some(rig.cut), 0.0, person)
    position = torch.stack([target_m[:, 0] + distance * azimuth.sin(), height,
                            target_m[:, 2] + distance * azimuth.cos()], -1)
    # Where the person stands in the picture, as tangents: the free room left and right, above and below.
    half_width, half_height = 0.5 / focal, 0.5 / (focal * aspect)
    room_x = (half_width - 0.25 * person / distance).clamp(min=0)
    room_y = (half_height - 0.5 * person / distance).clamp(min=0)
    yaw = azimuth + torch.atan(uniform(-room_x, room_x))
    down = torch.atan2(height - target_m[:, 1], distance) - torch.atan(uniform(-room_y, room_y))
    roll = rig.roll_rad * normal()
    if rig.tilt_rad:
        down = down + rig.tilt_rad * normal() * some(0.5)
    return Cameras(position, _rotation(yaw, down, roll), focal, aspect)


def move_cameras(joints_m: torch.Tensor, period_s: float, generator: torch.Generator, rig: Rig) -> torch.Tensor:
    """The view of cameras that pan and walk: (B, T, J, 3) m, camera axes of a camera at rest -> each frame's own.

    The middle frame stays as it is; half of the cameras move, evenly while the window lasts.
    """
    batch, frames = joints_m.shape[:2]
    if frames == 1 or not (rig.pan_rad_s or rig.walk_m_s):
        return joints_m
    time = period_s * (torch.arange(frames) - frames // 2)
    moves = (torch.rand(batch, 1, generator=generator) < 0.5).float()
    pan = moves * rig.pan_rad_s * torch.randn(batch, 1, generator=generator) * time
    walk = moves[..., None] * rig.walk_m_s * torch.randn(batch, 1, 3, generator=generator) * time[:, None]
    x, y, z = (joints_m - walk[:, :, None]).unbind(-1)
    cos, sin = pan.cos()[..., None], pan.sin()[..., None]
    return torch.stack([cos * x - sin * z, y, sin * x + cos * z], -1)


def _rotation(yaw: torch.Tensor, down: torch.Tensor, roll: torch.Tensor) -> torch.Tensor:
    """World to camera. A camera with yaw 0 looks along world -z; `down` is its angle below the horizon."""
    zero = torch.zeros_like(yaw)
    forward = torch.stack([-yaw.sin() * down.cos(), -down.sin(), -yaw.cos() * down.cos()], -1)
    right = torch.stack([yaw.cos(), zero, -yaw.sin()], -1)
    below = torch.linalg.cross(forward, right, dim=-1)
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    return torch.stack([cos * right + sin * below, cos * below - sin * right, forward], 1)
