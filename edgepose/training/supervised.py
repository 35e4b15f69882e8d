"""Supervised training: motion capture through random cameras and a simulated detector, made anew for every step.

The loss is the mean joint distance (MPJPE), not the squared error of AMPose's paper: it is what is reported, and a
depth that the picture leaves open does not rule it (after 1500 steps the two are level: 73.8 and 73.9 mm). AdamW under
a warm-up and a cosine; the weights kept are an exponential moving average. What a step draws depends on the seed and
the step's number alone, so a run that is stopped and resumed ends with the same weights as one that is not.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
import time
from collections import deque
from pathlib import Path
from typing import Callable

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import nn

from .. import zoo
from ..build_engines.checkpoints import checkpoint_name, read_tensors, save_checkpoint, write_tensors
from ..skeleton import H36M17
from .mocap import Motion, draw_windows, read_motion
from .noise import observe

BATCH = 128  # AMPose, section 4.2
LEARNING_RATE = 1e-3
WARM_UP = 0.05  # part of the steps
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
AVERAGING = 0.999  # of the weights that are kept, per step
SIZES = (0.86, 1.16)  # of the person; the subjects stand 1.53 to 1.80 m tall
PROPORTIONS = 0.05  # a bone is longer or shorter by up to this part, left and right alike
NOD_RAD = (math.radians(10), math.radians(20))  # mean and deviation of the neck's turn forward, from the captured one
VALIDATION_WINDOWS = 1024
PRECISIONS = ("float32", "bfloat16")


def vary_bodies(motion_m: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same motion by other people: (B, T, 17, 3) m, world axes, floor at y = 0 -> the same.

    Half of the windows are mirrored; all is scaled by a factor of SIZES, and every bone by one of 1 +- PROPORTIONS; the
    head is bent forward or back (NOD_RAD): people at work look at their hands and feet, captured actors ahead.
    """
    batch, joints, mirror = len(motion_m), len(H36M17), list(H36M17.mirror)
    mirrored = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
    motion_m = torch.where(mirrored, motion_m[:, :, mirror] * torch.tensor([-1.0, 1.0, 1.0]), motion_m)
    lengths = 1 + PROPORTIONS * (2 * torch.rand(batch, joints, generator=generator) - 1)
    lengths = lengths[:, [min(pair) for pair in enumerate(mirror)]]
    size = SIZES[0] + (SIZES[1] - SIZES[0]) * torch.rand(batch, 1, generator=generator)
    parents = [max(parent, 0) for parent in H36M17.parents]
    root = motion_m[:, :, H36M17.root:H36M17.root + 1]
    bones = (motion_m - motion_m[:, :, parents]) * (size * lengths)[:, None, :, None]
    return _nod(root * size[:, None, None] + _ANCESTRY @ bones, generator)


def _nod(motion_m: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turns the neck and the head about the line of the shoulders. Source of the rotation: Rodrigues' formula."""
    thorax, left, right = (motion_m[:, :, [H36M17.index(j)]] for j in ("thorax", "left_shoulder", "right_shoulder"))
    axis = nn.functional.normalize(left - right, dim=-1)
    angle = NOD_RAD[0] + NOD_RAD[1] * torch.randn(len(motion_m), 1, 1, 1, generator=generator)
    neck = [H36M17.index("nose"), H36M17.index("head")]
    v = motion_m[:, :, neck] - thorax
    turned = v * angle.cos() + torch.linalg.cross(axis.expand_as(v), v, dim=-1) * angle.sin()
    turned = turned + axis * (axis * v).sum(-1, keepdim=True) * (1 - angle.cos())
    motion_m = motion_m.clone()
    motion_m[:, :, neck] = thorax + turned
    return motion_m


def _ancestry() -> torch.Tensor:
    """(J, J): row j has a one for every joint on the way from the root to j, so that _ANCESTRY @ bones is joints."""
    rows = torch.zeros(len(H36M17), len(H36M17))
    for joint in range(len(H36M17)):
        ancestor = joint
        while ancestor != -1:
            rows[joint, ancestor] = 1
            ancestor = H36M17.parents[ancestor]
    return rows


_ANCESTRY = _ancestry()


def learning_rate(step: int, steps: int) -> float:
    """A linear warm-up to LEARNING_RATE, then a cosine to zero."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return LEARNING_RATE * (step + 1) / warm
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def mean_distance(predicted_m: torch.Tensor, target_m: torch.Tensor) -> torch.Tensor:
    """The mean distance of the joints, a scalar in the unit given: (B, J, 3), (B, J, 3)."""
    return (predicted_m - target_m).norm(dim=-1).mean()


class Trainer:
    """A model in training: the module, its averaged copy, the optimiser, and how many steps are done."""

    def __init__(self, model: str, frames: int, motion: Motion, steps: int, seed: int, precision: str, compiled: bool):
        torch.manual_seed(seed)
        self.module = zoo.build(model, frames)
        self.averaged = copy.deepcopy(self.module).eval()
        self.optimiser = torch.optim.AdamW(self.module.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.forward = torch.compile(self.module) if compiled else self.module
        self.motion, self.frames, self.steps, self.seed, self.precision = motion, frames, steps, seed, precision
        self.done = 0

    def step(self) -> float:
        """One step; returns its loss in mm. Raises FloatingPointError if that is no number."""
        generator = _generator(self.seed, self.done)
        motion = vary_bodies(draw_windows(self.motion, BATCH, self.frames, generator), generator)
        keypoints, target = observe(motion, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            predicted = self.forward(keypoints)
        loss = mean_distance(predicted.float(), target)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.done}")
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.done, self.steps)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), CLIP_NORM)
        self.optimiser.step()
        self._average()
        self.done += 1
        return 1000 * loss.item()

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(AVERAGING, (1 + self.done) / (10 + self.done))
        for mean, new in zip(self.averaged.state_dict().values(), self.module.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - keep)
            else:
                mean.copy_(new)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything a resumed run needs, as tensors."""
        state = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        state |= {f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{name}": tensor for name, tensor in moments.items()}
        return state

    def restore(self, state: dict[str, torch.Tensor], done: int) -> None:
        """Goes on from what state() gave after `done` steps."""
        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {name[len(prefix) + 1:]: t for name, t in state.items() if name.startswith(prefix + ".")}

        self.module.load_state_dict(part("module"))
        self.averaged.load_state_dict(part("averaged"))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in part("optimiser").items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.done = done


def train(model: str, data: str | Path, out: str | Path, steps: int, *, frames: int = 1, seed: int = 0,
          precision: str = "float32", compiled: bool = False, every: int = 500, resume: bool = False,
          command: str = "", report: Callable[[int, float, float, float], None] | None = None) -> Path:
    """Trains a model of the zoo and returns the path of its checkpoint, OUT/<name>.safetensors.

    data: a folder as `mocap` describes. Every `every` steps and at the end the averaged weights are scored on windows
    of the validation subjects and written to the checkpoint, and what is needed to resume to a file beside it.
    resume: go on from that file; another number of steps stretches the rest of the schedule. report: called after each
    step with (steps done, loss in mm, validation MPJPE in mm or nan, seconds left, from the median of the last steps,
    so that a pause does not count).
    Raises ValueError for an unknown model, frame count or precision, or a state of another run; FileNotFoundError if
    there is nothing to resume.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    trainer = Trainer(model, frames, read_motion(data, "training"), steps, seed, precision, compiled)
    generator = _generator(seed, -1)
    windows = draw_windows(read_motion(data, "validation"), VALIDATION_WINDOWS, frames, generator)
    keypoints, target = observe(windows, generator)
    path = Path(out) / f"{checkpoint_name(model, frames)}.safetensors"
    state_path = path.with_suffix(".state.safetensors")
    run = {"model": model, "frames": frames, "seed": seed}
    if resume:
        state, metadata = read_tensors(state_path)
        other = {key: metadata.get(key) for key in run if metadata.get(key) != run[key]}
        if other:
            wanted = {key: run[key] for key in other}
            raise ValueError(f"{state_path} is of a run with {other}; this one has {wanted}")
        trainer.restore(state, metadata["done"])
    durations: deque[float] = deque(maxlen=200)
    validation = math.nan
    while trainer.done < steps:
        began = time.perf_counter()
        loss = trainer.step()
        durations.append(time.perf_counter() - began)
        if trainer.done % every == 0 or trainer.done == steps:
            with torch.no_grad():
                validation = 1000 * mean_distance(trainer.averaged(keypoints), target).item()
            figures = {"validation_mpjpe_mm": round(validation, 2), "steps": trainer.done}
            save_checkpoint(path, trainer.averaged, {
                "model": model, "frames": frames, "skeleton": H36M17.name, "options": {}, "seed": seed,
                "command": command, "data": "CMU Graphics Lab Motion Capture Database", "figures": figures})
            write_tensors(state_path, trainer.state(), {**run, "done": trainer.done})
        if report:
            report(trainer.done, loss, validation, statistics.median(durations) * (steps - trainer.done))
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose train`."""
    parser.add_argument("--model", default="ampose", choices=zoo.MODELS, metavar="NAME", help="a model of the zoo")
    parser.add_argument("--frames", type=int, default=1, metavar="T", help="window length")
    parser.add_argument("--data", required=True, metavar="DIR", help="motion capture, one .npz a subject")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, default=40_000, metavar="N", help=f"of {BATCH} windows each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS, help="of the matrix products")
    parser.add_argument("--compile", action="store_true", help="compile the model first (needs a C++ compiler)")
    parser.add_argument("--every", type=int, default=500, metavar="N", help="steps between two checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in DIR")


def _command(args: argparse.Namespace) -> str:
    """What to type to get the same weights; the folders are the reader's own."""
    words = ["edgepose", "train", "--data", "DIR", "--out", "DIR"]
    for option in ("model", "frames", "steps", "seed", "threads", "precision", "every"):
        words += [f"--{option}", str(getattr(args, option))]
    return " ".join(words + ["--compile"] * args.compile)


def _left(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def main(args: argparse.Namespace) -> int:
    """Runs `edgepose train`: a progress bar on a terminal, else a line for every checkpoint."""
    torch.set_num_threads(args.threads)
    is_terminal = sys.stdout.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("loss {task.fields[loss]:.1f} mm  validation {task.fields[validation]:.1f} mm  "
                          "{task.fields[left]} left"))
    with Progress(*columns, disable=not is_terminal) as progress:
        task = progress.add_task(checkpoint_name(args.model, args.frames), total=args.steps, loss=math.nan,
                                 validation=math.nan, left="")
        recent: deque[float] = deque(maxlen=args.every)

        def report(done: int, loss: float, validation: float, left_s: float) -> None:
            recent.append(loss)
            mean = statistics.fmean(recent)
            progress.update(task, completed=done, loss=mean, validation=validation, left=_left(left_s))
            if not is_terminal and (done % args.every == 0 or done == args.steps):
                print(f"step {done}/{args.steps}  loss {mean:.1f} mm  validation {validation:.1f} mm  "
                      f"{_left(left_s)} left", flush=True)

        path = train(args.model, args.data, args.out, args.steps, frames=args.frames, seed=args.seed,
                     precision=args.precision, compiled=args.compile, every=args.every, resume=args.resume,
                     command=_command(args), report=report)
    print(path)
    return 0
