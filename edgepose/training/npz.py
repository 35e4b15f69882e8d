"""The .npz files in which data sets are passed on: arrays, and dicts of dicts of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..npz import read_npz, unpickled_arrays


def load_npz(path: Path, *keys: str) -> list[Any]:
    """The values under these keys of an .npz file, in their order; one that holds a dict, as VideoPose3D's do, as a
    dict.

    Raises ValueError, naming the file and the key, if the file is missing or damaged, has no such key, or holds
    anything but numbers, text and containers of them.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    values = read_npz(path, keys, unpickled_arrays)
    for key in keys:
        if key not in values:
            raise ValueError(f"{path}: it has no key {key!r}; it has {', '.join(values)}")
    return [values[key] for key in keys]


def entries(table: Any, source: str) -> dict[str, Any]:
    """The table as it is, its keys as text. Raises ValueError, naming the source, if it is no dict."""
    if not isinstance(table, dict):
        raise ValueError(f"{source} is {type(table).__name__}; wanted a dict")
    return {str(key): value for key, value in table.items()}


def entry(table: Any, key: str, source: str) -> Any:
    """table[key]. Raises ValueError, naming the source, the key and what there is, if there is none."""
    table = entries(table, source)
    if key not in table:
        raise ValueError(f"{source} has no {key!r}; it has {', '.join(table) or 'nothing'}")
    return table[key]


def views(value: Any, cameras: Sequence[str], source: str) -> Sequence[Any]:
    """The entry of each camera. Raises ValueError, naming the source and the cameras, if it is no list of as many."""
    if not isinstance(value, (list, tuple, np.ndarray)) or getattr(value, "shape", None) == ():
        raise ValueError(f"{source} is {type(value).__name__}; wanted a list of {len(cameras)} "
                         f"cameras: {', '.join(cameras)}")
    if len(value) != len(cameras):
        raise ValueError(f"{source} has {len(value)} cameras; wanted {len(cameras)}: {', '.join(cameras)}")
    return value


def points(value: Any, joints: Sequence[int], last: Sequence[int], source: str, why: str = "") -> np.ndarray:
    """(F, one of `joints`, one of `last`) numbers. Raises ValueError, naming the source and what came, if it is
    something else."""
    wanted = " or ".join(f"(F, {count}, {' or '.join(map(str, last))})" for count in joints) + why
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{source} is a {type(value).__name__} that makes no array; wanted {wanted}") from None
    if array.ndim != 3 or array.shape[1] not in joints or array.shape[2] not in last:
        raise ValueError(f"{source} has shape {array.shape}; wanted {wanted}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{source} holds {array.dtype}; wanted numbers, {wanted}")
    return array
