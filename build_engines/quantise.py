"""A plan in eight bits: how its products are rounded, and what that costs.

Weights are int8 with a scale a column (rounding.py). The native engine gives each row of x a scale of its own when it
runs (csrc/kernels.h). ONNX, TensorRT and the CUDA engine take one scale for all rows of a product, found on
calibration windows. Which products go into eight bits is found by searches.py; the result is a dict that is written
as JSON, with which a plan is quantised again without the data.

Sources: Jacob et al. 2018 (whole-number products); Xiao et al. 2023, SmoothQuant (equalisation); Nagel et al. 2019
(bias correction).
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepose import _native, enginefile
from edgepose.build_engines.budgets import errors_mm
from edgepose.build_engines.plan_module import MATRIX_PRODUCTS, PlanModule
from edgepose.build_engines.rounding import LARGEST, round_weights, scales_of
from edgepose.checks import listed, read_json

LEAST_COLUMNS = 64  # products with a narrower x cost no time
ROWS_KEPT = 512  # rows of a step's x from which its range is chosen
PERCENTILE = 99.99
MSE_RANGES = np.linspace(0.3, 1.0, 15)  # parts of the largest number
PARTS = ("w8", "rows", "steps")  # the scales of weights alone, of x with a scale a row, of x with one for all rows


@dataclass(frozen=True)
class Recipe:
    """Choice of the one scale of a product's x. ranges: "max", "percentile" or "mse"; margin: how many times that is
    represented. equalise: SmoothQuant's alpha, 0 for none. kept: steps that stay in half precision."""

    ranges: str = "max"
    margin: float = 1.0
    equalise: float = 0.0
    uses_gptq: bool = False
    corrects_bias: bool = False
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [self.ranges, f"margin {self.margin:g}" * (self.margin != 1),
                 f"equalised {self.equalise}" * bool(self.equalise), "GPTQ" * self.uses_gptq,
                 "biases corrected" * self.corrects_bias, f"{len(self.kept)} steps in fp16" * bool(self.kept)]
        return ", ".join(part for part in parts if part)


def label(number: int, step: dict) -> str:
    """The name of a step in the scales: the beginning of its tensors' names."""
    return f"{number:03d}.{step['op']}"


def products(plan: dict) -> Iterator[tuple[int, str, dict]]:
    """(number, label, step) of the steps that have weights and are worth eight bits: not the narrow ones, not those of
    keypoints, where all the accuracy is, not the heads."""
    exact = products_of_keypoints(plan) | heads_of(plan)
    for number, step in enumerate(plan["steps"]):
        if step["op"] in MATRIX_PRODUCTS and number not in exact and plan["buffers"][step["x"]][1] >= LEAST_COLUMNS:
            yield number, label(number, step), step


def products_of_keypoints(plan: dict) -> set[int]:
    """The numbers of the products that read keypoints as they came, moved by reshape, pick and concat alone."""
    keypoints: set[int] = set()
    found = set()
    for number, step in enumerate(plan["steps"]):
        reads = keypoints & {step.get("x"), step.get("other")}
        if step["op"] in ("tokens", "frames") or (reads and step["op"] in ("reshape", "pick", "concat")):
            keypoints.add(step["y"])
        elif reads and step["op"] in MATRIX_PRODUCTS:
            found.add(number)
    return found


def heads_of(plan: dict) -> set[int]:
    """The numbers of the products whose values the answer is put together of, by reshape and concat alone."""
    steps, heads, waiting = plan["steps"], set(), [len(plan["steps"]) - 1]
    while waiting:
        number = waiting.pop()
        if steps[number]["op"] in MATRIX_PRODUCTS:
            heads.add(number)
        elif steps[number]["op"] in ("reshape", "concat"):
            waiting += [steps[number][key] for key in ("x", "other") if key in steps[number]]
    return heads


def in_eight_bits(plan: dict, tensors: dict[str, np.ndarray], steps: dict[str, dict],
                  others: type = np.float16) -> tuple[dict, dict[str, np.ndarray]]:
    """The plan (float32) with the weights of the products in `steps` in int8, and those of the others as `others`.

    steps: by label, what a product has beside. "x_bits", 8 or 16: its x in whole numbers, a scale a row; or "x_scale":
    one scale for all rows, what x is multiplied by, a number or one for each column; neither: its x in float32.
    "bias": what is added to its bias. "weight": its weights as they were rounded (int8), else each goes to the nearest.
    Raises ValueError if the steps are of another plan.
    """
    labels = [label(number, step) for number, step in enumerate(plan["steps"]) if step["op"] in MATRIX_PRODUCTS]
    if unknown := set(steps) - set(labels):
        raise ValueError(f"the scales are of another model: this one has no steps {listed(sorted(unknown))}")
    found, stored = [], dict(tensors)
    for number, step in enumerate(plan["steps"]):
        step, name = dict(step), label(number, step)
        found.append(step)
        if name not in labels:
            continue
        w = tensors[step["weight"]]
        if name not in steps:
            stored[step["weight"]] = w.astype(others)
            continue
        about = steps[name]
        if about.get("x_bits"):
            step["x_bits"] = about["x_bits"]
        if "x_scale" in about:
            multiplier = _columns(name, about["x_scale"], w)
            step["x_scale"] = f"{name}.x_scale"
            stored[step["x_scale"]] = multiplier
            w = w / multiplier[:, None]
        whole = about["weight"] if "weight" in about else round_weights(w, step["op"])
        if whole.shape != w.shape:
            raise ValueError(f"the scales are of another model: the weights of {name} are {whole.shape} there, "
                             f"{w.shape} here")
        step["scale"] = f"{name}.scale"
        stored[step["weight"]], stored[step["scale"]] = whole, scales_of(w, step["op"])
        if "bias" in about:
            bias = tensors[step["bias"]] + np.asarray(about["bias"], np.float32)
            stored[step["bias"]] = bias.astype(np.float32)
    return {**plan, "steps": found}, stored


def schemes(plan: dict, steps: dict[str, dict]) -> dict[str, str]:
    """Scheme of each product of a plan with these steps of in_eight_bits: "fp16"; "w8"; "int8"; "int16", weights of
    int8 and x of 16 bits."""
    found = {}
    for number, step in enumerate(plan["steps"]):
        if step["op"] not in MATRIX_PRODUCTS:
            continue
        name = label(number, step)
        bits = 8 if "x_scale" in steps.get(name, {}) else steps.get(name, {}).get("x_bits", 0)
        found[name] = {0: "w8", 8: "int8", 16: "int16"}[bits] if name in steps else "fp16"
    return found


def counted(of_products: dict[str, str]) -> str:
    """The schemes in words: "21 in int8, 3 in fp16"."""
    counts = Counter(of_products.values())
    return listed([f"{counts[scheme]} in {scheme}" for scheme in ("int8", "int16", "w8", "fp16") if counts[scheme]])


def _columns(name: str, x_scale: float | list[float], w: np.ndarray) -> np.ndarray:
    """The multiplier of each column of x: (k,)."""
    multiplier = np.asarray(x_scale, np.float32)
    if multiplier.shape not in ((), w.shape[-2:-1]):
        raise ValueError(f"the scales are of another model: {name} has {multiplier.size} columns there, "
                         f"{w.shape[-2]} here")
    return np.ascontiguousarray(np.broadcast_to(multiplier, w.shape[-2:-1]))


@dataclass
class Seen:
    """A step's x on the calibration windows: some rows (N, k), each column's largest magnitude (k,), and the moments
    of rounding.round_weights."""

    rows: np.ndarray
    largest: np.ndarray
    moments: list[np.ndarray]


class Calibration:
    """A plan (float32) on calibration windows: keypoints_norm (N, T, J, C)."""

    def __init__(self, plan: dict, tensors: dict[str, np.ndarray], keypoints_norm: np.ndarray):
        self.plan, self.tensors = plan, tensors
        self.keypoints = torch.from_numpy(keypoints_norm)
        self.seen: dict[int, Seen] = {}
        self._names = {number: name for number, name, _ in products(plan)}
        self._rounded: dict[str, np.ndarray] = {}
        self.reference = self._poses(PlanModule(plan, tensors, self._watch)).numpy()

    def _watch(self, number: int, x: torch.Tensor) -> None:
        if number in self._names:
            rows = x.flatten(0, -2).numpy()
            every = -(-len(rows) // ROWS_KEPT)
            self.seen[number] = Seen(rows[::every].copy(), np.abs(rows).max(0), _moments(self.plan, number, x))

    @torch.inference_mode()
    def _poses(self, module: PlanModule) -> torch.Tensor:
        return module.eval()(self.keypoints)

    def rounded(self, name: str) -> np.ndarray:
        """The weights of a product by GPTQ, its x unscaled."""
        if name not in self._rounded:
            number = next(number for number, known in self._names.items() if known == name)
            step = self.plan["steps"][number]
            w = self.tensors[step["weight"]]
            self._rounded[name] = round_weights(w, step["op"], self.seen[number].moments)
        return self._rounded[name]

    def with_rows(self, x_bits: dict[str, int]) -> dict[str, dict]:
        """The steps of in_eight_bits for products whose x has so many bits, 0 for float32."""
        return {name: {"x_bits": bits, "weight": self.rounded(name)} for name, bits in x_bits.items()}

    def poses(self, steps: dict[str, dict], others: type = np.float16) -> np.ndarray:
        """The poses of the windows with these steps in eight bits: by the native engine, or in torch where one scale is
        for all rows."""
        plan, tensors = in_eight_bits(self.plan, self.tensors, steps, others)
        if any("x_scale" in step for step in plan["steps"]):
            return self._poses(PlanModule(plan, tensors)).numpy()
        poses = np.empty(self.reference.shape, np.float32)
        _native.Context(_native.Plan(plan, tensors, ""), 1).run(self.keypoints.numpy(), poses)
        return poses

    def error_mm(self, steps: dict[str, dict], others: type = np.float16) -> float:
        """Mean joint distance to the float32 poses, in mm."""
        return errors_mm(self.poses(steps, others), self.reference)[0]

    def scales(self, recipe: Recipe) -> dict:
        """{"recipe": text, "steps": those of in_eight_bits, with one scale a product}."""
        steps: dict[str, dict] = {}
        for number, name, step in products(self.plan):
            if name not in recipe.kept:
                w, seen = self.tensors[step["weight"]], self.seen[number]
                steps[name] = {"x_scale": self._multiplier(seen, w, recipe)}
                if recipe.uses_gptq:
                    multiplier = _columns(name, steps[name]["x_scale"], w)
                    taps = np.tile(multiplier, len(seen.moments[0]) // len(multiplier))
                    moments = [moment * np.outer(taps, taps) for moment in seen.moments]
                    steps[name]["weight"] = round_weights(w / multiplier[:, None], step["op"], moments)
        if recipe.corrects_bias:
            for name, bias in self._bias_errors(steps).items():
                steps[name]["bias"] = bias.tolist()
        return {"recipe": str(recipe), "steps": steps}

    @staticmethod
    def _multiplier(seen: Seen, w: np.ndarray, recipe: Recipe) -> float | list[float]:
        if not recipe.equalise:
            return LARGEST / recipe.margin / _range(seen.rows, seen.largest, recipe.ranges)
        of_x = np.maximum(seen.largest, 1e-3 * seen.largest.max())
        of_w = np.maximum(np.abs(w).max(tuple(i for i in range(w.ndim) if i != w.ndim - 2)), 1e-6)
        divisor = of_x**recipe.equalise / of_w ** (1 - recipe.equalise)
        divisor /= np.exp(np.log(divisor).mean())
        top = _range(seen.rows / divisor, seen.largest / divisor, recipe.ranges)
        return (LARGEST / recipe.margin / top / divisor).tolist()

    def _bias_errors(self, quantised_steps: dict[str, dict]) -> dict[str, np.ndarray]:
        """Mean loss of each output by rounding, in the shape of its step's bias."""
        quantised = PlanModule(*in_eight_bits(self.plan, self.tensors, quantised_steps)).eval()
        lost: dict[str, np.ndarray] = {}
        plan, tensors = self.plan, self.tensors

        class Compared(PlanModule):
            def product(self, number: int, x: torch.Tensor) -> torch.Tensor:
                y, step = super().product(number, x), plan["steps"][number]
                if label(number, step) in quantised_steps:
                    over = tuple(range(y.ndim - tensors[step["bias"]].ndim))
                    lost[label(number, step)] = (y - quantised.product(number, x)).mean(over).numpy()
                return y

        self._poses(Compared(plan, tensors))
        return lost


def _moments(plan: dict, number: int, x: torch.Tensor) -> list[np.ndarray]:
    """The mean of x x^T over the rows of step `number`, (k, k): of a conv over its taps side by side, of a graph_conv
    for each group."""
    step = plan["steps"][number]
    parts = x.split(step["group_rows"], 1) if step["op"] == "graph_conv" else [x]
    if step["op"] == "conv":
        rows, first, stride, taps = plan["buffers"][step["y"]][0], step["first"], step["stride"], step["taps"]
        before, after = max(0, -first), max(0, first + stride * (rows - 1) + taps - x.shape[1])
        padded = torch.nn.functional.pad(x, (0, 0, before, after))
        starts = [first + before + stride * row for row in range(rows)]
        parts = [torch.stack([padded[:, start:start + taps].flatten(1) for start in starts], 1)]
    rows = [part.flatten(0, 1).double() for part in parts]
    return [(part.mT @ part).numpy() / len(part) for part in rows]


def _range(rows: np.ndarray, largest: np.ndarray, ranges: str) -> float:
    """The largest magnitude that a scale is for."""
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


def write_scales(path: Path, scales: dict) -> None:
    """Writes what a build found, as JSON."""
    def in_base64(value: Any) -> dict:
        return {"shape": value.shape, "int8": base64.b64encode(value.tobytes()).decode()}

    enginefile.write_atomically(path, (json.dumps(scales, default=in_base64) + "\n").encode())


def read_scales(path: str | Path) -> dict:
    """The scales that a build wrote. Raises ValueError, naming the file, if it holds none."""
    try:
        scales = read_json(Path(path).read_bytes())
        parts = [scales[part] for part in PARTS if part in scales]
        if not parts:
            raise KeyError(PARTS[0])
        for name, step in (item for steps in parts for item in steps.items()):
            if step.get("x_bits", 0) not in (0, 8, 16):
                raise ValueError(f"{name}: x_bits is neither 0 nor 8 nor 16")
            with np.errstate(over="ignore"):  # too large is infinite, which is said below
                multiplier, bias = (np.asarray(step.get(key, 1), np.float32) for key in ("x_scale", "bias"))
            if not (np.isfinite(multiplier).all() and (multiplier > 0).all() and np.isfinite(bias).all()):
                raise ValueError(f"{name}: x_scale or bias is not a finite number, or x_scale not above 0")
            if "weight" in step:
                whole = np.frombuffer(base64.b64decode(step["weight"]["int8"], validate=True), np.int8)
                step["weight"] = whole.reshape([int(extent) for extent in step["weight"]["shape"]])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} holds no scales ({type(error).__name__}: {error}); wanted what edgepose compile "
                         "--precision w8 int8 wrote") from error
    return scales
