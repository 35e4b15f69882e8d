"""Poses as JSON: one text of all, or a line for each pose (.jsonl), in the order of time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..skeleton import rounded
from .motion import Motion


def write_json(path: Path, people: Sequence[Motion]) -> None:
    """{"units", "axes", "joints", "parents", "poses": [...]}, each pose as a line of write_jsonl."""
    skeleton = people[0].skeleton
    value = {"units": "m", "axes": "camera: x right, y down, z forward, from the root joint",
             "joints": skeleton.joints, "parents": skeleton.parents, "poses": list(_poses(people))}
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


def write_jsonl(path: Path, people: Sequence[Motion]) -> None:
    """A line of {"person", "frame", "timestamp_s", "joints_m": {joint: [x, y, z]}, "confidence", "is_seen"} a pose."""
    with open(path, "w", encoding="utf-8") as file:
        for pose in _poses(people):
            file.write(json.dumps(pose) + "\n")


def _poses(people: Sequence[Motion]) -> Iterator[dict[str, Any]]:
    order = sorted((motion.timestamps_s[i], n, i) for n, motion in enumerate(people)
                   for i in range(len(motion.timestamps_s)))
    for timestamp_s, n, i in order:
        motion = people[n]
        named = motion.skeleton.named
        yield {"person": motion.person, "frame": int(motion.frame[i]), "timestamp_s": rounded(timestamp_s),
               "joints_m": named(motion.joints_m[i]), "confidence": named(motion.confidence[i]),
               "is_seen": named(motion.is_seen[i])}
