"""The last T frames of one person on a grid of fixed rate, and which of them the model's answer belongs to."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np

from .checks import checked_number
from .skeleton import Skeleton

# A camera whose frames are further apart than this many grid periods is slower than the grid: its frames are
# interpolated. Below, each grid frame takes the nearest camera frame, so that jitter costs no waiting.
SLOWER = 1.25
SNAP = 0.1             # of a slower camera, a frame this near to a grid point (in periods) stands for it
MAX_JUMP_TORSOS = 0.5  # further in one frame than half a torso is another person
# Frames further apart than this may show a larger jump, in proportion: half a torso in 0.04 s is 6 m/s.
JUMP_FRAME_S = 0.04


class Window:
    """The input of a model that answers for the middle of T frames, or with is_causal for the newest.

    frames: T, odd. skeleton: of the keypoints that will be pushed; gives J and the torso.
    rate_hz: the grid, 50 for all published weights; None makes every pushed frame a grid frame. A window of one
    frame has no spacing and is always so.
    delay_frames: how many grid frames after the middle are real, 0 to (T-1)/2; the last one is repeated for the rest. A causal
    model needs none and takes none. Before the first frame the first is repeated.
    max_gap_s: for how long a missing person's last frame is repeated; a longer gap starts the window over. So does
    a pelvis that jumps by more than half a torso in one frame.
    Raises ValueError if an argument is out of range, TypeError if it is no number.
    """

    def __init__(self, frames: int, skeleton: Skeleton, rate_hz: float | None = 50.0, delay_frames: int = 0,
                 max_gap_s: float = 0.5, is_causal: bool = False) -> None:
        after = 0 if is_causal else checked_number("frames", frames, whole=True) // 2
        if frames < 1 or frames % 2 == 0:
            raise ValueError(f"frames is {frames}; wanted an odd number: the answer is for the middle one")
        if not 0 <= checked_number("delay_frames", delay_frames, whole=True) <= after:
            kind = "a causal window" if is_causal else "a window"
            taken = f"takes 0 to {after}" if after else "has no later ones to wait for: wanted 0"
            raise ValueError(f"delay_frames is {delay_frames}; {kind} of {frames} frame{'s' * (frames > 1)} {taken}")
        if rate_hz is not None:
            checked_number("rate_hz", rate_hz, above=0)
        checked_number("max_gap_s", max_gap_s, 0, math.inf)
        self.frames, self.max_gap_s = frames, max_gap_s
        self._period_s = None if rate_hz is None or frames == 1 else 1.0 / rate_hz
        self.target = frames - 1 - after  # the frame of the window that the answer belongs to
        self._repeats = after - delay_frames
        self._torso = [skeleton.index(joint) for joint in ("pelvis", "thorax", "left_shoulder", "right_shoulder")]
        # The window is the T frames before _end; the last _repeats of them are copies. It slides through a buffer
        # of twice its length and is moved to the front once in T frames, so it is contiguous and never copied out.
        self._buffer = np.zeros((2 * frames, len(skeleton), 2), dtype=np.float32)
        self._last = np.zeros((len(skeleton), 2))
        self._answers: deque[tuple[float, object]] = deque(maxlen=delay_frames + 1)
        self.was_reset = False
        self.reset()

    def reset(self) -> None:
        """Forgets the person."""
        self._grid_frames = 0
        self._is_fresh = True
        self._answers.clear()

    @property
    def is_empty(self) -> bool:
        return self._grid_frames == 0

    @property
    def keypoints_norm(self) -> np.ndarray:
        """The model's input: (T, J, 2) float32, a view that is valid until the next push."""
        return self._buffer[self._end - self.frames:self._end]

    @property
    def timestamp_s(self) -> float:
        """The time of the frame that the model's answer belongs to."""
        return self._answers[0][0]

    @property
    def note(self) -> object:
        """What was pushed along with the frame that the answer belongs to, or with the camera frame nearest to it."""
        return self._answers[0][1]

    def is_continued_by(self, pelvis_norm: np.ndarray | None, timestamp_s: float) -> bool:
        """Whether a frame would be of the same person without too long a gap; any frame is, for an empty window.

        pelvis_norm: (2,), or None if it was not seen: then only the gap is judged.
        """
        if self.is_empty:
            return True
        gap_s = timestamp_s - self._seen_at_s
        if gap_s > self.max_gap_s:
            return False
        if pelvis_norm is None:
            return True
        pelvis, thorax, left, right = self._last[self._torso].tolist()
        jump = math.dist(pelvis, pelvis_norm.tolist())
        # From above, or bent towards the camera, a torso has no length; its width is left.
        torso = max(math.dist(pelvis, thorax), math.dist(left, right))
        return not jump > MAX_JUMP_TORSOS * torso * max(1.0, gap_s / JUMP_FRAME_S)

    def push(self, keypoints_norm: np.ndarray, timestamp_s: float, note: object = None) -> bool:
        """Adds a camera frame; whether there is a new window to answer for.

        keypoints_norm: (J, 2). timestamp_s: later than all before. A frame that does not continue the window starts
        it over; `was_reset` then says so with the first answer, as with the very first.
        False while the first delay_frames come in, and for a frame that no grid point has fallen to.
        """
        if not self.is_continued_by(keypoints_norm[self._torso[0]], timestamp_s):
            self.reset()
        self._seen_at_s = timestamp_s
        return self._advance(keypoints_norm, timestamp_s, note)

    def repeat_last(self, timestamp_s: float, note: object = None) -> bool:
        """The person was not detected: the last frame stands in. Whether there is a new window to answer for.

        Later than max_gap_s after the last real frame the window is emptied.
        """
        if self.is_empty:
            return False
        if timestamp_s - self._seen_at_s > self.max_gap_s:
            self.reset()
            return False
        return self._advance(self._last, timestamp_s, note)

    def flush(self) -> Iterator[None]:
        """The clip has ended: the window stands, in turn, at each frame that has had no answer yet, and is then empty.

        The newest grid frame is repeated for those after it, as an off-line run pads a clip.
        """
        copies = self._answers.maxlen - len(self._answers)
        if not copies:
            self._answers.popleft()  # has been answered
            copies = 1
        while self._answers:
            for _ in range(copies):
                self._slide(self._buffer[self._end - 1].copy())
            copies = 1
            self.was_reset, self._is_fresh = self._is_fresh, False
            yield
            self._answers.popleft()
        self.reset()

    def _advance(self, keypoints_norm: np.ndarray, timestamp_s: float, note: object) -> bool:
        before = self._grid_frames
        if before == 0:
            self._start_s = timestamp_s
            self._buffer[:self.frames] = keypoints_norm
            self._end = self.frames
            self._grid_frames = 1
            self._answers.append((timestamp_s, note))
        elif self._period_s is None:
            self._append(keypoints_norm, timestamp_s, note)
        else:
            self._resample(keypoints_norm, timestamp_s, note)
        self._last[...] = keypoints_norm
        self._last_s, self._last_note = timestamp_s, note
        is_new = self._grid_frames > before and len(self._answers) == self._answers.maxlen
        if is_new:
            self.was_reset, self._is_fresh = self._is_fresh, False
        return is_new

    def _append(self, keypoints_norm: np.ndarray, timestamp_s: float, note: object) -> None:
        self._slide(keypoints_norm)
        self._grid_frames += 1
        self._answers.append((timestamp_s, note))

    def _slide(self, keypoints_norm: np.ndarray) -> None:
        if self._end == len(self._buffer):
            self._buffer[:self.frames - 1] = self._buffer[self._end - self.frames + 1:]
            self._end = self.frames - 1
        self._end += 1
        self._buffer[self._end - 1 - self._repeats:self._end] = keypoints_norm

    def _resample(self, keypoints_norm: np.ndarray, timestamp_s: float, note: object) -> None:
        """Fills the grid points that this camera frame decides."""
        spacing_s = timestamp_s - self._last_s
        is_slower = spacing_s > SLOWER * self._period_s
        # The nearest frame to a grid point is known once no later one can be nearer: half a spacing before it.
        ahead_s = SNAP * self._period_s if is_slower else 0.5 * min(spacing_s, self._period_s)
        while (grid_s := self._start_s + self._grid_frames * self._period_s) <= timestamp_s + ahead_s:
            share = min((grid_s - self._last_s) / spacing_s, 1.0)
            frame, its_note = (keypoints_norm, note) if share >= 0.5 else (self._last, self._last_note)
            if is_slower and share < 1.0:
                frame = self._last + share * (keypoints_norm - self._last)
            self._append(frame, grid_s, its_note)
