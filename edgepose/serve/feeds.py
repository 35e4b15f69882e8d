"""A feed: the frames of one camera that wait to be lifted, and the people in them."""

from __future__ import annotations

import time
import warnings
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..engine import Engine
from ..people import People
from .messages import Answer, Frame, Opening, Picture, Reset, read_next

BAD = (TypeError, ValueError, OverflowError)  # raised for input that does not fit


@dataclass(frozen=True)
class Limits:
    """The most that a server takes.

    clients: at once, watchers too. people: of one feed. message_bytes: of one message. waiting: frames of a feed that
    wait to be lifted, and answers to a client that wait to be sent; a newer one replaces the oldest. frames_hz: of one
    client; whoever sends more is read more slowly. deadline_ms: of a push, for feeds that say none; None: no limit.
    """

    clients: int = 32
    people: int = 20
    message_bytes: int = 1 << 20
    waiting: int = 4
    frames_hz: float = 240.0
    deadline_ms: float | None = None


@dataclass
class Counts:
    """Counts since the start. dropped: frames that newer ones replaced. refused: frames that did not fit."""

    lifted: int = 0
    dropped: int = 0
    refused: int = 0
    poses: int = 0


@dataclass(frozen=True)
class Waiting:
    """A message as it came, or a frame of the server's own camera. arrived_s: time.perf_counter()."""

    message: str | bytes | Frame
    arrived_s: float


class Refused(ValueError):
    """A frame that does not fit. number: its own, None where it cannot be read."""

    def __init__(self, text: str, number: int | None) -> None:
        super().__init__(text)
        self.number = number


@dataclass(eq=False)
class Feed:
    """The frames of one client or camera, with People of their own. Frames are lifted by one caller at a time.

    number: by which the feed is known. layout: of its keypoints, or of those that the server's detector finds. news:
    texts of what was noticed and has not been told yet. Raises what `People` raises for the opening's options.
    """

    number: int
    engine: Engine
    opening: Opening
    limits: Limits
    layout: str
    counts: Counts = field(default_factory=Counts)
    news: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._people = People(self.engine, self.layout, self.opening.image_size, most_people=self.limits.people,
                              **{"deadline_ms": self.limits.deadline_ms, **self.opening.options})

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def notices(self) -> dict[str, int]:
        """Counts of what was noticed: see `People.notices`."""
        return self._people.notices

    @property
    def takes_pictures(self) -> bool:
        """True if its client sends pictures, for the server's detector."""
        return self.opening.layout is None

    def put(self, message: str | bytes | Frame) -> None:
        """Takes a message that has come. The oldest is dropped, and counted, if too many wait."""
        if len(self._waiting) == self.limits.waiting:
            self._waiting.popleft()
            self.counts.dropped += 1
        self._waiting.append(Waiting(message, time.perf_counter()))

    def take(self) -> tuple[Frame | Picture | Reset, float]:
        """The oldest message that waits, read, and when it came. Raises Refused if it cannot be read."""
        waiting = self._waiting.popleft()
        if isinstance(waiting.message, Frame):
            return waiting.message, waiting.arrived_s
        try:
            return read_next(waiting.message), waiting.arrived_s
        except ValueError as error:
            self.counts.refused += 1
            raise Refused(str(error), None) from None

    def lift(self, frame: Frame, arrived_s: float) -> Answer:
        """The poses of one frame. Raises Refused, and changes nothing, if it does not fit."""
        try:
            self._check_count(frame.keypoints_px)
            with warnings.catch_warnings(record=True) as noticed:
                warnings.simplefilter("always")
                people = self._people.push(frame.keypoints_px if len(frame.keypoints_px) else None, frame.timestamp_s,
                                           frame.ids)
        except BAD as error:
            self.counts.refused += 1
            raise Refused(str(error), frame.number) from None
        self.news += [str(warning.message) for warning in noticed]
        return self._answer(frame.number, frame.timestamp_s, people, arrived_s)

    def flush(self) -> list[Answer]:
        """The poses that delay_frames kept waiting, in answers of one pose: the recording has ended."""
        return [self._answer(0, pose.timestamp_s, [(who, pose)], time.perf_counter())
                for who, pose in self._people.flush()]

    def reset(self) -> None:
        """Forgets everybody and the clock."""
        self._people.reset()

    def _check_count(self, keypoints_px: Any) -> None:
        if len(keypoints_px) > self.limits.people:
            raise ValueError(f"a frame has {len(keypoints_px)} people; this server takes {self.limits.people} at most")

    def _answer(self, number: int, timestamp_s: float, people: list, arrived_s: float) -> Answer:
        self.counts.lifted += 1
        self.counts.poses += len(people)
        return Answer(self.number, number, timestamp_s, 1e3 * (time.perf_counter() - arrived_s), self.counts.dropped,
                      people)
