"""Rendered people, for training a detector where there are no pictures that may be used: capsules along the bones of
real motion, in random clothes and light, before backgrounds of noise, gradients and bars, with the COCO-17 keypoints in
the picture.

A capsule is drawn in the picture's plane: a pixel is on it if its distance from the projected axis is below the
projected radius there; its depth is that of the axis less the bulge towards the camera, and the nearest capsule of a
pixel is seen. Limbs run from landmark to landmark, so a keypoint lies on the axis of its limb. What tells front from
back, and so left from right, is what tells it on real people: face and hair, feet, a strip down the chest. Pixels:
(0, 0) is the centre of the top left one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from ..adapters import COCO17
from ..pictures.detector import PADDING
from ..skeleton import H36M17
from .bodies import vary_bodies
from .cameras import NEAR_M, random_cameras
from .landmarks import coco_landmarks
from .mocap import Motion, draw_windows

SIDES = ("left_", "right_")
COLOURS = ("skin", "shirt", "trousers", "shoes", "hair", "dark", "strip", "sleeve", "shank")
LIMBS = (  # from, to, radii in metres of a person of average build, colour
    ("hip", "knee", 0.085, 0.06, "trousers"), ("knee", "ankle", 0.055, 0.042, "shank"),
    ("ankle", "toe", 0.045, 0.035, "shoes"),
    ("shoulder", "elbow", 0.056, 0.045, "shirt"), ("elbow", "wrist", 0.043, 0.034, "sleeve"),
    ("wrist", "hand", 0.034, 0.032, "skin"))
TRUNK = (("left_shoulder", "left_hip", 0.075, 0.085, "shirt"), ("right_shoulder", "right_hip", 0.075, 0.085, "shirt"),
         ("chest", "belly", 0.12, 0.11, "shirt"), ("left_shoulder", "right_shoulder", 0.07, 0.07, "shirt"),
         ("left_hip", "right_hip", 0.095, 0.095, "trousers"), ("chest_front", "belly_front", 0.03, 0.02, "strip"),
         ("chest", "skull", 0.055, 0.055, "skin"))
HEAD = (("jaw", "brow", 0.075, 0.08, "skin"), ("hair_low", "hair_high", 0.078, 0.088, "hair"),
        ("nose", "nose_root", 0.018, 0.012, "skin"),
        ("left_eye", "left_eye", 0.016, 0.016, "dark"), ("right_eye", "right_eye", 0.016, 0.016, "dark"),
        ("left_ear", "left_ear", 0.025, 0.025, "skin"), ("right_ear", "right_ear", 0.025, 0.025, "skin"))
CAPSULES = TRUNK + tuple((side + a, side + b, *rest) for side in SIDES for a, b, *rest in LIMBS) + HEAD
BUILD = (0.85, 1.25)  # factor of the radii, uniform
AMBIENT = (0.45, 0.8)  # share of the light from everywhere, uniform; the rest comes from one side
CAMERAS, MARGIN = 256, 0.85  # a film's; the joints stay within this part of the picture
BARS = 3  # capsules of any size in the background of half of the pictures, and as many before the person in some
BARS_BEFORE = 0.05
# The size of a person over the padded box, log-uniform: a detector looks for people in the whole picture first.
ZOOM = (0.5, 1.1)


@dataclass(frozen=True)
class Looks:
    """Clothes of B people, and the light: colours (B, len(COLOURS), 3) in [0, 1], build (B,) of their radii, light
    (B, 3), the direction to it in camera axes, and ambient (B,), what comes from everywhere."""

    colours: torch.Tensor
    build: torch.Tensor
    light: torch.Tensor
    ambient: torch.Tensor

    def repeated(self, frames: int) -> Looks:
        """The looks of one person for each of many frames."""
        return Looks(*(part.expand(frames, *part.shape[1:])
                       for part in (self.colours, self.build, self.light, self.ambient)))


def random_looks(batch: int, generator: torch.Generator) -> Looks:
    """B people in colours of their own; half with bare forearms, a third with bare shanks."""
    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    colours = uniform(0, 1, len(COLOURS), 3)
    skin = torch.tensor([0.95, 0.72, 0.58]) * uniform(0.35, 1, 1) * uniform(0.93, 1.07, 3)
    named = {"skin": skin, "hair": uniform(0, 0.5, 1) * uniform(0.6, 1, 3), "dark": uniform(0, 0.2, 3)}
    for part, cloth, bare in (("sleeve", "shirt", 0.5), ("shank", "trousers", 0.33)):
        named[part] = torch.where(uniform(0, 1, 1) < bare, skin, colours[:, COLOURS.index(cloth)])
    for name, colour in named.items():
        colours[:, COLOURS.index(name)] = colour
    light = torch.randn(batch, 3, generator=generator) + torch.tensor([0.0, -1.0, -1.0])
    return Looks(colours.clamp(0, 1), uniform(*BUILD), functional.normalize(light, dim=-1), uniform(*AMBIENT))


def body_points(joints_m: torch.Tensor, landmarks_m: torch.Tensor) -> dict[str, torch.Tensor]:
    """The ends of all capsules by name, each (B, 3): joints_m (B, 17, 3) H36M, landmarks_m (B, 17, 3) COCO, same
    axes."""
    points = dict(zip(COCO17.joints, landmarks_m.unbind(1)))
    thorax, base, crown = (joints_m[:, H36M17.index(joint)] for joint in ("thorax", "nose", "head"))
    size = _thigh(joints_m)
    across = functional.normalize(points["left_shoulder"] - points["right_shoulder"]
                                  + points["left_hip"] - points["right_hip"], dim=-1)
    hips = (points["left_hip"] + points["right_hip"]) / 2
    front = functional.normalize(torch.linalg.cross(across, functional.normalize(thorax - hips, dim=-1), dim=-1),
                                 dim=-1)
    for side in SIDES:
        shin = functional.normalize(points[side + "ankle"] - points[side + "knee"], dim=-1)
        ahead = functional.normalize(front - 0.9 * (front * shin).sum(-1, keepdim=True) * shin + 0.15 * shin, dim=-1)
        points[side + "toe"] = points[side + "ankle"] + size * (0.15 * ahead + 0.04 * shin)
        arm = functional.normalize(points[side + "wrist"] - points[side + "elbow"], dim=-1)
        points[side + "hand"] = points[side + "wrist"] + 0.1 * size * arm
    points["chest"], points["belly"] = thorax + (hips - thorax) * 0.18, hips + (thorax - hips) * 0.15
    points["chest_front"], points["belly_front"] = (points[end] + 0.105 * size * front for end in ("chest", "belly"))
    ears = (points["left_ear"] + points["right_ear"]) / 2
    up, gaze = functional.normalize(crown - base, dim=-1), functional.normalize(points["nose"] - ears, dim=-1)
    points["skull"], points["jaw"], points["brow"] = (base, ears + size * (0.025 * gaze - 0.03 * up),
                                                      ears + size * (0.02 * gaze + 0.045 * up))
    points["hair_low"], points["hair_high"] = (ears + size * (-0.035 * gaze - 0.01 * up),
                                               ears + size * (-0.015 * gaze + 0.06 * up))
    points["nose_root"] = points["nose"] + size * (0.025 * up - 0.01 * gaze)
    return points


def _thigh(joints_m: torch.Tensor) -> torch.Tensor:
    """The size of a person, (B, 1): 1 for a thigh of 0.42 m."""
    hip, knee = (joints_m[:, [H36M17.index(f"{side}{joint}") for side in SIDES]] for joint in ("hip", "knee"))
    return (hip - knee).norm(dim=-1).mean(1, keepdim=True) / 0.42


@dataclass(frozen=True)
class Capsules:
    """N capsules in each of B pictures: ends_px (B, N, 2, 2), depth_m (B, N, 2), radius_m (B, N, 2), colours (B, N, 3);
    scale_px is px a metre, (B, N, 2)."""

    ends_px: torch.Tensor
    depth_m: torch.Tensor
    radius_m: torch.Tensor
    scale_px: torch.Tensor
    colours: torch.Tensor


def body_capsules(joints_m: torch.Tensor, landmarks_m: torch.Tensor, looks: Looks, focal_px: torch.Tensor,
                  centre_px: torch.Tensor) -> Capsules:
    """People as capsules in the picture: joints_m and landmarks_m (B, 17, 3) in camera axes, focal_px (B,), centre_px
    (B, 2)."""
    points = body_points(joints_m, landmarks_m)
    ends = torch.stack([torch.stack([points[a], points[b]], 1) for a, b, *_ in CAPSULES], 1)
    radius = torch.tensor([[ra, rb] for _, _, ra, rb, _ in CAPSULES]) * (looks.build[:,
                                                                                     None]
                                                                         * _thigh(joints_m))[..., None]
    depth = ends[..., 2].clamp(min=NEAR_M)
    scale = focal_px[:, None, None] / depth
    colours = looks.colours[:, [COLOURS.index(colour) for *_, colour in CAPSULES]]
    return Capsules(ends[..., :2] * scale[..., None] + centre_px[:, None, None], depth, radius, scale, colours)


def _joined(*parts: Capsules) -> Capsules:
    return Capsules(*(torch.cat([getattr(part, name) for part in parts], 1) for name in Capsules.__dataclass_fields__))


def draw(capsules: Capsules, background: torch.Tensor, looks: Looks) -> torch.Tensor:
    """The capsules before a background (B, 3, H, W) in [0, 1], lit: the same shape. The nearest of a pixel is seen."""
    batch, _, height, width = background.shape
    x, y = torch.arange(width, dtype=torch.float), torch.arange(height, dtype=torch.float)[:, None]
    nearest = torch.full((batch, height, width), math.inf)
    seen = torch.zeros(batch, height, width, dtype=torch.long)
    shade = torch.zeros(batch, height, width)
    lx, ly, lz = (part[:, None, None] for part in looks.light.unbind(-1))
    for n in range(capsules.ends_px.shape[1]):
        (ax, ay), (bx, by) = (capsules.ends_px[:, n, end].unbind(-1) for end in (0, 1))
        ax, ay, dx, dy = (part[:, None, None] for part in (ax, ay, bx - ax, by - ay))
        (za, zb), (ra, rb), (sa, sb) = ([part[:, n, end, None, None] for end in (0, 1)]
                                        for part in (capsules.depth_m, capsules.radius_m, capsules.scale_px))
        along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy).clamp(min=1e-6)).clamp(0, 1)
        pa, pb = ra * sa, rb * sb
        radius = pa + along * (pb - pa)
        ex, ey = (x - ax - along * dx) / radius, (y - ay - along * dy) / radius
        bulge = 1 - ex * ex - ey * ey
        covered = bulge > 0
        bulge = bulge.clamp(min=0).sqrt()
        depth = za + along * (zb - za) - ra * bulge
        nearer = covered & (depth < nearest)
        nearest = torch.where(nearer, depth, nearest)
        shade = torch.where(nearer, ex * lx + ey * ly - bulge * lz, shade)
        seen.masked_fill_(nearer, n + 1)
    light = looks.ambient[:, None, None] + (1 - looks.ambient)[:, None, None] * shade.clamp(min=0)
    index = (seen - 1).clamp(min=0).flatten(1)
    painted = capsules.colours.gather(1, index[..., None].expand(-1, -1, 3)).transpose(1, 2).reshape(background.shape)
    return torch.where((seen > 0)[:, None], painted * light[:, None], background)


def random_backgrounds(batch: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Gradients and noise of several grain sizes: (B, 3, height, width) in [0, 1]."""
    pictures = torch.rand(batch, 3, 1, 1, generator=generator).expand(batch, 3, *size).clone()
    for grain in (2, 4, 12, 48):
        rough = torch.rand(batch, 3, *(max(2, math.ceil(side / (max(size) / grain))) for side in size),
                           generator=generator) - 0.5
        amount = 0.8 * torch.rand(batch, 1, 1, 1, generator=generator) ** 2
        pictures += amount * functional.interpolate(rough, size=size, mode="bilinear", align_corners=True)
    return pictures.clamp(0, 1)


def random_bars(batch: int, size: tuple[int, int], depth_m: torch.Tensor, generator: torch.Generator) -> Capsules:
    """Bars of any place and colour: furniture, poles, other people's arms. depth_m: (B,); beyond anything leaves them
    out."""
    height, width = size
    ends = torch.rand(batch, BARS, 2, 2, generator=generator) * torch.tensor([width, height])
    radius = 0.01 * math.hypot(*size) * torch.rand(batch, BARS, 1, generator=generator).mul(1.8).exp().expand(-1, -1, 2)
    depth = depth_m[:, None, None].expand(-1, BARS, 2)
    return Capsules(ends, depth, radius, torch.ones_like(radius), torch.rand(batch, BARS, 3, generator=generator))


def in_picture(points_px: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The points with a third number, 1 within a picture of (height, width), else 0: (..., 2) -> (..., 3)."""
    inside = ((points_px >= 0) & (points_px <= torch.tensor([size[1] - 1, size[0] - 1]))).all(-1, keepdim=True)
    return torch.cat([points_px, inside.float()], -1)


def draw_pictures(motion: Motion, count: int, size: tuple[int, int],
                  generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """People in crops of their own, as a detector of boxes or the last frame's keypoints would place them: anywhere in
    the crop where there is room, smaller or larger by ZOOM than in a box with PADDING.

    Returns pictures (count, 3, height, width) in [0, 1] and the keypoints (count, 17, 3): px, and 1 where in the
    picture.
    """
    positions = vary_bodies(draw_windows(motion, count, 1, generator), generator)
    cameras = random_cameras(positions[:, 0, H36M17.root], generator)
    joints = cameras.view(positions)
    landmarks = coco_landmarks(joints, generator)[:, 0]
    points = cameras.project(landmarks[:, None])[:, 0]  # in half widths of the camera's picture
    low, high = points.amin(1), points.amax(1)
    height, width = size
    box_height = PADDING * torch.maximum((high - low)[:, 1], (high - low)[:, 0] * height / width)
    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator)

    relative = ZOOM[0] * (ZOOM[1] / ZOOM[0]) ** uniform()
    zoom = relative * height / box_height
    sides = torch.tensor([width, height], dtype=torch.float)
    room = ((sides - (high - low) * zoom[:, None]) / 2).clamp(min=0)
    centre = (sides - 1) / 2 + room * (2 * uniform(2) - 1) - zoom[:, None] * (low + high) / 2
    focal_px = zoom * 2 * cameras.focal
    looks = random_looks(count, generator)
    people = body_capsules(joints[:, 0], landmarks, looks, focal_px, centre)
    bars = [random_bars(count, size, torch.where(torch.rand(count, generator=generator) < part, depth, math.inf),
                        generator)
            for part, depth in ((0.5, 100.0), (BARS_BEFORE, NEAR_M))]
    pictures = draw(_joined(people, *bars), random_backgrounds(count, size, generator), looks)
    return pictures, in_picture(points * zoom[:, None, None] + centre[:, None], size)


@dataclass(frozen=True)
class Film:
    """A rendered video of one person: frames (F, height, width, 3) uint8 RGB, keypoints_px (F, 17, 2) COCO, joints_m
    (F, 17, 3) H36M, metres from the root in camera axes, fps."""

    frames: torch.Tensor
    keypoints_px: torch.Tensor
    joints_m: torch.Tensor
    fps: float


def draw_film(positions_m: torch.Tensor, fps: float, size: tuple[int, int], generator: torch.Generator) -> Film:
    """One person's motion (F, 17, 3), metres, world axes, y up, before one background, through a camera that does not
    move: of CAMERAS random ones that in which the person is largest and never leaves the picture.

    Raises ValueError if there is none.
    """
    frames, (height, width) = len(positions_m), size
    cameras = random_cameras(positions_m.flatten(0, 1).mean(0).expand(CAMERAS, 3), generator)
    joints = cameras.view(positions_m.expand(CAMERAS, -1, -1, -1))
    points = cameras.project(joints)
    is_whole = (points.abs() < MARGIN * torch.tensor([1.0, height / width])).flatten(1).all(1)
    if not is_whole.any():
        raise ValueError(f"the motion does not fit into a picture of {width}x{height}; it moves too far")
    best = int(torch.where(is_whole, (points.amax(2) - points.amin(2))[..., 1].amin(1), 0.0).argmax())
    joints, focal_px = joints[best], (cameras.focal[best] * width).expand(frames)
    landmarks = coco_landmarks(joints[None], generator)[0]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]).expand(frames, 2)
    looks = random_looks(1, generator).repeated(frames)
    background = random_backgrounds(1, size, generator).expand(frames, 3, height, width)
    pictures = draw(body_capsules(joints, landmarks, looks, focal_px, centre), background, looks)
    seen_at = landmarks[..., :2] * (focal_px[:, None] / landmarks[..., 2])[..., None] + centre[:, None]
    return Film((pictures * 255).round().byte().permute(0, 2, 3, 1).contiguous(), seen_at,
                joints - joints[:, H36M17.root:H36M17.root + 1], fps)
