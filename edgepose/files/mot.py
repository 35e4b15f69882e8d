"""Joint angles for OpenSim (.mot): the coordinates of Rajagopal's full-body model, in degrees. One person a file.

Angles are those at which the model's bones point as the person's do. The pelvis has z from the left hip to the right
one and y towards the spine; the torso z from the left shoulder to the right one and y from the spine to the thorax:
tilt, list and rotation, and extension, bending and rotation of the lumbar, are turns about z, x and y in this order, as
the model has them, and so are flexion, adduction and rotation of hips and arms. A hip or a shoulder is turned about its
bone so that knee and elbow bend about their z; where these are nearly straight, by as much as before. Ankles, feet,
forearms and hands are not seen: their coordinates are left out, and OpenSim takes its own. A moment without a pose has
no row. Ground: x towards the camera, y up. Source: Rajagopal et al. 2016, and OpenSim's Rajagopal2016.osim.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..skeleton import Skeleton
from .motion import CAMERA_TO_GROUND, Motion, evenly, unit, zxy_degrees

PELVIS_TO_HIPS_M = np.array([-0.056276, -0.07849, 0.0])  # the middle of the hips in the model's pelvis
LIMBS = (  # its coordinates, the joints it lies between, the side to which it bends: forward or back
    (("hip_flexion", "hip_adduction", "hip_rotation", "knee_angle"), ("hip", "knee", "ankle"), -1),
    (("arm_flex", "arm_add", "arm_rot", "elbow_flex"), ("shoulder", "elbow", "wrist"), 1))
STRAIGHT = np.sin(np.radians(10))  # a knee or elbow bent by less shows no turn about the bone above


def write_mot(path: Path, motion: Motion) -> None:
    """Writes one person's angles and the place of the pelvis."""
    even = evenly([motion])
    is_there = ~np.isnan(even.joints_m[0]).any(axis=(1, 2))
    columns = coordinates(even.joints_m[0][is_there] @ CAMERA_TO_GROUND.T, motion.skeleton)
    rows = np.column_stack([even.times_s[is_there], *columns.values()])
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{path.stem}\nversion=1\nnRows={len(rows)}\nnColumns={rows.shape[1]}\ninDegrees=yes\nendheader\n"
                   + "\t".join(["time", *columns]) + "\n")
        file.writelines("\t".join(f"{x:.6f}" for x in row) + "\n" for row in rows)


def coordinates(joints_m: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """{coordinate: (F,) degrees, or metres of the pelvis} of (F, J, 3) joints in ground axes."""
    at = {joint: joints_m[:, j] for j, joint in enumerate(skeleton.joints)}
    pelvis = _frame(at["right_hip"] - at["left_hip"], at["spine"] - at["pelvis"])
    torso = _frame(at["right_shoulder"] - at["left_shoulder"], at["thorax"] - at["spine"])
    origin_m = (at["right_hip"] + at["left_hip"]) / 2 - pelvis @ PELVIS_TO_HIPS_M
    found = dict(zip(("pelvis_tilt", "pelvis_list", "pelvis_rotation"), _smooth(zxy_degrees(pelvis))))
    found.update(zip(("pelvis_tx", "pelvis_ty", "pelvis_tz"), origin_m.T))
    lumbar = zxy_degrees(np.swapaxes(pelvis, 1, 2) @ torso)
    found.update(zip(("lumbar_extension", "lumbar_bending", "lumbar_rotation"), _smooth(lumbar)))
    for (names, (top, middle, end), bends), trunk in zip(LIMBS, (pelvis, torso)):
        for side, sign in (("right", 1), ("left", -1)):  # the model's left turns about x and y are the other way round
            upper, lower = (np.swapaxes(trunk, 1, 2) @ unit(bone)[..., None] for bone in (
                at[f"{side}_{middle}"] - at[f"{side}_{top}"], at[f"{side}_{end}"] - at[f"{side}_{middle}"]))
            flexion, adduction, rotation, bend = _limb(upper[..., 0], lower[..., 0], bends)
            angles = _smooth(np.stack([flexion, sign * adduction, sign * rotation, bend], axis=-1))
            found.update(zip((f"{name}_{side[0]}" for name in names), angles))
    return found


def _limb(upper: np.ndarray, lower: np.ndarray, bends: int) -> tuple[np.ndarray, ...]:
    """(flexion, adduction, rotation, bend of the knee or elbow), (F,) degrees, of a limb's two bones in the axes of the
    trunk, (F, 3) each of length 1."""
    adduction = np.arcsin(-upper[:, 2].clip(-1, 1))
    flexion = np.arctan2(upper[:, 0], -upper[:, 1])
    # The lower bone before the rotation: turned back by the flexion about z, then by the adduction about x.
    x = np.cos(flexion) * lower[:, 0] + np.sin(flexion) * lower[:, 1]
    y = np.cos(flexion) * lower[:, 1] - np.sin(flexion) * lower[:, 0]
    y, z = (np.cos(adduction) * y + np.sin(adduction) * lower[:, 2],
            np.cos(adduction) * lower[:, 2] - np.sin(adduction) * y)
    across = np.hypot(x, z)
    rotation = np.arctan2(-bends * z, bends * x)
    shown = np.maximum.accumulate(np.where(across > STRAIGHT, np.arange(len(x)), -1))
    rotation = np.where(shown >= 0, rotation[shown], 0.0)
    return tuple(np.degrees(angle) for angle in (flexion, adduction, rotation, np.arctan2(across, -y)))


def _frame(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(F, 3, 3): axes x, y, z as columns; z as it is, y as near to it as may be."""
    x = np.cross(y, z)
    return np.stack([unit(x), unit(np.cross(z, x)), unit(z)], axis=-1)


def _smooth(degrees: np.ndarray) -> np.ndarray:
    """(n, F): angles without steps of a whole turn."""
    return np.unwrap(degrees, period=360, axis=0).T
