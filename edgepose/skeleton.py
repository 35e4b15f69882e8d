"""Skeletons: joint names, the kinematic tree, and which joint mirrors which. Imports nothing of edgepose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

DIGITS = 6  # decimals in texts of metres, seconds and confidences


@dataclass(frozen=True)
class Skeleton:
    """A named set of joints in a fixed order, with the tree that connects them.

    joints: J names, unique; "left_" and "right_" are the person's own.
    parents: J indices into `joints`, -1 for the root. A detector's keypoints that form no tree have parents ().
    Raises ValueError if the names repeat, the parents do not form one tree, or a left joint has no right twin.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f"skeleton {self.name!r} names a joint twice")
        for joint in self.joints:
            if self._twin(joint) not in self.joints:
                raise ValueError(f"skeleton {self.name!r} has {joint!r} but not {self._twin(joint)!r}")
        if self.parents:
            if len(self.parents) != len(self.joints) or self.parents.count(-1) != 1:
                raise ValueError(f"skeleton {self.name!r} needs one parent a joint and exactly one root")
            for j in range(len(self.joints)):
                self._depth(j)

    @staticmethod
    def _twin(joint: str) -> str:
        if joint.startswith("left_"):
            return "right_" + joint[len("left_"):]
        if joint.startswith("right_"):
            return "left_" + joint[len("right_"):]
        return joint

    def _depth(self, joint: int) -> int:
        depth = 0
        while (joint := self.parents[joint]) != -1:
            depth += 1
            if not 0 <= joint < len(self.joints) or depth >= len(self.joints):
                raise ValueError(f"the parents of skeleton {self.name!r} do not form a tree")
        return depth

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """The position of a joint by its name. Raises ValueError, listing the names, if there is none."""
        try:
            return self.joints.index(joint)
        except ValueError:
            raise ValueError(f"skeleton {self.name!r} has no joint {joint!r}; it has "
                             f"{', '.join(self.joints)}") from None

    @cached_property
    def root(self) -> int:
        """The index of the joint without a parent."""
        return self.parents.index(-1)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each joint the index of its left/right twin; joints on the midline are their own."""
        return tuple(self.joints.index(self._twin(joint)) for joint in self.joints)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """For each joint the number of bones between it and the root."""
        return tuple(self._depth(j) for j in range(len(self.joints)))

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, joint) index pairs, one a bone."""
        return tuple((p, j) for j, p in enumerate(self.parents) if p != -1)

    def named(self, values: Iterable[Any]) -> dict[str, Any]:
        """{joint: its value} in plain numbers of DIGITS decimals, of values in the order of the joints."""
        return {joint: rounded(value) for joint, value in zip(self.joints, values)}

    def without(self, joint: str, name: str) -> Skeleton:
        """The same skeleton with one joint left out; its children hang from its parent."""
        at = self.index(joint)
        if at == self.root:
            raise ValueError(f"the root {joint!r} cannot be left out")
        others = [j for j in range(len(self)) if j != at]
        parents = (self.parents[at] if self.parents[j] == at else self.parents[j] for j in others)
        return Skeleton(name, tuple(self.joints[j] for j in others),
                        tuple(-1 if p == -1 else others.index(p) for p in parents))


def rounded(value: Any) -> Any:
    """A number, bool or array as plain numbers of DIGITS decimals, in lists."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value


H36M17 = Skeleton(
    "h36m17",
    ("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
     "nose", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"),
    (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
)
H36M16 = H36M17.without("nose", "h36m16")

MODEL_SKELETONS = {skeleton.name: skeleton for skeleton in (H36M17, H36M16)}
