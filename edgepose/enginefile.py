"""The .epose file: a compiled model with all that running it needs.

A safetensors file. Its tensors are the plan's weights, or one uint8 tensor "payload" (an ONNX graph, a TorchScript
archive, a TensorRT plan; beside the plan "onnx", the graph that it was built from). Its metadata has two entries: "edgepose", the header as JSON, and "sha256", the checksum of header and tensors.

Header: format, model, frames, is_causal (true where the answer is for the newest frame), skeleton, precision, backend, units, rate_hz, weights_sha256 (of the trained weights),
built_with (versions), and for the native and cuda backends plan (csrc/plan.h). For the tensorrt backend: batch, machine (what the plan works on
and nowhere else), rung (how it was built), and where it holds its graph keep_float32 and onnx_sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .checks import read_json
from .skeleton import MODEL_SKELETONS

FORMAT = 1
FASTEST_HZ = 1000  # of the frames that a model was trained on
UNITS = "keypoints: normalised screen, x / w * 2 - 1, y / w * 2 - h / w; pose: metres from the root, camera axes x right y down z forward"
REQUIRED = {"format": int, "model": str, "frames": int, "skeleton": str, "precision": str, "backend": str, "units": str,
            "weights_sha256": str, "built_with": dict}
MOST_WRITERS = 100  # of one file that a writer waits for
OF_TENSORRT = {"batch": int, "machine": dict, "rung": str}


class EngineError(RuntimeError):
    """An engine file cannot be read, does not fit this machine, or its backend is missing. The message says what to do."""


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
    """`path` holds all of `data` afterwards, or what it held before. Raises OSError with the path if it cannot be written."""
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
    """Where a file lies while it is being written: a writer that is killed leaves it there, and the next one takes it over."""
    return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def _open_part(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An empty file for one writer and where it is: part_of(path), locked so that other writers wait; without locks one of its own."""
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
    """Whether the file is locked now; False where the system or the file system has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True


def write(path: Path, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Writes an engine file, atomically. Raises OSError if the disk does not take it."""
    text = json.dumps({"format": FORMAT, "units": UNITS, **header}, sort_keys=True)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_atomically(Path(path), save(contiguous, {"edgepose": text, "sha256": checksum(text, contiguous)}))


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(header, tensors) of an engine file whose checksum holds.

    Raises EngineError, naming the file and what is wrong with it, if it is missing, truncated, damaged, of another kind,
    or written by a newer edgepose.
    """
    path = Path(path)
    if not path.is_file():
        raise EngineError(f"{path}: no such file. Build it with: edgepose compile --model NAME --out {path.parent}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, MemoryError) as error:
        raise EngineError(f"{path}: not an engine file, or damaged ({error})") from error
    if "edgepose" not in metadata or "sha256" not in metadata:
        raise EngineError(f"{path}: a safetensors file, but no engine: it has no edgepose header. "
                          f"A checkpoint becomes an engine with: edgepose compile --model {path}")
    if checksum(metadata["edgepose"], tensors) != metadata["sha256"]:
        raise EngineError(f"{path}: damaged: its contents do not match its checksum. Copy or build it again")
    header = _header(path, metadata["edgepose"])
    return header, tensors


def _header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = read_json(text)
    except ValueError as error:
        raise EngineError(f"{path}: the header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise EngineError(f"{path}: the header is not an object")
    required = REQUIRED | (OF_TENSORRT if header.get("backend") == "tensorrt" else {})
    for key, kind in required.items():
        if not isinstance(header.get(key), kind) or isinstance(header.get(key), bool):
            raise EngineError(f"{path}: the header's {key!r} is {header.get(key)!r}; it needs {kind.__name__}")
    if header["format"] != FORMAT:
        raise EngineError(f"{path}: format {header['format']}; this edgepose reads {FORMAT}. Build the engine again, or "
                          "install the edgepose that wrote it: " + str(header["built_with"].get("edgepose")))
    if header["skeleton"] not in MODEL_SKELETONS:
        raise EngineError(f"{path}: skeleton {header['skeleton']!r}; there are {', '.join(MODEL_SKELETONS)}")
    if not isinstance(header.get("is_causal", False), bool):
        raise EngineError(f"{path}: the header's 'is_causal' is {header['is_causal']!r}; it needs bool")
    rate_hz = header.get("rate_hz")
    if rate_hz is not None and (isinstance(rate_hz, bool) or not isinstance(rate_hz, (int, float)) or not 0 < rate_hz <= FASTEST_HZ):
        raise EngineError(f"{path}: the header's 'rate_hz' is {rate_hz!r}; it needs a number above 0, at most {FASTEST_HZ}")
    if header["backend"] == "tensorrt" and header["batch"] < 1:
        raise EngineError(f"{path}: the header's 'batch' is {header['batch']}; it needs 1 or more")
    if not 1 <= header["frames"] <= 4096:
        raise EngineError(f"{path}: {header['frames']} frames; 1 to 4096 are possible")
    return header
