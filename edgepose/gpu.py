"""The NVIDIA GPU of this machine: what engines can be built and run on it, and through PyCUDA what a TensorRT engine
depends on.

The context is the primary one, which torch and the CUDA runtime use too: never pycuda.autoinit's own. It is pushed for
each use and popped again, since PyCUDA aborts the process where a thread ends with a context on its stack;
pycuda.autoprimaryctx retains the same context and leaves it there for the thread that imported it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Iterator
from typing import Any

from .checks import first_line
from .enginefile import BuildNeeded, EngineError


def open_gpu() -> Gpu:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves, the same object each time: PyCUDA leaves the primary context
    current on the thread where the last reference to it goes.

    Raises ImportError without PyCUDA, EngineError without a GPU or its driver.
    """
    import pycuda.driver as cuda

    try:
        cuda.init()
        if cuda.Device.count() == 0:
            raise EngineError("CUDA shows no GPU to this process")
        return _gpu_of(cuda)
    except cuda.Error as error:
        raise EngineError(f"CUDA cannot be used: {error}") from error


@functools.cache
def _gpu_of(cuda: Any) -> Gpu:
    return Gpu(cuda)


class Gpu:
    """See open_gpu(). cuda: the module pycuda.driver."""

    def __init__(self, cuda: Any):
        self.cuda = cuda
        self._device = cuda.Device(0)
        self._context = self._device.retain_primary_context()

    @property
    def name(self) -> str:
        """The GPU's name as the driver gives it."""
        return self._device.name()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Within it, what this thread asks of CUDA goes to this GPU's primary context."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def machine(self, trt: Any) -> dict[str, str]:
        """The machine that a plan of the TensorRT library `trt` works on and nowhere else: the "machine" of an engine
        file's header.
        """
        return {"tensorrt": trt.__version__, "compute_capability": "%d.%d" % self._device.compute_capability(),
                "system": platform.system(), "architecture": platform.machine(),
                "cuda": str(self.cuda.get_version()[0])}


def check_machine(built_on: dict[str, str], here: dict[str, str]) -> None:
    """Raises BuildNeeded, with each field that differs and both its values, if a plan for one machine is on another."""
    fields = [*here, *(field for field in built_on if field not in here)]
    differing = [f"{field} {built_on.get(field, 'unknown')} there, {here.get(field, 'unknown')} here"
                 for field in fields if built_on.get(field) != here.get(field)]
    if differing:
        raise BuildNeeded(f"built for another machine ({'; '.join(differing)})")


@functools.cache  # TensorRT keeps the first logger of a process for all its objects
def listener(trt: Any) -> Any:
    """A logger for the TensorRT library `trt` that keeps what it calls an error: see heard()."""
    class Listener(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.Logger.ERROR):
                self.errors.append(message)
    return Listener()


def heard(trt: Any) -> str:
    """The errors since the last call, or that there were none."""
    errors = listener(trt).errors
    said = "; ".join(errors) or "TensorRT gave no reason"
    errors.clear()
    return said


def cuda_missing() -> str:
    """Why cuda engines cannot be built and run here, in a few words; empty if they can."""
    try:
        from . import _cuda
    except ImportError:
        return "edgepose._cuda is not built here: it needs nvcc when edgepose is installed"
    why = _cuda.why_unavailable() or ""
    # CUDA says the same of a missing driver and of an old one.
    return "no NVIDIA driver" if "driver version is insufficient" in why and not _has_driver() else why


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return False
    return True


def tensorrt_missing() -> str:
    """Why TensorRT engines cannot be built and run here, in a few words; empty if they can."""
    try:
        import tensorrt  # noqa: F401
        open_gpu()
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # a library that is there and broken is none of the CPU's business
        return first_line(error)
    return ""
