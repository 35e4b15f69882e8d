"""Supervised training on windows that are drawn anew for every step (`sources`).

The loss is in `losses`, the schedule in `schedules`, the loop in `runs`. A run may be lengthened: `--resume` with more
steps goes back to the constant rate. Several GPUs: `torchrun --nproc-per-node N -m edgepose train ...`; each draws a
batch of its own.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import zoo
from ..checks import checked_number, listed
from ..columns import INPUTS, inputs_of
from ..skeleton import H36M17
from ..zoo.checkpoints import checkpoint_name, load_checkpoint, read_tensors, save_checkpoint
from .losses import Objective
from .runs import (Report, StepReport, Trainer, add_option_argument, add_run_arguments, check_free, check_run_arguments,
                   option_words, print_run, processes, read_options, reserve, run, step_generator, warn_of_emulation)
from .schedules import OURS, RECIPES, Schedule, schedule_of
from .sources import SOURCES, Source, open_source

STEPS = 40_000  # without --steps or --minutes
BATCH = 128  # windows of one frame; AMPose, section 4.2
BATCH_FRAMES = 1728  # a batch of longer windows has about so many frames, and at least LEAST_BATCH windows
LEAST_BATCH = 8
CLIP_NORM = 1.0
AVERAGING = 0.999  # the share of the averaged weights that stays in a step
VALIDATION_WINDOWS = 1024
VALIDATION_BATCH = 64
STATISTICS_WINDOWS = 20_000  # for models that standardise their input and output
PROBE_STEPS = 20  # timed, to find the steps that a budget of minutes buys
PRECISIONS = ("float32", "bfloat16", "float16")


def batch_size(frames: int) -> int:
    """The windows of one step."""
    return max(LEAST_BATCH, min(BATCH, BATCH_FRAMES // frames))


def begin_with(module: nn.Module, checkpoint: str | Path) -> None:
    """Takes over the weights of a checkpoint, all of which the module must have: ampose's for ampose-refined, say.

    Raises ValueError, naming the tensors that the module does not have or has in another shape.
    """
    state, own = read_tensors(checkpoint)[0], module.state_dict()
    foreign = [name for name, tensor in state.items() if name not in own or own[name].shape != tensor.shape]
    if foreign:
        raise ValueError(f"{checkpoint} does not fit: the model has no {listed(foreign)} of that shape")
    module.load_state_dict(state, strict=False)


def freeze(module: nn.Module, parts: Iterable[str]) -> None:
    """Keeps the weights of these parts of a module as they are.

    Raises ValueError for a part that it does not have, listing those it has.
    """
    known = [name for name, _ in module.named_children()]
    for part in parts:
        if part not in known:
            raise ValueError(f"the model has no part {part!r} to freeze; it has {', '.join(known)}")
        getattr(module, part).requires_grad_(False)


class Teacher:
    """A trained lifter whose poses another one learns from as well: of one frame, or of as many as the other.

    Raises ValueError if its windows have another length.
    """

    def __init__(self, checkpoint: str | Path, frames: int, target: int, device: str = "cpu"):
        self.module, _ = load_checkpoint(checkpoint)
        if self.module.frames not in (1, frames):
            raise ValueError(f"--teacher {checkpoint} is a model of {self.module.frames} frames; wanted 1 or {frames}")
        self.module.to(device)
        self.inputs = inputs_of(self.module)
        self._seen = slice(target, target + 1) if self.module.frames == 1 else slice(None)

    @torch.no_grad()
    def __call__(self, keypoints: torch.Tensor) -> torch.Tensor:
        """Its poses, (B, J, 3) m, of windows with its columns, (B, T, J, C)."""
        return self.module(keypoints[:, self._seen])[..., :3]


class LifterTrainer(Trainer):
    """A lifter in training. source: has the columns that the model and its teacher take, or more."""

    def __init__(self, model: str, frames: int, source: Source, steps: int, seed: int, precision: str = "float32",
                 compiled: bool = False, device: str = "cpu", start: str | Path | None = None,
                 options: Mapping[str, Any] = {},
                 batch: int | None = None, schedule: Schedule = OURS, teacher: Teacher | None = None,
                 frozen: Iterable[str] = ()):
        torch.manual_seed(seed)
        module = zoo.build(model, frames, **options)
        self.source, self.precision, self.device, self.teacher = source, precision, device, teacher
        self.schedule, self.batch = schedule, batch or schedule.batch or batch_size(frames)
        self.an_epoch = math.ceil(source.windows / self.batch) if source.windows else steps
        if hasattr(module, "standardise"):
            keypoints, joints = source.draw(STATISTICS_WINDOWS // frames, step_generator(seed, -2))
            module.standardise(self.own(keypoints, module), joints[:, zoo.target_frame(module)])
        if start:
            begin_with(module, start)
        freeze(module, frozen)
        module.to(device)
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        super().__init__({"module": module}, {"optimiser": schedule.optimiser(learning)}, steps, seed,
                         AVERAGING if schedule.averages else 0.0, CLIP_NORM,
                         torch.amp.GradScaler(device, enabled=precision == "float16"))
        self.objective = Objective(module, schedule.loss).to(device)
        if torch.distributed.is_initialized():
            self.objective = nn.parallel.DistributedDataParallel(self.objective)
        if compiled:
            self.objective = torch.compile(self.objective)

    def own(self, keypoints: torch.Tensor, lifter: nn.Module | Teacher) -> torch.Tensor:
        """The columns that a lifter takes of the source's: (..., C) -> (..., C')."""
        wanted = inputs_of(lifter)
        return keypoints if wanted == tuple(
            self.source.inputs) else keypoints[..., [self.source.inputs.index(name) for name in wanted]]

    def rates(self) -> dict[str, float]:
        return {"optimiser": self.schedule.rate(self.done, self.steps, self.an_epoch)}

    def learn(self, generator: torch.Generator) -> dict[str, float]:
        """A step on one batch: the answers' mean joint distance, "loss", in mm."""
        keypoints, joints = self.source.draw(self.batch, generator)
        keypoints, joints = keypoints.to(self.device), joints.to(self.device)
        half = torch.float16 if self.precision == "float16" else torch.bfloat16
        with torch.autocast(self.device, half, enabled=self.precision != "float32"):
            taught = self.teacher(self.own(keypoints, self.teacher)).float() if self.teacher else None
            loss, distance = self.objective(self.own(keypoints, self.module), joints, taught)
        self.descend("optimiser", loss)
        return {"loss": 1000 * distance.item()}

    @torch.no_grad()
    def validate(self, keypoints: torch.Tensor, target_m: torch.Tensor) -> dict[str, float]:
        """MPJPE of the averaged weights, in mm: (N, T, J, 2), (N, J, 3)."""
        chunks = self.own(keypoints, self.module).split(VALIDATION_BATCH)
        poses = torch.cat([self.averaged(chunk.to(self.device)).cpu() for chunk in chunks])
        return {"validation_mpjpe_mm": 1000 * (poses[..., :3] - target_m).norm(dim=-1).mean().item()}


def checkpoint_file(out: str | Path, model: str, frames: int | None) -> Path:
    """Where the checkpoint of a run goes. Raises ValueError for an unknown model or frame count."""
    return Path(out) / f"{checkpoint_name(model, zoo.frames_of(model, frames))}.safetensors"


def open_setup(model: str, path: str | Path, data: str, keypoints: str, frames: int, options: Mapping[str, Any],
               device: str, teacher: str | Path | None) -> tuple[Source, Teacher | None]:
    """(the source of windows for a model and its teacher, that teacher)."""
    untrained = zoo.build(model, frames, **options)
    answered = zoo.target_frame(untrained)
    if teacher and hasattr(untrained, "sequence"):
        raise ValueError(f"--teacher answers for one frame of a window, {model} for all of them: leave it out")
    taught_by = Teacher(teacher, frames, answered, device) if teacher else None
    wanted = {*inputs_of(untrained), *(inputs_of(taught_by) if taught_by else ())}
    return open_source(data, path, keypoints, frames, answered, [name for name in INPUTS if name in wanted]), taught_by


def train(model: str, path: str | Path, out: str | Path, steps: int, *, data: str = "mocap", keypoints: str = "gt",
          frames: int | None = None, options: Mapping[str, Any] = {}, seed: int = 0, precision: str = "float32",
          compiled: bool = False, device: str = "cpu", every: int = 500, batch: int | None = None, recipe: str = "ours",
          resume: bool = False, start: str | Path | None = None, teacher: str | Path | None = None,
          frozen: Sequence[str] = (), command: str = "", report: Report | None = None) -> Path:
    """Trains a model of the zoo and returns the path of its checkpoint, OUT/<name>.safetensors.

    data, path: one of SOURCES and where it lies; keypoints: which 2D of a labelled data set. options: of the model, as
    zoo.build takes them. Every `every` steps and at the end the averaged weights are scored on windows of other
    subjects and written to the checkpoint, and what is needed to resume to a file beside it.
    recipe: one of RECIPES. teacher: a checkpoint whose poses are half of what the model learns, see `Objective`.
    start: a checkpoint whose weights the model begins with, as begin_with does. frozen: parts of the model that stay as
    they are. resume: go on from that file; another
    number of steps stretches the rest of the schedule. report: called after each step; its loss is the mean joint
    distance in mm.
    Raises ValueError for an unknown model, option, frame count, precision or source, a state of another run, or a
    checkpoint that is there already and not resumed; TypeError for an option of another kind; FileNotFoundError if
    there is nothing to resume or to start from.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    frames = zoo.frames_of(model, frames)
    file = checkpoint_file(out, model, frames)
    schedule = schedule_of(recipe, model)
    zoo.build(model, frames, **options)  # what cannot be built is refused before anything is written
    reserve(file, resume)
    source, taught_by = open_setup(model, path, data, keypoints, frames, options, device, teacher)
    trainer = LifterTrainer(model, frames, source, steps, seed, precision, compiled, device,
                            start, options, batch, schedule, taught_by, frozen)
    seen, joints = source.validation(VALIDATION_WINDOWS, step_generator(seed, -1))
    target = joints[:, zoo.target_frame(trainer.module)]
    identity = {"model": model, "frames": frames, "options": dict(options), "seed": seed, "data": data,
                "keypoints": keypoints,
                "precision": precision, "processes": processes(), "batch": trainer.batch, "recipe": recipe}
    if teacher:
        identity["teacher"] = Path(teacher).name
    if frozen:
        identity["frozen"] = list(frozen)
    about = {"model": model, "frames": frames, "skeleton": H36M17.name, "options": dict(options), "seed": seed,
             "command": command, "data": source.credit, "rate_hz": source.rate_hz}
    return run(trainer, file, identity, every=every, resume=resume, validate=lambda: trainer.validate(seen, target),
               save=save_checkpoint, about=about, report=report)


def usual_steps(model: str, path: str | Path, *, recipe: str = "ours", batch: int | None = None, data: str = "mocap",
                keypoints: str = "gt", frames: int | None = None, options: Mapping[str, Any] = {}, device: str = "cpu",
                teacher: str | Path | None = None, **_: Any) -> int:
    """The steps of a run without --steps or --minutes: STEPS, or a paper's epochs.

    Raises ValueError for a paper's epochs of motion capture, which has none.
    """
    schedule = schedule_of(recipe, model)
    if schedule.epochs is None:
        return STEPS
    source, _ = open_setup(model, path, data, keypoints, zoo.frames_of(model, frames), options, device, teacher)
    if not source.windows:
        raise ValueError(
            "a paper's recipe counts in epochs of its data set, and motion capture has none: --data h36m, or --steps N")
    return schedule.epochs * math.ceil(source.windows / (batch or schedule.batch))


def affordable_steps(minutes: float, model: str, path: str | Path, *, data: str = "mocap", keypoints: str = "gt",
                     frames: int | None = None, options: Mapping[str, Any] = {}, recipe: str = "ours",
                     teacher: str | Path | None = None, **setup: Any) -> int:
    """The number of steps of this model that take about `minutes` of this machine, from PROBE_STEPS that are thrown
    away.

    On a CPU it is processor time that counts, so that a busy neighbour does not change the budget. Of several processes
    all get the first one's number: they must stop at the same step.
    """
    clock = time.process_time if setup.get("device", "cpu") == "cpu" else time.perf_counter
    frames = zoo.frames_of(model, frames)
    source, taught_by = open_setup(model, path, data, keypoints, frames, options, setup.get("device", "cpu"), teacher)
    trainer = LifterTrainer(model, frames, source, PROBE_STEPS + 1, 0, options=options,
                            schedule=schedule_of(recipe, model), teacher=taught_by, **setup)
    durations = []
    for _ in range(PROBE_STEPS):
        began = clock()
        trainer.step()
        durations.append(clock() - began)
    steps = torch.tensor(max(1, round(60 * minutes / statistics.median(durations))), device=trainer.device)
    if torch.distributed.is_initialized():
        torch.distributed.broadcast(steps, 0)
    return int(steps)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose train`."""
    parser.add_argument("--model", default="ampose", choices=zoo.MODELS, metavar="NAME",
                        help="a model of the zoo (default ampose)")
    parser.add_argument("--frames", type=int, metavar="T", help="window length (default: the model's usual one)")
    add_option_argument(parser)
    parser.add_argument("--data", default="mocap", choices=SOURCES,
                        help="what to train on (default: mocap, one .npz a subject)")
    parser.add_argument("--path", required=True, metavar="DIR", help="where that lies")
    add_run_arguments(parser, every=500)
    parser.add_argument("--keypoints", default="gt", metavar="KIND",
                        help="which 2D of a labelled data set: gt, cpn (h36m), ... (default gt)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, metavar="N",
                        help=f"of one batch each (default {STEPS}, or a paper's epochs)")
    budget.add_argument("--minutes", type=float, metavar="M",
                        help="as many steps as take about M minutes here (of processor time)")
    parser.add_argument("--batch", type=int, metavar="N",
                        help="windows of a step (default: 128 of one frame, fewer longer ones)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu",
                        help="default: a GPU if there is one")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS, help="of the matrix products")
    parser.add_argument("--compile", action="store_true", help="compile the model first (needs a C++ compiler)")
    parser.add_argument("--start", metavar="FILE",
                        help="a checkpoint whose weights to begin with (ampose's for ampose-refined)")
    parser.add_argument("--freeze", nargs="+", default=[], metavar="PART",
                        help="parts of the model that stay as they begin; one that it does not have is answered with "
                             "those it has")
    parser.add_argument("--teacher", metavar="FILE",
                        help="a checkpoint of one frame, or of as many, whose poses to learn from as well")
    parser.add_argument("--recipe", default="ours", choices=RECIPES,
                        help="paper: the optimiser, batch and epochs of the model's authors")


def _command(args: argparse.Namespace) -> str:
    """The command that gives the same weights; the folders are the reader's own."""
    program = ["torchrun", "--nproc-per-node", str(processes()), "-m", "edgepose"] if processes() > 1 else ["edgepose"]
    words = [*program, "train", "--path", "DIR", "--out", "DIR"]
    for option in ("model", "data", "keypoints", "frames", "steps", "batch", "seed", "threads",
                   "precision", "every", "recipe"):
        if getattr(args, option) is not None:
            words += [f"--{option}", str(getattr(args, option))]
    for option in ("start", "teacher"):
        words += [f"--{option}", "FILE"] * bool(getattr(args, option))
    if args.freeze:
        words += ["--freeze", *args.freeze]
    return shlex.join(words + option_words(args.options) + ["--compile"] * args.compile)


def _join_processes(device: str) -> str:
    """The device of this process; under torchrun it meets the others first."""
    if "LOCAL_RANK" not in os.environ:
        return device
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return device


def _check(args: argparse.Namespace) -> None:
    check_run_arguments(args, "batch")
    if args.minutes is not None:
        checked_number("--minutes", args.minutes, above=0)
    if args.resume and args.minutes is not None:
        raise ValueError("--resume goes on to a number of steps, not of minutes: --steps, which the run printed")
    if args.resume and args.start:
        raise ValueError("--start is what a new run begins with: leave it out with --resume")
    check_free(checkpoint_file(args.out, args.model, args.frames), args.resume)
    if args.device not in ("cpu", "cuda") or (args.device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"--device is {args.device!r}; here there is cpu" + ", cuda" * torch.cuda.is_available())
    if args.data == "mocap" and args.keypoints != "gt":
        raise ValueError(
            f"--keypoints {args.keypoints} is for labelled data sets; motion capture is seen by a simulated detector")


def main(args: argparse.Namespace) -> int:
    """Runs `edgepose train`: a progress bar on a terminal, else a line for every checkpoint."""
    _check(args)
    args.frames = zoo.frames_of(args.model, args.frames)
    warn_of_emulation(args.precision, args.device)
    torch.set_num_threads(args.threads)
    args.options = read_options(args.model, args.option)
    device = _join_processes(args.device)
    setup = {"data": args.data, "keypoints": args.keypoints, "frames": args.frames, "options": args.options,
             "precision": args.precision, "compiled": args.compile, "device": device, "batch": args.batch,
             "teacher": args.teacher, "recipe": args.recipe, "frozen": args.freeze}
    if args.minutes:
        args.steps = affordable_steps(args.minutes, args.model, args.path, **setup)
    elif args.steps is None:
        args.steps = usual_steps(args.model, args.path, **setup)

    def words(step: StepReport) -> str:
        validation = step.scores.get("validation_mpjpe_mm", math.nan)
        return f"loss {step.means['loss']:.1f} mm  validation {validation:.1f} mm  {step.left} left"

    print_run(checkpoint_name(args.model, args.frames), args.steps, words,
              lambda report: train(args.model, args.path, args.out, args.steps, seed=args.seed,
                                   every=args.every, resume=args.resume,
                                   command=_command(args), report=report, start=args.start, **setup))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0
