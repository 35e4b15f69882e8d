"""Which products go into eight bits, and how: as many as a budget allows on the calibration windows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from edgepose.build_engines.budgets import Budget, errors_mm, tail_mm
from edgepose.build_engines.lower import executed_macs
from edgepose.build_engines.quantise import Calibration, Recipe, counted, products, schemes

# A static range over the one that calibration saw; 99.9 % of martinez-s's joints are within 28 mm without, 5 with.
MARGIN = 2.0
BETTER = 0.98  # a tool is taken if it leaves at most so much of the error
ROOM = 0.9  # the share of the budget that may be used: the rest is left to windows that were not seen
COSTS = {8: 1.0, 16: 2.0, None: 4.0}  # bits of x (None: half precision): the cost of a multiply-add


def search_rows(calibration: Calibration, budget: Budget, say: Callable[[str], None]) -> dict[str, dict]:
    """The steps of a native int8 engine: x in eight bits; where that is over ROOM of the budget, in 16, or the product
    in half precision, those changes first that win most accuracy for their cost. say: is told each trial."""
    names = [name for _, name, _ in products(calibration.plan)]
    changes: list[tuple[str, int | None]] = []

    def tried(count: int) -> tuple[float, dict[str, dict]]:
        bits: dict[str, int | None] = dict.fromkeys(names, 8) | dict(changes[:count])
        steps = calibration.with_rows({name: x_bits for name, x_bits in bits.items() if x_bits})
        return _tried("int8", calibration, budget, steps, say), steps

    whole = tried(0)
    if whole[0] <= ROOM:
        return whole[1]
    changes = _changes(calibration)
    return _fewest(len(changes), tried)[1]


def search_w8(calibration: Calibration, budget: Budget, say: Callable[[str], None]) -> dict[str, dict]:
    """The steps of a w8 engine: all, but as few as bring it under ROOM of the budget stay in half precision."""
    names = [name for _, name, _ in products(calibration.plan)]

    def tried(kept: Collection[str]) -> tuple[float, dict[str, dict]]:
        steps = calibration.with_rows({name: 0 for name in names if name not in kept})
        return _tried("w8", calibration, budget, steps, say), steps

    whole = tried(())
    if whole[0] <= ROOM:
        return whole[1]
    order = _by_loss(calibration, lambda name: calibration.with_rows({name: 0}))
    return _fewest(len(order), lambda count: tried(order[:count]))[1]


def search(calibration: Calibration, budget: Budget, say: Callable[[str], None]) -> dict:
    """The scales of the best recipe found: ranges, then equalisation, GPTQ and bias correction; then, if the error is
    over ROOM of the budget, as few steps stay in half precision as bring it there. say: is told each trial."""
    def tried(recipe: Recipe) -> tuple[float, Recipe, dict]:
        scales = calibration.scales(recipe)
        return _tried(f"int8, {recipe}", calibration, budget, scales["steps"], say), recipe, scales

    def better(best: tuple, trial: tuple) -> tuple:
        return trial if trial[0] < BETTER * best[0] else best

    best = min((tried(Recipe(ranges, MARGIN)) for ranges in ("max", "percentile", "mse")), key=lambda trial: trial[0])
    for alpha in (0.5, 0.75):
        best = better(best, tried(replace(best[1], equalise=alpha)))
    best = better(best, tried(replace(best[1], uses_gptq=True)))
    best = better(best, tried(replace(best[1], corrects_bias=True)))
    if best[0] > ROOM:
        full, steps = best[1], best[2]["steps"]
        order = _by_loss(calibration, lambda name: {name: steps[name]})
        best = _fewest(len(order), lambda count: tried(replace(full, kept=tuple(sorted(order[:count])))))
    say(f"int8, taken: {best[1]}")
    return best[2]


def _tried(what: str, calibration: Calibration, budget: Budget, steps: dict[str, dict],
           say: Callable[[str], None]) -> float:
    """The part of the budget that these steps use."""
    poses, reference = calibration.poses(steps), calibration.reference
    say(f"{what}: {counted(schemes(calibration.plan, steps))}: {errors_mm(poses, reference)[0]:.3f} mm mean, "
        f"{tail_mm(poses, reference):.1f} mm for 99.9 %, on the calibration windows")
    return budget.used(poses, reference)


def _changes(calibration: Calibration) -> list[tuple[str, int | None]]:
    """(label, bits of its x; None: half precision) in the order in which a plan all in eight bits is changed, a
    product once or twice."""
    gains = []
    for number, name, _ in products(calibration.plan):
        lost = {bits: _alone_mm(calibration, calibration.with_rows({name: bits})) ** 2 for bits in (8, 16)}
        lost[None] = 0.0
        macs = executed_macs(calibration.plan, [number])

        def gain(before: int, after: int | None) -> float:
            return (lost[before] - lost[after]) / (macs * (COSTS[after] - COSTS[before]))

        if gain(8, 16) > gain(16, None):
            gains += [(gain(8, 16), name, 16), (gain(16, None), name, None)]
        else:
            gains.append((gain(8, None), name, None))
    return [(name, bits) for _, name, bits in sorted(gains, key=lambda change: -change[0])]


def _fewest(most: int, tried: Callable[[int], tuple]) -> tuple:
    """The trial with the least count, from 1 to `most`, that is under ROOM of the budget; or that of `most`."""
    too_few, enough, best = 0, most, None
    while too_few + 1 < enough:
        middle = (too_few + enough) // 2
        trial = tried(middle)
        if trial[0] > ROOM:
            too_few = middle
        else:
            enough, best = middle, trial
    return best or tried(most)


def _by_loss(calibration: Calibration, alone: Callable[[str], dict[str, dict]]) -> list[str]:
    """The labels of the steps, that first whose eight bits cost most accuracy for the work they save."""
    prices = {name: _alone_mm(calibration, alone(name)) ** 2 / executed_macs(calibration.plan, [number])
              for number, name, _ in products(calibration.plan)}
    return sorted(prices, key=lambda name: -prices[name])


def _alone_mm(calibration: Calibration, steps: dict[str, dict]) -> float:
    """The error of these steps in eight bits, all others in float32."""
    return calibration.error_mm(steps, np.float32)
