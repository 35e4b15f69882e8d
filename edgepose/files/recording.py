"""A film as a detector's file describes it: the people found in each frame."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MOST_FRAMES = 10_000_000  # a larger number in a name or a field counts no frames of a film: two days at 50 Hz
MOST_EMPTY = 100_000, 1000  # frames in which nobody was found: in any film, and more for each one with somebody
NUMBER = re.compile(r"(\d{1,18})\D*$")  # the last number of a name
LAYOUTS = {17: "coco17", 26: "halpe26", 133: "wholebody133"}  # keypoints, in COCO's order: layout


@dataclass(frozen=True)
class Found:
    """One person in one frame. keypoints: (K, 2 or 3) px, with the confidence. id: the file's own, None for none."""

    frame: int
    keypoints: np.ndarray
    id: int | None = None


@dataclass(frozen=True)
class Track:
    """One person of a film from the first frame to the last. keypoints_px: (F, K, 2 or 3), 0 where the person was not
    found. person_id: None for whoever has one place in each frame's list."""

    first_frame: int
    keypoints_px: np.ndarray
    person_id: int | None


@dataclass(frozen=True)
class Recording:
    """The people that a detector found in a film.

    people: where they are, frame by frame. frames: how many the film has, also those in which nobody was found. layout:
    a name in ADAPTERS; layout, image_size, fps, timestamps_s (frames,): None where the file does not say.
    """

    people: list[Found]
    frames: int
    layout: str | None = None
    image_size: tuple[float, float] | None = None
    fps: float | None = None
    timestamps_s: np.ndarray | None = None

    def tracks(self, path: Path) -> list[Track]:
        """The people by the file's ids; where it has none, by their places in each frame's list, of all frames.

        Two people of one id in one frame: the first counts, and it is warned of.
        """
        ids = [found.id for found in self.people]
        # One id for all of several people in a frame is none: AlphaPose without a tracker.
        has_ids = None not in ids and (len(set(ids)) > 1 or len({found.frame for found in self.people}) == len(ids))
        by_person: dict[int, dict[int, np.ndarray]] = {}
        people_in = [0] * self.frames
        doubles = 0
        for found in self.people:
            track = by_person.setdefault(found.id if has_ids else people_in[found.frame], {})
            doubles += found.frame in track
            track.setdefault(found.frame, found.keypoints)
            people_in[found.frame] += 1
        if doubles:
            warnings.warn(f"{path}: {doubles} times two people of one frame have one id; the first is taken",
                          stacklevel=4)
        return [_track(by_person[person], person) if has_ids else _track(by_person[person], None, self.frames)
                for person in sorted(by_person)]


def _track(found: dict[int, np.ndarray], person_id: int | None, frames: int | None = None) -> Track:
    """frames: of the whole film; None: from the first to the last in which the person was found."""
    first, end = (min(found), max(found) + 1) if frames is None else (0, frames)
    keypoints_px = np.zeros((end - first, *next(iter(found.values())).shape))
    for frame, keypoints in found.items():
        keypoints_px[frame - first] = keypoints
    return Track(first, keypoints_px, person_id)


def keypoints_of(flat: Any, columns: int, source: str) -> np.ndarray:
    """(K, columns) of a list of numbers, nested or not. Raises ValueError, naming the source, if it is none."""
    try:
        numbers = np.array(flat, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{source} is {_said(flat)}; wanted numbers") from None
    if not numbers.size or numbers.size % columns:
        raise ValueError(f"{source} has {numbers.size} numbers; wanted {columns} for each keypoint")
    return numbers.reshape(-1, columns)


def check_one_count(people: Iterable[Found], source: Path) -> None:
    """Raises ValueError, naming the source, if people have different numbers of keypoints."""
    counts = {found.keypoints.shape: found.frame for found in people}
    if len(counts) > 1:
        (first, frame), (second, other), *_ = counts.items()
        raise ValueError(f"{source}: somebody has {first[0]} keypoints in frame {frame}, and {second[0]} in frame "
                         f"{other}; wanted one number of them")


def number_in(name: Any, source: str) -> int:
    """The last number of a frame's name, as of "frame_0012.jpg". Raises ValueError, naming the source, without one."""
    if isinstance(name, int) and not isinstance(name, bool):
        return name
    found = NUMBER.search(name.rpartition(".")[0] or name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"{source} is {_said(name)}; wanted the number of a frame, or a name with it")
    return int(found.group(1))


def frames_of(numbers: Sequence[int], source: Path, first: int | None = 0) -> tuple[list[int], int]:
    """(the frame of each number, how many frames there are). first: the number of frame 0; None: the least.

    Numbers that are too large for that are counted from the least too. Raises ValueError, naming the source, if they
    are no frames of one film.
    """
    most = min(MOST_FRAMES, MOST_EMPTY[0] + MOST_EMPTY[1] * len(numbers))
    if first is None or max(numbers) >= most or min(numbers) < first:
        first = min(numbers)
    frames = max(numbers) - first + 1
    if frames > most:
        raise ValueError(f"{source}: the frames are numbered from {min(numbers)} to {max(numbers)}; wanted the numbers "
                         "of one film's frames")
    return [number - first for number in numbers], frames


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + " ..."
