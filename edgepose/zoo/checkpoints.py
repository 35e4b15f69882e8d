"""Checkpoints: safetensors files (never pickle) with what it takes to build the module again in their metadata."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any, Mapping

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .. import zoo
from ..checks import first_line, listed, near, read_json
from ..enginefile import write_atomically
from ..shipped import more, shipped
from ..skeleton import MODEL_SKELETONS

FORMAT = "edgepose checkpoint 1"
PICKLES = (".pth", ".pt", ".ckpt", ".bin", ".tar")  # what files of torch.save are called
REQUIRED = {"model": str, "frames": int, "skeleton": str, "options": dict}
SHIPPED = "weights/*.safetensors"


def checkpoint_name(model: str, frames: int) -> str:
    """The stem of a model's files: its name, and its frames where they are not the usual ones."""
    return model if model in zoo.MODELS and frames == zoo.MODELS[model].frames[0] else f"{model}{frames}"


def find_checkpoint(model: str, frames: int | None = None) -> Path:
    """The file of `model`: itself if it is one, else the weights that ship under that zoo name.

    Raises ValueError if it is neither a .safetensors file nor a name of the zoo, and FileNotFoundError, saying how to
    train it, if no weights of that name ship.
    """
    if Path(model).suffix in PICKLES:
        raise ValueError(f"{model} is a file of torch.save, not a .safetensors checkpoint of edgepose train; weights "
                         f"that a model's authors published go in by the name of the model and --published {model}")
    if model.endswith(".safetensors") or Path(model).is_file():
        return Path(model)
    if model in zoo.DETECTORS:
        raise ValueError(f"model {model!r} is a detector; wanted a .safetensors checkpoint or one "
                         f"of {', '.join(zoo.MODELS)}")
    if model not in zoo.MODELS:
        raise ValueError(f"model {model!r} is neither a .safetensors checkpoint nor one of "
                         f"{', '.join(zoo.MODELS)}{near(model, zoo.MODELS)}")
    frames = zoo.frames_of(model, frames)
    name, checkpoints = checkpoint_name(model, frames), {file.stem: file for file in shipped(SHIPPED)}
    if name not in checkpoints:
        lifters = ", ".join(known for known in checkpoints if known not in zoo.DETECTORS) or "none"
        raise FileNotFoundError(f"no weights ship for {model} with {frames} frames (shipped: {lifters}"
                                f"{more(SHIPPED)}). Train them: edgepose train --model {model} --frames {frames} "
                                f"--path DIR --out runs; then give --model runs/{name}.safetensors")
    return checkpoints[name]


def write_tensors(path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes a safetensors file in one step: a reader sees the old file or the new one, never a part of it.

    metadata: values are stored as JSON.
    """
    text = {key: json.dumps(value) for key, value in metadata.items()}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(Path(path), save(contiguous, text))


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, metadata) of a file by write_tensors.

    Raises FileNotFoundError if there is none and ValueError if it is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {key: read_json(value) for key, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no edgepose checkpoint: {first_line(error)}") from None


def check_metadata(path: str | Path, metadata: Mapping[str, Any], required: Mapping[str, type]) -> None:
    """Raises ValueError, with the path and the key, if the metadata of a file lacks one of these keys or has something
    else there."""
    missing = [key for key in required if key not in metadata]
    if missing:
        raise ValueError(f"{path}: the metadata lacks {', '.join(missing)}")
    for key, kind in required.items():
        if not isinstance(metadata[key], kind) or isinstance(metadata[key], bool):
            raise ValueError(f"{path}: the metadata's {key!r} is {reprlib.repr(metadata[key])}; wanted {kind.__name__}")


def check_fits(path: str | Path, what: str, wanted: Mapping[str, torch.Tensor],
               tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises ValueError, with the path and what it does not fit, if tensors are missing, not known or of another
    shape."""
    differences = [f"missing {name}" for name in wanted if name not in tensors]
    differences += [f"not known {name}" for name in tensors if name not in wanted]
    differences += [f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
                    for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape]
    if differences:
        raise ValueError(f"{path} does not fit {what}: {listed(differences, '; ')}")


def save_checkpoint(path: str | Path, module: torch.nn.Module, metadata: Mapping[str, Any],
                    dtype: torch.dtype = torch.float32) -> None:
    """Writes the module's state with its floating-point tensors as `dtype`.

    metadata: anything JSON can hold. `model` (a name of zoo.MODELS), `frames`, `skeleton` (its name) and `options`
    (what zoo.build was given beyond those) are needed to build the module again; training adds seed, command, data and
    figures. Raises ValueError if one of the four is missing.
    """
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise ValueError(f"a checkpoint's metadata needs {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor
             for name, tensor in module.state_dict().items()}
    write_tensors(path, state, {"format": FORMAT, **metadata})


def load_checkpoint(path: str | Path, frames: int | None = None) -> tuple[torch.nn.Module, dict[str, Any]]:
    """(module, metadata) of a file by save_checkpoint; the module is in float32 and in evaluation mode.

    frames: the window length it must have; None takes what it has.
    Raises FileNotFoundError if there is none; ValueError if it is something else, names a model this version does not
    build, is of another window length, or its tensors are not the model's (which are missing, not known, or of another
    shape is in the message).
    """
    state, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no edgepose checkpoint: its format is {metadata.get('format')!r}, not {FORMAT!r}")
    check_metadata(path, metadata, REQUIRED)
    if frames not in (None, metadata["frames"]):
        raise ValueError(f"{path} is a model of {metadata['frames']} frame(s), not of {frames}: leave --frames out")
    if metadata["skeleton"] not in MODEL_SKELETONS:
        raise ValueError(f"{path}: unknown skeleton {metadata['skeleton']!r}; there are {', '.join(MODEL_SKELETONS)}")
    skeleton = MODEL_SKELETONS[metadata["skeleton"]]
    try:
        module = zoo.build(metadata["model"], metadata["frames"], skeleton, **metadata["options"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    check_fits(path, f"model {metadata['model']!r}", module.state_dict(), state)
    module.load_state_dict(state)
    return module.eval(), metadata
