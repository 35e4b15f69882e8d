"""Checks that several borders share: numbers, names, files to write, libraries to have. Imports nothing of edgepose."""

from __future__ import annotations

import importlib.util
import json
import numbers
import sys
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

MOST_LISTED = 5  # names in a message
MOST_SAID = 160  # characters of another library's message
PICTURES = (".png", ".pdf", ".svg", ".jpg")
WRITERS = {**dict.fromkeys(PICTURES, ("matplotlib",)),
           ".gif": ("matplotlib", "PIL"), ".mp4": ("matplotlib", "av"), ".rrd": ("rerun",),
           ".c3d": ("ezc3d",)}
LIBRARIES = {  # a library that some option needs, by the module to import: its name, and the extra that installs it
    "matplotlib": ("matplotlib", "plot"), "PIL": ("Pillow", "plot"), "av": ("PyAV", "plot"), "cv2": ("OpenCV", "video"),
    "rerun": ("rerun", "live"), "ray": ("Ray", "ray"), "h5py": ("h5py", "data"), "scipy": ("scipy", "data"),
    "ezc3d": ("ezc3d", "c3d"),
    "websockets": ("websockets", "serve"), "prometheus_client": ("prometheus-client", "serve"),
    "tensorrt": ("TensorRT", "gpu"), "pycuda": ("PyCUDA", "gpu"),
    "torch_tensorrt": ("Torch-TensorRT", "torch-tensorrt"),
    "ncnn": ("ncnn", "peers"), "pnnx": ("pnnx", "peers"), "executorch": ("ExecuTorch", "peers"),
}


def checked_number(name: str, value: Any, at_least: float | None = None, at_most: float = sys.float_info.max, *,
                   above: float | None = None, whole: bool = False) -> Any:
    """`value` as it is. Infinity passes with at_most=math.inf alone.

    Raises TypeError, with the name, if it is no number (whole: no whole one), ValueError if it is NaN or out of range.
    """
    if whole:
        noun, kind = "a whole number", numbers.Integral
    else:
        noun, kind = "a number", numbers.Real
    if above is not None:
        wanted = f"{noun} above {above:g}" + (f", at most {at_most:g}" if at_most < sys.float_info.max else "")
    elif at_least is not None:
        wanted = (f"{at_least:g} or more" if at_most >= sys.float_info.max
                  else f"{noun} from {at_least:g} to {at_most:g}")
    else:
        wanted = noun
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}; wanted {wanted if noun in wanted else f'{noun}, {wanted}'}")
    low = -sys.float_info.max if at_least is None else at_least
    if not low <= value <= at_most or (above is not None and not value > above):
        raise ValueError(f"{name} is {value}; wanted {wanted}")
    return value


def listed(names: Iterable[Any], separator: str = ", ", most: int = MOST_LISTED) -> str:
    """The first names, and how many more there are."""
    names = [str(name) for name in names]
    more = len(names) - most
    return separator.join(names[:most]) + (f"{separator}and {more} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """The first line of a library's error, at most MOST_SAID characters; the name of its class if the line is empty."""
    line = str(error).strip().partition("\n")[0]
    return (line if len(line) <= MOST_SAID else line[:MOST_SAID] + " ...") or type(error).__name__


def near(name: Any, known: Collection[str]) -> str:
    """"; did you mean ...?" where a known name is spelt much like this one, else nothing."""
    close = get_close_matches(str(name), known, n=3, cutoff=0.8)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text from an outside file. Raises ValueError if it is none, nested too deeply, or has text
    that is no Unicode."""
    try:
        value = json.loads(text)
        # Half a surrogate pair could be neither printed nor written.
        if (b"\\u" if isinstance(text, bytes) else "\\u") in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def check_output(path: Path | str | None, suffixes: tuple[str, ...]) -> None:
    """Checks, before any work is done, that a result can be written to `path`; None is no result.

    Raises ValueError if it cannot be written, and ImportError, naming the extra, without the libraries that write such
    a file."""
    if path is None:
        return
    path = Path(path)
    if path.suffix not in suffixes:
        raise ValueError(f"{path}: wanted a name that ends in {', '.join(suffixes)}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.absolute().parent}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; wanted a file's name")
    for module in WRITERS.get(path.suffix, ()):
        need_library(module, f"writing {path}")


def installing(extra: str) -> str:
    """The command that installs an extra. A board has its GPU's libraries from its system."""
    on_board = ("; on a Jetson the system's package, in a virtual environment with --system-site-packages "
                "(docs/jetson.md)")
    return f"pip install 'edgepose[{extra}]'" + on_board * (extra in ("gpu", "torch-tensorrt"))


def need_library(module: str, purpose: str) -> None:
    """Raises ImportError, naming the extra that installs it, if a library of LIBRARIES is not there; it is not
    imported."""
    is_there = (sys.modules[module] is not None if module in sys.modules
                else importlib.util.find_spec(module) is not None)
    if not is_there:
        name, extra = LIBRARIES[module]
        raise ImportError(f"{purpose} needs {name}, which is not installed: {installing(extra)}")
