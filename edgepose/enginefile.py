"""The .epose file: a compiled model with all that running it needs.

A safetensors file. Its tensors are the plan's weights, or one uint8 tensor "payload" (an ONNX graph, a TorchScript
archive, a TensorRT plan; beside the plan "onnx", the graph that it was built from). Its metadata has two entries:
"edgepose", the header as JSON, and "sha256", the checksum of header and tensors.

Header: format, model, options (those that the model's name does not say), frames, is_causal (true where the answer is
for the newest frame), inputs and outputs (edgepose/columns.py), skeleton, precision, backend, units, rate_hz,
weights_sha256 (of the trained weights), built_with (versions), quantisation (in eight bits: the scheme of each
product), for the native and cuda backends plan (csrc/plan.h), and for an ONNX graph of one step state (floats a
person). For the tensorrt backend: batch, machine (what the plan works on and nowhere else), rung (how it was built),
and where it holds its graph keep_float32 and onnx_sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .columns import PUBLISHED_INPUTS, PUBLISHED_OUTPUTS
from .skeleton import MODEL_SKELETONS

FORMAT = 3  # earlier ones are read too: 1 places a plan's buffers, 1 and 2 call the other operand a residual
UNITS = ("keypoints: normalised screen, x / w * 2 - 1, y / w * 2 - h / w; pose: metres from the root, "
         "camera axes x right y down z forward")
LEFTOVER_S = 3600.0  # no file takes so long to be written or checked
TYPES = {"<f4": "F32", "<f2": "F16", "|i1": "I8", "|u1": "U8"}  # as numpy and as safetensors name them
MOST_WRITERS = 100  # writers of one file that another waits for


class EngineError(RuntimeError):
    """An engine file cannot be read, does not fit this machine, or its backend is missing. The message says what to do.
    """


class BuildNeeded(EngineError):
    """An engine must be built on this machine: it was built for another one, or never. load() adds how."""


def checksum(header: str, tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 over the header's text and each tensor's name, type, shape and bytes, in the order of their names."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """`path` holds all of `data` afterwards, or what it held before. Raises OSError with the path if it cannot be
    written."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_part(path) as (file, part):
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(part, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(part)
                raise
    except OSError as error:
        raise OSError(error.errno, f"cannot write {len(data)} bytes to {path}: {error.strerror}") from error


def part_of(path: Path) -> Path:
    """Where a file lies while it is being written: a writer that is killed leaves it there, and the next one takes it
    over."""
    return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def _open_part(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An empty file for one writer and where it is: part_of(path), locked so that other writers wait; without locks one
    of its own."""
    part = part_of(path)
    for _ in range(MOST_WRITERS):
        with open(part, "ab") as file:
            if not _lock(file):
                part.unlink(missing_ok=True)
                break
            try:
                is_there = os.path.samestat(os.fstat(file.fileno()), os.stat(part))
            except FileNotFoundError:
                is_there = False
            if is_there:  # else whoever had the lock has given the file its final name
                os.ftruncate(file.fileno(), 0)
                yield file, part
                return
    own = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(own, "wb") as file:
        yield file, own


def _lock(file: BinaryIO) -> bool:
    """True if the file is locked now; False where the system or the file system has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True


def remove_leftovers(folder: Path, *patterns: str) -> None:
    """Removes the files that killed processes left in a folder: those of the patterns that nobody has touched for an
    hour."""
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFTOVER_S:
                path.unlink()


def write(path: Path, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Writes an engine file, atomically. Raises OSError if the disk does not take it, ValueError for a tensor of a type
    that none has."""
    text = json.dumps({"format": FORMAT, "units": UNITS, **header}, sort_keys=True)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_atomically(Path(path), _safetensors(contiguous, {"edgepose": text, "sha256": checksum(text, contiguous)}))


def _safetensors(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    layout, parts, begin = {"__metadata__": metadata}, [], 0
    # The widest first: then all are aligned.
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        tensor = tensors[name]
        if tensor.dtype.str not in TYPES:
            raise ValueError(f"tensor {name} is {tensor.dtype}; an engine file has float32, float16, int8 and uint8")
        layout[name] = {"dtype": TYPES[tensor.dtype.str], "shape": tensor.shape,
                        "data_offsets": (begin, begin + tensor.nbytes)}
        parts.append(tensor.tobytes())
        begin += tensor.nbytes
    text = json.dumps(layout).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(header, tensors) of an engine file whose checksum holds; csrc/runtime/engine_file.cpp reads and checks it.

    Raises EngineError, naming the file and what is wrong with it, if it is missing, truncated, damaged, of another
    kind, or written by a newer edgepose, if a weight of a plan is NaN or infinite, or if edgepose's own extension is
    not built.
    """
    try:
        from . import _native
    except ImportError as error:
        raise EngineError(f"the kernels are not built beside {Path(__file__).parent} ({error}). If this "
                          "is a source tree, run Python elsewhere, or build in it: pip install -e .") from error
    try:
        header, tensors = _native.read_engine(os.fsencode(path))
    except MemoryError as error:
        raise EngineError(f"{path}: there is not enough memory to read it") from error
    known = json.loads(header)
    if not isinstance(known.get("options", {}), dict):
        raise EngineError(f"{path}: the header's 'options' is {known['options']!r}; it needs an object")
    return known, tensors


def shapes(header: dict[str, Any], people: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes that an engine takes, (B, T, J, C), and answers, (B, J, D), for `people`; of one with a state those
    of a step."""
    joints = len(MODEL_SKELETONS[header["skeleton"]])
    inputs, outputs = len(header.get("inputs", PUBLISHED_INPUTS)), len(header.get("outputs", PUBLISHED_OUTPUTS))
    frames = 1 if "state" in header else header["frames"]
    return (people, frames, joints, inputs), (people, joints, outputs)
