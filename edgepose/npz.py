"""The one reader of .npz files: whatever is wrong with one is a ValueError that names the file."""

from __future__ import annotations

import math
import pickle
import tokenize
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

BLOCK_BYTES = 1 << 20  # bytes a read: what an array turns out to hold is counted before more is taken
SMALL_BYTES = 64 << 20  # what any array may hold
# Times that a larger one may have shrunk: motion and keypoints shrink to a half, zeros to a thousandth.
MOST_SHRUNK = 200
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, names: Collection[str] | None = None,
             read_objects: Callable[[BinaryIO], Any] | None = None) -> dict[str, Any]:
    """The arrays of an .npz file by name, None for what is not in `names`; without them all is read.

    read_objects: reads an array of Python objects; without it there may be none among `names`.
    The size of an array is checked before memory is taken for it.
    Raises ValueError, naming the file, if it is missing, something else, damaged, or too large for the memory.
    """
    try:
        with open(path, "rb") as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                shape = np.load(path, mmap_mode="r").shape
                raise ValueError(f"it is one array of shape {shape}, an .npy file; write it with "
                                 "np.savez(FILE, keypoints=...)")
        if not zipfile.is_zipfile(path):
            raise ValueError("it is cut off, of another format, or holds Python objects")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            size = path.stat().st_size
            return {name: _read(archive, info, size, read_objects) if names is None or name in names else None
                    for name, info in members.items()}
    except MemoryError as error:
        raise ValueError(f"{path} is no .npz file of arrays that fits into memory") from error
    except Exception as error:  # zipfile, zlib, numpy's and pickle's parsers raise some twenty kinds for damaged bytes
        raise ValueError(f"{path} is no .npz file of arrays ({error or type(error).__name__})") from error


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file_bytes: int,
          read_objects: Callable[[BinaryIO], Any] | None) -> Any:
    """One array. Raises whatever its bytes make the parsers raise."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is packed in a way that np.savez and np.savez_compressed do not write")
    if info.file_size > max(SMALL_BYTES, MOST_SHRUNK * min(info.compress_size, file_bytes)):
        raise ValueError(f"{info.filename} would unfold from {info.compress_size} bytes to {info.file_size}, "
                         "which no recording does")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in READERS:
            raise ValueError(f"{info.filename} is of version {version} of numpy's format; wanted numbers or text")
        shape, is_fortran, dtype = _header(stream, version)
        if dtype.hasobject:
            if read_objects is None:
                raise ValueError(f"{info.filename} holds Python objects")
            return read_objects(stream)
        wanted = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or wanted != info.file_size - stream.tell():
            raise ValueError(f"{info.filename} says shape {shape} of {dtype} and has {info.file_size - stream.tell()} "
                             f"bytes; wanted {wanted}")
        data = bytearray()
        while block := stream.read(BLOCK_BYTES):
            data += block
        if len(data) != wanted:
            raise ValueError(f"{info.filename} ends after {len(data)} of {wanted} bytes")
        array = np.frombuffer(data, dtype) if dtype.itemsize else np.zeros(math.prod(shape), dtype)
        return array.reshape(shape, order="F" if is_fortran else "C")


def _header(stream: BinaryIO, version: tuple[int, int]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether the first axis runs fastest, dtype). Raises ValueError for a damaged header, nested too deeply
    too."""
    try:
        return READERS[version](stream)
    except (MemoryError, RecursionError, SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"its header is damaged: {type(error).__name__}") from error


class _ArraysOnly(pickle.Unpickler):
    """Takes numpy arrays and plain containers out of a pickle and nothing else, so that a data file cannot run code."""

    ALLOWED = {("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"),
               ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("collections", "OrderedDict")}

    def find_class(self, module: str, name: str) -> Any:
        part = module.rpartition(".")[2] if module.startswith(("numpy.core.", "numpy._core.")) else module
        if (part, name) not in self.ALLOWED:
            raise ValueError(f"it holds a {module}.{name}; wanted arrays, dicts and lists of numbers and text only")
        return super().find_class(module.replace("numpy.core.", "numpy._core.") if hasattr(np, "_core") else module,
                                  name)


def unpickled_arrays(stream: BinaryIO) -> Any:
    """The arrays, and lists and dicts of arrays, of an array of Python objects, for read_npz. Raises ValueError for
    others."""
    value = _ArraysOnly(stream, encoding="latin1").load()  # as numpy does for files of Python 2
    return value.item() if isinstance(value, np.ndarray) and value.shape == () else value
