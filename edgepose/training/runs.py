"""The common part of all training runs: take options of its model, draw from a step's own generator, average the
weights, and be stopped and resumed."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from .. import zoo
from ..checks import first_line
from ..machine import has_bfloat16
from ..zoo.checkpoints import check_metadata, read_tensors, write_tensors


class Resumable(Protocol):
    """A trainer as keep_run() and resume_run() need it. done: its steps."""

    done: int

    def state(self) -> dict[str, torch.Tensor]: ...
    def restore(self, state: Mapping[str, torch.Tensor], done: int) -> None: ...


def add_option_argument(parser: argparse.ArgumentParser) -> None:
    """`--option`, whose words read_options() reads."""
    parser.add_argument("--option", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
                        help="options of the model: is_causal=true channels=64; one that it does not have "
                             "is answered with those it has")


def read_options(model: str, words: Iterable[str]) -> dict[str, Any]:
    """The options of zoo.build in NAME=VALUE words. A value is JSON where it is that, or True or False, else text.

    Raises ValueError for a word without "=", a name that is given twice or that is no option of the model, TypeError
    for a value of another kind than the option's.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, is_pair, text = word.partition("=")
        if not is_pair:
            raise ValueError(f"--option {word!r}: wanted NAME=VALUE")
        if name in options:
            raise ValueError(f"--option {word!r}: {name!r} is given twice")
        try:
            value = json.loads({"True": "true", "False": "false"}.get(text, text))
        except (ValueError, RecursionError):
            value = text
        zoo.check_option(model, name, value)
        options[name] = value
    return options


def option_words(options: Mapping[str, Any]) -> list[str]:
    """The words to type after --option for these options: read_options() reads them."""
    words = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]
    return ["--option", *words] if words else []


def warn_of_emulation(precision: str, device: str) -> None:
    """Warns of a precision that the processor has no instructions for."""
    if precision == "bfloat16" and device == "cpu" and not has_bfloat16():
        warnings.warn("--precision bfloat16: this processor has no instructions for it, and float32 is many "
                      "times faster here", stacklevel=3)


def state_file(checkpoint: Path) -> Path:
    """The file beside a run's checkpoint from which the run is resumed."""
    return checkpoint.with_suffix(".state.safetensors")


def check_free(checkpoint: Path, resume: bool) -> None:
    """Raises ValueError if a run that does not resume would write over the checkpoint, or the state, of an earlier
    one."""
    there = [file for file in (checkpoint, state_file(checkpoint)) if file.exists()]
    if there == [checkpoint]:
        raise ValueError(f"{checkpoint} is there already, of an earlier run that left nothing to resume "
                         "from: another --out keeps it")
    if there and not resume:
        raise ValueError(f"{there[0]} is there already, of an earlier run: --resume goes on with that "
                         "run, another --out keeps it")


def keep_run(trainer: Resumable, checkpoint: Path, run: Mapping[str, Any],
             write_checkpoint: Callable[[], None]) -> None:
    """Writes what it takes to resume, and then the checkpoint: whatever stops a run between the two, the disk or a
    signal, leaves a state to go on from, never a checkpoint without one."""
    write_tensors(state_file(checkpoint), trainer.state(), {**run, "done": trainer.done})
    write_checkpoint()


def resume_run(trainer: Resumable, checkpoint: Path, run: Mapping[str, Any]) -> None:
    """Puts a trainer where the run stopped that wrote `checkpoint`.

    run: what makes it the same run, as it stands in the state's metadata beside `done`. A state that lacks some of it,
    as those that earlier versions wrote do, is refused: nobody can say whether it would end as the uninterrupted run.
    Raises FileNotFoundError if there is no state, ValueError, naming its file, if it is of another run or something
    else.
    """
    path = state_file(checkpoint)
    state, metadata = read_tensors(path)
    missing = [key for key in (*run, "done") if key not in metadata]
    if missing:
        raise ValueError(f"{path}: the metadata lacks {', '.join(missing)}, as an earlier version's "
                         f"does: it cannot be resumed; {checkpoint.name} has the weights")
    other = {key: metadata.get(key) for key in run if metadata.get(key) != run[key]}
    if other:
        raise ValueError(f"{path} is of a run with {other}; this one has {({key: run[key] for key in other})}")
    check_metadata(path, metadata, {"done": int})
    try:
        trainer.restore(state, metadata["done"])
    except (RuntimeError, ValueError, KeyError) as error:  # load_state_dict raises these for other tensors
        raise ValueError(f"{path} does not fit the run: {first_line(error)}") from None


def step_generator(seed: int, step: int, process: int = 0) -> torch.Generator:
    """The generator of one step: what it draws depends on the seed, the step's number and the process alone."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step + process * 0x9E3779B1)


@torch.no_grad()
def average(mean: nn.Module, new: nn.Module, keep: float, done: int) -> None:
    """Moves `mean` towards `new`: an exponential moving average that forgets the first steps faster; counters are
    copied."""
    keep = min(keep, (1 + done) / (10 + done))
    for old, tensor in zip(mean.state_dict().values(), new.state_dict().values()):
        if old.is_floating_point():
            old.lerp_(tensor, 1 - keep)
        else:
            old.copy_(tensor)


def pack(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Everything a resumed run needs, as tensors: the modules' and the optimisers' states under their names."""
    state = {f"{part}.{name}": tensor for part, module in modules.items()
             for name, tensor in module.state_dict().items()}
    for part, optimiser in optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            state |= {f"{part}.{index}.{name}": tensor for name, tensor in moments.items()}
    return state


def unpack(state: Mapping[str, torch.Tensor], modules: Mapping[str, nn.Module],
           optimisers: Mapping[str, torch.optim.Optimizer]) -> None:
    """Puts back what pack() gave."""
    def part(name: str) -> dict[str, torch.Tensor]:
        return {key[len(name) + 1:]: tensor for key, tensor in state.items() if key.startswith(name + ".")}

    for name, module in modules.items():
        module.load_state_dict(part(name))
    for name, optimiser in optimisers.items():
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in part(name).items():
            index, _, moment = key.partition(".")
            moments.setdefault(int(index), {})[moment] = tensor
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
