"""One person, from keypoints to pose: the types, texts and errors of the runtime in csrc/runtime."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol

import numpy as np

from . import _native
from .adapters import ADAPTERS, Adapter
from .camera import checked_distortion, checked_image_size, checked_intrinsics
from .checks import checked_number
from .columns import LEAST_HEIGHT_M, LENGTHS, MOST_HEIGHT_M, inputs_of, outputs_of
from .filters import OneEuro
from .skeleton import Skeleton, rounded

# Frames of all windows in a call for a whole recording, one thread, to one window a call: fully connected lifters 2.4
# times as fast from 16 windows on, AMPose and 27 frames within 2 %, 351 frames 15 % slower at 16 windows (they leave
# the cache).
CALL_FRAMES = 64
PUBLISHED_RATE_HZ = 50.0  # the published weights' rate, taken for a model that does not say its own
FILE_RATE = "file"
MOST_DELAY = 4096  # frames; no window has more
ON_BAD_TIME = ("refuse", "drop", "reset")
LEARN = "learn"
LEARN_HEIGHT = -1.0  # what stands for it in C


class Lifter(Protocol):
    """The parts of an engine that a stream needs. It may have is_causal, inputs, outputs and rate_hz too, as Engine
    has, and a state above 0 with step(), which is then called instead of run()."""

    frames: int
    skeleton: Skeleton

    def run(self, keypoints_norm: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(B, T, J, inputs) float32, C-contiguous -> (B, J, outputs) float32, metres from the root, camera axes."""


@dataclass(frozen=True, eq=False)
class Pose:
    """One person at one moment.

    joints_m: (J, 3) float32, metres from the root; camera axes: x right, y down, z forward.
    timestamp_s: of the frame the pose belongs to; under delay this is not the frame just pushed.
    keypoints_norm: (J, 2) float32, where the joints were in that frame, in normalised screen coordinates; with a
    camera, where that of Human3.6M would have seen them.
    confidence: (J,) in that frame; 0 where the person was not detected.
    is_seen: (J,) bool; a joint that is not seen was put in its place by the stream.
    skeleton: names the joints.
    was_reset: the past was forgotten before this pose: it is the first, or the first after a gap or a jump.
    error_m: (J,) float32, the standard deviation of each joint's distance that the model predicts; None: the model does
    not say.
    predicted_s: above 0 if the engine did not lift this frame, because of `deadline_ms`: the joints are predicted from
    the last poses, which are so much older.
    root_m: (3,) float64, the root in front of the camera in m, camera axes, its depth filtered over time; None: not
    known, as without a `camera`. joints_m + root_m are the joints in front of the camera.
    root_error_m: (3,) float64, the standard deviation of each coordinate of root_m; None with it.
    """

    joints_m: np.ndarray
    timestamp_s: float
    keypoints_norm: np.ndarray
    confidence: np.ndarray
    is_seen: np.ndarray
    skeleton: Skeleton
    was_reset: bool
    error_m: np.ndarray | None = None
    predicted_s: float = 0.0
    root_m: np.ndarray | None = None
    root_error_m: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        """The pose in plain numbers and names, as JSON takes it: {"timestamp_s", "was_reset", "joints_m": {joint: [x,
        y, z]}, "confidence": {joint: number}, "is_seen", "error_m", "root_m", "root_error_m"}; what the pose does not
        have is left out."""
        named = self.skeleton.named
        found = {"timestamp_s": rounded(self.timestamp_s), "was_reset": bool(self.was_reset),
                 "joints_m": named(self.joints_m), "confidence": named(self.confidence),
                 "is_seen": named(self.is_seen)}
        if self.error_m is not None:
            found["error_m"] = named(self.error_m)
        if self.root_m is not None:
            found.update(root_m=rounded(self.root_m), root_error_m=rounded(self.root_error_m))
        return found

    def to_json(self) -> str:
        """`to_dict` as a line of JSON."""
        return json.dumps(self.to_dict())

    def __repr__(self) -> str:
        return (f"Pose({self.timestamp_s:.3f} s, {self.skeleton.name}, {self.is_seen.sum()} of {len(self.is_seen)} "
                f"joints seen{', was_reset' * self.was_reset}"
                f"{f', predicted for {self.predicted_s:.3f} s' if self.predicted_s else ''})")


class Stream:
    """Lifts one person's keypoints frame by frame. Cheap: make one per person, all on one engine.

    engine: frames, skeleton and run(), as `Lifter` says. layout: a name in ADAPTERS, or an Adapter of your own.
    image_size: (width, height) of the whole picture in px.
    camera: (fx, fy, cx, cy) of the lens in px where they are known: poses then have their place, root_m. None: not
    known; `camera.guessed_intrinsics` makes a guess of the field of view.
    distortion: of that lens, OpenCV's (k1, k2, p1, p2[, k3[, k4, k5, k6]]); None: the keypoints have none.
    gravity: where gravity points in camera axes, x right, y down, z forward, for engines whose `inputs` have the
    elevation ("posemlp"): (0, 1, 0) for a level camera, else from an IMU. Wants `camera` too.
    delay_frames: how many later frames (of the grid) to wait for before answering, 0 to (T-1)/2, 0 for a causal model.
    The last frame that has come stands for those after it.
    rate_hz: the frames a second that a window of many frames is laid out in, whatever the camera's are; by default
    those that the model was trained on, PUBLISHED_RATE_HZ with a warning where its file does not say; at most 1000.
    None takes every frame as it comes, and so does an engine with a state ("strided-causal"), with its time.
    max_gap_s: for how long a missing person's last frame is repeated; a longer gap ends the clip, and the next frame
    begins another. So does a pelvis that in one frame jumps by more than half a torso, from where it was and from where
    its motion led. Frames that wait at the end of a clip are answered with the next pushes, as if nothing came after
    them.
    seen_above: the confidence from which on a joint is taken as seen; it stays so until below two thirds of that. None:
    0.05 for a model that takes the confidence as an input and weighs it by itself, 0.3 for others.
    hold_s: for how long a hidden joint keeps its offset to its parent; then knees and ankles fall back to it.
    smoothing: the settings of a filter on joints_m; every stream has a filter of its own.
    on_bad_time: what becomes of a frame whose time is not later than the last one's. "refuse": an error; "drop": the
    frame is left out; "reset": an earlier time begins another recording, and the frame of a repeated one is left out.
    mend_sides: exchanges left and right back where the detector exchanges them between two frames of a camera.
    lengths_m: the person's own lengths in m, any of those in columns.LENGTHS, for engines whose `inputs` have them
    ("posemlp"), or with constant_bones: the picture does not show how large somebody is. From a height:
    edgepose.lengths_of_height(1.75).
    height_m: the standing height, 0.5 to 2.5, sets the size of the poses, of any engine, and so their place. "learn":
    a depth camera shows the size, for which `camera` must be known. None: the engine's size, a grown-up's.
    constant_bones: the person's bones keep their lengths, also under smoothing. They are learnt from the poses and
    follow them for 2 s, later they move by 0.1 % a second at most; limbs and hips in lengths_m are taken from there.
    deadline_ms: the most time that a push may take. Whom the engine would lift too late, by the time of its last calls,
    it does not: their poses are predicted, for at most 0.1 s on, and then held (`Pose.predicted_s`). None: no limit.
    A stream is used by one thread at a time: a call that comes in between raises RuntimeError.
    Raises ValueError on an unknown layout, an impossible image size or camera or a setting out of range, TypeError for
    what is no engine, filter or number.
    """

    def __init__(self, engine: Lifter, layout: str | Adapter, image_size: tuple[float, float], *,
                 camera: tuple[float, float, float, float] | None = None, delay_frames: int = 0,
                 rate_hz: float | Literal["file"] | None = FILE_RATE, max_gap_s: float = 0.5,
                 seen_above: float | None = None, hold_s: float = 0.3, smoothing: OneEuro | None = None,
                 on_bad_time: Literal["refuse", "drop", "reset"] = "refuse", mend_sides: bool = True,
                 lengths_m: Mapping[str, float] | None = None,
                 gravity: tuple[float, float, float] | None = None, deadline_ms: float | None = None,
                 distortion: Sequence[float] | None = None, height_m: float | Literal["learn"] | None = None,
                 constant_bones: bool = False) -> None:
        if not hasattr(engine, "run"):
            raise TypeError(f"engine is {engine!r}; wanted an Engine: edgepose.load({engine!r})")
        if smoothing is not None and not isinstance(smoothing, OneEuro):
            raise TypeError(f"smoothing is {smoothing!r}; wanted None or edgepose.OneEuro(...)")
        if not isinstance(layout, Adapter):
            if not isinstance(layout, str) or layout not in ADAPTERS:
                raise ValueError(f"there is no layout {layout!r}; wanted one of {', '.join(ADAPTERS)}, or an Adapter")
            layout = ADAPTERS[layout]
        if on_bad_time not in ON_BAD_TIME:
            raise ValueError(f"on_bad_time is {on_bad_time!r}; wanted one of {', '.join(ON_BAD_TIME)}")
        self.engine, self.image_size, self._layout = engine, checked_image_size(image_size), layout.layout.name
        self.rate_hz = _rate_of(engine) if rate_hz == FILE_RATE else rate_hz
        if self.rate_hz is not None:
            checked_number("rate_hz", self.rate_hz, above=0)
        checked_number("frames", engine.frames, whole=True)
        self._person = _native.Person(
            Pose, engine, layout.onto(engine.skeleton), self.image_size,
            camera=None if camera is None else checked_intrinsics(camera),
            inputs=inputs_of(engine), outputs=outputs_of(engine), is_causal=getattr(engine, "is_causal", False),
            delay_frames=checked_number("delay_frames", delay_frames, 0, MOST_DELAY, whole=True),
            rate_hz=self.rate_hz or 0.0, max_gap_s=checked_number("max_gap_s", max_gap_s, 0, np.inf),
            seen_above=None if seen_above is None else checked_number("seen_above", seen_above, above=0, at_most=1),
            hold_s=checked_number("hold_s", hold_s, 0, np.inf),
            smoothing=smoothing and (smoothing.min_cutoff_hz, smoothing.beta, smoothing.d_cutoff_hz),
            on_bad_time=ON_BAD_TIME.index(on_bad_time), mend_sides=bool(mend_sides),
            lengths_m=listed_lengths(lengths_m),
            gravity=None if gravity is None else _direction("gravity", gravity),
            deadline_ms=0.0 if deadline_ms is None else checked_number("deadline_ms", deadline_ms, above=0),
            distortion=checked_distortion(distortion), height_m=_height(height_m), constant_bones=bool(constant_bones),
            state=getattr(engine, "state", 0))

    def __repr__(self) -> str:
        width, height = self.image_size
        return f"Stream({self.engine!r}, {self._layout!r}, ({width:g}, {height:g}))"

    @property
    def notices(self) -> dict[str, int]:
        """Counts of what the stream noticed of its input since it was made, by kind; the first of each kind is a
        warning too.

        "bad_time": a time that was not later than the last, where on_bad_time does not refuse it. "exchanged_sides": a
        frame whose left and right were exchanged back. "time_unit": the first frames are a second or more apart each,
        so their times are likely no seconds. "outside_picture": of 51 frames' keypoints more than half lay outside of
        the picture, so its size is likely wrong. "proportions": in most of 51 frames a part of the body was longer than
        people show, so the keypoints are likely in another order. "lying": the person lies in nearly all of 51 frames,
        head to the left; if not so, x and y are exchanged. "other_lens": `camera` is centred far from the middle of the
        picture, so it may be that of another picture. "not_lifted": somebody whom the engine would have lifted later
        than deadline_ms. "late_push": a push that took longer all the same. The others are kinds of `People`:
        detections that were left out. "duplicate_person": another detection of somebody. "across_people": joints of two
        people in one pose. "most_people": somebody new while most_people were followed.
        """
        return self._person.notices()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream cannot be copied or pickled: its past is one person's; wanted another Stream on the "
                        "same engine")

    def reset(self) -> None:
        """Forgets the person and the clock: for another video or another person."""
        self._person.reset()

    def memory(self) -> bytes:
        """The memory that an engine with a state has of the person, to go on from in another stream on the same engine:
        `remember`. Bytes of this kind of machine. Raises ValueError for an engine without a state."""
        return self._person.memory()

    def remember(self, memory: bytes) -> None:
        """Takes over the memory of another stream on the same engine, and forgets its own past.

        A next frame within max_gap_s of that stream's last one goes on from it, to the bit where all joints are seen;
        a later one begins anew. The places of hidden joints, the smoothing and the notices are not part of it.
        Raises ValueError for an engine without a state, and for bytes that are not as many as its own.
        """
        self._person.remember(memory)

    def flush(self) -> list[Pose]:
        """The clip has ended: the poses of the frames (of the grid) that delay_frames kept waiting, oldest first; the
        stream is then as new.

        The last frame is repeated for those after it, as where an off-line run pads a clip. Empty without delay.
        """
        poses = []
        while (pose := self._person.flush(call_of(self.engine))) is not None:
            poses.append(pose)
        return poses

    def lift(self, frames: Iterable[tuple[np.ndarray | None, float]]) -> Iterator[Pose]:
        """A whole recording: what `push` answers for each frame and `flush` at the end, with many windows in a call of
        the engine.

        frames: of each what `push` takes, (keypoints_px, timestamp_s). What the stream saw before is forgotten, and it
        is as new afterwards.
        Raises what `push` raises, naming the frame, counted from 0.
        """
        # A frame with a state waits for the one before.
        most = 1 if getattr(self.engine, "state", 0) else max(1, CALL_FRAMES // self.engine.frames)
        questions = _native.Questions(self._person)
        self.reset()
        try:
            for _ in self._questions_of(frames, questions):
                if len(questions) == most:
                    yield from questions.answer(call_of(self.engine))
            yield from questions.answer(call_of(self.engine))
        finally:
            self.reset()

    @staticmethod
    def _questions_of(frames: Iterable[tuple[np.ndarray | None, float]],
                      questions: _native.Questions) -> Iterator[None]:
        """A step for each frame pushed, and for each that waited at the end."""
        for i, (keypoints_px, timestamp_s) in enumerate(frames):
            try:
                questions.push(keypoints_px, timestamp_s)
            except (TypeError, ValueError) as error:
                raise type(error)(f"frame {i}: {error}") from None
            yield
        while questions.flush():
            yield

    def push(self, keypoints_px: np.ndarray | None, timestamp_s: float) -> Pose | None:
        """Takes one camera frame and answers with a pose, if there is a new one.

        keypoints_px: (K, 2), or (K, 3) with the confidence, in the stream's layout; lists will do. For engines whose
        `inputs` have the depth ("posemlp"), and with `camera` for all, also (K, 4), the last what a depth camera
        measured at the keypoint (see `camera.with_depths`), in m along its axis; 0, NaN or infinite where it measured
        nothing. The place is then where it measured the root. A keypoint of confidence 0 may hold anything, NaN too.
        (0, 0), (-1, -1), (NaN, NaN), a masked one and one of negative confidence were not found; one outside of the
        picture counts as not seen, and a confidence a little above 1 as 1. None: the person was not detected.
        timestamp_s: when the frame was taken, in seconds on any clock; later than the last.
        None while the first delay_frames come in (flush() answers for the last), for a frame between two points of the
        grid, after a gap of max_gap_s where no frame waits any more, and until hips or shoulders have been seen once: a
        hip that is seen stands in for the pelvis, else a place below the shoulders.
        Raises ValueError (TypeError for what is no number) and changes nothing if the keypoints do not fit the layout,
        are half NaN, infinite or beyond a million pixels, have a third column that is no confidence, or the time is not
        finite or, unless on_bad_time says otherwise, does not increase.
        """
        return self._person.push(call_of(self.engine), keypoints_px, timestamp_s)


def call_of(engine: Lifter) -> Callable[..., np.ndarray]:
    """The method of an engine that answers for a person's input: step(), where it has a state, else run()."""
    return engine.step if getattr(engine, "state", 0) else engine.run


def push_many(streams: Sequence[Stream], keypoints_px: Sequence[np.ndarray | None],
              timestamp_s: float | Sequence[float]) -> list[Pose | None]:
    """`push` for many people, with one call of the engine: a pose or None for each, in their order.

    keypoints_px: for each stream what its `push` takes. timestamp_s: of the picture they are all in, or one for each
    stream, as for several cameras. The shortest deadline_ms of the streams holds for all.
    Raises what `push` raises, naming the person, and ValueError if the streams do not share one engine, one is listed
    twice, or there are not as many keypoints, or times, as streams. No stream is changed then.
    """
    if len(streams) != len(keypoints_px):
        raise ValueError(f"{len(keypoints_px)} people's keypoints for {len(streams)} streams; wanted one each")
    if not len(streams):
        return []
    engine = streams[0].engine
    if any(stream.engine is not engine for stream in streams):
        raise ValueError("the streams have different engines; push_many runs one engine, so push those apart")
    is_each = isinstance(timestamp_s, (list, tuple)) or isinstance(timestamp_s, np.ndarray) and timestamp_s.ndim > 0
    times_s = list(timestamp_s) if is_each else [timestamp_s] * len(streams)
    if len(times_s) != len(streams):
        raise ValueError(f"{len(times_s)} time stamps for {len(streams)} streams; wanted one, or one each")
    return _native.push_many([stream._person for stream in streams], call_of(engine), list(keypoints_px), times_s)


def _direction(name: str, vector: tuple[float, float, float]) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in vector)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {vector!r}; wanted three numbers (x, y, z)") from None
    if not (x or y or z):  # which stands for an unknown one in C
        raise ValueError(f"{name} is {vector!r}; wanted where it points")
    return x, y, z


def _height(height_m: float | str | None) -> float:
    if height_m is None:
        return 0.0
    if isinstance(height_m, str):
        if height_m != LEARN:
            raise ValueError(f"height_m is {height_m!r}; wanted metres, {LEARN!r} or None")
        return LEARN_HEIGHT
    return checked_number("height_m", height_m, LEAST_HEIGHT_M, MOST_HEIGHT_M)


def listed_lengths(lengths_m: Mapping[str, float] | None) -> list[float]:
    """A person's lengths in the order of columns.LENGTHS, 0 where one is not known."""
    if lengths_m is not None and not isinstance(lengths_m, Mapping):
        raise TypeError(f"lengths_m is {lengths_m!r}; wanted {{name: metres}} with names of {', '.join(LENGTHS)}")
    for name in lengths_m or ():
        if name not in LENGTHS:
            raise ValueError(f"lengths_m has {name!r}; there are {', '.join(LENGTHS)}")
        checked_number(f"the length {name}", lengths_m[name], above=0)
    return [float((lengths_m or {}).get(name, 0.0)) for name in LENGTHS]


def _rate_of(engine: Lifter) -> float:
    """The frames a second that a model was trained on."""
    rate_hz = getattr(engine, "rate_hz", None)
    if rate_hz is None and engine.frames > 1 and not getattr(engine, "state", 0):
        warnings.warn(f"{engine!r} does not say how many frames a second it was trained on; taken for "
                      f"{PUBLISHED_RATE_HZ:g}, as the "
                      "published models. If it is another, say Stream(..., rate_hz=...)", stacklevel=3)
    return PUBLISHED_RATE_HZ if rate_hz is None else rate_hz
