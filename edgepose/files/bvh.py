"""An animated skeleton (.bvh), in cm, y up: bones of constant length that turn. One person a file.

A bone has its mean length over the recording, so joints move a little where a lifter's bones vary. Every bone is turned
by one joint; where several bones begin in one place, each has a joint of its own there, of no length, "pelvis_spine".
The rotations are those of Kinematics. At rest the person stands upright with the arms out and looks along z. A moment
without a pose repeats the one before.
Source: M. Meredith and S. Maddock, "Motion capture file formats explained", 2001.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..kinematics import Kinematics, world_rotations
from ..skeleton import Skeleton
from .motion import CAMERA_TO_Y_UP, Motion, evenly, zxy_degrees

CM = 100.0  # per metre
CHANNELS = "Zrotation Xrotation Yrotation"


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
    joints_m, skeleton, kinematics = _without_gaps(even.joints_m[0]), motion.skeleton, Kinematics(motion.skeleton)
    lengths_m = {child: float(np.linalg.norm(joints_m[:, child] - joints_m[:, parent], axis=-1).mean())
                 for parent, child in skeleton.bones}
    rest = kinematics.rest @ CAMERA_TO_Y_UP.T
    root = _tree(skeleton, skeleton.root, np.zeros(3), {j: CM * m * rest[j] for j, m in lengths_m.items()})
    rotations = np.stack([kinematics.at(*moment).rotations for moment in zip(joints_m, even.times_s)])
    turns = CAMERA_TO_Y_UP @ world_rotations(rotations, skeleton) @ CAMERA_TO_Y_UP.T
    degrees = _turned(root, turns, skeleton)
    joints_m = joints_m @ CAMERA_TO_Y_UP.T
    rows = np.concatenate([CM * joints_m[:, skeleton.root], degrees], axis=1)
    with open(path, "w", encoding="utf-8") as file:
        file.write("HIERARCHY\n" + "\n".join(_hierarchy(root)) + f"\nMOTION\nFrames: {len(rows)}\n"
                   f"Frame Time: {1 / even.rate_hz:.9f}\n")
        file.writelines(" ".join(f"{x:.6f}" for x in row) + "\n" for row in rows)


def _without_gaps(joints_m: np.ndarray) -> np.ndarray:
    """The joints with the pose before in every frame that has none."""
    newest = np.maximum.accumulate(np.where(np.isnan(joints_m).any(axis=(1, 2)), 0, np.arange(len(joints_m))))
    return joints_m[newest]


def _tree(skeleton: Skeleton, joint: int, offset_cm: np.ndarray, offsets_cm: dict[int, np.ndarray]) -> Node:
    children = [child for parent, child in skeleton.bones if parent == joint]
    node = Node(skeleton.joints[joint], children[0] if len(children) == 1 else None, offset_cm)
    for child in children:
        below = _tree(skeleton, child, offsets_cm[child], offsets_cm)
        between = Node(f"{node.name}_{below.name}", child, np.zeros(3), [below])
        node.children.append(below if len(children) == 1 else between)
    return node


def _turned(root: Node, turns: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The angles of all nodes in the order of the file, (F, 3 n) degrees. turns: (F, J, 3, 3), of the bone that ends in
    each joint; several bones that begin in one place turn with the one before them."""
    degrees = []

    def turn(node: Node, parent: np.ndarray) -> None:
        joint = node.turns if node.turns is not None else skeleton.index(node.name) if node.children else None
        world = parent if joint is None else turns[:, joint]
        degrees.append(zxy_degrees(np.swapaxes(parent, 1, 2) @ world))
        for child in node.children:
            turn(child, world)

    turn(root, np.broadcast_to(np.eye(3), (len(turns), 3, 3)))
    return np.concatenate(degrees, axis=1)


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
