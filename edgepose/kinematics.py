"""Joint rotations and angles, centre of mass and speeds of one person's poses; bones of constant length.

    kinematics = Kinematics(engine.skeleton)                   # one a person
    movement = kinematics(stream.push(keypoints_px, time_s))
    print(movement.angles_deg["left_knee_flexion"])

docs/angles.md says how each angle is defined. Sources: Wu et al., J. Biomechanics 35 (2002) and 38 (2005), for the
angles; Winter, Biomechanics and Motor Control of Human Movement, 2009, for the parts of the body's mass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _native
from .skeleton import Skeleton, rounded
from .stream import Pose, listed_lengths

ANGLES = {name: (least, most) for name, least, most in _native.angles()}  # degrees


@dataclass(frozen=True, eq=False)
class Movement:
    """A moment of a person.

    timestamp_s: the pose's.
    rotations: (J, 4) unit quaternions w, x, y, z, w >= 0: of the bone that ends in each joint, in that of the bone
    before
    it; of the root: of the pelvis, in camera axes. All are (1, 0, 0, 0) for a person who stands upright, faces the
    camera and stretches the arms out sideways. `Kinematics.joints_of` makes joints of them.
    angles_deg: each of ANGLES by its name.
    velocity_m_s: (J, 3), camera axes, low-passed at 5 Hz; of poses with their place in front of the camera, of others
    from the root; 0 in the first.
    centre_of_mass_m: (3,) from the root.
    """

    timestamp_s: float
    rotations: np.ndarray
    angles_deg: dict[str, float]
    velocity_m_s: np.ndarray
    centre_of_mass_m: np.ndarray
    skeleton: Skeleton

    @property
    def speed_m_s(self) -> np.ndarray:
        """(J,): the length of each velocity."""
        return np.linalg.norm(self.velocity_m_s, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """The movement in plain numbers and names, as JSON takes it."""
        return {"timestamp_s": rounded(self.timestamp_s), "rotations": self.skeleton.named(self.rotations),
                "angles_deg": {name: rounded(angle) for name, angle in self.angles_deg.items()},
                "velocity_m_s": self.skeleton.named(self.velocity_m_s),
                "centre_of_mass_m": rounded(self.centre_of_mass_m)}

    def to_json(self) -> str:
        """`to_dict` as a line of JSON."""
        return json.dumps(self.to_dict())


class Kinematics:
    """Rotations, angles and speeds of one person's poses, in the order of time.

    Two points do not show how a bone is turned about itself: thighs and upper arms are turned as their knees and elbows
    bend, and where these bend by less than 10 degrees by as much as before. Shanks and forearms turn with the knee and
    the elbow; head and shoulders are turned as little as may be.
    Raises ValueError for a skeleton that lacks a joint of H36M16.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self._kinematics = _native.Kinematics(skeleton)

    def reset(self) -> None:
        """Forgets the past: for another person."""
        self._kinematics.reset()

    def __call__(self, pose: Pose) -> Movement:
        """The movement at a pose. After a reset of its stream, and after an earlier time, the past is forgotten.

        Raises ValueError for a pose of another skeleton.
        """
        if pose.was_reset:
            self.reset()
        return self.at(pose.joints_m, pose.timestamp_s, pose.root_m)

    def at(self, joints_m: np.ndarray, timestamp_s: float, root_m: np.ndarray | None = None) -> Movement:
        """The same for joints alone, (J, 3) m from the root, camera axes; root_m: (3,) where the root is."""
        rotations, angles, velocity_m_s, centre_m = self._kinematics(
            joints_m, None if root_m is None else np.asarray(root_m).tolist(), timestamp_s)
        return Movement(timestamp_s, rotations, dict(zip(ANGLES, angles.tolist())), velocity_m_s, centre_m,
                        self.skeleton)

    @property
    def rest(self) -> np.ndarray:
        """(J, 3): the direction of the bone that ends in each joint, at rest, in camera axes; 0 for the root."""
        return self._kinematics.rest()

    def joints_of(self, rotations: np.ndarray, lengths_m: np.ndarray) -> np.ndarray:
        """(J, 3) m from the root: the joints of a movement's `rotations`, (J, 4), with bones of some lengths, (J,); the
        root's is not read."""
        bones_m = np.asarray(lengths_m)[:, None] * np.einsum("jrc,jc->jr", world_rotations(rotations, self.skeleton),
                                                             self.rest)
        joints_m = np.zeros((len(self.skeleton), 3))
        for joint in _outwards(self.skeleton):
            joints_m[joint] = joints_m[self.skeleton.parents[joint]] + bones_m[joint]
        return joints_m


def matrices(quaternions: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation matrices of (..., 4) unit quaternions w, x, y, z."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def world_rotations(rotations: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(..., J, 3, 3): the rotation of the bone that ends in each joint, from rest, in camera axes, of (..., J, 4)
    `Movement.rotations`."""
    turns = matrices(np.asarray(rotations))
    for joint in _outwards(skeleton):
        turns[..., joint, :, :] = turns[..., skeleton.parents[joint], :, :] @ turns[..., joint, :, :]
    return turns


def _outwards(skeleton: Skeleton) -> list[int]:
    """The joints but for the root, parents first."""
    return sorted((joint for _, joint in skeleton.bones), key=skeleton.depths.__getitem__)


def with_constant_bones(joints_m: np.ndarray, skeleton: Skeleton,
                        lengths_m: Mapping[str, float] | None = None) -> np.ndarray:
    """The poses of a whole recording of one person, (N, J, 3) m from the root, with bones of one length each, float32.

    The lengths are medians over all poses, left and right alike; limbs and hips in lengths_m (as for `Stream`) are
    taken from there. From the root outwards each joint is put where its bone allows it, near to where it was and to
    where
    the bone pointed; depth counts less, because a lifter knows it worse. A stream does this as poses come: Stream(...,
    constant_bones=True).
    Raises ValueError for a wrong shape or length.
    """
    held = np.array(joints_m, np.float32, order="C")
    _native.hold_bones(skeleton, held, listed_lengths(lengths_m))
    return held
