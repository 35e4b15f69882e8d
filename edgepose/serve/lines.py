"""A feed as JSON lines: messages on one stream, answers on another. Needs nothing but edgepose."""

from __future__ import annotations

from typing import BinaryIO, TextIO

from ..engine import Engine
from .feeds import Feed, Limits, Refused
from .messages import Opening, Reset, notice, opened, read_first, refusal


def serve_lines(engine: Engine, limits: Limits, incoming: BinaryIO, outgoing: TextIO) -> None:
    """Answers each line of `incoming` on `outgoing`, in order, until there is none: no frame is dropped, because who
    writes waits.

    The first line opens the feed. Raises ValueError if it does not, or if a line is longer than a message may be.
    """
    def say(text: str) -> None:
        outgoing.write(text + "\n")
        outgoing.flush()

    first = _line(incoming, limits)
    opening = read_first(first) if first else None
    if not isinstance(opening, Opening) or opening.layout is None or opening.form != "json":
        raise ValueError('the first line opens no feed of keypoints; wanted {"type": "open", "layout": "coco17", '
                         '"image_size": [1920, 1080]}')
    try:
        feed = Feed(1, engine, opening, limits, opening.layout)
    except TypeError as error:
        raise ValueError(str(error)) from None
    say(opened(1, opening, repr(engine), engine.skeleton.joints, engine.skeleton.parents, limits.people))
    while line := _line(incoming, limits):
        feed.put(line)
        try:
            frame, arrived_s = feed.take()
            if isinstance(frame, Reset):
                feed.reset()
                continue
            answer = feed.lift(frame, arrived_s)
        except Refused as refused:
            say(refusal(refused, refused.number))
            continue
        for text in feed.news:
            say(notice(text))
        feed.news.clear()
        say(answer.json)
    for answer in feed.flush():
        say(answer.json)


def _line(incoming: BinaryIO, limits: Limits) -> str:
    """The next line that is not empty; "" at the end."""
    while line := incoming.readline(limits.message_bytes + 1):
        if len(line) > limits.message_bytes:
            raise ValueError(f"a line has more than {limits.message_bytes} bytes")
        if text := line.decode("utf-8", errors="replace").strip():
            return text
    return ""
