"""A service, whatever carries its messages: feeds, those who watch them, and the loop that lifts frames in turn."""

from __future__ import annotations

import asyncio
import itertools
import sys
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np

from ..adapters import ADAPTERS
from ..engine import Engine
from ..pictures.detector import Detector
from .feeds import BAD, Counts, Feed, Limits, Refused
from .messages import Answer, Frame, Opening, Picture, Reset, Watching, ended, notice, opened, refusal

MOST_NOTES = 64  # messages that are no poses and wait for one client: errors, notices, feeds that come and go


class Outbox:
    """Messages that wait to be sent to one client. Newer ones replace the oldest, which is counted."""

    def __init__(self, form: str, most: int) -> None:
        self.form, self.dropped = form, 0
        self._notes: deque[str] = deque(maxlen=MOST_NOTES)
        self._answers: deque[Answer] = deque()
        self._most = most
        self._has_some = asyncio.Event()

    def note(self, text: str) -> None:
        """Adds a message that is no answer."""
        self._notes.append(text)
        self._has_some.set()

    def answer(self, answer: Answer) -> None:
        """Adds an answer."""
        if len(self._answers) == self._most:
            self._answers.popleft()
            self.dropped += 1
        self._answers.append(answer)
        self._has_some.set()

    async def next(self) -> str | bytes:
        """The next message to send, as soon as there is one; those that are no answers first."""
        while not self._notes and not self._answers:
            self._has_some.clear()
            await self._has_some.wait()
        return self._notes.popleft() if self._notes else self._answers.popleft().in_form(self.form)


@dataclass(eq=False)
class Open:
    """A feed that is open. outbox: of its client; None: it reads no answers. detector: for a client's pictures."""

    feed: Feed
    outbox: Outbox | None
    detector: Detector | None = None
    is_ready: bool = False  # it stands in a queue, or a frame of it is being lifted


class Service:
    """Feeds and those who watch them, all in one event loop. One frame at a time is lifted, of each feed in turn.

    make_detector: opens a detector for a client's pictures; None: the server takes keypoints only.
    on_answer: called with every answer.
    """

    def __init__(self, engine: Engine, limits: Limits, make_detector: Callable[[], Detector] | None = None,
                 on_answer: Callable[[Answer], None] = lambda answer: None) -> None:
        self.engine, self.limits = engine, limits
        self.past = Counts()  # counts of feeds that have ended
        self.past_notices: dict[str, int] = {}
        self.answers_dropped = 0  # answers dropped for clients that have gone
        self.outboxes: set[Outbox] = set()
        self.opens: dict[int, Open] = {}
        self._make_detector, self._on_answer = make_detector, on_answer
        self._watchers: dict[Outbox, int | None] = {}
        self._numbers = itertools.count(1)
        self._with_keypoints: asyncio.Queue[Open] = asyncio.Queue()
        self._with_pictures: asyncio.Queue[Open] = asyncio.Queue()
        self._detecting = ThreadPoolExecutor(1, "detector")

    async def run(self) -> None:
        """Lifts frames until it is cancelled."""
        try:
            await asyncio.gather(self._lift_all(self._with_keypoints), self._lift_all(self._with_pictures))
        finally:
            self._detecting.shutdown(wait=True)

    def new_outbox(self, form: str) -> Outbox:
        """An outbox for a client; gone() when the client has gone."""
        outbox = Outbox(form, self.limits.waiting)
        self.outboxes.add(outbox)
        return outbox

    def gone(self, outbox: Outbox) -> None:
        """Forgets a client's outbox."""
        self._watchers.pop(outbox, None)
        self.outboxes.discard(outbox)
        self.answers_dropped += outbox.dropped

    async def open(self, opening: Opening, outbox: Outbox | None = None) -> Open:
        """Opens a feed. outbox: where its client finds the answers. Raises ValueError, and TypeError, for an opening
        that does not fit."""
        detector = None
        if opening.layout is None:
            if self._make_detector is None:
                raise ValueError("the opening has no layout, and this server takes no pictures; wanted one of "
                                 f"{', '.join(ADAPTERS)}, or a server with a detector")
            detector = await asyncio.get_running_loop().run_in_executor(self._detecting, self._make_detector)
        feed = Feed(next(self._numbers), self.engine, opening, self.limits, opening.layout or detector.layout)
        one = Open(feed, outbox if opening.answer else None, detector)
        self.opens[feed.number] = one
        self._tell(feed.number, self.opened_text(one))
        return one

    def close(self, one: Open) -> None:
        """Closes a feed; twice does nothing."""
        feed = one.feed
        if self.opens.pop(feed.number, None) is None:
            return
        for count in fields(Counts):
            setattr(self.past, count.name, getattr(self.past, count.name) + getattr(feed.counts, count.name))
        self.past_notices = {kind: self.past_notices.get(kind, 0) + times for kind, times in feed.notices.items()}
        if one.detector is not None:
            self._detecting.submit(one.detector.close)  # after a frame that it is looking at
        self._tell(feed.number, ended(feed.number))

    def watch(self, watching: Watching, outbox: Outbox) -> None:
        """Sends the poses of one feed, or of all, to a client from now on."""
        self._watchers[outbox] = watching.feed
        for one in self.opens.values():
            if watching.feed in (None, one.feed.number):
                outbox.note(self.opened_text(one))

    def opened_text(self, one: Open) -> str:
        """The message that a feed has been opened."""
        skeleton = self.engine.skeleton
        return opened(one.feed.number, one.feed.opening, repr(self.engine), skeleton.joints, skeleton.parents,
                      self.limits.people)

    def put(self, one: Open, message: str | bytes | Frame) -> None:
        """Takes a message of a feed's client, to be lifted in its turn."""
        one.feed.put(message)
        if not one.is_ready:
            self._get_ready(one)

    def _get_ready(self, one: Open) -> None:
        one.is_ready = True
        (self._with_keypoints if one.detector is None else self._with_pictures).put_nowait(one)

    async def _lift_all(self, ready: asyncio.Queue[Open]) -> None:
        while True:
            one = await ready.get()
            if one.feed.number in self.opens:
                try:
                    await self._lift(one)
                except Refused as refused:
                    if one.outbox is not None:
                        one.outbox.note(refusal(refused, refused.number))
                except Exception as error:  # a fault of ours with one feed's frame must not end the others'
                    traceback.print_exc(file=sys.stderr)
                    if one.outbox is not None:
                        one.outbox.note(refusal(error))
            one.is_ready = False
            if len(one.feed):
                self._get_ready(one)
            await asyncio.sleep(0)  # let others read and send

    async def _lift(self, one: Open) -> None:
        frame, arrived_s = one.feed.take()
        if isinstance(frame, Reset):
            one.feed.reset()
            return
        if isinstance(frame, Picture):
            frame = await self._detected(one, frame)
        elif one.detector is not None:
            one.feed.counts.refused += 1
            raise Refused("the feed was opened without a layout, for pictures; keypoints came", frame.number)
        answer = one.feed.lift(frame, arrived_s)
        for text in one.feed.news:
            if one.outbox is not None:
                one.outbox.note(notice(text))
        one.feed.news.clear()
        self._on_answer(answer)
        if one.outbox is not None:
            one.outbox.answer(answer)
        for outbox, feed in self._watchers.items():
            if feed in (None, one.feed.number):
                outbox.answer(answer)

    async def _detected(self, one: Open, picture: Picture) -> Frame:
        """The keypoints of a picture, found in a thread of its own. Raises Refused for one that cannot be taken."""
        try:
            if one.detector is None:
                raise ValueError("the feed was opened for keypoints of a layout; a picture came")
            loop = asyncio.get_running_loop()
            keypoints_px = await loop.run_in_executor(self._detecting, _detect, one.detector, picture,
                                                      one.feed.opening.image_size)
        except BAD as error:
            one.feed.counts.refused += 1
            raise Refused(str(error), picture.number) from None
        return Frame(picture.number, picture.timestamp_s, [] if keypoints_px is None else keypoints_px[None])

    def _tell(self, feed: int, text: str) -> None:
        for outbox, watched in self._watchers.items():
            if watched in (None, feed):
                outbox.note(text)


def _detect(detector: Detector, picture: Picture, image_size: tuple[float, float]) -> np.ndarray | None:
    """(K, 3) px of the person in an encoded picture. Raises ValueError if it is none, or of another size."""
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(picture.encoded, np.uint8), cv2.IMREAD_COLOR) if picture.encoded else None
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"a picture of {len(picture.encoded)} bytes cannot be read; wanted a JPEG or PNG")
    size = image.shape[1], image.shape[0]
    if size != image_size:
        raise ValueError(f"a picture has {size[0]} x {size[1]} px; image_size was {image_size[0]:g} x "
                         f"{image_size[1]:g}")
    return detector(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
