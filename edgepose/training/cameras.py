"""Random cameras around a person, and what they see. World: metres, y up. Camera: x right, y down, z forward.

Wide on purpose: phones and webcams held upright or on the side, industrial cameras with longer lenses, Human3.6M's
f = 1.145 w among them, from knee height to the ceiling. The principal point is the centre of the picture, pixels are
square, there is no distortion: lens distortion is to be undone before the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

PERSON_M = 1.9  # the height that must fit into the picture: a tall person, or one with an arm raised
NEAR_M = 0.3  # nothing is seen nearer than this


@dataclass(frozen=True)
class Rig:
    """Where cameras stand and what lenses they have.

    aspects: widths over heights. focal: over the picture's longer side. height_m: above the floor; distance_m: along it.
    roll_rad: standard deviation.
    """

    aspects: tuple[float, ...]
    focal: tuple[float, float]
    height_m: tuple[float, float]
    distance_m: tuple[float, float]
    roll_rad: float


# 85 to 35 degrees of view along the longer side; one of three calibrated cameras on real clips is rolled by 13 degrees.
ANYWHERE = Rig((16 / 9, 4 / 3, 1.0, 3 / 4, 9 / 16), (0.55, 1.6), (0.3, 3.0), (2.0, 8.0), math.radians(8))
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


def random_cameras(target_m: torch.Tensor, generator: torch.Generator, rig: Rig = ANYWHERE) -> Cameras:
    """One camera for each person, who stands anywhere in its picture, whole if upright.

    target_m: (B, 3) world, the point aimed at (the pelvis of the middle frame).
    """
    batch = len(target_m)

    def uniform(low: float | torch.Tensor, high: float | torch.Tensor) -> torch.Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    aspect = torch.tensor(rig.aspects)[torch.randint(len(rig.aspects), (batch,), generator=generator)]
    focal = torch.exp(uniform(*map(math.log, rig.focal))) * (1 / aspect).clamp(min=1)
    nearest = (PERSON_M * focal * aspect).clamp(min=rig.distance_m[0])  # focal * aspect: over the image height
    distance = torch.exp(uniform(nearest.log(), nearest.clamp(min=rig.distance_m[1]).log()))
    azimuth, height = uniform(-math.pi, math.pi), uniform(*rig.height_m)
    position = torch.stack([target_m[:, 0] + distance * azimuth.sin(), height,
                            target_m[:, 2] + distance * azimuth.cos()], -1)
    # Where the person stands in the picture, as tangents: the free room left and right, above and below.
    half_width, half_height = 0.5 / focal, 0.5 / (focal * aspect)
    room_x = (half_width - 0.25 * PERSON_M / distance).clamp(min=0)
    room_y = (half_height - 0.5 * PERSON_M / distance).clamp(min=0)
    yaw = azimuth + torch.atan(uniform(-room_x, room_x))
    down = torch.atan2(height - target_m[:, 1], distance) - torch.atan(uniform(-room_y, room_y))
    roll = rig.roll_rad * torch.randn(batch, generator=generator)
    return Cameras(position, _rotation(yaw, down, roll), focal, aspect)


def _rotation(yaw: torch.Tensor, down: torch.Tensor, roll: torch.Tensor) -> torch.Tensor:
    """World to camera. A camera with yaw 0 looks along world -z; `down` is its angle below the horizon."""
    zero = torch.zeros_like(yaw)
    forward = torch.stack([-yaw.sin() * down.cos(), -down.sin(), -yaw.cos() * down.cos()], -1)
    right = torch.stack([yaw.cos(), zero, -yaw.sin()], -1)
    below = torch.linalg.cross(forward, right, dim=-1)
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    return torch.stack([cos * right + sin * below, cos * below - sin * right, forward], 1)
