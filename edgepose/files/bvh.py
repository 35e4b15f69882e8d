"""An animated skeleton (.bvh), in cm, y up: bones of constant length that turn. One person a file.

A bone has its mean length over the recording, so joints move a little where a lifter's bones vary. Every bone is turned
by one joint; where several bones begin in one place, each has a joint of its own there, of no length, "pelvis_spine".
Two points do not show how a bone is turned about itself: it is turned as little as may be. At rest the person stands
upright with the arms out and looks along z. A moment without a pose repeats the one before.
Source: M. Meredith and S. Maddock, "Motion capture file formats explained", 2001.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..skeleton import Skeleton
from .motion import CAMERA_TO_Y_UP, Motion, evenly, unit, zxy_degrees

CM = 100.0  # per metre
CHANNELS = "Zrotation Xrotation Yrotation"
SIDEWAYS = {"left": np.array([1.0, 0, 0]), "right": np.array([-1.0, 0, 0])}  # looking along z, y up
UP, DOWN = np.array([0, 1.0, 0]), np.array([0, -1.0, 0])
LEG = ("knee", "ankle")


@dataclass
class Node:
    """A joint of the file. turns: the skeleton's joint at the end of the bone that it turns, None at a leaf and where
    several bones begin."""

    name: str
    turns: int | None
    offset_cm: np.ndarray
    children: list[Node] = field(default_factory=list)


def write_bvh(path: Path, motion: Motion) -> None:
    """Writes one person's motion."""
    even = evenly([motion])
    joints_m = _without_gaps(even.joints_m[0]) @ CAMERA_TO_Y_UP.T
    skeleton = motion.skeleton
    vectors_m = {child: joints_m[:, child] - joints_m[:, parent] for parent, child in skeleton.bones}
    lengths_m = {child: float(np.linalg.norm(vectors, axis=-1).mean()) for child, vectors in vectors_m.items()}
    root = _tree(skeleton, skeleton.root, np.zeros(3), lengths_m)
    degrees = _turned(root, skeleton, vectors_m)
    rows = np.concatenate([CM * joints_m[:, skeleton.root], degrees], axis=1)
    with open(path, "w", encoding="utf-8") as file:
        file.write("HIERARCHY\n" + "\n".join(_hierarchy(root)) + f"\nMOTION\nFrames: {len(rows)}\n"
                   f"Frame Time: {1 / even.rate_hz:.9f}\n")
        file.writelines(" ".join(f"{x:.6f}" for x in row) + "\n" for row in rows)


def _without_gaps(joints_m: np.ndarray) -> np.ndarray:
    """The joints with the pose before in every frame that has none."""
    newest = np.maximum.accumulate(np.where(np.isnan(joints_m).any(axis=(1, 2)), 0, np.arange(len(joints_m))))
    return joints_m[newest]


def _tree(skeleton: Skeleton, joint: int, offset_cm: np.ndarray, lengths_m: dict[int, float]) -> Node:
    children = [child for parent, child in skeleton.bones if parent == joint]
    node = Node(skeleton.joints[joint], children[0] if len(children) == 1 else None, offset_cm)
    for child in children:
        below = _tree(skeleton, child, CM * lengths_m[child] * _at_rest(skeleton.joints[child]), lengths_m)
        between = Node(f"{node.name}_{below.name}", child, np.zeros(3), [below])
        node.children.append(below if len(children) == 1 else between)
    return node


def _at_rest(joint: str) -> np.ndarray:
    """The direction of the bone that ends in a joint, of a person who stands upright with the arms out."""
    side, _, part = joint.partition("_")
    if side not in SIDEWAYS:
        return UP
    return DOWN if part in LEG else SIDEWAYS[side]


def _turned(root: Node, skeleton: Skeleton, vectors_m: dict[int, np.ndarray]) -> np.ndarray:
    """The angles of all nodes in the order of the file, (F, 3 n) degrees."""
    degrees = []

    def turn(node: Node, parent: np.ndarray) -> None:
        world = parent
        if node.turns is not None:
            wanted = unit(vectors_m[node.turns])
            world = _swing(parent @ _at_rest(skeleton.joints[node.turns]), wanted) @ parent
        elif node.children:
            world = _frame(skeleton, node, vectors_m)
        degrees.append(zxy_degrees(np.swapaxes(parent, 1, 2) @ world))
        for child in node.children:
            turn(child, world)

    turn(root, np.broadcast_to(np.eye(3), (len(next(iter(vectors_m.values()))), 3, 3)))
    return np.concatenate(degrees, axis=1)


def _frame(skeleton: Skeleton, node: Node, vectors_m: dict[int, np.ndarray]) -> np.ndarray:
    """(F, 3, 3): the turn of hips or shoulders as one, x to the person's left, y along the bone that leads up."""
    bones = {skeleton.joints[child.turns]: vectors_m[child.turns] for child in node.children}
    left = next(bone for joint, bone in bones.items() if joint.startswith("left_"))
    right = next(bone for joint, bone in bones.items() if joint.startswith("right_"))
    up = next(bone for joint, bone in bones.items() if joint.partition("_")[0] not in SIDEWAYS)
    x = left - right
    z = np.cross(x, up)
    y = np.cross(z, x)
    return np.stack([unit(axis) for axis in (x, y, z)], axis=-1)


def _swing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(F, 3, 3): the smallest rotations that turn one direction into another, (F, 3) each of length 1."""
    axis, cosine = np.cross(start, end), (start * end).sum(axis=-1)
    opposite = cosine < -1 + 1e-12  # any half turn about an axis across will do
    across = np.cross(start, np.eye(3)[np.abs(start).argmin(axis=-1)])
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    skew = np.zeros((len(start), 3, 3))
    skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    skew -= np.swapaxes(skew, 1, 2)
    turns = np.eye(3) + skew + skew @ skew / np.where(opposite, 1, 1 + cosine)[:, None, None]
    turns[opposite] = 2 * across[opposite, :, None] * across[opposite, None, :] - np.eye(3)
    return turns


def _hierarchy(node: Node, depth: int = 0) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}{'JOINT' if depth else 'ROOT'} {node.name}"
    yield indent + "{"
    yield f"{indent}  OFFSET " + " ".join(f"{x:.6f}" for x in node.offset_cm)
    yield f"{indent}  CHANNELS {3 if depth else 6} {'' if depth else 'Xposition Yposition Zposition '}{CHANNELS}"
    for child in node.children:
        yield from _hierarchy(child, depth + 1)
    if not node.children:
        yield from (f"{indent}  {line}" for line in ("End Site", "{", "  OFFSET 0.000000 0.000000 0.000000", "}"))
    yield indent + "}"
