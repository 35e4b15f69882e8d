"""The CUDA engine (csrc/cuda/): a plan as one launch of a kernel that stays on the GPU until the pose is there."""

from __future__ import annotations

import os
import threading
import weakref

import numpy as np

from ..enginefile import shapes

_BACKENDS: weakref.WeakSet[Backend] = weakref.WeakSet()
_LEFT_BEHIND: list[object] = []  # in a fork, where CUDA does not work: what is freed there would harm the parent's


def _forget_contexts() -> None:
    for backend in _BACKENDS:
        _LEFT_BEHIND.append((backend._plan, vars(backend._local).copy()))
        backend._is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_contexts)


class Backend:
    """run(x, out) on the current GPU. Every calling thread has its own stream and working memory there."""

    def __init__(self, header: dict, tensors: dict[str, np.ndarray], threads: int, isa: str):
        from .. import _cuda

        if why := _cuda.why_unavailable():
            raise RuntimeError(f"no GPU that it runs on: {why}")
        self._new_context = _cuda.Context
        self._plan = _cuda.Plan(header["plan"], tensors)
        self._local = threading.local()
        self._is_forked = False
        _BACKENDS.add(self)
        x, out = (np.zeros(shape, np.float32) for shape in shapes(header, 1))
        self.run(x, out)  # once now: CUDA loads a kernel at its first launch

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """out (B, J, D) from x (B, T, J, C), both C-contiguous float32. Raises RuntimeError if CUDA fails, or in a
        forked process."""
        if self._is_forked:
            raise RuntimeError(
                "CUDA does not work in a forked process: load the engine there, in a process that was spawned")
        try:
            context = self._local.context
        except AttributeError:
            context = self._local.context = self._new_context(self._plan)
        context.run(x, out)
