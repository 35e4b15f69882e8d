"""One person, from keypoints to pose: the runtime's main path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from .adapters import ADAPTERS, Adapter
from .camera import check_pixels, checked_image_size, checked_intrinsics, normalize_screen, normalize_with_intrinsics
from .checks import checked_number
from .filters import Hold, OneEuro
from .skeleton import Skeleton
from .window import Window

_Frame = tuple[float, np.ndarray | None, np.ndarray | None]  # timestamp_s, keypoints_norm (J, 2), confidence (J,)
LOST_SHARE = 2 / 3  # of seen_above: a joint that was seen stays so until its confidence is below this
MOST_PX = 1e6  # no camera has a keypoint further out; a larger number is a broken one
# Frames of all windows in a call for a whole recording, one thread, to one window a call: fully connected lifters 2.4 times as fast from 16
# windows on, AMPose and 27 frames within 2 %, 351 frames 15 % slower at 16 windows (they leave the cache).
CALL_FRAMES = 64


class _Question(NamedTuple):
    """Of a pose (see there) all but its joints."""

    timestamp_s: float
    keypoints_norm: np.ndarray
    confidence: np.ndarray
    is_seen: np.ndarray
    was_reset: bool


class Lifter(Protocol):
    """What a stream needs of an engine."""

    frames: int
    skeleton: Skeleton

    def run(self, keypoints_norm: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(B, T, J, 2) float32, C-contiguous -> (B, J, 3) float32, metres from the root, camera axes."""


@dataclass(frozen=True, eq=False)
class Pose:
    """One person at one moment.

    joints_m: (J, 3) float32, metres from the root; camera axes: x right, y down, z forward.
    timestamp_s: of the frame the pose belongs to; under delay this is not the frame just pushed.
    keypoints_norm: (J, 2) float32, where the joints were in that frame, in normalised screen coordinates; with a camera, where
    that of Human3.6M would have seen them.
    confidence: (J,) in that frame; 0 where the person was not detected.
    is_seen: (J,) bool; a joint that is not seen was put in its place by `Hold`.
    skeleton: names the joints.
    was_reset: the past was forgotten before this pose: it is the first, or the first after a gap or a jump.
    """

    joints_m: np.ndarray
    timestamp_s: float
    keypoints_norm: np.ndarray
    confidence: np.ndarray
    is_seen: np.ndarray
    skeleton: Skeleton
    was_reset: bool

    def __repr__(self) -> str:
        return (f"Pose({self.timestamp_s:.3f} s, {self.skeleton.name}, {self.is_seen.sum()} of {len(self.is_seen)} joints seen"
                f"{', was_reset' * self.was_reset})")


class Stream:
    """Lifts one person's keypoints frame by frame. Cheap: make one per person, all on one engine.

    engine: frames, skeleton and run(), as `Lifter` says. layout: a name in ADAPTERS, or an Adapter of your own.
    image_size: (width, height) of the whole picture in px.
    camera: (fx, fy, cx, cy) of the lens in px where they are known, for keypoints without distortion; see
    `camera.normalize_with_intrinsics`. For models trained with one lens, as those on Human3.6M; None: as any lens.
    delay_frames: how many later frames (of the grid) to wait for before answering, 0 to (T-1)/2, 0 for a causal model:
    see `Window`.
    rate_hz: the grid the model was trained on; None takes every frame as it comes: see `Window`.
    max_gap_s: for how long a missing person's last frame is repeated.
    seen_above: the confidence from which on a joint is taken as seen. hold_s: for how long a hidden joint keeps its
    offset to its parent: see `Hold`.
    smoothing: the settings of a filter on joints_m; every stream has a filter of its own.
    Raises ValueError on an unknown layout, an impossible image size or camera or a setting out of range, TypeError for what is no
    engine, filter or number.
    """

    def __init__(self, engine: Lifter, layout: str | Adapter, image_size: tuple[float, float], *,
                 camera: tuple[float, float, float, float] | None = None, delay_frames: int = 0, rate_hz: float | None = 50.0, max_gap_s: float = 0.5,
                 seen_above: float = 0.3, hold_s: float = 0.3, smoothing: OneEuro | None = None) -> None:
        if not hasattr(engine, "run"):
            raise TypeError(f"engine is {engine!r}; wanted an Engine: edgepose.load({engine!r})")
        if smoothing is not None and not isinstance(smoothing, OneEuro):
            raise TypeError(f"smoothing is {smoothing!r}; wanted None or edgepose.OneEuro(...)")
        if not isinstance(layout, Adapter):
            if not isinstance(layout, str) or layout not in ADAPTERS:
                raise ValueError(f"there is no layout {layout!r}; wanted one of {', '.join(ADAPTERS)}, or an Adapter")
            layout = ADAPTERS[layout]
        self.engine, self.image_size = engine, checked_image_size(image_size)
        self._camera = None if camera is None else checked_intrinsics(camera)
        self._adapter = layout.onto(engine.skeleton)
        self._root = engine.skeleton.root
        checked_number("seen_above", seen_above, above=0, at_most=1)
        self._hold = Hold(engine.skeleton, seen_above, LOST_SHARE * seen_above, hold_s)
        self._window = Window(engine.frames, engine.skeleton, rate_hz, delay_frames, max_gap_s,
                              getattr(engine, "is_causal", False))
        self._smoothing = smoothing.fresh() if smoothing else None
        joints = len(engine.skeleton)
        self._undetected = (np.zeros(joints), np.zeros(joints, dtype=bool))
        for shared in self._undetected:
            shared.flags.writeable = False
        self._pushed_at_s = -math.inf

    def __repr__(self) -> str:
        width, height = self.image_size
        return f"Stream({self.engine!r}, {self._adapter.layout.name!r}, ({width:g}, {height:g}))"

    def reset(self) -> None:
        """Forgets the person and the clock: for another video or another person."""
        self._window.reset()
        self._hold.reset()
        self._pushed_at_s = -math.inf

    def flush(self) -> list[Pose]:
        """The clip has ended: the poses of the frames (of the grid) that delay_frames kept waiting, oldest first; the stream is then
        as new.

        The last frame is repeated for those after it, as where an off-line run pads a clip. Empty without delay.
        """
        poses = [self._pose(self._question(), self.engine.run(self._window.keypoints_norm[None])[0]) for _ in self._window.flush()]
        self.reset()
        return poses

    def lift(self, frames: Iterable[tuple[np.ndarray | None, float]]) -> Iterator[Pose]:
        """A whole recording: what `push` answers for each frame and `flush` at the end, with many windows in a call of the engine.

        frames: of each what `push` takes, (keypoints_px, timestamp_s). What the stream saw before is forgotten, and it is as new afterwards.
        Raises what `push` raises, naming the frame, counted from 0.
        """
        most = max(1, CALL_FRAMES // self.engine.frames)
        windows = np.empty((most, self.engine.frames, len(self.engine.skeleton), 2), np.float32)
        questions: list[_Question] = []
        self.reset()
        try:
            for _ in self._windows_of(frames):
                windows[len(questions)] = self._window.keypoints_norm
                questions.append(self._question())
                if len(questions) == most:
                    yield from map(self._pose, questions, self.engine.run(windows))
                    questions.clear()
            if questions:
                yield from map(self._pose, questions, self.engine.run(windows[:len(questions)]))
        finally:
            self.reset()

    def _windows_of(self, frames: Iterable[tuple[np.ndarray | None, float]]) -> Iterator[None]:
        """The window stands, in turn, at each moment of a recording that has an answer."""
        for i, (keypoints_px, timestamp_s) in enumerate(frames):
            try:
                frame = self._checked(keypoints_px, timestamp_s)
            except (TypeError, ValueError) as error:
                raise type(error)(f"frame {i}: {error}") from None
            if self._take(*frame):
                yield
        yield from self._window.flush()

    def push(self, keypoints_px: np.ndarray | None, timestamp_s: float) -> Pose | None:
        """Takes one camera frame and answers with a pose, if there is a new one.

        keypoints_px: (K, 2), or (K, 3) with the confidence, in the stream's layout; lists will do. A keypoint of
        confidence 0 may hold anything, NaN too; without confidences, (0, 0) is a keypoint that was not found.
        None: the person was not detected.
        timestamp_s: when the frame was taken, in seconds on any clock; later than the last.
        None while the first delay_frames come in (flush() answers for the last), for a frame between two points of the grid, after a gap of
        max_gap_s, and until the pelvis has been seen once.
        Raises ValueError (TypeError for what is no number) and changes nothing if the keypoints do not fit the layout,
        are NaN, infinite or beyond MOST_PX, or the time is not finite or does not increase.
        """
        return _lift([self], [self._checked(keypoints_px, timestamp_s)])[0]

    def _checked(self, keypoints_px: np.ndarray | None, timestamp_s: float) -> _Frame:
        """The frame in the model's joints, without touching the stream: what is refused here is as if never pushed."""
        try:
            timestamp_s = float(timestamp_s + 0.0)  # float() alone takes "1.5"
        except (TypeError, ValueError):
            raise TypeError(f"timestamp_s is {timestamp_s!r}; wanted a number of seconds") from None
        if not (timestamp_s > self._pushed_at_s and timestamp_s < math.inf):
            raise ValueError(f"timestamp_s is {timestamp_s} after {self._pushed_at_s}; wanted a later, finite time")
        if keypoints_px is None:
            return timestamp_s, None, None
        try:
            keypoints = np.asarray(keypoints_px)
        except ValueError:
            raise ValueError("keypoints_px is a list of rows of different lengths; wanted (K, 2) or (K, 3)") from None
        if keypoints.dtype.kind not in "fiu":
            raise TypeError(f"keypoints_px has dtype {keypoints.dtype}; wanted real numbers")
        if keypoints.dtype == np.float16:
            keypoints = keypoints.astype(np.float32)  # MOST_PX is infinity in float16
        if keypoints.ndim != 2:
            raise ValueError(f"keypoints_px has shape {keypoints.shape}; wanted one person, (K, 2) or (K, 3)")
        if not np.abs(keypoints).max(initial=0.0) <= MOST_PX:
            keypoints = _without_absent(keypoints)
        xy_px, confidence = self._adapter(keypoints)
        check_pixels(keypoints[:, :2], "keypoints_px")
        if self._camera is None:
            return timestamp_s, normalize_screen(xy_px, self.image_size), confidence
        return timestamp_s, normalize_with_intrinsics(xy_px, *self._camera), confidence

    def _take(self, timestamp_s: float, keypoints_norm: np.ndarray | None, confidence: np.ndarray | None) -> bool:
        """Brings the window up to date with a checked frame; whether there is something to answer."""
        self._pushed_at_s = timestamp_s
        if keypoints_norm is not None:
            # Before Hold: what it remembers of one person must not fill in another.
            root_is_seen = confidence[self._root] >= self._hold.seen_above
            if not self._window.is_continued_by(keypoints_norm[self._root] if root_is_seen else None, timestamp_s):
                self._hold.reset()
            placed = self._hold(keypoints_norm, confidence, timestamp_s)
            if placed is not None:
                keypoints_norm, is_seen = placed
                return self._window.push(keypoints_norm, timestamp_s, (confidence, is_seen))
        is_new = self._window.repeat_last(timestamp_s, self._undetected)
        if self._window.is_empty:
            self._hold.reset()
        return is_new

    def _question(self) -> _Question:
        """What the window stands at, kept for the engine's answer."""
        window = self._window
        return _Question(window.timestamp_s, window.keypoints_norm[window.target].copy(), *window.note, window.was_reset)

    def _pose(self, question: _Question, joints_m: np.ndarray) -> Pose:
        if self._smoothing:
            if question.was_reset:
                self._smoothing.reset()
            joints_m = self._smoothing(joints_m, question.timestamp_s)
        return Pose(joints_m, question.timestamp_s, question.keypoints_norm, question.confidence, question.is_seen,
                    self.engine.skeleton, question.was_reset)


def push_many(streams: Sequence[Stream], keypoints_px: Sequence[np.ndarray | None],
              timestamp_s: float | Sequence[float]) -> list[Pose | None]:
    """`push` for many people, with one call of the engine: a pose or None for each, in their order.

    keypoints_px: for each stream what its `push` takes. timestamp_s: of the picture they are all in, or one for each stream, as
    for several cameras.
    Raises what `push` raises, naming the person, and ValueError if the streams do not share one engine, one is listed
    twice, or there are not as many keypoints, or times, as streams. No stream is changed then.
    """
    if len(streams) != len(keypoints_px):
        raise ValueError(f"{len(keypoints_px)} people's keypoints for {len(streams)} streams; wanted one each")
    if len({id(stream) for stream in streams}) != len(streams):
        raise ValueError("a stream is listed twice; wanted one stream per person")
    if any(stream.engine is not streams[0].engine for stream in streams):
        raise ValueError("the streams have different engines; push_many runs one engine, so push those apart")
    is_each = isinstance(timestamp_s, (list, tuple)) or isinstance(timestamp_s, np.ndarray) and timestamp_s.ndim > 0
    times_s = list(timestamp_s) if is_each else [timestamp_s] * len(streams)
    if len(times_s) != len(streams):
        raise ValueError(f"{len(times_s)} time stamps for {len(streams)} streams; wanted one, or one each")
    frames = []
    for i, (stream, keypoints, time_s) in enumerate(zip(streams, keypoints_px, times_s)):
        try:
            frames.append(stream._checked(keypoints, time_s))
        except (TypeError, ValueError) as error:
            raise type(error)(f"person {i}: {error}") from None
    return _lift(streams, frames)


def _lift(streams: Sequence[Stream], frames: list[_Frame]) -> list[Pose | None]:
    asking = [i for i, (stream, frame) in enumerate(zip(streams, frames)) if stream._take(*frame)]
    poses: list[Pose | None] = [None] * len(streams)
    if asking:
        windows = [streams[i]._window.keypoints_norm for i in asking]
        batch = windows[0][None] if len(windows) == 1 else np.stack(windows)
        for i, joints_m in zip(asking, streams[asking[0]].engine.run(batch)):
            poses[i] = streams[i]._pose(streams[i]._question(), joints_m)
    return poses


def _without_absent(keypoints: np.ndarray) -> np.ndarray:
    """The keypoints with zeros for those of confidence 0. Raises ValueError if that leaves a broken number."""
    if keypoints.shape[1] == 3:
        keypoints = np.where(keypoints[:, 2:] == 0, 0.0, keypoints)
    is_broken = ~(np.abs(keypoints) <= MOST_PX)
    if is_broken.any():
        row = int(np.flatnonzero(is_broken.any(axis=1))[0])
        raise ValueError(f"keypoint {row} is {keypoints[row].tolist()}; wanted finite pixels within {MOST_PX:g}, "
                         "or confidence 0 if it was not found")
    return keypoints
