"""Strided Transformer for streams: causal strided sparse attention whose cost a frame does not depend on its reach.

Sources: "Strided Transformer with strided sparse attention" (002), equations 4 and 5 (Child et al. 2019): half of the
heads look at the last frames, half at every l-th frame before. The single frames are encoded by PoseMLP, ours, and the
layers over time add to its answer, so that training may begin with a trained PoseMLP: frames of one sequence share
person and camera and teach little, so poses are learnt from single frames, and time afterwards. No paper has this
model, and no checkpoint is published.

Decided, where it differs from `strided`:
- The answer is for the newest frame. Strides are dilations: no frame is dropped, and each layer keeps the keys, values
  and taps of the frames that a later one may look at (`State`). So what was computed for a frame is never computed
  again, and a frame costs the same with 27 or 351 frames of reach.
- Positions are time: a head adds to the score of a frame a learnt function of its age in seconds (`hats`). An age does
  not change when the window slides, and a gap of 0.2 s is one of 0.2 s, at whatever rate the frames come.
- The convolution of a layer has the taps t, t - 1 and t - 2, padded on the left with zeros. Each frame also knows how
  long ago the previous one was.
- A frame with `gap` 0 begins anew: nothing before it is remembered.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..columns import STILL_INPUTS
from ..skeleton import H36M17, Skeleton
from .layers import array, folded_linear
from .posemlp import ERROR_UNIT_M, PoseMLP

TAPS = 3
# By frames of reach: (l, how many frames the strided heads look at) of each layer. A layer looks back l (n - 1) frames
# and its convolution TAPS - 1 more.
DILATIONS = {27: ((2, 3), (2, 5), (2, 5)), 81: ((2, 6), (4, 9), (4, 9)), 243: ((4, 10), (10, 11), (10, 11)),
             351: ((4, 12), (10, 16), (10, 16))}
# The functions of time are linear between ages of UNIT_S (2^i - 1): 0, 20 ms, 60 ms, ... 20 s.
AGES, UNIT_S = 11, 0.02


def hats(age_s: torch.Tensor) -> torch.Tensor:
    """The weights of a function of time that is linear in log(1 + age / UNIT_S) between its AGES values: (...) s ->
    (..., AGES), of which two neighbours are not 0 and all sum to 1."""
    place = torch.log2(1 + age_s / UNIT_S).clamp(max=AGES - 1)
    return torch.relu(1 - (place[..., None] - torch.arange(AGES, device=age_s.device)).abs())


class State(NamedTuple):
    """The memory of B people after some frame.

    ages_s: (B, P) the ages of the last P frames when the newest came, the newest last. frames: (B,) the number of
    frames since a clip began. layers: for each layer the keys and values of its last frames, (B, l (n - 1), C) each,
    and the hidden rows of the last TAPS - 1, (B, TAPS - 1, 2C).
    """

    ages_s: torch.Tensor
    frames: torch.Tensor
    layers: tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]


class Past(NamedTuple):
    """The frames that N new ones may look at.

    times_s: (B, P + N) float64, those of the P frames before and of the new ones: ages are differences of them.
    frames: (B, N) the number of frames before each that are remembered.
    """

    times_s: torch.Tensor
    frames: torch.Tensor

    def at(self, before: torch.Tensor, offsets: range) -> torch.Tensor:
        """The rows of the frames `offsets` before each new one: (B, P' + N, C) -> (B, N, offsets, C)."""
        new = self.frames.shape[1]
        first = before.shape[1] - new
        return torch.stack([before[:, first - offset:first - offset + new] for offset in offsets], 2)

    def is_remembered(self, offsets: range) -> torch.Tensor:
        """Which of the frames `offsets` before each new one are remembered: (B, N, offsets)."""
        return self.frames[..., None] >= torch.tensor(list(offsets), device=self.frames.device)

    def ages_s(self, offsets: range) -> torch.Tensor:
        """Their ages in s, 0 where they are not remembered: (B, N, offsets)."""
        now = self.times_s[:, -self.frames.shape[1]:, None]
        return (now - self.at(self.times_s[..., None], offsets)[..., 0]) * self.is_remembered(offsets)


class CausalLayer(nn.Module):
    """Causal strided attention and a causal convolution, norms first: (B, N, C) -> the same, and its memory."""

    def __init__(self, channels: int, heads: int, span: int, count: int):
        super().__init__()
        if channels % heads or heads % 2:
            raise ValueError(f"{heads} heads do not divide {channels} channels into two equal halves")
        self.heads = heads
        # Heads 0, 2, ... are local (eq. 4), heads 1, 3, ... strided (eq. 5).
        self.offsets = range(span + 1), range(0, span * count, span)
        self.remembers = self.offsets[1][-1]
        self.norm_attention, self.norm_mlp = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.age = nn.Parameter(torch.zeros(heads, AGES))  # what a head adds to a frame's score, by its age
        self.expand, self.contract = nn.Linear(channels, 2 * channels), nn.Linear(TAPS * 2 * channels, channels)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, past: Past, half: int) -> torch.Tensor:
        """The answers of the local (0) or strided (1) heads: (B, N, H/2, d), (B, P + N, C) twice -> (B, N, H/2, d)."""
        offsets = self.offsets[half]

        def own(rows: torch.Tensor) -> torch.Tensor:
            return past.at(rows, offsets).unflatten(-1, (self.heads, -1))[..., half::2, :]

        scores = torch.einsum("bnhd,bnohd->bnho", q * q.shape[-1] ** -0.5, own(k))
        ages_s = past.ages_s(offsets).to(self.age.dtype)
        scores = scores + (hats(ages_s) @ self.age[half::2].T).transpose(2, 3)
        scores = scores.masked_fill(~past.is_remembered(offsets)[:, :, None], -torch.inf)
        return torch.einsum("bnho,bnohd->bnhd", scores.softmax(-1), own(v))

    def forward(self, x: torch.Tensor, past: Past, memory: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
                ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        q, k, v = self.qkv(self.norm_attention(x)).chunk(3, -1)
        k, v = torch.cat([memory[0], k], 1), torch.cat([memory[1], v], 1)
        q = q.unflatten(-1, (self.heads, -1))
        halves = [self.attend(q[:, :, half::2], k, v, past, half) for half in (0, 1)]
        x = x + self.out(torch.stack(halves, 3).flatten(2))
        hidden = torch.cat([memory[2], torch.relu(self.expand(self.norm_mlp(x)))], 1)
        taps = range(TAPS)
        rows = past.at(hidden, taps) * past.is_remembered(taps)[..., None]
        x = x + self.contract(rows.flatten(2))
        return x, (k[:, k.shape[1] - self.remembers:], v[:, v.shape[1] - self.remembers:], hidden[:, 1 - TAPS:])

    def lower(self, plan, x, places):
        """The same for the newest frame; places: `plan.clock`'s."""
        w, b = folded_linear(self.qkv, self.norm_attention)
        scale = np.ones(w.shape[1])
        scale[:len(w)] = 1 / math.sqrt(len(w) // self.heads)
        qkv = plan.linear(plan.normalize(x, self.norm_attention.eps), w * scale, b * scale)
        strided = self.offsets[1]
        context = plan.ring_attention(qkv, places, array(self.age), strided.step, len(strided))
        x = plan.linear(context, *folded_linear(self.out), residual=x)
        w, b = folded_linear(self.expand, self.norm_mlp)
        hidden = plan.linear(plan.normalize(x, self.norm_mlp.eps), w, b, activation="relu")
        return plan.linear(plan.taps(hidden, places, TAPS), *folded_linear(self.contract), residual=x)


class StridedCausal(PoseMLP):
    """Lifts a stream of keypoints: (B, T, J, C) columns `inputs` -> (B, J, 4), metres from the root and the error in m,
    of the newest frame.

    frames: its reach, a key of DILATIONS. channels, blocks, inputs: of the PoseMLP that encodes a frame; the column
    `gap` follows its inputs. width, heads: of the layers over time.
    Raises ValueError for an unknown reach, for inputs that PoseMLP does not take, and for heads that do not divide the
    width.
    """

    has_state = True  # engines remember frames instead of taking a window

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 81, channels: int = 640, blocks: int = 4,
                 inputs: str = " ".join(STILL_INPUTS), width: int = 128, heads: int = 8):
        if frames not in DILATIONS:
            raise ValueError(f"unknown frames {frames!r}; there are {', '.join(map(str, DILATIONS))}")
        super().__init__(skeleton, 1, channels, blocks, inputs)
        self.frames, self.is_causal = frames, True
        self.inputs = (*self.inputs, "gap")
        self.embed_features = nn.Linear(channels, width)
        self.embed_gap = nn.Linear(AGES, width, bias=False)
        self.layers = nn.ModuleList(CausalLayer(width, heads, *dilation) for dilation in DILATIONS[frames])
        self.remembers = max(layer.remembers for layer in self.layers)
        self.norm_time = nn.LayerNorm(width)
        self.head_time, self.error_time = nn.Linear(width, 3 * len(skeleton)), nn.Linear(width, len(skeleton))
        for head in (self.head_time, self.error_time):  # begins as the single-frame network
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def standardise(self, keypoints: torch.Tensor, target: torch.Tensor) -> None:
        super().standardise(keypoints[:, -1:, :, :-1], target)

    def empty(self, people: int) -> State:
        """The state of people of whom nothing is remembered."""
        like = self.embed_gap.weight
        width = like.shape[0]
        return State(like.new_zeros(people, self.remembers), torch.zeros(people, dtype=torch.long, device=like.device),
                     tuple((like.new_zeros(people, layer.remembers, width),
                            like.new_zeros(people, layer.remembers, width),
                            like.new_zeros(people, TAPS - 1, 2 * width)) for layer in self.layers))

    @property
    def state(self) -> int:
        """The floats of a person's state, as pack() lays them out."""
        return self.pack(self.empty(1)).shape[1]

    def pack(self, state: State) -> torch.Tensor:
        """A state as rows of floats, (B, state)."""
        memories = [part.flatten(1) for memory in state.layers for part in memory]
        return torch.cat([state.ages_s, state.frames[:, None].to(state.ages_s.dtype), *memories], 1)

    def unpack(self, rows: torch.Tensor) -> State:
        """The state that pack() made rows of."""
        like = self.empty(1)
        shapes = [part.shape[1:] for memory in like.layers for part in memory]
        ages_s, frames, *parts = rows.split([self.remembers, 1, *(shape.numel() for shape in shapes)], 1)
        parts = [part.unflatten(1, shape) for part, shape in zip(parts, shapes)]
        return State(ages_s, frames[:, 0].long(), tuple(zip(parts[::3], parts[1::3], parts[2::3])))

    def advance(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """The answers of N further frames and the state after them: (B, N, J, C) -> (B, N, J, 4).

        One frame at a time, or a whole clip at once: the answers are the same.
        """
        gap_s = x[:, :, 0, -1].clamp(min=0)
        past = self._past(gap_s, state)
        features = self.deepen(self.embed((x[..., :-1].flatten(2) - self.input_mean) / self.input_deviation))
        y = self.embed_features(features) + self.embed_gap(hats(gap_s))
        memories = []
        for layer, memory in zip(self.layers, state.layers):
            y, memory = layer(y, past, memory)
            memories.append(memory)
        y = self.norm_time(y)
        # The error learns from what the pose knows, and does not change it.
        answers = self.answer(self.head(features) + self.head_time(y),
                              self.error(features.detach()) + self.error_time(y.detach()))
        times_s = past.times_s[:, -state.ages_s.shape[1]:]
        return answers, State((times_s[:, -1:] - times_s).to(x.dtype), past.frames[:, -1] + 1, tuple(memories))

    def _past(self, gap_s: torch.Tensor, state: State) -> Past:
        new = torch.arange(gap_s.shape[1], device=gap_s.device)
        begins = torch.where(gap_s == 0, new, -1).cummax(1).values  # the last frame up to each that begins anew
        frames = torch.where(begins < 0, state.frames[:, None] + new, new - begins)
        return Past(torch.cat([-state.ages_s.double(), gap_s.double().cumsum(1)], 1), frames)

    def sequence(self, x: torch.Tensor) -> torch.Tensor:
        """The answers of all frames of a clip: (B, T, J, C) -> (B, T, J, 4)."""
        return self.advance(x, self.empty(len(x)))[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sequence(x)[:, -1]

    def lower(self, plan):
        """One frame; the plan remembers those before."""
        joints, frame = len(self.skeleton), plan.frame_tokens()
        places = plan.clock(frame, len(self.inputs) - 1, self.remembers)
        w, b = self.folded_embed()
        of_joints = w.reshape(joints, -1, w.shape[1])
        x = plan.linear(frame, np.pad(of_joints, ((0, 0), (0, 1), (0, 0))).reshape(-1, w.shape[1]), b)  # not the gaps
        for block in self.blocks:
            x = block.lower(plan, x)
        features = plan.normalize(x, self.norm.eps)
        w, b = folded_linear(self.embed_features, self.norm)
        gap = array(self.embed_gap.weight).T
        since = plan.linear(plan.hats(frame, len(self.inputs) - 1, AGES), gap, np.zeros(gap.shape[1]))
        y = plan.linear(features, w, b, residual=since)
        for layer in self.layers:
            y = layer.lower(plan, y, places)
        y = plan.normalize(y, self.norm_time.eps)
        scale, mean = array(self.output_deviation), array(self.output_mean)
        pose = self._lower_head(plan, features, self.head, y, self.head_time, scale, mean)
        error = self._lower_head(plan, features, self.error, y, self.error_time, ERROR_UNIT_M, 0, activation="relu")
        return plan.concat(plan.reshape(pose, joints), plan.reshape(error, joints))

    def _lower_head(self, plan, features, head: nn.Linear, y, head_time: nn.Linear, scale, mean,
                    activation: str | None = None):
        """activation(scale (head(features) + head_time(y)) + mean)."""
        w, b = folded_linear(head, self.norm)
        w_time, b_time = folded_linear(head_time, self.norm_time)
        both = plan.concat(features, y)
        return plan.linear(both, np.concatenate([w, w_time]) * scale, (b + b_time) * scale + mean,
                           activation=activation)
