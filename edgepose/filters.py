"""Smoothing over time, as csrc/runtime/filters.h has it. All times are seconds, never frames."""

from __future__ import annotations

import math

import numpy as np

from . import _native
from .checks import checked_number


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
        self._filter: _native.OneEuro32 | _native.OneEuro64 | None = None
        self._last = np.empty(0, np.float32)
        self._timestamp_s = -math.inf

    def fresh(self) -> OneEuro:
        """A filter with the same settings and no past."""
        return OneEuro(self.min_cutoff_hz, self.beta, self.d_cutoff_hz)

    def __call__(self, x: np.ndarray, timestamp_s: float) -> np.ndarray:
        """The filtered value; every coordinate is filtered on its own.

        x: any shape and type, the same in every call until `reset`.
        Raises ValueError, and forgets nothing, if the time does not increase or the shape or type changes.
        """
        x = np.array(x, dtype=np.result_type(x, np.float32), order="C")
        if not (timestamp_s > self._timestamp_s and math.isfinite(timestamp_s)):
            raise ValueError(f"timestamp_s is {timestamp_s} after {self._timestamp_s}; wanted a later time")
        if self._filter is None:
            kind = _native.OneEuro32 if x.dtype == np.float32 else _native.OneEuro64
            self._filter = kind(self.min_cutoff_hz, self.beta, self.d_cutoff_hz, x.size)
        elif (x.shape, x.dtype) != (self._last.shape, self._last.dtype):
            kind = f", {x.dtype} after {self._last.dtype}" * (x.dtype != self._last.dtype)
            raise ValueError(
                f"x has shape {x.shape} after {self._last.shape}{kind}; reset() the filter between the two")
        self._filter.filter(x, timestamp_s)
        self._last, self._timestamp_s = np.broadcast_to(np.zeros((), x.dtype), x.shape), timestamp_s
        return x


SMOOTH = OneEuro(min_cutoff_hz=1.0, beta=5.0)  # for joints in metres: what the commands' --smooth is
