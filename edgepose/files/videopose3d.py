"""The .npz files of VideoPose3D: Detectron2's, as its inference/infer_video_d2.py writes them, and data_2d_custom_*.

Detectron2: `keypoints` [frame][class] (people, 4, 17): rows x, y, logit, probability; nobody is an empty array;
`metadata` {"w", "h"}. Custom: `positions_2d` {film: {"custom": [(F, K, 2)]}}, `metadata` {"layout_name",
"video_metadata": {film: {"w", "h"}}}. Both hold pickled objects, of which only arrays and plain containers are taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..checks import first_line, listed
from ..npz import read_npz, unpickled_arrays
from .recording import LAYOUTS, Found, Recording

PERSON = 1  # Detectron2's class of people in its list of classes
LAYOUT_NAMES = {"coco": "coco17", "h36m": "h36m17"}  # VideoPose3D's names


def is_videopose3d(names: dict[str, Any]) -> bool:
    """True for the names of the arrays in such a file."""
    return "positions_2d" in names or {"boxes", "keypoints", "metadata"} <= names.keys()


def read_videopose3d(path: Path) -> Recording:
    """The film of a file. Raises ValueError, naming the file, for another content, and for several films."""
    arrays = read_npz(path, ("keypoints", "positions_2d", "metadata"), unpickled_arrays)
    metadata = arrays.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    try:
        return (_detectron(path, arrays["keypoints"], metadata) if arrays.get("positions_2d") is None
                else _custom(path, arrays["positions_2d"], metadata))
    except (AttributeError, TypeError, KeyError) as error:  # no such lists and dicts
        raise ValueError(f"{path} is built otherwise than VideoPose3D's files are ({first_line(error)})") from None


def _detectron(path: Path, frames: Any, metadata: dict[str, Any]) -> Recording:
    people = []
    for frame, classes in enumerate(frames):
        found = np.asarray(classes[PERSON] if len(classes) > PERSON else ())
        if found.size and (found.ndim != 3 or found.shape[1] not in (3, 4) or found.dtype.kind != "f"):
            raise ValueError(f"{path}, frame {frame} has keypoints of {found.dtype} of shape {found.shape}; wanted "
                             "(people, 4, 17), as Detectron2 gives them")
        people += [Found(frame, person[[0, 1, -1]].T.astype(float)) for person in found if found.size]
    return Recording(people, len(frames), LAYOUTS.get(len(people[0].keypoints)) if people else None,
                     _size(metadata))


def _custom(path: Path, films: Any, metadata: dict[str, Any]) -> Recording:
    views = [(f"{film}/{action}", camera) for film, actions in films.items() for action, cameras in actions.items()
             for camera in cameras]
    if len(views) != 1:
        raise ValueError(f"{path} has {len(views)} films, {listed(name for name, _ in views)}; wanted a file for each")
    name, keypoints = views[0]
    keypoints = np.asarray(keypoints)
    if keypoints.ndim != 3 or keypoints.shape[-1] not in (2, 3) or keypoints.dtype.kind not in "fiu":
        raise ValueError(f"{path}: {name} is {keypoints.dtype} of shape {keypoints.shape}; wanted (frames, K, 2 or 3)")
    film_metadata = metadata.get("video_metadata", {}).get(name.rpartition("/")[0], {})
    return Recording([Found(frame, person, 0) for frame, person in enumerate(keypoints.astype(float))], len(keypoints),
                     LAYOUT_NAMES.get(str(metadata.get("layout_name"))), _size(film_metadata))


def _size(metadata: dict[str, Any]) -> tuple[float, float] | None:
    sides = (metadata.get("w"), metadata.get("h"))
    return None if None in sides else (float(sides[0]), float(sides[1]))
