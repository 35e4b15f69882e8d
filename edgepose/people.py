"""Everybody in a picture: who is who from frame to frame, and a pose for each with one call of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np

from . import _native
from .adapters import Adapter
from .checks import checked_number
from .skeleton import H36M17
from .stream import Lifter, Pose, Stream, call_of

MOST_PEOPLE = 4096  # nobody follows more
PLACES_A_PERSON = 4  # followed for each place of a recording's lists, for those who are away


class People:
    """Lifts everybody in a picture, and tells who is who where the detector does not.

    engine, layout, image_size and options: as for `Stream`, for all people alike.
    most_people: how many are followed at once. When so many are, a new person takes the place of the one who has been
    away for longest, if for more than max_gap_s; else the new one is left out.
    return_s: who comes back within this time is the same person, if near enough to where they were last; whoever is
    away for longer is forgotten.
    People are used by one thread at a time: a call that comes in between raises RuntimeError.
    Raises what `Stream` raises, and ValueError on most_people or return_s out of range.
    """

    def __init__(self, engine: Lifter, layout: str | Adapter, image_size: tuple[float, float], *,
                 most_people: int = 20, return_s: float = 5.0, **options: Any) -> None:
        self._like = Stream(engine, layout, image_size, **options)
        self.engine, self.image_size = engine, self._like.image_size
        self._people = _native.People(
            self._like._person, most_people=checked_number("most_people", most_people, 1, MOST_PEOPLE, whole=True),
            return_s=checked_number("return_s", return_s, 0, np.inf))

    def __repr__(self) -> str:
        return repr(self._like).replace("Stream", "People", 1)

    def __reduce__(self) -> NoReturn:
        raise TypeError("people cannot be copied or pickled: their past is one picture's; wanted other People on the "
                        "same engine")

    @property
    def ids(self) -> np.ndarray:
        """Whose each detection of the last frame is, (N,) int64; -1: nobody's, so it was left out."""
        return self._people.ids()

    @property
    def notices(self) -> dict[str, int]:
        """Counts of what was noticed since the people were made, of all together: see `Stream.notices`."""
        return self._people.notices()

    def reset(self) -> None:
        """Forgets everybody and the clock: for another video. No id is used again."""
        self._people.reset()

    def flush(self) -> list[tuple[int, Pose]]:
        """The recording has ended: (id, pose) of the frames that delay_frames kept waiting, the oldest of each person
        first. Everybody is then forgotten."""
        poses: list[tuple[int, Pose]] = []
        while some := self._people.flush(call_of(self.engine)):
            poses += some
        return poses

    def push(self, keypoints_px: np.ndarray | Sequence[np.ndarray] | None, timestamp_s: float,
             ids: np.ndarray | Sequence[int] | None = None) -> list[tuple[int, Pose]]:
        """Takes one camera frame with everybody in it, and answers with (id, pose) of those who have a new pose, in the
        order in which they were first seen.

        keypoints_px: (N, K, 2), or (N, K, 3) with the confidence, in any order of people; of each person what
        `Stream.push` takes. A row without keypoints is nobody; None, as an empty list: nobody is there.
        timestamp_s: as for `Stream.push`.
        ids: of a tracker, (N,) whole numbers from 0, in all frames or in none. Without them people are followed by
        where they are and how they stand.
        A person who is not seen is repeated for max_gap_s, as by `Stream.push(None, ...)`.
        Raises ValueError (TypeError for what is no number) and changes nothing if `Stream.push` would for anybody, an
        id is negative or comes twice, there are not as many ids as people, or ids come with some frames only.
        """
        return self._people.push(call_of(self.engine), keypoints_px, timestamp_s, ids)


def identify(keypoints_px: np.ndarray, times_s: Sequence[float], layout: str | Adapter,
             image_size: tuple[float, float]) -> tuple[np.ndarray, dict[str, int]]:
    """(ids, notices) of a recording without ids: (F, P) whose each detection is, -1 for nobody's, numbered as they were
    first seen; what was noticed, as `People.notices` counts it.

    keypoints_px: (F, P, K, 2 or 3), in any order of people; a row without keypoints is nobody. times_s: (F,); an
    earlier time than the last begins another recording.
    Raises what `People.push` raises, naming the frame.
    """
    places = min(MOST_PEOPLE, PLACES_A_PERSON * keypoints_px.shape[1])
    no_engine = SimpleNamespace(frames=1, skeleton=H36M17, rate_hz=1.0, run=None)  # identify() asks for no pose
    people = People(no_engine, layout, image_size, most_people=places, on_bad_time="reset")
    ids = np.empty(keypoints_px.shape[:2], np.int64)
    for frame, (everybody, time_s) in enumerate(zip(keypoints_px, times_s)):
        try:
            ids[frame] = people._people.identify(everybody, time_s)
        except (TypeError, ValueError) as error:
            raise type(error)(f"frame {frame}: {error}") from None
    return ids, people.notices
