"""The native CPU engine (csrc/): a plan of fused kernels, weights packed for this CPU when it is loaded."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .. import _native

_BACKENDS: weakref.WeakSet[Backend] = weakref.WeakSet()


def _forget_contexts() -> None:
    """In a fork: the threads of a context stayed behind in the parent, so the next run makes a new one."""
    for backend in _BACKENDS:
        backend._local = threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_contexts)


class Backend:
    """run(x, out) on the calling thread and up to `threads` - 1 workers of the process. Every calling thread has its
    own working memory.
    """

    def __init__(self, header: dict, tensors: dict[str, np.ndarray], threads: int, isa: str):
        from .. import _native

        self._new_context = _native.Context
        self._plan = _native.Plan(header["plan"], tensors, isa)
        self._threads, self._cpus = threads, []
        self._local = threading.local()
        _BACKENDS.add(self)

    @property
    def isa(self) -> str:
        """The instruction set whose kernels run."""
        return self._plan.isa

    @property
    def state(self) -> int:
        """The floats of what the plan remembers of a person; 0: it takes windows."""
        return self._plan.state

    def pin(self, cpus: Sequence[int]) -> None:
        """Pins the workers to processors. Raises ValueError for one that this process may not use."""
        self._cpus = list(cpus)
        self._local = threading.local()
        self._local.context = self._new_context(self._plan, self._threads, self._cpus)

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """out (B, J, D) from x (B, T, J, C), both C-contiguous float32."""
        self._context().run(x, out)

    def step(self, x: np.ndarray, states: Sequence[np.ndarray], out: np.ndarray) -> None:
        """out (B, J, D) from x (B, 1, J, C), C-contiguous float32, and the states of B people, (state,) float32 each,
        which are advanced."""
        self._context().step(x, out, states)

    def _context(self) -> _native.Context:
        try:
            return self._local.context
        except AttributeError:
            self._local.context = self._new_context(self._plan, self._threads, self._cpus)
            return self._local.context
