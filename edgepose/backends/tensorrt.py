"""TensorRT on an NVIDIA GPU: a plan of one batch size, built for this machine (build_engines/tensorrt/builder.py).

Frames go through pinned memory and a stream of their own. Where edgepose._cuda is built, a frame is one launch of a
CUDA graph. No torch.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import traceback
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..enginefile import BuildNeeded, EngineError, shapes
from ..gpu import Gpu, check_machine, heard, listener, open_gpu

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which PyCUDA has no name: the default stream does not wait for ours
REPLAY_TOLERANCE_M = 1e-4  # a replay runs the same kernels; an answer to other keypoints is centimetres away

_BACKENDS: weakref.WeakSet[Backend] = weakref.WeakSet()
_LEFT_BEHIND: list[Any] = []  # in a fork: the parent's, never to be freed here


def _leave_behind() -> None:
    for backend in list(_BACKENDS):
        backend._leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_behind)


class Backend:
    """run(x, out) for any number of people: batches of the plan's size, the last one filled up with zeros.

    zero_copy: the GPU reads and writes the host's memory itself, which saves both copies where they share one memory.
    Several threads may call: each finds a lane that is free, or makes one.
    """

    def __init__(self, header: dict, tensors: dict[str, np.ndarray], threads: int, isa: str, zero_copy: bool = False):
        if "payload" not in tensors:
            raise BuildNeeded(
                "it holds a graph and no plan of it yet: it must be built first, on the board that is to run it")
        import tensorrt
        try:
            from .. import _cuda
        except ImportError:
            _cuda = None
            warnings.warn("edgepose._cuda is not built here: TensorRT engines run without CUDA graphs, "
                          "a launch for each kernel", RuntimeWarning, stacklevel=2)
        self._trt, self._extension, self._zero_copy = tensorrt, _cuda, zero_copy
        self._gpu = open_gpu()
        check_machine(header["machine"], self._gpu.machine(tensorrt))
        self._batch = header["batch"]
        x, y = shapes(header, self._batch)
        with self._gpu.current():
            heard(tensorrt)
            self._runtime = tensorrt.Runtime(listener(tensorrt))  # an engine needs the runtime that made it
            self._engine = self._runtime.deserialize_cuda_engine(tensors["payload"].tobytes())
            if self._engine is None:
                raise BuildNeeded(f"TensorRT {tensorrt.__version__} does not take the plan in it ({heard(tensorrt)})")
            mode = tensorrt.TensorIOMode
            self._x = self._tensor(mode.INPUT, x)
            self._y = self._tensor(mode.OUTPUT, y)
            self._lock, self._free_lanes = threading.Lock(), []
            with _freed_if_failed():
                self._free_lanes.append(self._new_lane())
        self._finalizer = weakref.finalize(self, _free, self._gpu, self._free_lanes)
        _BACKENDS.add(self)

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """out (B, J, D) from x (B, T, J, C), both C-contiguous float32.

        Raises EngineError if TensorRT refuses a frame, or in a fork of the process that loaded the engine.
        """
        if self._engine is None:
            raise EngineError("CUDA does not work in a fork of a process that used it: load the engine "
                              "in each process, and start them with multiprocessing's \"spawn\"")
        with self._gpu.current(), _freed_if_failed():
            self._run(x, out)

    def _run(self, x: np.ndarray, out: np.ndarray) -> None:
        lane = self._lane()
        for first in range(0, len(x), self._batch):
            people = min(self._batch, len(x) - first)
            lane.x[:people] = x[first:first + people]
            lane.x[people:] = 0
            lane.run()
            out[first:first + people] = lane.y[:people]
        self._free_lanes.append(lane)  # one that failed does not come back

    def _lane(self) -> _Lane:
        try:
            return self._free_lanes.pop()
        except IndexError:
            with self._lock:
                return self._new_lane()

    def _new_lane(self) -> _Lane:
        lane = _Lane(self._trt, self._gpu.cuda, self._engine, self._x, self._y, self._zero_copy)
        lane.warm_up()
        if self._extension:
            lane.capture(self._extension)
        return lane

    def _tensor(self, mode: Any, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """(name, shape) of the plan's one input or output. Raises EngineError if it is not the header's, or not
        float32."""
        engine = self._engine
        names = [name for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
                 if engine.get_tensor_mode(name) == mode]
        found = [(tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name)) for name in names]
        if found != [(shape, self._trt.float32)]:
            raise EngineError(f"the plan's {mode.name} is {found}; the header says {shape}, float32")
        return names[0], shape

    def _leave_behind(self) -> None:
        self._finalizer.detach()
        _LEFT_BEHIND.append((self._free_lanes, self._engine, self._runtime))
        self._free_lanes, self._engine, self._runtime = [], None, None


@contextlib.contextmanager
def _freed_if_failed() -> Iterator[None]:
    """Frees the lane of a failed call while the context is current: the traceback's ended frames would hold it for
    longer."""
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _free(gpu: Gpu, lanes: list[_Lane]) -> None:
    with gpu.current():  # PyCUDA frees nothing without it on another thread than that which made the context
        lanes.clear()


class _Lane:
    """An execution context with its buffers and its stream, for one thread at a time. x (B, T, J, C) and y (B, J, D):
    the host's side."""

    def __init__(self, trt: Any, cuda: Any, engine: Any, x: tuple[str, tuple[int, ...]], y: tuple[str, tuple[int, ...]],
                 zero_copy: bool):
        self._trt, self._cuda, self._graph, self._zero_copy = trt, cuda, None, zero_copy
        flags = cuda.host_alloc_flags.DEVICEMAP if zero_copy else 0
        self.x, self.y = (cuda.pagelocked_empty(shape, np.float32, mem_flags=flags) for _, shape in (x, y))
        if zero_copy:
            self._device_x, self._device_y = (array.base.get_device_pointer() for array in (self.x, self.y))
        else:
            self._device_x, self._device_y = (cuda.mem_alloc(array.nbytes) for array in (self.x, self.y))
        self._stream = cuda.Stream(NON_BLOCKING)
        self._context = engine.create_execution_context()
        if self._context is None or not (self._context.set_input_shape(*x)
                                         and self._context.set_tensor_address(x[0], int(self._device_x))
                                         and self._context.set_tensor_address(y[0], int(self._device_y))):
            raise EngineError(f"TensorRT makes no context for the plan ({heard(trt)})")

    def run(self) -> None:
        """y of x. Raises EngineError if TensorRT refuses it."""
        if self._graph:
            self._graph.launch(self._stream.handle)
            self._stream.synchronize()
        else:
            self._run_plainly()

    def warm_up(self) -> None:
        """The first call, which a capture must not be."""
        self.x[...] = 0
        self._run_plainly()

    def capture(self, extension: Any) -> None:
        """From now on run() replays a graph; where that cannot be, it goes on without and says so.

        A graph that does not hold the engine's work would repeat the answer before it, so one replay is compared with a
        plain run.
        """
        probe = np.linspace(-0.5, 0.5, self.x.size, dtype=np.float32).reshape(self.x.shape)
        self.x[...] = probe
        self._run_plainly()
        wanted = self.y.copy()
        try:
            with _no_collection():  # one that freed a PyCUDA object would break the capture
                self._graph = extension.capture(self._stream.handle, self._enqueue)
            self.warm_up()
            self.x[...] = probe
            self.run()
            if not np.allclose(self.y, wanted, rtol=0, atol=REPLAY_TOLERANCE_M, equal_nan=True):
                raise RuntimeError("the replay does not answer as the plain run does")
        except (RuntimeError, self._cuda.Error) as error:
            self._graph = None
            warnings.warn(f"no CUDA graph ({error}): the TensorRT engine runs a launch for each kernel",
                          RuntimeWarning, stacklevel=2)

    def _run_plainly(self) -> None:
        is_taken = self._enqueue()
        self._stream.synchronize()  # also where it is refused: a copy may be on its way
        if not is_taken:
            raise EngineError(f"TensorRT refuses the frame ({heard(self._trt)})")

    def _enqueue(self) -> bool:
        """Puts one run on the stream; False if TensorRT refuses it."""
        if self._zero_copy:
            return self._context.execute_async_v3(self._stream.handle)
        self._cuda.memcpy_htod_async(self._device_x, self.x, self._stream)
        is_taken = self._context.execute_async_v3(self._stream.handle)
        if is_taken:
            self._cuda.memcpy_dtoh_async(self.y, self._device_y, self._stream)
        return is_taken
