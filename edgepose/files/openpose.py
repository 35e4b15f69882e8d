"""OpenPose's --write_json: a file for each frame, or one list of such frames.

Each frame is {"people": [{"pose_keypoints_2d": [x, y, c, ...], "person_id": [-1]}, ...]}; a keypoint that was not found
is (0, 0, 0), a person id of -1 is none. Others write it too: DWPose's preprocessor with "canvas_width" and
"canvas_height", rtmlib and AlphaPose. Source: OpenPose's doc/02_output.md.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..adapters import BODY25
from ..checks import first_line, listed, read_json
from .recording import Found, Recording, check_one_count, frames_of, keypoints_of

# The film's name, the frame's number: of many digits, lest the files of films 1 and 2 are taken for two frames.
FRAME_FILE = re.compile(r"(.*?)[._-]?(\d{4,}|\d+(?=_keypoints))(_keypoints)?\.json", re.DOTALL)
LOOKED_AT, HEAD_BYTES = 5, 4096  # files of a folder, and bytes of each, that show if they are OpenPose's
BETWEEN = 0.05  # the middle of the hips is within this part of the height of the keypoint of that name
HIPS = ("left_hip", "right_hip")
LAYOUTS = {25: "body25", 18: "openpose18", 17: "coco17", 26: "halpe26", 133: "wholebody133"}


def frame_files(folder: Path) -> list[Path]:
    """The files of a folder that are named as a frame of OpenPose is, FILM_000000000012_keypoints.json, or
    FILM.0012.json; none if they have other content."""
    files = [path for path in sorted(folder.glob("*.json")) if FRAME_FILE.fullmatch(path.name)]
    is_named = any(path.stem.endswith("_keypoints") for path in files)
    return files if is_named or any(_has_people(path) for path in files[:LOOKED_AT]) else []


def _has_people(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return b'"people"' in file.read(HEAD_BYTES)
    except OSError:
        return False


def is_frame(value: Any) -> bool:
    """True for a frame's JSON value."""
    return isinstance(value, dict) and isinstance(value.get("people"), list)


def read_folder(folder: Path) -> Recording:
    """The film of a folder of frames. A frame whose file is missing has nobody in it, and so has one whose file cannot
    be read, which is warned of.

    Raises ValueError, naming the folder, if it has the frames of two films, or none that can be read.
    """
    files = frame_files(folder)
    films = sorted({FRAME_FILE.fullmatch(path.name).group(1) for path in files})
    if not files:
        raise ValueError(f"{folder} has no file named as OpenPose's are, FILM_000000000000_keypoints.json")
    if len(films) > 1:
        raise ValueError(f"{folder} has the frames of several films, {listed(films)}; wanted a folder for each")
    frames, count = frames_of([int(FRAME_FILE.fullmatch(path.name).group(2)) for path in files], folder, first=None)
    people: list[Found] = []
    broken: list[str] = []
    for frame, path in zip(frames, files):
        try:
            people += _people(_frame(path), frame, path.name)
        except (ValueError, OSError) as error:
            broken.append(f"{path.name}: {first_line(error)}")
    if len(broken) == len(files):
        raise ValueError(f"{folder}: none of {len(files)} files is a frame of OpenPose; {broken[0]}")
    if broken:
        warnings.warn(f"{folder}: {len(broken)} of {len(files)} files are broken, and nobody is taken from them: "
                      f"{listed(broken, '; ', 3)}", stacklevel=4)
    return _recording(folder, people, count)


def read_frames(path: Path, frames: list[Any]) -> Recording:
    """The film of a file's frames, in their order."""
    people = [found for i, frame in enumerate(frames) for found in _people(frame, i, f"{path}, frame {i}")]
    first = frames[0]
    sides = (first.get("canvas_width"), first.get("canvas_height"))
    return _recording(path, people, len(frames), sides if all(isinstance(side, int) for side in sides) else None)


def _frame(path: Path) -> dict[str, Any]:
    value = read_json(path.read_bytes())
    if not is_frame(value):
        raise ValueError('there are no "people" in it')
    return value


def _people(frame: Any, number: int, source: str) -> list[Found]:
    """The people of a frame; one of whom only a face or hands were found is left out."""
    if not is_frame(frame):
        raise ValueError(f'{source} has no "people"')
    people = []
    for i, person in enumerate(frame["people"]):
        flat = person.get("pose_keypoints_2d", person.get("pose_keypoints")) if isinstance(person, dict) else None
        if flat is None:
            raise ValueError(f'{source}: person {i} has no "pose_keypoints_2d"')
        if flat:
            people.append(Found(number, keypoints_of(flat, 3, f"{source}: pose_keypoints_2d of person {i}"),
                                _id(person.get("person_id"))))
    return people


def _id(value: Any) -> int | None:
    number = value[0] if isinstance(value, list) and len(value) == 1 else value
    return number if isinstance(number, int) and number >= 0 else None


def _recording(path: Path, people: list[Found], frames: int,
               image_size: tuple[float, float] | None = None) -> Recording:
    check_one_count(people, path)
    count = len(people[0].keypoints) if people else 0
    layout = LAYOUTS.get(count) if count != 25 or _is_body25(people) else None
    return Recording(people, frames, layout, image_size)


def _is_body25(people: list[Found]) -> bool:
    """True if mid_hip lies between the hips, as in BODY_25; BODY_25B has as many keypoints, in another order."""
    keypoints = np.array([found.keypoints for found in people])
    hips, between = (keypoints[:, [BODY25.index(name) for name in names]] for names in (HIPS, ("mid_hip",)))
    is_found = (np.concatenate([hips, between], axis=1)[..., 2] > 0).all(axis=1)
    if not is_found.any():
        return True
    away = np.linalg.norm((hips.mean(axis=1) - between[:, 0])[is_found, :2], axis=-1)
    heights = [np.ptp(person[person[:, 2] > 0, 1]) for person in keypoints[is_found]]
    return bool(np.median(away) <= BETWEEN * np.median(heights))
