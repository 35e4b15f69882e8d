"""The ways a training run optimises: ours, for all models alike, and those of the papers and their authors' code, for
whoever has their data sets (`edgepose train --data h36m --recipe paper`).

A paper's recipe counts in epochs of its data set, ours in steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from .. import zoo
from ..zoo.ampose import AMPose
from ..zoo.dln import DLN
from ..zoo.martinez import Martinez
from ..zoo.strided import StridedTransformer

LEARNING_RATE = 1e-3
WARM_UP_STEPS, WARM_UP = 1000, 0.05  # the fewer: so many steps, or this part of them
COOL_DOWN = 0.3  # part of the steps
WEIGHT_DECAY = 0.01
RECIPES = ("ours", "paper")


def learning_rate(step: int, steps: int) -> float:
    """The rate of a step: a linear warm-up to LEARNING_RATE, and in the last COOL_DOWN a fall to zero as 1 - sqrt.

    As good as a cosine where the number of steps is known, and what was learnt before the cool-down does not depend on
    it. Source: Hägele et al. 2024, "Scaling laws and compute-optimal training beyond fixed training durations".
    """
    warm, cool = max(1, min(WARM_UP_STEPS, round(WARM_UP * steps))), COOL_DOWN * steps
    if step < warm:
        return LEARNING_RATE * (step + 1) / warm
    return LEARNING_RATE * (1 - math.sqrt(max(0.0, step - (steps - cool)) / cool))


@dataclass(frozen=True)
class Schedule:
    """One way to optimise.

    rate: (step, steps, steps of an epoch) -> learning rate. optimiser: parameters -> the optimiser. loss: a name in
    losses.LOSSES. batch, epochs: None for the model's usual batch, and as many steps as asked for. averages: the
    weights that are kept are a moving average.
    """

    rate: Callable[[int, int, int], float]
    optimiser: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
    loss: str = "distance"
    batch: int | None = None
    epochs: int | None = None
    averages: bool = True


OURS = Schedule(lambda step, steps, _: learning_rate(step, steps),
                lambda parameters: torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True))


def _adam(rate: float, **options: bool) -> Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.Adam(parameters, rate, **options)


def _strided_rate(step: int, _: int, an_epoch: int) -> float:
    """Halved after every fifth epoch, times 0.95 after every other one."""
    done = step // an_epoch
    return 1e-3 * 0.5 ** (done // 5) * 0.95 ** (done - done // 5)


PAPERS: dict[type[torch.nn.Module], Schedule] = {
    # AMPose, section 4.3; the optimiser is not named there, decided: Adam. Squared error: its equation 3.12.
    AMPose: Schedule(lambda step, _, an_epoch: 2.5e-5 * 0.98 ** (step // an_epoch), _adam(2.5e-5), "squared", 128, 60,
                     False),
    # DLN, section 4.2.
    DLN: Schedule(lambda step, _, an_epoch: 1e-3 * 0.1 ** ((step >= 170 * an_epoch) + (step >= 200 * an_epoch)),
                  _adam(1e-3), "distance", 24, 210, False),
    # Strided Transformer, the authors' code: main.py and common/opt.py of Vegetebird/StridedTransformer-Pose3D.
    StridedTransformer: Schedule(_strided_rate, _adam(1e-3, amsgrad=True), "distance", 256, 20, False),
    # The simple baseline, the authors' code: una-dinosauria/3d-pose-baseline.
    Martinez: Schedule(lambda step, *_: 1e-3 * 0.96 ** (step / 100_000), _adam(1e-3), "squared", 64, 200, False),
}


def schedule_of(recipe: str, model: str) -> Schedule:
    """The schedule `recipe`, one of RECIPES, for a model of the zoo.

    Raises ValueError for an unknown recipe, or where no paper's is known: PoseGate-Former's is weakly supervised,
    PoseMLP has none.
    """
    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
    if recipe == "ours":
        return OURS
    for kind, schedule in PAPERS.items():
        if issubclass(zoo.MODELS[model].build, kind):
            return schedule
    known = ", ".join(kind.__name__ for kind in PAPERS)
    raise ValueError(
        f"no paper's supervised recipe is known for {model!r}; there are those of {known}: leave --recipe out")
