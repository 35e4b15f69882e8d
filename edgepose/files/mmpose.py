"""MMPose's predictions: [{"frame_id": 0, "instances": [{"keypoints": [[x, y], ...], "keypoint_scores": [...]}]}, ...].

Its demo writes {"meta_info": {"dataset_name": ...}, "instance_info": [as above]}; its inferencer writes for a single
picture the list of instances alone. With a tracker an instance has a "track_id". Every frame has an entry. Keypoints
are never marked as missing: their score says it. Source: MMPose's mmpose/apis/inferencers and demo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .recording import LAYOUTS, Found, Recording, check_one_count, frames_of, keypoints_of, number_in

DATASETS = {"coco": "coco17", "h36m": "h36m17", "halpe26": "halpe26", "coco_wholebody": "wholebody133",
            "mpii": "mpii16"}  # MMPose's name of a data set: our layout


def is_predictions(value: Any) -> bool:
    """True for the JSON value of such a file."""
    if isinstance(value, dict):
        return isinstance(value.get("instance_info"), list)
    return (isinstance(value, list) and bool(value) and isinstance(value[0], dict)
            and ("instances" in value[0] or {"keypoints", "keypoint_scores"} <= value[0].keys()))


def read_predictions(path: Path, value: Any) -> Recording:
    """The film of a file's frames; frame_id is counted from the least. Raises ValueError, naming the file."""
    entries = value["instance_info"] if isinstance(value, dict) else value
    if entries and isinstance(entries[0], dict) and "instances" not in entries[0]:
        entries = [{"frame_id": 0, "instances": entries}]
    if not entries:
        raise ValueError(f"{path} has no frames")
    numbers, people = [], []
    for i, entry in enumerate(entries):
        instances = entry.get("instances") if isinstance(entry, dict) else None
        if not isinstance(instances, list):
            raise ValueError(f'{path}, frame {i} has no "instances"')
        numbers.append(number_in(entry.get("frame_id", i), f"{path}, frame {i}: frame_id"))
        people.append([_person(instance, f"{path}, frame {i}, instance {n}") for n, instance in enumerate(instances)])
    frames, count = frames_of(numbers, path, first=None)
    found = [Found(frame, keypoints, person) for frame, some in zip(frames, people) for keypoints, person in some]
    check_one_count(found, path)
    return Recording(found, count, _layout(value, found))


def _layout(value: Any, found: list[Found]) -> str | None:
    meta = value.get("meta_info") if isinstance(value, dict) else None
    if isinstance(meta, dict) and "dataset_name" in meta:
        return DATASETS.get(str(meta["dataset_name"]))
    return LAYOUTS.get(len(found[0].keypoints)) if found else None


def _person(instance: Any, source: str) -> tuple[np.ndarray, int | None]:
    if not isinstance(instance, dict) or "keypoints" not in instance:
        raise ValueError(f'{source} has no "keypoints"')
    keypoints = keypoints_of(instance["keypoints"], 2, f"{source}: keypoints")
    scores = keypoints_of(instance.get("keypoint_scores", [1.0] * len(keypoints)), 1, f"{source}: keypoint_scores")
    if len(scores) != len(keypoints):
        raise ValueError(f"{source} has {len(keypoints)} keypoints and {len(scores)} keypoint_scores")
    person = instance.get("track_id")
    return np.hstack([keypoints, scores]), person if isinstance(person, int) and person >= 0 else None
