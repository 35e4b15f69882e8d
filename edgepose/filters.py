"""Smoothing over time and standing in for joints that are hidden. All times are seconds, never frames."""

from __future__ import annotations

import math

import numpy as np

from .checks import checked_number
from .skeleton import Skeleton


class OneEuro:
    """The One Euro filter: a low-pass whose cutoff rises with speed, so that rest is calm and motion does not lag.

    min_cutoff_hz: the cutoff at rest. beta: by how much the cutoff rises with speed, in Hz per unit of x a second:
    for metres it is 1000 times that for millimetres. d_cutoff_hz: the cutoff of the speed itself.
    Raises ValueError if a cutoff is not positive or beta is negative, TypeError for what is no number.
    Source: Casiez, Roussel, Vogel, CHI 2012. The speed is taken from the last filtered value, as in the authors'
    code since August 2023.
    """

    def __init__(self, min_cutoff_hz: float = 1.0, beta: float = 0.0, d_cutoff_hz: float = 1.0) -> None:
        checked_number("min_cutoff_hz", min_cutoff_hz, above=0)
        checked_number("beta", beta, 0)
        checked_number("d_cutoff_hz", d_cutoff_hz, above=0)
        self.min_cutoff_hz, self.beta, self.d_cutoff_hz = min_cutoff_hz, beta, d_cutoff_hz
        self.reset()

    def reset(self) -> None:
        """Forgets the past: the next value passes unchanged."""
        self._x: np.ndarray | None = None
        self._speed: np.ndarray | None = None
        self._timestamp_s = -math.inf

    def fresh(self) -> OneEuro:
        """A filter with the same settings and no past."""
        return OneEuro(self.min_cutoff_hz, self.beta, self.d_cutoff_hz)

    def __call__(self, x: np.ndarray, timestamp_s: float) -> np.ndarray:
        """The filtered value; every coordinate is filtered on its own.

        x: any shape, the same in every call until `reset`.
        Raises ValueError, and forgets nothing, if the time does not increase or the shape changes.
        """
        x = np.asarray(x, dtype=np.result_type(x, np.float32))
        dt_s = timestamp_s - self._timestamp_s
        if not (dt_s > 0 and math.isfinite(timestamp_s)):
            raise ValueError(f"timestamp_s is {timestamp_s} after {self._timestamp_s}; wanted a later time")
        if self._x is None:
            filtered, speed = x.copy(), np.zeros_like(x)
        elif x.shape != self._x.shape:
            raise ValueError(f"x has shape {x.shape} after {self._x.shape}; reset() the filter between the two")
        else:
            speed = self._speed + _alpha(self.d_cutoff_hz, dt_s) * ((x - self._x) / dt_s - self._speed)
            filtered = self._x + _alpha(self.min_cutoff_hz + self.beta * np.abs(speed), dt_s) * (x - self._x)
        self._x, self._speed, self._timestamp_s = filtered, speed, timestamp_s
        return filtered.copy()


SMOOTH = OneEuro(min_cutoff_hz=1.0, beta=5.0)  # for joints in metres: what the commands' --smooth is


def _alpha(cutoff_hz: np.ndarray | float, dt_s: float) -> np.ndarray | float:
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * dt_s * cutoff_hz))


class Hold:
    """Puts a place on every joint that the detector did not see, frame by frame, for one person.

    A joint is seen from `seen_above` on and stays seen until below `lost_below`. A hidden joint keeps its last good
    offset to its parent, not its last place: the person moves on. After `hold_s` seconds hidden, knees and ankles
    fall back to the parent instead, so that a half-body picture gives short legs rather than wild ones. A joint that
    was never seen sits at its parent. The root has no parent: hidden, it moves as the joints still seen do on average.
    Raises ValueError unless 0 <= lost_below <= seen_above, 0 < seen_above <= 1 and hold_s >= 0, TypeError for what is no number.
    Source: the fall-back of the legs is that of Strided Transformer's demo; the rest is ours.
    """

    def __init__(self, skeleton: Skeleton, seen_above: float = 0.3, lost_below: float = 0.2,
                 hold_s: float = 0.3) -> None:
        checked_number("seen_above", seen_above, above=0, at_most=1)
        checked_number("lost_below", lost_below, 0, seen_above)
        checked_number("hold_s", hold_s, 0, math.inf)
        self.seen_above, self.lost_below, self.hold_s = seen_above, lost_below, hold_s
        self._root = skeleton.root
        self._parents = np.array([j if p == -1 else p for j, p in enumerate(skeleton.parents)])
        self._falls_back = np.array([joint.endswith(("_knee", "_ankle")) for joint in skeleton.joints])
        # Each round of the climb in _fill doubles the bones covered.
        self._climb_rounds = max(skeleton.depths).bit_length()
        self.reset()

    def reset(self) -> None:
        """Forgets the person."""
        joints = len(self._parents)
        self._is_seen = np.zeros(joints, dtype=bool)
        self._was_ever_seen = np.zeros(joints, dtype=bool)
        self._seen_at_s = np.full(joints, -math.inf)
        self._offsets = np.zeros((joints, 2))
        self._last = np.zeros((joints, 2))

    def __call__(self, keypoints: np.ndarray, confidence: np.ndarray,
                 timestamp_s: float) -> tuple[np.ndarray, np.ndarray] | None:
        """The keypoints with every joint in a place, and which of them are seen: (J, 2) and (J,) bool.

        keypoints: (J, 2) in any unit, the same in every call; what a hidden joint holds is not read, it may be NaN.
        confidence: (J,). None if there is nothing to place the body by: no joint is seen, or the root is hidden and
        has never been seen. Such a frame changes nothing.
        """
        is_seen = confidence >= np.where(self._is_seen, self.lost_below, self.seen_above)
        if is_seen.all():
            placed = np.array(keypoints, dtype=np.float64)
            self._offsets = placed - placed[self._parents]
        else:
            placed = self._fill(keypoints, is_seen, timestamp_s)
            if placed is None:
                return None
            is_good = is_seen & is_seen[self._parents]
            self._offsets[is_good] = (placed - placed[self._parents])[is_good]
        self._is_seen, self._last = is_seen, placed
        self._was_ever_seen |= is_seen
        self._seen_at_s[is_seen] = timestamp_s
        return placed.copy(), is_seen.copy()

    def _fill(self, keypoints: np.ndarray, is_seen: np.ndarray, timestamp_s: float) -> np.ndarray | None:
        placed = np.where(is_seen[:, None], keypoints, 0.0)
        if not is_seen[self._root]:
            # A joint that was hidden in the last frame has a guessed last place: it says less about the motion.
            follows = is_seen & self._is_seen
            if not follows.any():
                follows = is_seen
            if not self._was_ever_seen[self._root] or not follows.any():
                return None
            placed[self._root] = self._last[self._root] + (placed[follows] - self._last[follows]).mean(axis=0)
        # A hidden joint is its nearest seen ancestor plus the offsets between. Pointer doubling climbs to it: after
        # round r every joint has looked 2^r bones up.
        is_fallen = self._falls_back & (timestamp_s - self._seen_at_s > self.hold_s)
        climb = np.where((is_seen | is_fallen)[:, None], 0.0, self._offsets)
        climb[self._root] = 0.0
        ancestor = np.where(is_seen, np.arange(len(is_seen)), self._parents)
        for _ in range(self._climb_rounds):
            climb += climb[ancestor]
            ancestor = ancestor[ancestor]
        return placed[ancestor] + climb
