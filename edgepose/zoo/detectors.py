"""Checkpoints of the detectors of zoo.DETECTORS: ours, those that ship, and the authors' weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import torch

from .. import zoo
from ..checks import near
from ..shipped import more, shipped
from .checkpoints import SHIPPED, check_fits, check_metadata, read_tensors, write_tensors
from .published import read_state

FORMAT = "edgepose detector 1"
REQUIRED = {"model": str, "size": list}
SIZES = {"hrnet-w8": (128, 96)}  # height and width where no checkpoint says them
SIZE = (256, 192)
MULTIPLE = 32  # height and width are multiples of it: the coarsest branch has a 32nd of them
STEP_COUNTER = "num_batches_tracked"  # BatchNorm counts its steps; unused, and old files lack it


def save_detector(path: str | Path, module: torch.nn.Module, metadata: Mapping[str, Any],
                  dtype: torch.dtype = torch.float32) -> None:
    """Writes a detector's state with its floating-point tensors as `dtype`.

    metadata: anything JSON can hold; `model`, a name of zoo.DETECTORS, and `size`, height and width of the crops, are
    needed.
    Raises ValueError if one of them is missing.
    """
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise ValueError(f"a detector's metadata needs {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
    state = {name: tensor.to(dtype) for name, tensor in module.state_dict().items() if not name.endswith(STEP_COUNTER)}
    write_tensors(path, state, {"format": FORMAT, **metadata})


def load_detector(name_or_file: str, published: str | Path | None = None, untrained: bool = False
                  ) -> tuple[torch.nn.Module, dict[str, Any]]:
    """(module in evaluation mode, metadata) of a detector.

    name_or_file: a file by save_detector, or a name of zoo.DETECTORS, whose weights are those that ship, those of
    `published`, a .pth file by the authors' code (bare or under "state_dict", names with or without "module."), or with
    `untrained` random.
    Raises ValueError or FileNotFoundError, saying what there is.
    """
    if published and untrained:
        raise ValueError("--published and --untrained exclude each other")
    path = Path(name_or_file)
    if name_or_file in zoo.DETECTORS:
        if untrained or published:
            torch.manual_seed(0)
            module = zoo.build_detector(name_or_file)
            if published:
                state = read_state(published)
                _load_state(module, {name.removeprefix("module."): tensor for name, tensor in state.items()}, published)
            return module.eval(), {"model": name_or_file, "size": SIZES.get(name_or_file, SIZE)}
        checkpoints = {file.stem: file for file in shipped(SHIPPED)}
        if name_or_file not in checkpoints:
            raise FileNotFoundError(f"no weights ship for {name_or_file}{more(SHIPPED)}. Give the authors' with "
                                    "--published FILE.pth, or train some: python -m edgepose.training.heatmaps "
                                    f"--model {name_or_file} --path DIR --out runs")
        path = checkpoints[name_or_file]
    elif not (name_or_file.endswith(".safetensors") or path.is_file()):
        raise ValueError(f"model {name_or_file!r} is neither a .safetensors checkpoint nor one of "
                         f"{', '.join(zoo.DETECTORS)}{near(name_or_file, zoo.DETECTORS)}")
    elif published or untrained:
        kind = "weights by the authors" if published else "random weights"
        raise ValueError(f"{kind} are for {', '.join(zoo.DETECTORS)} by their names, not for {name_or_file}")
    state, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of a detector: its format is "
                         f"{metadata.get('format')!r}, not {FORMAT!r}")
    check_metadata(path, metadata, REQUIRED)
    try:
        module = zoo.build_detector(metadata["model"])
        check_size(metadata["size"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _load_state(module, state, path)
    return module.eval(), {**metadata, "size": tuple(metadata["size"])}


def _load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    wanted = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(STEP_COUNTER)}
    weights = {name: tensor for name, tensor in state.items() if not name.endswith(STEP_COUNTER)}
    check_fits(path, "the detector", wanted, weights)
    module.load_state_dict(weights, strict=False)


def check_size(size: Sequence[int]) -> None:
    """Raises ValueError if crops of this height and width do not go through a detector."""
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 and side % MULTIPLE == 0 for side in size):
        raise ValueError(f"the crops are {'x'.join(map(str, size))}; wanted height and width "
                         f"in multiples of {MULTIPLE}")


def is_detector(model: str) -> bool:
    """True for a name of zoo.DETECTORS or a file by save_detector."""
    if model in zoo.DETECTORS:
        return True
    try:
        return read_tensors(model)[1].get("format") == FORMAT
    except (FileNotFoundError, ValueError):
        return False
