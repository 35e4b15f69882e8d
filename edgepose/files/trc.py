"""Marker trajectories for OpenSim (.trc): a marker for each joint, in mm, x towards the camera, y up.

One person a file. A moment without a pose has empty cells. Source: OpenSim's documentation, "Marker (.trc) Files".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .motion import CAMERA_TO_GROUND, Motion, evenly


def write_trc(path: Path, motion: Motion) -> None:
    """Writes one person's joints as markers."""
    even = evenly([motion])
    joints_mm = 1e3 * even.joints_m[0] @ CAMERA_TO_GROUND.T
    frames, markers = joints_mm.shape[:2]
    rate = f"{even.rate_hz:.6g}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"PathFileType\t4\t(X/Y/Z)\t{path.name}\n"
                   "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\t"
                   "OrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
                   f"{rate}\t{rate}\t{frames}\t{markers}\tmm\t{rate}\t1\t{frames}\n"
                   "Frame#\tTime\t" + "\t\t\t".join(motion.skeleton.joints) + "\t\t\n"
                   "\t\t" + "\t".join(f"{axis}{i}" for i in range(1, markers + 1) for axis in "XYZ") + "\n\n")
        for i, (time_s, row) in enumerate(zip(even.times_s, joints_mm.reshape(frames, -1)), 1):
            file.write(f"{i}\t{time_s:.6f}\t" + "\t".join("" if np.isnan(x) else f"{x:.4f}" for x in row) + "\t\n")
