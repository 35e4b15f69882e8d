"""A plan in eight bits: which scales, which steps, and what it costs.

Symmetric int8, weights a scale a column, x a scale a step, from calibration windows. The scales are a dict that is written as JSON:
with it a plan is quantised again without the data. How they are found is tried out on the same windows, see `search`.

Sources: Jacob et al. 2018 (whole-number products); Xiao et al. 2023, SmoothQuant (equalisation); Nagel et al. 2019 (bias correction).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edgepose import _native
from edgepose.build_engines.budgets import errors_mm
from edgepose.build_engines.plan_module import MATRIX_PRODUCTS, PlanModule
from edgepose.checks import listed, read_json

LARGEST = 127
LEAST_COLUMNS = 64  # of x: narrower products cost no time, and the first is of keypoints, where all the accuracy is
ROWS_KEPT = 512  # of a step's x, from which its range is chosen
PERCENTILE = 99.99
MSE_RANGES = np.linspace(0.3, 1.0, 15)  # parts of the largest number
BETTER = 0.98  # a tool is taken if it leaves at most so much of the error
ROOM = 0.65  # the share of the budget that is left to windows it has not seen


@dataclass(frozen=True)
class Recipe:
    """How scales are chosen. ranges: "max", "percentile" or "mse". equalise: SmoothQuant's alpha, 0 for none. kept: steps that
    stay in half precision."""

    ranges: str = "max"
    equalise: float = 0.0
    corrects_bias: bool = False
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [self.ranges, f"equalised {self.equalise}" * bool(self.equalise), "biases corrected" * self.corrects_bias,
                 f"{len(self.kept)} steps in fp16" * bool(self.kept)]
        return ", ".join(part for part in parts if part)


def label(number: int, step: dict) -> str:
    """What a step is called in the scales: the beginning of its tensors' names."""
    return f"{number:03d}.{step['op']}"


def products(plan: dict) -> Iterator[tuple[int, str, dict]]:
    """(number, label, step) of the steps that have weights and are worth eight bits: not the narrow ones, not the heads."""
    heads = heads_of(plan)
    for number, step in enumerate(plan["steps"]):
        if step["op"] in MATRIX_PRODUCTS and number not in heads and plan["buffers"][step["x"]][1] >= LEAST_COLUMNS:
            yield number, label(number, step), step


def heads_of(plan: dict) -> set[int]:
    """The numbers of the products whose values the answer is put together of, by reshape and concat alone."""
    steps, heads, waiting = plan["steps"], set(), [len(plan["steps"]) - 1]
    while waiting:
        number = waiting.pop()
        if steps[number]["op"] in MATRIX_PRODUCTS:
            heads.add(number)
        elif steps[number]["op"] in ("reshape", "concat"):
            waiting += [steps[number][key] for key in ("x", "residual") if key in steps[number]]
    return heads


def round_weights(w: np.ndarray, op: str) -> tuple[np.ndarray, np.ndarray]:
    """(int8, scale): w (..., k, n) is about scale times it. scale: (n,); of a graph_conv (groups, n)."""
    over = w.ndim - 2 if op == "graph_conv" else tuple(range(w.ndim - 1))
    scale = np.abs(w).max(over, keepdims=True).astype(np.float64) / LARGEST
    scale[scale == 0] = 1.0
    scale = scale.astype(np.float32)
    whole = np.clip(np.rint(w / scale), -LARGEST, LARGEST).astype(np.int8)
    return whole, np.ascontiguousarray(scale.reshape(-1, w.shape[-1]) if op == "graph_conv" else scale.reshape(-1))


def weights_only(plan: dict, tensors: dict[str, np.ndarray], kept: Collection[str] = ()) -> tuple[dict, dict[str, np.ndarray]]:
    """The plan (float32) with int8 weights that are widened as they are read: precision "w8". kept: steps in half precision.

    Raises ValueError if those are of another plan.
    """
    steps = [name for _, name, _ in products(plan)]
    _check_labels(kept, steps)
    return with_multipliers(plan, tensors, {name: None for name in steps if name not in kept}, {})


def in_eight_bits(plan: dict, tensors: dict[str, np.ndarray], scales: dict) -> tuple[dict, dict[str, np.ndarray]]:
    """The plan (float32) with the products that `scales` names in eight bits, the others in half precision.

    Raises ValueError if the scales are of another plan.
    """
    multipliers = {name: step["x_scale"] for name, step in scales["steps"].items()}
    biases = {name: step["bias"] for name, step in scales["steps"].items() if "bias" in step}
    _check_labels(multipliers, [name for _, name, _ in products(plan)])
    return with_multipliers(plan, tensors, multipliers, biases)


def _check_labels(given: Collection[str], known: Collection[str]) -> None:
    if unknown := set(given) - set(known):
        raise ValueError(f"the scales are of another model: this one has no steps {listed(sorted(unknown))}")


def with_multipliers(plan: dict, tensors: dict[str, np.ndarray], multipliers: dict[str, float | list[float] | None],
                     biases: dict[str, list[float]]) -> tuple[dict, dict[str, np.ndarray]]:
    """The plan (float32) with the steps that `multipliers` names in eight bits, None for their weights alone, and the others' weights in
    half precision. biases: what is added to them."""
    steps, kept = [], dict(tensors)
    for number, step in enumerate(plan["steps"]):
        step, name = dict(step), label(number, step)
        steps.append(step)
        if step["op"] not in MATRIX_PRODUCTS:
            continue
        w = tensors[step["weight"]]
        if name not in multipliers:
            kept[step["weight"]] = w.astype(np.float16)
            continue
        if multipliers[name] is not None:
            multiplier = np.asarray(multipliers[name], np.float32)
            if multiplier.shape not in ((), w.shape[-2:-1]):
                raise ValueError(f"the scales are of another model: {name} has {len(multiplier)} columns there, {w.shape[-2]} here")
            multiplier = np.broadcast_to(multiplier, w.shape[-2:-1])
            step["x_scale"] = f"{name}.x_scale"
            kept[step["x_scale"]] = np.ascontiguousarray(multiplier)
            w = w / multiplier[:, None]
        step["scale"] = f"{name}.scale"
        kept[step["weight"]], kept[step["scale"]] = round_weights(w, step["op"])
        if name in biases:
            kept[step["bias"]] = (tensors[step["bias"]] + np.asarray(biases[name], np.float32)).astype(np.float32)
    return {**plan, "steps": steps}, kept


@dataclass
class Seen:
    """What a step's x was like on the calibration windows: some rows (N, k), and each column's largest magnitude (k,)."""

    rows: np.ndarray
    largest: np.ndarray


class Calibration:
    """A plan (float32) on calibration windows: keypoints_norm (N, T, J, C)."""

    def __init__(self, plan: dict, tensors: dict[str, np.ndarray], keypoints_norm: np.ndarray):
        self.plan, self.tensors = plan, tensors
        self.keypoints = torch.from_numpy(keypoints_norm)
        self.seen: dict[int, Seen] = {}
        self._wanted = {number for number, _, _ in products(plan)}
        self.reference = self._poses(PlanModule(plan, tensors, self._watch)).numpy()

    def _watch(self, number: int, x: torch.Tensor) -> None:
        if number in self._wanted:
            rows = x.flatten(0, -2).numpy()
            self.seen[number] = Seen(rows[::-(-len(rows) // ROWS_KEPT)].copy(), np.abs(rows).max(0))

    @torch.inference_mode()
    def _poses(self, module: PlanModule) -> torch.Tensor:
        return module.eval()(self.keypoints)

    def error_mm(self, scales: dict) -> float:
        """How far from float32 the native engine's poses are with these scales, mean over joints and windows."""
        return self._loss_mm(*in_eight_bits(self.plan, self.tensors, scales))

    def w8_error_mm(self, kept: Collection[str]) -> float:
        """The same with weights alone in eight bits, but for the steps in `kept`."""
        return self._loss_mm(*weights_only(self.plan, self.tensors, kept))

    def _loss_mm(self, plan: dict, tensors: dict[str, np.ndarray]) -> float:
        poses = np.empty(self.reference.shape, np.float32)
        _native.Context(_native.Plan(plan, tensors, ""), 1).run(self.keypoints.numpy(), poses)
        return errors_mm(poses, self.reference)[0]

    def scales(self, recipe: Recipe) -> dict:
        """The scales of a recipe: {"recipe": text, "steps": {label: {"x_scale": what x is multiplied by, a number or one for each
        column, "bias": what is added to the bias}}}."""
        steps = {}
        for number, name, step in products(self.plan):
            if name not in recipe.kept:
                steps[name] = {"x_scale": self._multiplier(self.seen[number], self.tensors[step["weight"]], recipe)}
        scales = {"recipe": str(recipe), "steps": steps}
        if recipe.corrects_bias:
            for name, bias in self._bias_errors(scales).items():
                steps[name]["bias"] = bias.tolist()
        return scales

    @staticmethod
    def _multiplier(seen: Seen, w: np.ndarray, recipe: Recipe) -> float | list[float]:
        if not recipe.equalise:
            return LARGEST / _range(seen.rows, seen.largest, recipe.ranges)
        of_x = np.maximum(seen.largest, 1e-3 * seen.largest.max())
        of_w = np.maximum(np.abs(w).max(tuple(i for i in range(w.ndim) if i != w.ndim - 2)), 1e-6)
        divisor = of_x**recipe.equalise / of_w ** (1 - recipe.equalise)
        divisor /= np.exp(np.log(divisor).mean())
        return (LARGEST / _range(seen.rows / divisor, seen.largest / divisor, recipe.ranges) / divisor).tolist()

    def _bias_errors(self, scales: dict) -> dict[str, np.ndarray]:
        """What rounding takes from each output on the average, in the shape of its step's bias."""
        quantised = PlanModule(*in_eight_bits(self.plan, self.tensors, scales)).eval()
        lost: dict[str, np.ndarray] = {}
        plan, tensors = self.plan, self.tensors

        class Compared(PlanModule):
            def product(self, number: int, x: torch.Tensor) -> torch.Tensor:
                y, step = super().product(number, x), plan["steps"][number]
                if label(number, step) in scales["steps"]:
                    over = tuple(range(y.ndim - tensors[step["bias"]].ndim))
                    lost[label(number, step)] = (y - quantised.product(number, x)).mean(over).numpy()
                return y

        self._poses(Compared(plan, tensors))
        return lost


def _range(rows: np.ndarray, largest: np.ndarray, ranges: str) -> float:
    """The magnitude that becomes 127."""
    top = float(largest.max()) or 1.0
    if ranges == "max":
        return top
    if ranges == "percentile":
        return float(np.percentile(np.abs(rows), PERCENTILE)) or top
    errors = []
    for part in MSE_RANGES:
        step = part * top / LARGEST
        errors.append(float(((np.clip(np.rint(rows / step), -128, 127) * step - rows) ** 2).mean()))
    return float(MSE_RANGES[int(np.argmin(errors))]) * top


def search(calibration: Calibration, budget_mm: float, say: Callable[[str], None]) -> dict:
    """The scales of the best recipe found: ranges, then equalisation, then bias correction; then, if the error is over ROOM of the
    budget, as few steps stay in half precision as bring it there. say: is told each trial."""
    def tried(recipe: Recipe) -> tuple[float, Recipe, dict]:
        scales = calibration.scales(recipe)
        error = calibration.error_mm(scales)
        say(f"int8, {recipe}: {error:.3f} mm on the calibration windows")
        return error, recipe, scales

    def better(best: tuple, trial: tuple) -> tuple:
        return trial if trial[0] < BETTER * best[0] else best

    best = min((tried(Recipe(ranges)) for ranges in ("max", "percentile", "mse")), key=lambda trial: trial[0])
    for alpha in (0.5, 0.75):
        best = better(best, tried(replace(best[1], equalise=alpha)))
    best = better(best, tried(replace(best[1], corrects_bias=True)))
    if best[0] > ROOM * budget_mm:
        full, steps = best[1], best[2]["steps"]
        order = _by_loss(calibration, lambda name: calibration.error_mm({"steps": {name: steps[name]}}))
        best = _fewest(order, budget_mm, lambda kept: tried(replace(full, kept=kept)))
    say(f"int8, taken: {best[1]}")
    return best[2]


def search_w8(calibration: Calibration, budget_mm: float, say: Callable[[str], None]) -> list[str]:
    """The steps whose weights stay in half precision in a w8 engine: as few as bring its error under ROOM of the budget."""
    def tried(kept: tuple[str, ...]) -> tuple[float, tuple[str, ...]]:
        error = calibration.w8_error_mm(kept)
        say(f"w8, {len(kept)} steps in fp16: {error:.3f} mm on the calibration windows")
        return error, kept

    everything = [name for _, name, _ in products(calibration.plan)]
    best = tried(())
    if best[0] > ROOM * budget_mm:
        order = _by_loss(calibration, lambda name: calibration.w8_error_mm([other for other in everything if other != name]))
        best = _fewest(order, budget_mm, tried)
    return list(best[1])


def _fewest(order: list[str], budget_mm: float, tried: Callable[[tuple[str, ...]], tuple]) -> tuple:
    """The trial that keeps the fewest steps of `order` in half precision, the first ones first, and is under ROOM of the budget."""
    too_few, enough, best = 0, len(order), None
    while too_few + 1 < enough:
        middle = (too_few + enough) // 2
        trial = tried(tuple(sorted(order[:middle])))
        if trial[0] > ROOM * budget_mm:
            too_few = middle
        else:
            enough, best = middle, trial
    return best or tried(tuple(sorted(order)))


def _by_loss(calibration: Calibration, alone_mm: Callable[[str], float]) -> list[str]:
    """The labels of the steps, that first whose eight bits cost most accuracy for the work they save."""
    def price(name: str, step: dict) -> float:
        return alone_mm(name) ** 2 / (calibration.plan["buffers"][step["y"]][0] * calibration.tensors[step["weight"]].size)

    prices = {name: price(name, step) for _, name, step in products(calibration.plan)}
    return sorted(prices, key=lambda name: -prices[name])


def read_scales(path: str | Path) -> dict:
    """The scales that a build wrote. Raises ValueError, naming the file, if it holds none."""
    try:
        scales = read_json(Path(path).read_bytes())
        if not all(isinstance(name, str) for name in scales["w8_kept"]):
            raise TypeError("w8_kept are names of steps")
        for name, step in scales["steps"].items():
            with np.errstate(over="ignore"):  # too large is infinite, which is said below
                multiplier, bias = np.asarray(step["x_scale"], np.float32), np.asarray(step.get("bias", 0), np.float32)
            if not (np.isfinite(multiplier).all() and (multiplier > 0).all() and np.isfinite(bias).all()):
                raise ValueError(f"{name}: x_scale or bias is not a finite number, or x_scale not above 0")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} holds no scales ({type(error).__name__}: {error}); wanted what edgepose compile --precision w8 int8 wrote") from error
    return scales
