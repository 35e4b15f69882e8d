"""PoseMLP: a lifter of our own, a fully connected network with normalised residual blocks and optional inputs.

It is Martinez's baseline (Martinez et al. 2017) in the form of today's networks: layer norm before each block, GELU, a
block of two layers. With the same minutes of training it is far better than the baseline, and it learns from columns
beside x and y (see `columns`): the detector's confidence, the person's own lengths, a depth camera's depth, the rays'
elevation. Any of them may be left unknown from frame to frame. It also predicts the error of each joint.

TemporalPoseMLP adds time on top: every third frame of its window goes through the single-frame network, and the answer
is that of the target frame, corrected by what the others show. It begins as good as the PoseMLP whose weights it begins
with (`edgepose train --start`): frames of one sequence share person and camera and teach little, so poses are learnt
from single frames, and time afterwards.

No checkpoint is published for either.
"""

from __future__ import annotations

import torch
from torch import nn

from ..columns import INPUTS, OUTPUTS
from ..skeleton import H36M17, Skeleton
from .layers import array, folded_linear

LEAST_INPUT_DEVIATION = 0.05  # a column that seldom changes is not blown up
LEAST_OUTPUT_DEVIATION = 0.01  # m; the root never moves
ERROR_UNIT_M = 0.05  # the error head counts in these
STRIDE = 3  # every third frame of the 50 Hz window is seen: 60 ms apart


class Block(nn.Module):
    """x + W2 gelu(W1 norm(x)): (..., C) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.first, self.second = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(nn.functional.gelu(self.first(self.norm(x))))

    def lower(self, plan, x):
        w, b = folded_linear(self.first, self.norm)
        h = plan.linear(plan.normalize(x, self.norm.eps), w, b, activation="gelu")
        w, b = folded_linear(self.second)
        return plan.linear(h, w, b, residual=x)


class PoseMLP(nn.Module):
    """Lifts keypoints to a 3D pose: (B, T, J, C) columns `inputs` -> (B, J, 4), metres from the root and the error in
    m.

    The T frames are concatenated; the answer is for the middle one. inputs: names of columns.INPUTS, in their order.
    Raises ValueError for inputs that are no columns or in another order.
    """

    outputs = OUTPUTS

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 1, channels: int = 640, blocks: int = 4,
                 inputs: str = " ".join(INPUTS)):
        super().__init__()
        self.skeleton, self.frames, self.inputs = skeleton, frames, tuple(inputs.split())
        if self.inputs[:2] != INPUTS[:2] or list(self.inputs) != [name for name in INPUTS if name in self.inputs]:
            raise ValueError(f"inputs is {inputs!r}; wanted x y and any of {' '.join(INPUTS[2:])}, in this order")
        joints = len(skeleton)
        size = frames * joints * len(self.inputs)
        self.register_buffer("input_mean", torch.zeros(size))
        self.register_buffer("input_deviation", torch.ones(size))
        self.register_buffer("output_mean", torch.zeros(3 * joints))
        self.register_buffer("output_deviation", torch.ones(3 * joints))
        self.embed = nn.Linear(size, channels)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels)
        self.head, self.error = nn.Linear(channels, 3 * joints), nn.Linear(channels, joints)
        nn.init.constant_(self.error.bias, 1.0)

    @torch.no_grad()
    def standardise(self, keypoints: torch.Tensor, target: torch.Tensor) -> None:
        """Takes the mean and deviation of both sides from a training set: (N, T, J, C), (N, J, 3)."""
        for side, values, least in (("input", keypoints, LEAST_INPUT_DEVIATION),
                                    ("output", target, LEAST_OUTPUT_DEVIATION)):
            getattr(self, f"{side}_mean").copy_(values.flatten(1).mean(0))
            getattr(self, f"{side}_deviation").copy_(values.flatten(1).std(0).clamp(min=least))

    @torch.no_grad()
    def scale_error(self, factor: float) -> None:
        """Multiplies the predicted errors, to calibrate them."""
        self.error.weight *= factor
        self.error.bias *= factor

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Features of rows of standardised inputs: (..., size) -> (..., channels)."""
        x = self.embed((x - self.input_mean) / self.input_deviation)
        for block in self.blocks:
            x = block(x)
        return x

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The features that the heads see: (B, T, J, C) -> (B, channels)."""
        return self.norm(self.encode(x.flatten(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features, joints = self.features(x), len(self.skeleton)
        pose = (self.head(features) * self.output_deviation + self.output_mean).reshape(-1, joints, 3)
        # The error learns from what the pose knows, and does not change it.
        error = ERROR_UNIT_M * torch.relu(self.error(features.detach())).reshape(-1, joints, 1)
        return torch.cat([pose, error], -1)

    def lower_encode(self, plan, x):
        """encode() of rows of inputs that are not standardised yet."""
        w, b = folded_linear(self.embed)
        w = w / array(self.input_deviation)[:, None]
        x = plan.linear(x, w, b - array(self.input_mean) @ w)
        for block in self.blocks:
            x = block.lower(plan, x)
        return x

    def lower(self, plan):
        return self.lower_heads(plan, self.lower_encode(plan, plan.reshape(plan.frame_tokens(), 1)))

    def lower_heads(self, plan, x):
        """The answer from the features of the target frame, before their norm."""
        joints = len(self.skeleton)
        x = plan.normalize(x, self.norm.eps)
        w, b = folded_linear(self.head, self.norm)
        scale = array(self.output_deviation)
        pose = plan.linear(x, w * scale, b * scale + array(self.output_mean))
        w, b = folded_linear(self.error, self.norm)
        error = plan.linear(x, w * ERROR_UNIT_M, b * ERROR_UNIT_M, activation="relu")
        return plan.concat(plan.reshape(pose, joints), plan.reshape(error, joints))


class TemporalPoseMLP(PoseMLP):
    """A PoseMLP that sees other frames too: (B, T, J, C) columns `inputs` -> (B, J, 4), metres from the root and the
    error in m.

    The answer is for the middle frame, or the newest if is_causal. Frames STRIDE apart are encoded one by one; what the
    encoder makes of them, `reduced` numbers a frame, side by side, corrects the target frame's features.
    """

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 27, channels: int = 640, blocks: int = 4,
                 inputs: str = " ".join(INPUTS), reduced: int = 96, is_causal: bool = False):
        super().__init__(skeleton, 1, channels, blocks, inputs)
        self.frames, self.is_causal = frames, is_causal
        target = frames - 1 if is_causal else frames // 2
        self.first = target % STRIDE
        self.seen = len(range(self.first, frames, STRIDE))
        self.target = target // STRIDE  # among the frames that are seen
        self.reduce = nn.Linear(channels, reduced)
        self.correct = nn.Linear(reduced * self.seen, channels)
        self.mix = Block(channels)
        for last in (self.correct, self.mix.second):  # begins as the single-frame network
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @torch.no_grad()
    def standardise(self, keypoints: torch.Tensor, target: torch.Tensor) -> None:
        super().standardise(keypoints.flatten(0, 1)[:, None], target)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        encoded = self.encode(x[:, self.first::STRIDE].flatten(2))
        correction = self.correct(self.reduce(encoded).flatten(1))
        return self.norm(self.mix(encoded[:, self.target] + correction))

    def lower(self, plan):
        seen = plan.pick(plan.frame_tokens(), self.first, STRIDE, self.seen)
        encoded = self.lower_encode(plan, seen)
        reduced = plan.reshape(plan.linear(encoded, *folded_linear(self.reduce)), 1)
        corrected = plan.linear(reduced, *folded_linear(self.correct), residual=plan.pick(encoded, self.target, 1, 1))
        return self.lower_heads(plan, self.mix.lower(plan, corrected))
