"""A person who walks, and films of them: motion and pictures for the tests of the detector."""

import numpy as np
import torch
from tiny_mocap import standing

from edgepose.skeleton import H36M17
from edgepose.training.pictures import draw_film

FPS = 30.0
SIZE = (192, 256)  # height, width


def walk(frames: int, fps: float = FPS) -> torch.Tensor:
    """(frames, 17, 3) m, world, y up: a step every 0.6 s in a circle of 0.8 m radius, arms against legs."""
    joints = np.repeat(standing()[None], frames, 0)
    phase = np.pi * np.arange(frames) / fps / 0.6
    for side, sign in (("left", 1), ("right", -1)):
        swing = sign * np.sin(phase)
        bend = 0.5 * np.maximum(sign * np.cos(phase), 0)
        _swing(joints, f"{side}_hip", (f"{side}_knee", f"{side}_ankle"), 0.45 * swing)
        _swing(joints, f"{side}_knee", (f"{side}_ankle",), -bend)
        _swing(joints, f"{side}_shoulder", (f"{side}_elbow", f"{side}_wrist"), -0.5 * swing)
        _swing(joints, f"{side}_elbow", (f"{side}_wrist",), 0.4 + 0.2 * swing)
    turn = np.arange(frames) / fps * 0.9
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    x, y, z = joints[..., 0] + 0.8, joints[..., 1], joints[..., 2]
    return torch.from_numpy(np.stack([x * cos - z * sin, y, x * sin + z * cos], -1).astype(np.float32))


def _swing(joints: np.ndarray, pivot: str, moved: tuple[str, ...], forward_rad: np.ndarray) -> None:
    """Turn joints about the person's left-right axis; a positive angle is forward (+z)."""
    about = joints[:, [H36M17.index(pivot)]]
    for joint in moved:
        j = H36M17.index(joint)
        v = joints[:, j] - about[:, 0]
        cos, sin = np.cos(forward_rad), np.sin(forward_rad)
        joints[:, j] = about[:, 0] + np.stack([v[:, 0], v[:, 1] * cos + v[:, 2] * sin, v[:, 2] * cos - v[:, 1] * sin],
                                              -1)


def film(frames: int, seed: int, size=SIZE):
    """A rendered video of the walk by a random camera, person, background and light."""
    return draw_film(walk(frames), FPS, size, torch.Generator().manual_seed(seed))
