"""The messages of `edgepose serve`, as JSON and in a binary form: docs/serve.md describes both, byte by byte."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..camera import H36M_FOCAL, root_translation
from ..checks import listed, near, read_json
from ..stream import Pose

VERSION = 1
DIGITS = 6  # decimals in metres, seconds and confidences
FORMS = ("json", "binary")
FRAME, PICTURE, POSES = 1, 2, 17  # kinds of binary messages
HAS_IDS = 1  # flag of a binary frame
FRAME_HEAD = struct.Struct("<BBBBIdHHI")  # kind, version, columns, flags, number, timestamp_s, people, keypoints, 0
PICTURE_HEAD = struct.Struct("<BBHId")  # kind, version, 0, number, timestamp_s
POSES_HEAD = struct.Struct("<BBHIIIdfHH")  # kind, version, 0, feed, number, dropped, timestamp_s, latency_ms, N, J
MOST_NUMBER = 2**32 - 1
# The options of `People` that a client may set.
OPTIONS = ("camera", "deadline_ms", "delay_frames", "gravity", "hold_s", "lengths_m", "max_gap_s", "mend_sides",
           "on_bad_time", "rate_hz", "return_s", "seen_above")
FIELDS = {"open": {"layout", "image_size", "name", "form", "answer", *OPTIONS}, "watch": {"form", "feed"},
          "frame": {"timestamp_s", "people", "ids", "number"}, "reset": set()}


@dataclass(frozen=True)
class Opening:
    """A client's wish to send frames. layout: of its keypoints; None: it sends pictures. form: of the answers. answer:
    False for a client that reads none."""

    layout: str | None
    image_size: tuple[float, float]
    name: str
    form: str
    answer: bool
    options: dict[str, Any]


@dataclass(frozen=True)
class Watching:
    """A client's wish to see poses. feed: of one feed; None: of all."""

    form: str
    feed: int | None


@dataclass(frozen=True)
class Reset:
    """A client's wish that everybody is forgotten."""


@dataclass(frozen=True)
class Frame:
    """Everybody in one picture. keypoints_px: what `People.push` takes."""

    number: int
    timestamp_s: float
    keypoints_px: Any
    ids: Any = None


@dataclass(frozen=True)
class Picture:
    """One picture, encoded as JPEG or PNG."""

    number: int
    timestamp_s: float
    encoded: bytes


@dataclass(frozen=True, eq=False)
class Answer:
    """The poses of one frame of a feed, ready to be sent in both forms.

    number, timestamp_s: the frame's. latency_ms: from the frame's arrival to this answer. dropped: frames of the feed
    that newer ones have replaced so far.
    """

    feed: int
    number: int
    timestamp_s: float
    latency_ms: float
    dropped: int
    people: Sequence[tuple[int, Pose]] = field(repr=False)

    @cached_property
    def _roots_m(self) -> list[tuple[float, float, float] | None]:
        return [root_of(pose) for _, pose in self.people]

    @cached_property
    def json(self) -> str:
        """The answer as a JSON text."""
        people = [pose_value(who, pose, root_m) for (who, pose), root_m in zip(self.people, self._roots_m)]
        return json.dumps({"type": "poses", "feed": self.feed, "number": self.number,
                           "timestamp_s": round(self.timestamp_s, DIGITS), "latency_ms": round(self.latency_ms, 3),
                           "dropped": self.dropped, "people": people})

    @cached_property
    def binary(self) -> bytes:
        """The answer in the binary form."""
        poses = [pose for _, pose in self.people]
        joints = len(poses[0].joints_m) if poses else 0
        head = POSES_HEAD.pack(POSES, VERSION, 0, self.feed, self.number, min(self.dropped, MOST_NUMBER),
                               self.timestamp_s, self.latency_ms, len(poses), joints)
        if not poses:
            return head
        roots_m = [(math.nan,) * 3 if root_m is None else root_m for root_m in self._roots_m]
        return b"".join((
            head,
            np.array([who for who, _ in self.people], "<i8").tobytes(),
            np.array([pose.timestamp_s for pose in poses], "<f8").tobytes(),
            np.array([pose.predicted_s for pose in poses], "<f4").tobytes(),
            np.array(roots_m, "<f4").tobytes(),
            np.array([pose.joints_m for pose in poses], "<f4").tobytes(),
            np.array([pose.confidence for pose in poses], "<f4").tobytes(),
            np.array([pose.is_seen for pose in poses], "u1").tobytes(),
            np.array([pose.was_reset for pose in poses], "u1").tobytes()))

    def in_form(self, form: str) -> str | bytes:
        """The answer in one of FORMS."""
        return self.json if form == "json" else self.binary


def root_of(pose: Pose) -> tuple[float, float, float] | None:
    """The place of a pose's root in front of the camera, m; None where its joints do not determine it. Without a known
    lens as the usual one of the models' training sees it."""
    try:
        return tuple(root_translation(pose.joints_m, pose.keypoints_norm, pose.confidence, H36M_FOCAL, H36M_FOCAL,
                                      0, 0))
    except ValueError:
        return None


def pose_value(who: int, pose: Pose, root_m: tuple[float, float, float] | None) -> dict[str, Any]:
    """One person's pose as a value for JSON."""
    value = {"id": who, "timestamp_s": round(pose.timestamp_s, DIGITS), "predicted_s": round(pose.predicted_s, DIGITS),
             "was_reset": bool(pose.was_reset),
             "joints_m": _rounded(pose.joints_m), "root_m": None if root_m is None else _rounded(root_m),
             "confidence": _rounded(pose.confidence), "is_seen": pose.is_seen.tolist()}
    if pose.error_m is not None:
        value["error_m"] = _rounded(pose.error_m)
    return value


def _rounded(numbers: Any) -> list[Any]:
    return np.asarray(numbers, float).round(DIGITS).tolist()


def opened(feed: int, opening: Opening, engine: str, joints: Sequence[str], parents: Sequence[int],
           most_people: int) -> str:
    """The message that a feed has been opened."""
    return json.dumps({"type": "opened", "version": VERSION, "feed": feed, "name": opening.name, "engine": engine,
                       "layout": opening.layout, "image_size": opening.image_size, "joints": joints,
                       "parents": parents, "most_people": most_people})


def ended(feed: int) -> str:
    """The message that a feed has ended."""
    return json.dumps({"type": "ended", "feed": feed})


def refusal(error: object, number: int | None = None) -> str:
    """The message that something was refused; number: of the frame."""
    return json.dumps({"type": "error", "number": number, "text": str(error)})


def notice(text: str) -> str:
    """The message that something was noticed in the input."""
    return json.dumps({"type": "notice", "text": text})


def read_first(message: str | bytes) -> Opening | Watching:
    """The first message of a client. Raises ValueError, saying what is wrong with it."""
    value = _value(message, ("open", "watch"))
    form = value.get("form", "json")
    if form not in FORMS:
        raise ValueError(f"form is {_shown(form)}; wanted one of {', '.join(FORMS)}")
    if value["type"] == "watch":
        feed = value.get("feed")
        return Watching(form, None if feed is None else _whole("feed", feed))
    layout, size, name = value.get("layout"), value.get("image_size"), value.get("name", "")
    if layout is not None and not isinstance(layout, str):
        raise ValueError(f"layout is {_shown(layout)}; wanted the name of a layout")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_number(side) for side in size):
        raise ValueError(f"image_size is {_shown(size)}; wanted [width, height] in px")
    if not isinstance(name, str) or len(name) > 100 or not name.isprintable():
        raise ValueError(f"name is {_shown(name)}; wanted a text of at most 100 printable characters")
    if not isinstance(value.get("answer", True), bool):
        raise ValueError(f"answer is {_shown(value['answer'])}; wanted true or false")
    options = {option: value[option] for option in OPTIONS if option in value}
    return Opening(layout, tuple(size), name, form, value.get("answer", True), options)


def read_next(message: str | bytes) -> Frame | Picture | Reset:
    """A later message of a client that has opened a feed. Raises ValueError, saying what is wrong with it."""
    if isinstance(message, bytes):
        return _binary(message)
    value = _value(message, ("frame", "reset"))
    if value["type"] == "reset":
        return Reset()
    people, ids = value.get("people"), value.get("ids")
    if not isinstance(people, list):
        raise ValueError(f"people is {_shown(people)}; wanted a list with the keypoints of each person")
    if ids is not None and not isinstance(ids, list):
        raise ValueError(f"ids is {_shown(ids)}; wanted a list of whole numbers, or none")
    if not _is_number(value.get("timestamp_s")):
        raise ValueError(f"timestamp_s is {_shown(value.get('timestamp_s'))}; wanted a number of seconds")
    return Frame(_whole("number", value.get("number", 0)), float(value["timestamp_s"]), people, ids)


def frame_bytes(frame: Frame) -> bytes:
    """A frame in the binary form, as a client sends it. keypoints_px: (N, K, 2 to 4)."""
    keypoints = np.ascontiguousarray(frame.keypoints_px, "<f4")
    people, count, columns = keypoints.shape
    head = FRAME_HEAD.pack(FRAME, VERSION, columns, 0 if frame.ids is None else HAS_IDS, frame.number,
                           frame.timestamp_s, people, count, 0)
    return head + (b"" if frame.ids is None else np.asarray(frame.ids, "<i8").tobytes()) + keypoints.tobytes()


def picture_bytes(picture: Picture) -> bytes:
    """A picture in the binary form, as a client sends it."""
    return PICTURE_HEAD.pack(PICTURE, VERSION, 0, picture.number, picture.timestamp_s) + picture.encoded


def _binary(message: bytes) -> Frame | Picture:
    if len(message) < PICTURE_HEAD.size:
        raise ValueError(f"a binary message has {len(message)} bytes; wanted {PICTURE_HEAD.size} or more")
    kind, version = message[:2]
    if kind not in (FRAME, PICTURE) or version != VERSION:
        raise ValueError(f"a binary message begins with {kind}, {version}; wanted {FRAME} or {PICTURE}, then {VERSION}")
    if kind == PICTURE:
        _, _, _, number, timestamp_s = PICTURE_HEAD.unpack_from(message)
        return Picture(number, timestamp_s, message[PICTURE_HEAD.size:])
    if len(message) < FRAME_HEAD.size:
        raise ValueError(f"a binary frame has {len(message)} bytes; wanted {FRAME_HEAD.size} or more")
    _, _, columns, flags, number, timestamp_s, people, keypoints, _ = FRAME_HEAD.unpack_from(message)
    if columns not in (2, 3, 4) or flags & ~HAS_IDS:
        raise ValueError(f"a binary frame has {columns} columns and the flags {flags}; wanted 2 to 4 columns and the "
                         f"flags 0 or {HAS_IDS}")
    ids_size = 8 * people * (flags & HAS_IDS)
    wanted = FRAME_HEAD.size + ids_size + 4 * people * keypoints * columns
    if len(message) != wanted:
        raise ValueError(f"a binary frame of {people} people with {keypoints} keypoints of {columns} columns has "
                         f"{len(message)} bytes; wanted {wanted}")
    ids = np.frombuffer(message, "<i8", people, FRAME_HEAD.size) if flags & HAS_IDS else None
    keypoints_px = np.frombuffer(message, "<f4", -1, FRAME_HEAD.size + ids_size) if people * keypoints else np.empty(0)
    return Frame(number, timestamp_s, keypoints_px.reshape(people, keypoints, columns), ids)


def _value(message: str | bytes, types: Sequence[str]) -> dict[str, Any]:
    """The object of a JSON message of one of these types, all of whose fields are known."""
    if isinstance(message, bytes):
        raise ValueError("a binary message came; wanted a JSON text first")
    try:
        value = read_json(message)
    except ValueError as error:
        raise ValueError(f"a message is no JSON: {error}") from None
    if not isinstance(value, dict) or value.get("type") not in types:
        raise ValueError(f"a message is {_shown(value)}; wanted an object whose \"type\" is {' or '.join(types)}")
    unknown = [name for name in value if name not in FIELDS[value["type"]] and name != "type"]
    if unknown:
        known = sorted(FIELDS[value["type"]])
        raise ValueError(f"{value['type']} has no {_shown(unknown[0])}{near(unknown[0], known)}; it may have "
                         f"{listed(known, most=len(known)) or 'nothing'}")
    return value


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_NUMBER:
        raise ValueError(f"{name} is {_shown(value)}; wanted a whole number from 0 to {MOST_NUMBER}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _shown(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = "a huge number" if isinstance(value, int) and abs(value) > MOST_NUMBER else repr(value)
    return text if len(text) <= 60 else text[:60] + " ..."
