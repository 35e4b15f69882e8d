"""Joint angles for OpenSim (.mot): the coordinates of Rajagopal's full-body model, in degrees. One person a file.

Angles are those at which the model's bones point as the person's do: those of Kinematics that turn about z, x and y, as
the model has them. Ankles, feet, forearms and hands are not seen: their coordinates are left out, and OpenSim takes its
own. A moment without a pose has no row. Ground: x towards the camera, y up. Source: Rajagopal et al. 2016, and
OpenSim's Rajagopal2016.osim. """

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..kinematics import Kinematics, matrices
from ..skeleton import Skeleton
from .motion import CAMERA_TO_GROUND, Motion, evenly

PELVIS_TO_HIPS_M = np.array([-0.056276, -0.07849, 0.0])  # the middle of the hips in the model's pelvis
TRUNK = {"pelvis_tilt": "pelvis_tilt", "pelvis_list": "pelvis_list", "pelvis_rotation": "pelvis_rotation",
         "lumbar_extension": "trunk_extension", "lumbar_bending": "trunk_bending", "lumbar_rotation": "trunk_rotation"}
LIMBS = {"hip_flexion": "hip_flexion", "hip_adduction": "hip_adduction", "hip_rotation": "hip_rotation",
         "knee_angle": "knee_flexion", "arm_flex": "arm_flexion", "arm_add": "arm_adduction", "arm_rot": "arm_rotation",
         "elbow_flex": "elbow_flexion"}
COORDINATES = {**TRUNK, **{f"{name}_{side[0]}": f"{side}_{angle}" for side in ("right", "left")
                           for name, angle in LIMBS.items()}}  # the model's, and the angle of Kinematics that each is


def write_mot(path: Path, motion: Motion) -> None:
    """Writes one person's angles and the place of the pelvis."""
    even = evenly([motion])
    is_there = ~np.isnan(even.joints_m[0]).any(axis=(1, 2))
    times_s = even.times_s[is_there]
    columns = coordinates(even.joints_m[0][is_there], times_s, motion.skeleton)
    rows = np.column_stack([times_s, *columns.values()])
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{path.stem}\nversion=1\nnRows={len(rows)}\nnColumns={rows.shape[1]}\ninDegrees=yes\nendheader\n"
                   + "\t".join(["time", *columns]) + "\n")
        file.writelines("\t".join(f"{x:.6f}" for x in row) + "\n" for row in rows)


def coordinates(joints_m: np.ndarray, times_s: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """{coordinate: (F,) degrees, or metres of the pelvis} of (F, J, 3) joints in camera axes."""
    kinematics = Kinematics(skeleton)
    movements = [kinematics.at(joints, time_s) for joints, time_s in zip(joints_m, times_s)]
    # Angles without steps of a whole turn.
    found = {name: np.unwrap([movement.angles_deg[angle] for movement in movements], period=360)
             for name, angle in COORDINATES.items()}
    turns = matrices(np.stack([movement.rotations[skeleton.root] for movement in movements]))
    pelvis = CAMERA_TO_GROUND @ turns @ CAMERA_TO_GROUND.T
    hips_m = joints_m[:, [skeleton.index("left_hip"), skeleton.index("right_hip")]].mean(axis=1)
    places_m = hips_m @ CAMERA_TO_GROUND.T - pelvis @ PELVIS_TO_HIPS_M
    found.update(zip(("pelvis_tx", "pelvis_ty", "pelvis_tz"), places_m.T))
    return found
