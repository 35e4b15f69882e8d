"""The common part of all training runs: options, a trainer's step, the loop with its checkpoints, and what is printed.

What a step draws depends on the seed, the step's number and the process alone, so a run that is stopped and resumed
ends with the same weights as one that is not.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import nn

from .. import zoo
from ..checks import checked_number, first_line
from ..machine import has_bfloat16
from ..zoo.checkpoints import check_metadata, read_tensors, write_tensors


def add_run_arguments(parser: argparse.ArgumentParser, every: int) -> None:
    """The options of every training run. every: the usual steps between two checkpoints."""
    parser.add_argument("--out", required=True, metavar="DIR",
                        help="where the checkpoint goes; one of an earlier run is not written over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--every", type=int, default=every, metavar="N",
                        help=f"steps between two checkpoints (default {every})")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in DIR to --steps")


def check_run_arguments(arguments: argparse.Namespace, *more: str) -> None:
    """Raises ValueError for numbers that no run has. more: other options that are 1 or more where they are set."""
    for option in ("steps", "every", "threads", *more):
        if getattr(arguments, option) is not None:
            checked_number(f"--{option}", getattr(arguments, option), 1, whole=True)
    checked_number("--seed", arguments.seed, 0, 2**31 - 1, whole=True)


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


def reserve(checkpoint: Path, resume: bool) -> None:
    """Makes the folder of a checkpoint before the work, which would be lost. Raises OSError if it cannot, and what
    check_free raises."""
    check_free(checkpoint, resume)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)


def rank() -> int:
    """The number of this process among those that train together; 0 if it is alone."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def processes() -> int:
    """The number of processes that train together; 1 if this one is alone."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


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


class Trainer(ABC):
    """A model in training: what rates() and learn() of a kind of training need, and how many steps are done.

    modules, optimisers: by their names in the state file; the first module is the model, whose moving average is kept.
    averaging: the part of the average that stays in a step. clip_norm: the largest norm of a step's gradients.
    """

    def __init__(self, modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer], steps: int,
                 seed: int, averaging: float, clip_norm: float | None = None,
                 scaler: torch.amp.GradScaler | None = None):
        self.module = next(iter(modules.values()))
        self.averaged = copy.deepcopy(self.module).eval()
        self.modules, self.optimisers = {**modules, "averaged": self.averaged}, dict(optimisers)
        self.steps, self.seed, self.averaging, self.clip_norm, self.done = steps, seed, averaging, clip_norm, 0
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)

    @abstractmethod
    def rates(self) -> dict[str, float]:
        """The learning rate of each optimiser in this step."""

    @abstractmethod
    def learn(self, generator: torch.Generator) -> dict[str, float]:
        """Draws what a step learns from and goes down each loss by descend(); the losses to report."""

    def step(self) -> dict[str, float]:
        """One step; its losses. Raises FloatingPointError if one is no number."""
        for name, rate in self.rates().items():
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate
        generator = step_generator(self.seed, self.done, rank())
        torch.manual_seed(generator.initial_seed())  # for dropout, which draws from torch's own generator
        losses = self.learn(generator)
        average(self.averaged, self.module, self.averaging, self.done)
        self.done += 1
        return losses

    def descend(self, name: str, loss: torch.Tensor) -> None:
        """A step of the optimiser `name` down a loss. Raises FloatingPointError if that is no number."""
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.done}")
        optimiser = self.optimisers[name]
        optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimiser)
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        self.scaler.step(optimiser)
        self.scaler.update()

    def state(self) -> dict[str, torch.Tensor]:
        """Everything a resumed run needs, as tensors: "module.NAME", "optimiser.INDEX.MOMENT", "scaler.NAME"."""
        state = {f"{part}.{name}": tensor for part, module in self.modules.items()
                 for name, tensor in module.state_dict().items()}
        for part, optimiser in self.optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                state |= {f"{part}.{index}.{name}": tensor for name, tensor in moments.items()}
        return state | {f"scaler.{name}": torch.tensor(value, dtype=torch.float64)
                        for name, value in self.scaler.state_dict().items()}

    def restore(self, state: Mapping[str, torch.Tensor], done: int) -> None:
        """Goes on from what state() gave after `done` steps."""
        def part(name: str) -> dict[str, torch.Tensor]:
            return {key[len(name) + 1:]: tensor for key, tensor in state.items() if key.startswith(name + ".")}

        for name, module in self.modules.items():
            module.load_state_dict(part(name))
        for name, optimiser in self.optimisers.items():
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for key, tensor in part(name).items():
                index, _, moment = key.partition(".")
                moments.setdefault(int(index), {})[moment] = tensor
            optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
        scaling = part("scaler")
        self.scaler.load_state_dict({name: type(value)(scaling[name])
                                     for name, value in self.scaler.state_dict().items()})
        self.done = done


@dataclass(frozen=True)
class StepReport:
    """The report of a step. done: of `steps`. losses: its own; means: of the last `every` steps. scores: of the last
    validation, {} before the first. left_s: from the median of the last steps, so that a pause does not count.
    is_kept: a checkpoint was written after it."""

    done: int
    steps: int
    losses: dict[str, float]
    means: dict[str, float]
    scores: dict[str, float]
    left_s: float
    is_kept: bool

    @property
    def left(self) -> str:
        """The time left, h:mm:ss."""
        seconds = int(self.left_s)
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


Report = Callable[[StepReport], None]


def resume_run(trainer: Trainer, checkpoint: Path, identity: Mapping[str, Any]) -> None:
    """Puts a trainer where the run stopped that wrote `checkpoint`.

    identity: what makes it the same run, as it stands in the state's metadata beside `done`. A state that lacks some of
    it, as those that earlier versions wrote do, is refused: nobody can say whether it would end as the uninterrupted
    run.
    Raises FileNotFoundError if there is no state, ValueError, naming its file, if it is of another run or something
    else.
    """
    path = state_file(checkpoint)
    state, metadata = read_tensors(path)
    missing = [key for key in (*identity, "done") if key not in metadata]
    if missing:
        raise ValueError(f"{path}: the metadata lacks {', '.join(missing)}, as an earlier version's "
                         f"does: it cannot be resumed; {checkpoint.name} has the weights")
    other = {key: metadata.get(key) for key in identity if metadata.get(key) != identity[key]}
    if other:
        raise ValueError(f"{path} is of a run with {other}; "
                         f"this one has {({key: identity[key] for key in other})}")
    check_metadata(path, metadata, {"done": int})
    try:
        trainer.restore(state, metadata["done"])
    except (RuntimeError, ValueError, KeyError) as error:  # load_state_dict raises these for other tensors
        raise ValueError(f"{path} does not fit the run: {first_line(error)}") from None


def run(trainer: Trainer, checkpoint: Path, identity: Mapping[str, Any], *, every: int, resume: bool,
        validate: Callable[[], dict[str, float]], save: Callable[[Path, nn.Module, Mapping[str, Any]], None],
        about: Mapping[str, Any], report: Report | None = None) -> Path:
    """Trains until the trainer's steps are done; the path of the checkpoint.

    Every `every` steps and at the end the averaged weights are scored by `validate` and written to the checkpoint by
    `save`, with `about` and the scores as metadata; before it, what is needed to resume goes to a file beside it. So
    whatever stops a run, the disk or a signal, leaves a state to go on from, never a checkpoint without one.
    identity: what makes it the same run when it is resumed. report: called after each step.
    Raises what resume_run raises, and FloatingPointError if a loss is no number.
    """
    if resume:
        resume_run(trainer, checkpoint, identity)

    def keep() -> dict[str, float]:
        scores = validate()
        write_tensors(state_file(checkpoint), trainer.state(), {**identity, "done": trainer.done})
        figures = {name: round(score, 2) for name, score in scores.items()} | {"steps": trainer.done}
        save(checkpoint, trainer.averaged, {**about, "figures": figures})
        return scores

    scores: dict[str, float] = {}
    durations: deque[float] = deque(maxlen=200)
    recent: deque[dict[str, float]] = deque(maxlen=every)
    while trainer.done < trainer.steps:
        began = time.perf_counter()
        losses = trainer.step()
        durations.append(time.perf_counter() - began)
        recent.append(losses)
        is_kept = trainer.done % every == 0 or trainer.done == trainer.steps
        if is_kept and rank() == 0:
            scores = keep()
        if report:
            means = {name: statistics.fmean(step[name] for step in recent) for name in losses}
            left_s = statistics.median(durations) * (trainer.steps - trainer.done)
            report(StepReport(trainer.done, trainer.steps, losses, means, scores, left_s, is_kept))
    if rank() == 0 and not checkpoint.is_file():  # resumed at its end, from its state alone
        keep()
    return checkpoint


def print_run(name: str, steps: int, words: Callable[[StepReport], str], train: Callable[[Report], Path]) -> None:
    """Runs `train` with a progress bar on a terminal, else a line for every checkpoint, and prints the last one's path.

    words: the line's words for a step.
    """
    is_terminal, seen = sys.stdout.isatty(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, disable=not is_terminal or rank() > 0) as progress:
        task = progress.add_task(name, total=steps, words="")

        def report(step: StepReport) -> None:
            nonlocal seen
            seen += 1
            progress.update(task, completed=step.done, words=words(step))
            if step.is_kept and not is_terminal and rank() == 0:
                print(f"step {step.done}/{step.steps}  {words(step)}", flush=True)

        path = train(report)
    if rank() == 0:
        print(path if seen else f"{path}: the run is at step {steps} or later already")
