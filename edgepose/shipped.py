"""Weights and clips that ship with edgepose. An installation from source has all of it; a wheel of edgepose has the
default engine and the real clips, and leaves the rest to the wheels edgepose-weights and edgepose-checkpoints."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
WEIGHTS = HERE / "weights"
IN_THE_RUNTIME = ("weights/ampose_fp16.epose", "weights/ampose.md", "clips/README.md", "clips/balance_cam1.npz",
                  "clips/balance_cam2.npz", "clips/balance_cam3.npz")


def wheel_of(name: str) -> str:
    """The wheel that has a file that ships: "weights/ampose.md" -> "edgepose"."""
    if name in IN_THE_RUNTIME:
        return "edgepose"
    return "edgepose-checkpoints" if name.startswith("clips/") or name.endswith(".safetensors") else "edgepose-weights"


def shipped(pattern: str) -> list[Path]:
    """The installed files of a pattern, as "weights/*.epose", in the order of their names."""
    return sorted((path for folder in _folders() for path in folder.glob(pattern)), key=lambda path: path.name)


def shipped_file(name: str) -> Path:
    """The path of a file that ships, as "clips/evaluation.npz".

    Raises FileNotFoundError, naming the wheel that has it, if it is not installed.
    """
    for path in shipped(name):
        return path
    raise FileNotFoundError(f"{name} is not installed{_how_to_install(wheel_of(name))}")


def more(pattern: str) -> str:
    """For a message that lists the installed files of a pattern: what would install the others, if there are any."""
    names = [f"{path.parent.name}/{path.name}" for path in shipped(pattern)]
    wheel = wheel_of(pattern)
    return "" if wheel in map(wheel_of, names) else f"; more of them{_how_to_install(wheel)}"


def _how_to_install(wheel: str) -> str:
    return f" are in the wheel {wheel}: pip install {wheel}"


def _folders() -> list[Path]:
    specs = [find_spec(package) for package in ("edgepose_weights", "edgepose_checkpoints")]
    return [HERE, *(Path(place) for spec in specs if spec for place in spec.submodule_search_locations or ())]
