"""The objects that detectors answer with, as keypoints: (people, K, 3) px and confidence, and the ids of a tracker.

    keypoints_px, ids = edgepose.people_in(model.track(image)[0])            # Ultralytics
    keypoints_px, ids = edgepose.people_in(body(image))                      # rtmlib: (keypoints, scores)
    keypoints_px, ids = edgepose.people_in(landmarker.detect(image), size)   # MediaPipe: image_size, (width, height)

An object is known by its fields; no detector's library is imported. Read are the results of Ultralytics
(`keypoints.data`, `boxes.id`), of rtmlib (a pair of arrays), of MediaPipe (`pose_landmarks`, of its tasks and of its
older solutions), of MMPose (`pred_instances`), of Detectron2 (`pred_keypoints`), and arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..camera import checked_image_size


def people_in(result: Any, image_size: tuple[float, float] | None = None) -> tuple[np.ndarray, list[int] | None]:
    """(keypoints (N, K, 3) px and confidence, ids (N,) or None) of the people in one picture's result; nobody is
    (0, K, 3), or (0, 0, 3) where the result does not say K.

    image_size: (width, height) of the picture, for MediaPipe, whose landmarks are shares of it.
    Raises TypeError for an object that is none of these, and ValueError for one of other shapes or several pictures.
    """
    if hasattr(result, "pose_landmarks"):
        return _of_mediapipe(result.pose_landmarks, image_size), None
    if isinstance(result, dict) and "instances" in result:
        result = result["instances"]
    if hasattr(result, "pred_instances"):
        found = result.pred_instances
        return _joined(found.keypoints, found.keypoint_scores), _ids(getattr(found, "track_ids", None))
    if hasattr(result, "pred_keypoints"):
        return _joined(result.pred_keypoints), None
    if hasattr(result, "keypoints") and hasattr(result, "boxes"):
        return _of_ultralytics(result)
    if isinstance(result, (list, tuple)) and len(result) == 1 and _is_result(result[0]):
        return people_in(result[0], image_size)
    if isinstance(result, (list, tuple)) and len(result) > 1 and all(_is_result(one) for one in result):
        raise ValueError(f"there are the results of {len(result)} pictures; wanted that of one")
    if isinstance(result, tuple) and len(result) == 2:
        return _joined(*result), None
    if hasattr(result, "shape") or hasattr(result, "__array__"):
        return _joined(result), None
    raise TypeError(f"result is {type(result).__name__}; wanted what Ultralytics, rtmlib, MediaPipe, MMPose or "
                    "Detectron2 answer with, or an array (people, K, 2 or 3)")


def _is_result(value: Any) -> bool:
    return any(hasattr(value, name) for name in ("pose_landmarks", "pred_instances", "pred_keypoints", "keypoints"))


def _of_ultralytics(result: Any) -> tuple[np.ndarray, list[int] | None]:
    data = getattr(result.keypoints, "data", result.keypoints)
    keypoints = np.zeros((0, 0, 3)) if data is None else _joined(data)
    return keypoints, _ids(getattr(result.boxes, "id", None))


def _of_mediapipe(people: Any, image_size: tuple[float, float] | None) -> np.ndarray:
    if image_size is None:
        raise ValueError("MediaPipe's landmarks are shares of the picture; wanted image_size, its (width, height)")
    width, height = checked_image_size(image_size)
    people = people or []
    if hasattr(people, "landmark"):  # its older solutions find one person
        people = [people.landmark]
    if not people:
        return np.zeros((0, 0, 3))
    # visibility may be None, where a model does not give it.
    return np.array([[(mark.x * width, mark.y * height, 1.0 if mark.visibility is None else mark.visibility)
                      for mark in person] for person in people], float)


def _joined(keypoints: Any, scores: Any = None) -> np.ndarray:
    """(N, K, 3) of keypoints (N, K, 2 or 3), or of one person's, and (N, K) scores; without scores they are sure.

    A keypoint at (0, 0) was not found.
    """
    places = _numbers(keypoints)
    if places.ndim == 2 and places.size:
        places = places[None]
    if not places.size:
        return np.zeros((0, places.shape[1] if places.ndim == 3 else 0, 3))
    if places.ndim != 3 or places.shape[-1] not in (2, 3):
        raise ValueError(f"the keypoints have shape {places.shape}; wanted (people, K, 2 or 3)")
    if scores is None and places.shape[-1] == 3:
        return places
    sure = places[..., :2].any(axis=-1).astype(float) if scores is None else _numbers(scores)
    if sure.ndim == 1:
        sure = sure[None]
    if sure.shape != places.shape[:2]:
        raise ValueError(f"there are keypoints of shape {places.shape} and scores of shape {sure.shape}; wanted "
                         f"{places.shape[:2]}")
    return np.concatenate([places[..., :2], sure[..., None]], axis=-1)


def _numbers(value: Any) -> np.ndarray:
    """float64; of a torch tensor on a GPU, in bfloat16 or with a gradient too."""
    for step in ("detach", "cpu", "float"):
        value = getattr(value, step)() if hasattr(value, step) and hasattr(value, "detach") else value
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        raise TypeError(f"the keypoints are {type(value).__name__}; wanted an array of numbers") from None


def _ids(value: Any) -> list[int] | None:
    return None if value is None else [int(number) for number in _numbers(value).ravel()]
