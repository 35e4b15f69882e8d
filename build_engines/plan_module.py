"""A native plan as a torch module: what the engine computes, step by step, in any precision.

For calibration, to see what the products multiply and what rounding costs them, and for ncnn, whose converter knows
fewer of torch's operators than the models have.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgepose.skeleton import MODEL_SKELETONS, Skeleton
from edgepose.zoo.layers import AttentionPattern

MATRIX_PRODUCTS = ("linear", "conv", "graph_conv")
MASKED = -1e30  # as csrc/kernels.inl: finite, so that no runtime makes NaN of it
LEAST_STEP = 1e-35  # as csrc/kernels.h
AGE_UNIT_S, MOST_PLACE = 0.02, 64.0  # as csrc/memory.h


class PlanModule(nn.Module):
    """(B, T, J, C) -> (B, J, D), as `plan` with `tensors` (build_engines/lower.py) says.

    watch: called with (step number, x) for each product, x (B, rows, k) being what its weights multiply.
    """

    def __init__(self, plan: dict, tensors: dict[str, np.ndarray],
                 watch: Callable[[int, torch.Tensor], None] | None = None):
        super().__init__()
        self.plan, self.watch = plan, watch
        self.frames, self.skeleton = plan["frames"], _skeleton_of(plan["joints"])
        self.inputs, self.outputs = tuple(plan["inputs"]), tuple(plan["outputs"])
        for name, tensor in tensors.items():
            value = torch.tensor(tensor if tensor.dtype == np.int8 else tensor.astype(np.float32))
            self.register_buffer(_attribute(name), value)
        for step in plan["steps"]:
            pattern = AttentionPattern(step.get("span"), step.get("is_causal", False))
            if step["op"] == "attention" and pattern != AttentionPattern():
                name = f"mask_{step['y']}"
                hidden = ~pattern.mask(plan["buffers"][step["y"]][0], step["heads"])
                self.register_buffer(name, torch.where(hidden, MASKED, 0.0), persistent=False)

    def forward(self, keypoints_norm: torch.Tensor) -> torch.Tensor:
        memory: dict[int, torch.Tensor] = {}
        if self.plan.get("has_state"):
            for frame in keypoints_norm.split(1, 1):
                poses = self.step(frame, memory)
            return poses
        return self.step(keypoints_norm, memory)

    def step(self, keypoints_norm: torch.Tensor, memory: dict[int, torch.Tensor]) -> torch.Tensor:
        """The answers from windows, or from a frame and the memory of those before, which is advanced: by the number of
        a step what it keeps, nothing at first."""
        values: dict[int, torch.Tensor] = {}
        for number, step in enumerate(self.plan["steps"]):
            rows, columns = self.plan["buffers"][step["y"]][:2]
            x, other, residual, gate = (values.get(step.get(key)) for key in ("x", "other", "residual", "gate"))
            op = step["op"]
            if op == "tokens":
                y = keypoints_norm.permute(0, 2, 1, 3).reshape(-1, rows, columns)
            elif op in ("frames", "reshape"):
                y = (keypoints_norm if op == "frames" else x).reshape(-1, rows, columns)
            elif op == "pick":
                within = step["first"] % step["stride"]  # a reshape: some converters know no slice with a step
                blocks = x[:, step["first"] - within:][:, :rows * step["stride"]].reshape(
                    -1, rows, step["stride"], columns)
                y = blocks[:, :, within]
            elif op == "concat":
                y = torch.cat([x, other], -1)
            elif op == "multiply":
                y = _activate(x * other, step)
            elif op == "add":
                y = x + self._tensor(step, "bias")
            elif op == "normalize":
                y = functional.layer_norm(x, (columns,), eps=step["epsilon"])
            elif op == "attention":
                y = self._attention(step, x, gate)
            elif op == "clock":
                y, memory[number] = clock(x[..., step["first"]:step["first"] + 1], memory.get(number), columns - 1)
            elif op == "hats":
                y = hats(place_of(x[..., step["first"]]), columns)
            elif op == "taps":
                past, memory[number] = remembered(x, memory.get(number), step["count"])
                y = (past * (other[:, 0, :step["count"], None] >= 0)).flatten(1)[:, None]
            elif op == "ring_attention":
                q, rows = x[..., :columns], step["span"] * (step["count"] - 1) + 1
                past, memory[number] = remembered(x[..., columns:], memory.get(number), rows)
                y = self._ring_attention(step, q, past, other[:, 0])
            else:
                y = _activate(self.product(number, x) + self._tensor(step, "bias"), step)
                y = y if residual is None else y + residual
            values[step["y"]] = y
        return y

    def product(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """The product of step `number` before its bias: (B, rows, k) -> (B, rows of y, n)."""
        step = self.plan["steps"][number]
        w = self._weight(step)
        if step["op"] == "linear":
            return self._seen(number, step, x) @ w
        if step["op"] == "conv":
            x_rows, rows = (self.plan["buffers"][step[key]][0] for key in ("x", "y"))
            taps, stride = step["taps"], step["stride"]
            x = self._seen(number, step, x)[:, max(0, step["first"]):]
            reach = step["first"] + stride * (rows - 1) + taps
            x = functional.pad(x.transpose(1, 2), (max(0, -step["first"]), max(0, reach - x_rows)))
            return functional.conv1d(x, w.permute(2, 1, 0), stride=stride)[..., :rows].transpose(1, 2)
        gathered = self._seen(number, step, self._tensor(step, "gather") @ x)
        groups = zip(gathered.split(step["group_rows"], 1), w)
        return self._tensor(step, "scatter") @ torch.cat([part @ w_group for part, w_group in groups], 1)

    def _seen(self, number: int, step: dict, x: torch.Tensor) -> torch.Tensor:
        """x as the weights see it: rounded where the plan says so."""
        if self.watch:
            self.watch(number, x)
        if "x_bits" in step:
            return _round_rows(x, 2 ** step["x_bits"] - 1)
        if "x_scale" in step:
            return torch.clamp(torch.round(x * self._tensor(step, "x_scale")), -128, 127)
        return x

    def _weight(self, step: dict) -> torch.Tensor:
        w = self._tensor(step, "weight")
        if w.dtype != torch.int8:
            return w
        scale = self._tensor(step, "scale")
        return w.float() * (scale[:, None] if scale.ndim == 2 else scale)

    def _attention(self, step: dict, x: torch.Tensor, gate: torch.Tensor | None) -> torch.Tensor:
        heads, (tokens, channels) = step["heads"], self.plan["buffers"][step["y"]][:2]
        q, k, v = (part.reshape(-1, tokens, heads, channels // heads).transpose(1, 2) for part in x.split(channels, -1))
        scores = q @ k.transpose(-2, -1)
        mask = getattr(self, f"mask_{step['y']}", None)
        y = (scores if mask is None else scores + mask).softmax(-1) @ v
        if gate is not None:
            g, b = (part.reshape(-1, heads, 1, 1) for part in gate.split(heads, -1))
            y = g * y + (1 - b) * g * v
        return y.transpose(1, 2).reshape(-1, tokens, channels)

    def _ring_attention(self, step: dict, q: torch.Tensor, past: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """(B, 1, C), (B, frames, 2C) and (B, frames or more), the newest first -> (B, 1, C)."""
        heads, span, age = step["heads"], step["span"], self._tensor(step, "bias")
        q = q.reshape(len(q), heads, -1)
        k, v = (part.unflatten(-1, (heads, -1)) for part in past.chunk(2, -1))
        y = torch.empty_like(q)
        for half, seen in ((0, slice(0, span + 1)), (1, slice(0, None, span))):
            place = places[:, :past.shape[1]][:, seen]
            scores = torch.einsum("bhd,bnhd->bhn", q[:, half::2], k[:, seen, half::2])
            scores = scores + (hats(place.clamp(min=0), age.shape[1]) @ age[half::2].T).transpose(1, 2)
            scores = scores + torch.where(place < 0, MASKED, 0.0)[:, None]
            y[:, half::2] = torch.einsum("bhn,bnhd->bhd", scores.softmax(-1), v[:, seen, half::2])
        return y.reshape(len(q), 1, -1)

    def _tensor(self, step: dict, key: str) -> torch.Tensor:
        return getattr(self, _attribute(step[key]))


def clock(gap_s: torch.Tensor, memory: torch.Tensor | None, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The places (B, 1, frames + 1) of the ages of the newest frames, the newest first, and what to remember: how many
    frames, and their ages, (B, 1 + frames). gap_s: (B, 1, 1). As csrc/memory.h has it."""
    if memory is None:
        memory = gap_s.new_zeros(len(gap_s), 1 + frames)
    gap_s = gap_s[:, 0]
    known = torch.where(gap_s > 0, memory[:, :1], 0.0)
    ages_s = torch.cat([torch.zeros_like(gap_s), memory[:, 1:-1]], 1) + gap_s.clamp(min=0)
    places = torch.where(torch.arange(frames) < known, place_of(ages_s), -1.0)
    places = torch.cat([torch.zeros_like(gap_s), places], 1)
    return places[:, None], torch.cat([(known + 1).clamp(max=frames), ages_s], 1)


def place_of(age_s: torch.Tensor) -> torch.Tensor:
    """The places of ages on the scale of functions of time: (...) s -> (...)."""
    return torch.log2(1 + age_s.clamp(min=0) / AGE_UNIT_S).clamp(max=MOST_PLACE)


def hats(place: torch.Tensor, values: int) -> torch.Tensor:
    """The weights of a function's values at places of 0 or more: (...) -> (..., values)."""
    return torch.relu(1 - (place.clamp(max=values - 1)[..., None] - torch.arange(values)).abs())


def remembered(x: torch.Tensor, memory: torch.Tensor | None, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The last `frames` x, (B, frames, C), the newest, (B, 1, C), first; and what to remember of them."""
    if memory is None:
        memory = x.new_zeros(len(x), frames - 1, x.shape[-1])
    past = torch.cat([x, memory], 1)
    return past, past[:, :-1]


def _round_rows(x: torch.Tensor, levels: int) -> torch.Tensor:
    """Each row of x (..., k) in steps of its own, `levels` of them from its least number to its largest.

    As csrc/kernels.h has it.
    """
    least, largest = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    step = largest / levels - least / levels
    inverse = torch.where(step < LEAST_STEP, 0.0, 1 / step)
    zero = torch.round(-least * inverse)
    return step * (torch.clamp(torch.round(x * inverse) + zero, max=levels) - zero)


def _attribute(name: str) -> str:
    return "t" + name.replace(".", "_")


def _skeleton_of(joints: int) -> Skeleton:
    return next(skeleton for skeleton in MODEL_SKELETONS.values() if len(skeleton) == joints)


def _activate(x: torch.Tensor, step: dict) -> torch.Tensor:
    activation = step.get("activation", "none")
    return x if activation == "none" else functional.gelu(x) if activation == "gelu" else getattr(torch, activation)(x)
