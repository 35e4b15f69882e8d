"""load() and Engine: one compiled model, immutable, shared by many streams."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import enginefile
from .backends import BACKENDS, STRANGERS, backend
from .checks import installing
from .columns import PUBLISHED_INPUTS, PUBLISHED_OUTPUTS
from .enginefile import BuildNeeded, EngineError
from .shipped import more, shipped
from .skeleton import MODEL_SKELETONS, Skeleton

ENGINES = "weights/*.epose"  # the engines that ship
# For the slowest frame, not the median: with a busy neighbour a second thread waits for time slices.
DEFAULT_THREADS = 1


class Engine:
    """A compiled lifter, ready to run. Made by load(); safe to share between streams and between threads.

    header: the engine file's (edgepose/enginefile.py). path: where it came from. inputs, outputs: the names of the
    columns of what it takes and answers (edgepose/columns.py), C and D of them. state: the floats of what it remembers
    of a person from frame to frame, for step(); 0: it takes windows, and has no step.
    """

    def __init__(self, path: Path, header: dict[str, Any], runner: Any):
        self.path, self.header = path, header
        self.model: str = header["model"]
        self.frames: int = header["frames"]
        self.precision: str = header["precision"]
        self.backend: str = header["backend"]
        self.skeleton: Skeleton = MODEL_SKELETONS[header["skeleton"]]
        self.is_causal: bool = header.get("is_causal", False)  # whether the answer is for the window's newest frame
        self.inputs: tuple[str, ...] = tuple(header.get("inputs", PUBLISHED_INPUTS))
        self.outputs: tuple[str, ...] = tuple(header.get("outputs", PUBLISHED_OUTPUTS))
        # The frames a second that the model was trained on; None: the file does not say.
        self.rate_hz: float | None = header.get("rate_hz")
        self._runner = runner
        self.state: int = getattr(runner, "state", 0)
        self._window = (self.frames, len(self.skeleton), len(self.inputs))
        self._pose = (len(self.skeleton), len(self.outputs))

    @property
    def isa(self) -> str | None:
        """The instruction set whose kernels run, for the native backend; else None."""
        return getattr(self._runner, "isa", None)

    def run(self, keypoints_norm: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The 3D poses of B windows: (B, T, J, C) normalised screen -> (B, J, D) metres from the root, camera axes.

        keypoints_norm: C-contiguous float32. out: written and returned if given, (B, J, D) C-contiguous float32.
        Raises ValueError or TypeError if an array is of another shape or kind; nothing is converted silently.
        """
        _check("keypoints_norm", keypoints_norm, self._window)
        out = self._checked_out(out, len(keypoints_norm))
        self._runner.run(keypoints_norm, out)
        return out

    def _checked_out(self, out: np.ndarray | None, people: int) -> np.ndarray:
        if out is None:
            return np.empty((people, *self._pose), np.float32)
        _check("out", out, self._pose)
        if len(out) != people or not out.flags.writeable:
            raise ValueError(f"out is for {len(out)} poses, writeable {out.flags.writeable}; it needs {people}, "
                             "writeable")
        return out

    def step(self, keypoints_norm: np.ndarray, states: Sequence[np.ndarray],
             out: np.ndarray | None = None) -> np.ndarray:
        """The 3D poses of B people from their newest frames: (B, 1, J, C) -> (B, J, D); states go from frame to frame.

        keypoints_norm, out: as for run(). states: an array for each person, (state,) C-contiguous float32, zeros at
        first, which is advanced. A frame whose column `gap` is 0 begins anew, whatever the state. The answers are those
        of run() on all frames so far, to the bit, as far as the engine's reach of `frames` goes.
        Raises ValueError for an engine without a state or as many states as people are wanted, and what run() raises.
        """
        if not self.state:
            raise ValueError(f"{self.model} takes windows of {self.frames} frames and remembers nothing; wanted run()")
        _check("keypoints_norm", keypoints_norm, (1, *self._window[1:]))
        out = self._checked_out(out, len(keypoints_norm))
        if len(states) != len(keypoints_norm):
            raise ValueError(f"{len(states)} states for {len(keypoints_norm)} people; wanted one each")
        self._runner.step(keypoints_norm, states, out)
        return out

    def __repr__(self) -> str:
        kernels = f", {self.isa}" if self.isa else ""
        options = self.header.get("options") or ({"is_causal": True} if self.is_causal else {})
        more = "".join(f", {option}={value}"
                       for option, value in options.items()) + ", untrained" * (not self.header.get("is_trained", True))
        return (f"Engine({self.model}, {self.frames} frame{'s' * (self.frames > 1)}, "
                f"{self.backend} {self.precision}{kernels}{more})")

    def __reduce__(self) -> object:
        raise TypeError(
            "an Engine holds this process's memory and cannot be pickled; call edgepose.load in each process")


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not array.flags.c_contiguous:
        kind = (f"{array.dtype}, C-contiguous {array.flags.c_contiguous}" if isinstance(array, np.ndarray)
                else type(array).__name__)
        raise TypeError(
            f"{name} is {kind}; it needs a C-contiguous float32 array: np.ascontiguousarray({name}, np.float32)")
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise ValueError(f"{name} has shape {array.shape}; it needs (B, {', '.join(map(str, shape))})")


def load(engine: str | os.PathLike, *, threads: int = DEFAULT_THREADS, cpus: Sequence[int] = (), isa: str | None = None,
         zero_copy: bool = False, trust: bool = False) -> Engine:
    """An engine from a file that `edgepose compile` wrote, or a shipped one by its model's name ("ampose").

    threads: how many work on one call (native: the caller and threads - 1 others, which all engines of the process
    share: while those are at work elsewhere, a call runs on fewer). cpus: the processors that the native engine's
    threads but the caller's are pinned to, one each. isa: the native kernels' instruction set, one of `edgepose
    doctor`'s; without it EDGEPOSE_ISA, else the best of this CPU. zero_copy: a TensorRT engine's GPU works in the
    host's memory, for GPUs that have none of their own. trust: also an engine of another backend than native, whose
    file is a program: it can read and write what you can. Native engines are data, safe to take from strangers.
    Raises EngineError if there is no such engine, its file is damaged or a program and trust is False, its backend is
    not installed, or this machine cannot run it; ValueError if threads is not 1 to 256, or cpus are not whole numbers,
    fewer than threads.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 256:
        raise ValueError(f"threads is {threads!r}; it needs a whole number from 1 to 256")
    cpus = list(cpus) if isinstance(cpus, (Sequence, np.ndarray)) and not isinstance(cpus, str) else [cpus]
    if any(isinstance(cpu, bool) or not isinstance(cpu, (int, np.integer)) for cpu in cpus) or len(cpus) > threads - 1:
        raise ValueError(f"cpus is {cpus}; it needs whole numbers, at most one for each of the {threads - 1} "
                         "threads but the caller's")
    path = _find(engine)
    header, tensors = enginefile.read(path)
    name = header["backend"]
    if name in BACKENDS and name not in STRANGERS and trust is not True:
        raise EngineError(f"{path}: an engine for the {name} backend can do what a program can, also "
                          "read and write your files. If you made it, or trust who did: edgepose.load(path, "
                          "trust=True), --trust in a command. Native engines need no trust")
    forced = os.environ.get("EDGEPOSE_ISA", "") if isa is None else isa
    for option, value, owner in (("isa", isa, "native"), ("cpus", tuple(cpus) or None, "native"),
                                 ("zero_copy", zero_copy or None, "tensorrt")):
        if value is not None and name != owner:
            raise EngineError(f"{path}: {option}={value!r} is for {owner} engines; this one runs on the {name} backend")
    try:
        runner = backend(name)(header, tensors, threads, forced, **({"zero_copy": True} if zero_copy else {}))
        if cpus:
            runner.pin(cpus)
    except ImportError as error:
        how = f" ({installing('gpu')})" if name == "tensorrt" else ""
        raise EngineError(
            f"{path}: the {name} backend needs {BACKENDS[name]}, which is not installed ({error}). Install it{how}, or "
            f"build a native engine: edgepose compile --model {header['model']}") from error
    except BuildNeeded as error:
        again = (f"rebuild {path}" if "onnx" in tensors
                 else f"compile --model {header['model']} --backend {header['rung']}")
        raise EngineError(f"{path}: {error}. Build it again on this machine: edgepose {again}") from error
    except KeyError as error:
        raise EngineError(f"{path}: backend {name!r}, or a part of its file, is unknown to this edgepose ({error}); "
                          f"it has {', '.join(BACKENDS)}") from error
    except Exception as error:  # whatever the backend's library raises for a file it does not take
        asked = f" (isa {forced!r}, from {'EDGEPOSE_ISA' if isa is None else 'the call'})" if forced else ""
        raise EngineError(f"{path}: the {name} backend does not take it{asked}: {error}") from error
    return Engine(path, header, runner)


def _find(engine: str | os.PathLike) -> Path:
    if not isinstance(engine, (str, os.PathLike)):
        raise TypeError(f"engine is {engine!r}; wanted the path of an engine file or the name of a shipped one")
    path = Path(engine)
    if path.suffix == ".epose" or path.is_file():
        return path
    engines = {file.stem.removesuffix("_fp16"): file for file in shipped(ENGINES)}
    if str(engine) in engines:
        return engines[str(engine)]
    raise EngineError(f"{str(engine)!r} is neither an engine file nor a shipped engine; shipped are "
                      f"{', '.join(engines)}{more(ENGINES)}. Others are built with: edgepose compile --model NAME")
