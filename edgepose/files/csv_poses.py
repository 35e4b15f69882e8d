"""Poses as a table: a row for each pose, person by person; a heading names the columns and their units."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from .motion import Motion


def write_csv(path: Path, people: Sequence[Motion]) -> None:
    """Columns: person, frame, timestamp_s, then of each joint x, y and z in metres, camera axes, and its confidence."""
    heading = [f"{joint}_{column}" for joint in people[0].skeleton.joints
               for column in ("x_m", "y_m", "z_m", "confidence")]
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["person", "frame", "timestamp_s", *heading])
        for motion in people:
            for i, (joints_m, confidence) in enumerate(zip(motion.joints_m, motion.confidence)):
                table.writerow([motion.person, motion.frame[i], f"{motion.timestamps_s[i]:.6f}",
                                *(f"{value:.6f}" for joint, sure in zip(joints_m, confidence)
                                  for value in (*joint, sure))])
