"""Records a model's lower() as a native plan: steps, and weights in the engine's precision.

The model says what is computed, this file in which order; csrc/placement.cpp decides where it lies, when the engine is
loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from edgepose.columns import PUBLISHED_INPUTS, PUBLISHED_OUTPUTS, inputs_of, outputs_of
from edgepose.zoo.layers import AttentionPattern

PRECISIONS = {"fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True)
class Value:
    """A matrix of the plan, one a person: its number among the plan's buffers, and its shape."""

    index: int
    rows: int
    columns: int


class PlanBuilder:
    """The list of steps that a model's lower() writes: each method appends a step and returns the value it writes.

    frames, joints: of the model. precision: a key of PRECISIONS, for the weights; biases stay float32. inputs, outputs:
    the names of its columns, C and D of them. has_state: the steps run once a frame and remember those before.
    """

    def __init__(self, frames: int, joints: int, precision: str, inputs: Sequence[str] = PUBLISHED_INPUTS,
                 outputs: Sequence[str] = PUBLISHED_OUTPUTS, has_state: bool = False):
        self.frames, self.joints = frames, joints
        self.inputs, self.outputs = inputs, outputs
        self.has_state = has_state
        self._weights = PRECISIONS[precision]
        self._values: list[Value] = []
        self._steps: list[dict] = []
        self.tensors: dict[str, np.ndarray] = {}

    def joint_tokens(self) -> Value:
        """The keypoints as a token a joint, (J, TC): the frames of a joint side by side."""
        return self._step("tokens", self.joints, len(self.inputs) * self.frames)

    def frame_tokens(self) -> Value:
        """The keypoints as a token a frame, (T, JC): the joints of a frame side by side, the columns of each
        together."""
        return self._step("frames", 1 if self.has_state else self.frames, len(self.inputs) * self.joints)

    def clock(self, x: Value, column: int, frames: int) -> Value:
        """The places of the ages of the last `frames` + 1 frames, the newest first; column: of x, the time in s since
        the frame before."""
        return self._step("clock", 1, frames + 1, x=x, first=column)

    def hats(self, x: Value, column: int, values: int) -> Value:
        """The weights of a function's values at an age in s, a column of x: (1, values)."""
        return self._step("hats", 1, values, x=x, first=column)

    def taps(self, x: Value, places: Value, count: int) -> Value:
        """x now | x one frame ago | ..., `count` of them, zero where not remembered."""
        return self._step("taps", 1, count * x.columns, x=x, other=places, count=count)

    def ring_attention(self, qkv: Value, places: Value, age: np.ndarray, span: int, count: int) -> Value:
        """Multi-head softmax(q k^T + age) v of qkv (1, 3C) = q | k | v, with k and v of earlier frames too -> (1, C).

        Even heads look at the frames 0 to span back, odd ones at 0, span, ... span (count - 1). age (heads, values).
        """
        return self._step("ring_attention", 1, qkv.columns // 3, x=qkv, other=places, bias=age, heads=len(age),
                          span=span, count=count)

    def reshape(self, x: Value, rows: int) -> Value:
        """The elements of x, row after row, in `rows` rows."""
        return self._step("reshape", rows, x.rows * x.columns // rows, x=x)

    def pick(self, x: Value, first: int, stride: int, rows: int) -> Value:
        """Rows first, first + stride, ... of x."""
        return self._step("pick", rows, x.columns, x=x, first=first, stride=stride)

    def concat(self, x: Value, other: Value) -> Value:
        """x | other, side by side."""
        return self._step("concat", x.rows, x.columns + other.columns, x=x, other=other)

    def linear(self, x: Value, w: np.ndarray, b: np.ndarray, activation: str | None = None,
               residual: Value | None = None) -> Value:
        """activation(x @ w + b) + residual; w (k, n), b (n,)."""
        return self._step("linear", x.rows, w.shape[1], x=x, residual=residual, activation=activation, weight=w, bias=b)

    def graph_conv(self, x: Value, w: np.ndarray, b: np.ndarray, adjacency: np.ndarray, activation: str | None = None,
                   residual: Value | None = None) -> Value:
        """activation(sum_g adjacency[g] x w[g] + b) + residual; w (groups, k, n), b (J, n), adjacency (groups, J, J).

        adjacency[g] x w[g] costs a product a row. Mixing the neighbours before the product takes as many rows as the
        matrix has rows that are not zero; mixing after it as many as it has columns that are not zero: the fewer are
        taken (children share their parent's product, leaves have no children to mix: 41 rows instead of 51).
        """
        gather, scatter = [], []
        for matrix in adjacency:
            rows, columns = np.flatnonzero(matrix.any(1)), np.flatnonzero(matrix.any(0))
            identity = np.eye(len(matrix))
            before = len(rows) < len(columns)
            gather.append(matrix[rows] if before else identity[columns])
            scatter.append(identity[:, rows] if before else matrix[:, columns])
        return self._step("graph_conv", x.rows, w.shape[2], x=x, residual=residual, activation=activation,
                          weight=w, bias=b, gather=np.concatenate(gather), scatter=np.concatenate(scatter, axis=1),
                          group_rows=[len(rows) for rows in gather])

    def conv(self, x: Value, w: np.ndarray, b: np.ndarray, first: int, stride: int, residual: Value) -> Value:
        """y[t] = sum_i x[first + stride t + i] @ w[i] + b + residual[t]; w (taps, k, n), b (n,). Rows x does not have
        are zero; taps that meet no row at all are left out."""
        rows = residual.rows
        meets = [i for i in range(len(w)) if any(0 <= first + i + stride * t < x.rows for t in range(rows))]
        w, first = w[meets[0]:meets[-1] + 1], first + meets[0]
        return self._step("conv", rows, w.shape[2], x=x, residual=residual, weight=w, bias=b,
                          first=first, stride=stride, taps=len(w))

    def multiply(self, x: Value, other: Value, activation: str | None = None) -> Value:
        """activation(x * other), element by element."""
        return self._step("multiply", x.rows, x.columns, x=x, other=other, activation=activation)

    def add_constant(self, x: Value, c: np.ndarray) -> Value:
        """x + c, c (rows, columns)."""
        return self._step("add", x.rows, x.columns, x=x, bias=c)

    def normalize(self, x: Value, epsilon: float) -> Value:
        """Each row less its mean, over its standard deviation: LayerNorm before its gain and bias."""
        return self._step("normalize", x.rows, x.columns, x=x, epsilon=epsilon)

    def attention(self, qkv: Value, heads: int, span: int | None = None, is_causal: bool = False,
                  gate: Value | None = None) -> Value:
        """Multi-head softmax(q k^T) v of qkv (N, 3C) = q | k | v -> (N, C); span, is_causal as in
        layers.AttentionPattern.

        gate (1, 2 heads) = g | b: the heads give g softmax(q k^T) v + (1 - b) g v.
        """
        return self._step("attention", qkv.rows, qkv.columns // 3, x=qkv, gate=gate, heads=heads,
                          **({"span": span} if span else {}), **({"is_causal": True} if is_causal else {}))

    def plan(self) -> dict:
        """The finished plan, as the engine file stores it. The last step's value is the answer, (J, D)."""
        return {"frames": self.frames, "joints": self.joints, "inputs": list(self.inputs),
                "outputs": list(self.outputs), "steps": self._steps,
                "buffers": [[value.rows, value.columns] for value in self._values],
                **({"has_state": True} if self.has_state else {})}

    def _step(self, op: str, rows: int, columns: int, *, x: Value | None = None, other: Value | None = None,
              residual: Value | None = None, gate: Value | None = None, activation: str | None = None, **rest) -> Value:
        now = len(self._steps)
        step: dict = {"op": op, "y": now}
        for name, value in (("x", x), ("other", other), ("residual", residual), ("gate", gate)):
            if value is not None:
                step[name] = value.index
        if activation is not None:
            step["activation"] = activation
        for name, value in rest.items():
            if isinstance(value, np.ndarray):
                step[name] = f"{now:03d}.{op}.{name}"
                self.tensors[step[name]] = self._stored(step[name], value, name == "weight")
            else:
                step[name] = value
        self._steps.append(step)
        self._values.append(Value(now, rows, columns))
        return self._values[-1]

    def _stored(self, name: str, value: np.ndarray, is_weight: bool) -> np.ndarray:
        with np.errstate(over="ignore"):  # said below, with the name
            stored = np.ascontiguousarray(value, self._weights if is_weight else np.float32)
        if not np.isfinite(stored).all():
            raise ValueError(f"{name} does not fit {stored.dtype}: its largest weight is {np.abs(value).max():g}")
        return stored


def lower(model: nn.Module, precision: str) -> tuple[dict, dict[str, np.ndarray]]:
    """(plan, tensors) of a zoo model in evaluation mode, its weights stored as `precision`.

    Raises ValueError if a weight does not fit the precision's range.
    """
    builder = PlanBuilder(model.frames, len(model.skeleton), precision, inputs_of(model), outputs_of(model),
                          getattr(model, "has_state", False))
    model.lower(builder)
    return builder.plan(), builder.tensors


def executed_macs(plan: dict, steps: Collection[int] | None = None) -> int:
    """The multiply-accumulates a plan, or some of its steps, run for one window: products of weights and of attention,
    zero rows left out."""
    buffers, total = plan["buffers"], 0
    for step in plan["steps"] if steps is None else [plan["steps"][number] for number in steps]:
        rows, columns = buffers[step["y"]][:2]
        inner = buffers[step["x"]][1] if "x" in step else 0
        if step["op"] == "linear":
            total += rows * inner * columns
        elif step["op"] == "graph_conv":
            total += sum(step["group_rows"]) * inner * columns
        elif step["op"] == "conv":
            taps = sum(0 <= step["first"] + step["stride"] * row + tap < buffers[step["x"]][0]
                       for row in range(rows) for tap in range(step["taps"]))
            total += taps * inner * columns
        elif step["op"] == "attention":
            pattern = AttentionPattern(step.get("span"), step.get("is_causal", False))
            total += 2 * int(pattern.mask(rows, step["heads"]).sum()) * columns // step["heads"]
        elif step["op"] == "ring_attention":
            total += (step["span"] + 1 + step["count"]) * columns
    return total
