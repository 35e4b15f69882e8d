"""Plain numbers: an array of .npy, and .csv with or without a heading.

An .npy file is (frames, K, 2 or 3), or (frames, people, K, 2 or 3). A .csv has a row for each frame: x and y, or x, y
and the confidence, of every keypoint in the layout's order; or it has a heading that names them, `nose_x, nose_y,
nose_confidence, ...`, in any order, with columns `frame`, `person` and `timestamp_s` where they are known. The three
rows that DeepLabCut puts above its numbers are understood too. An empty cell and NaN are no keypoint.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..checks import first_line, listed
from ..skeleton import Skeleton
from .recording import Found, Recording, check_one_count, frames_of

CONFIDENCES = ("confidence", "score", "likelihood", "visibility", "conf", "c", "p", "s")
FRAMES, TIMES = ("frame", "frame_id"), ("timestamp_s", "time_s", "time")
PEOPLE = ("person", "id", "track_id", "person_id")


def read_npy(path: Path) -> Recording:
    """The film of an array. Raises ValueError, naming the file, for another array."""
    try:
        # Mapped, so that its size is checked before memory is taken for it.
        keypoints = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy's parser raises a dozen kinds for damaged bytes
        raise ValueError(f"{path} is no .npy file of numbers ({first_line(error)})") from None
    if not isinstance(keypoints, np.ndarray):
        raise ValueError(f"{path} is an archive of arrays; wanted its name to end in .npz")
    if keypoints.ndim not in (3, 4) or keypoints.shape[-1] not in (2, 3) or keypoints.dtype.kind not in "fiu":
        raise ValueError(f"{path}: the keypoints are {keypoints.dtype} of shape {keypoints.shape}; wanted numbers, "
                         "(frames, K, 2 or 3) or (frames, people, K, 2 or 3)")
    frames = keypoints.astype(float) if keypoints.ndim == 4 else keypoints.astype(float)[:, None]
    is_one = frames.shape[1] == 1
    return Recording([Found(i, person, 0 if is_one else None) for i, frame in enumerate(frames) for person in frame],
                     len(frames))


def read_csv(path: Path, layout: Skeleton | None) -> Recording:
    """The film of a table. layout: the keypoints, where the command says them.

    Raises ValueError, naming the file and the row, for what is no such table.
    """
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of text ({error})") from None
    if not rows:
        raise ValueError(f"{path} has no rows")
    if rows[0][0].strip().lower() == "scorer":  # DeepLabCut: scorer, bodyparts (below individuals), coords
        names = dict((row[0].strip().lower(), row[1:]) for row in rows[:4])
        if "individuals" in names or not {"bodyparts", "coords"} <= names.keys():
            raise ValueError(f"{path} has the heading of DeepLabCut, but not that of one animal or person")
        rows = [["frame", *(f"{part}_{axis}" for part, axis in zip(names["bodyparts"], names["coords"]))], *rows[3:]]
    heading = None if _is_number(rows[0][0]) or rows[0][0] == "" else [name.strip().lower() for name in rows.pop(0)]
    if not rows:
        raise ValueError(f"{path} has a heading and no rows")
    return _without_heading(path, rows, layout) if heading is None else _with_heading(path, rows, heading, layout)


def _without_heading(path: Path, rows: list[list[str]], layout: Skeleton | None) -> Recording:
    width = len(rows[0])
    if layout is None:
        raise ValueError(f"{path} has {width} columns and no heading: say what they are with --layout")
    if width not in (2 * len(layout), 3 * len(layout)):
        raise ValueError(f"{path} has {width} columns; layout {layout.name!r} wants {2 * len(layout)}, x and y of each "
                         f"keypoint, or {3 * len(layout)}, with the confidence")
    numbers = _numbers(path, rows, width, 1)
    return Recording([Found(i, row.reshape(len(layout), -1), 0) for i, row in enumerate(numbers)], len(rows))


def _with_heading(path: Path, rows: list[list[str]], heading: list[str], layout: Skeleton | None) -> Recording:
    numbers = _numbers(path, rows, len(heading), 2)
    parts = [name.rpartition("_") for name in heading]
    xs = [joint for joint, _, axis in parts if axis == "x" and f"{joint}_y" in heading]
    if not xs:
        raise ValueError(f"{path} has the columns {listed(heading)}; wanted x and y of keypoints, as nose_x and nose_y")
    joints = list(layout.joints) if layout is not None and set(layout.joints) <= set(xs) else xs
    columns = [[heading.index(f"{joint}_x"), heading.index(f"{joint}_y")] for joint in joints]
    sure = [next((heading.index(f"{joint}_{name}") for name in CONFIDENCES if f"{joint}_{name}" in heading), None)
            for joint in joints]
    if None not in sure:
        columns = [[*pair, confidence] for pair, confidence in zip(columns, sure)]
    frame, person, time = (next((heading.index(name) for name in names if name in heading), None)
                           for names in (FRAMES, PEOPLE, TIMES))
    for column in (frame, person, time):
        if column is not None and not np.isfinite(numbers[:, column]).all():
            raise ValueError(f"{path}: a cell of the column {heading[column]!r} is empty; wanted a number in each row")
    frames, count = frames_of(list(map(int, numbers[:, frame])) if frame is not None else range(len(rows)), path)
    people = [Found(i, row[columns], 0 if person is None else int(row[person])) for i, row in zip(frames, numbers)]
    check_one_count(people, path)
    times_s = None
    if time is not None and len(set(frames)) == count:
        times_s = np.zeros(count)
        times_s[frames] = numbers[:, time]
    return Recording(people, count, None, timestamps_s=times_s)


def _numbers(path: Path, rows: list[list[str]], width: int, first: int) -> np.ndarray:
    """(rows, width), NaN for an empty cell. first: the number of the first row in the file."""
    for i, row in enumerate(rows):
        if len(row) != width:
            raise ValueError(f"{path}, row {first + i} has {len(row)} cells; wanted {width}")
        if odd := [cell for cell in row if cell.strip() and not _is_number(cell)]:
            raise ValueError(f"{path}, row {first + i} has {odd[0]!r}; wanted numbers")
    return np.array([[float(cell) if cell.strip() else np.nan for cell in row] for row in rows])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
