"""Lists of one entry for each person found: COCO's results, and AlphaPose's, which are the same with a person's id.

COCO: [{"image_id": 12, "category_id": 1, "keypoints": [x, y, score, ...], "score": 0.9}, ...], sometimes with a
"track_id". AlphaPose: "image_id" is a file name, "12.jpg", and "idx" the id of its tracker, a number or a list of one;
without a tracker it is the same for all. Frames in which nobody was found have no entry. A keypoint that was not found
is (0, 0, 0). Sources: cocodataset.org, "Results format"; AlphaPose's docs/output.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .recording import LAYOUTS, Found, Recording, check_one_count, frames_of, keypoints_of, number_in

HALPE_BODY = 26  # the first of AlphaPose's 136 keypoints; face and hands follow
IDS = ("idx", "track_id")


def is_results(value: Any) -> bool:
    """True for the JSON value of such a file."""
    return (isinstance(value, list) and bool(value) and isinstance(value[0], dict)
            and {"image_id", "keypoints"} <= value[0].keys())


def read_results(path: Path, entries: list[Any]) -> Recording:
    """The film of a file's entries; frames are counted from 0. Raises ValueError, naming the file and the entry."""
    numbers, keypoints, ids = [], [], []
    for i, entry in enumerate(entries):
        source = f"{path}, entry {i}"
        if not is_results([entry]):
            raise ValueError(f'{source} has no "image_id" and "keypoints"')
        numbers.append(number_in(entry["image_id"], f"{source}: image_id"))
        keypoints.append(keypoints_of(entry["keypoints"], 3, f"{source}: keypoints"))
        if len(keypoints[-1]) == 136:
            keypoints[-1] = keypoints[-1][:HALPE_BODY]
        ids.append(next((_id(entry[key], f"{source}: {key}") for key in IDS if key in entry), None))
    frames, count = frames_of(numbers, path)
    people = [Found(*found) for found in zip(frames, keypoints, ids)]
    check_one_count(people, path)
    return Recording(people, count, LAYOUTS.get(len(keypoints[0])))


def _id(value: Any, source: str) -> int:
    number = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number % 1:  # NaN for infinity
        raise ValueError(f"{source} is {value!r}; wanted a whole number")
    return int(number)
