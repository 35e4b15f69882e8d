"""The one place that knows which writer makes a file of poses: see docs/files.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .bvh import write_bvh
from .c3d import write_c3d
from .csv_poses import write_csv
from .json_poses import write_json, write_jsonl
from .mot import write_mot
from .motion import Motion
from .trc import write_trc

FOR_ALL: dict[str, Callable[[Path, Sequence[Motion]], object]] = {
    ".json": write_json, ".jsonl": write_jsonl, ".csv": write_csv, ".c3d": write_c3d}
FOR_ONE: dict[str, Callable[[Path, Motion], object]] = {".trc": write_trc, ".mot": write_mot, ".bvh": write_bvh}
SUFFIXES = (*FOR_ALL, *FOR_ONE)


def write_motions(path: Path, people: Sequence[Motion]) -> list[Path]:
    """Writes the poses of a recording's people in the format of the suffix; the files that it wrote.

    Formats of one person have a file for each, with the person's number before the suffix where there are several.
    Raises ValueError, naming the file, if there are no poses or the format cannot hold them.
    """
    people = [motion for motion in people if len(motion.timestamps_s)]
    if not people:
        raise ValueError(f"{path}: there are no poses to write")
    if path.suffix in FOR_ALL:
        FOR_ALL[path.suffix](path, people)
        return [path]
    files = [path] if len(people) == 1 else [path.with_stem(f"{path.stem}_{motion.person}") for motion in people]
    for file, motion in zip(files, people):
        FOR_ONE[path.suffix](file, motion)
    return files
