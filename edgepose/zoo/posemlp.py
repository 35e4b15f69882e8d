"""PoseMLP: a lifter of our own, a fully connected network with normalised residual blocks and optional inputs.

It is Martinez's baseline (Martinez et al. 2017) in the form of today's networks: layer norm before each block, GELU, a
block of two layers. With the same minutes of training it is far better than the baseline, and it learns from columns
beside x and y (see `columns`): the detector's confidence, the person's own lengths, a depth camera's depth, the rays'
elevation. Any of them may be left unknown from frame to frame. It also predicts the error of each joint.

With several frames, what every third frame shows otherwise than the target frame is added to the first layer, so a
pose costs about as much as from a single frame. Such a network begins as good as the single-frame one whose weights it
begins with (`edgepose train --start`): frames of one sequence share person and camera and teach little, so poses are
learnt from single frames, and time afterwards.

No checkpoint is published.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..columns import INPUTS, OUTPUTS, STILL_INPUTS
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

    The answer is for the middle frame, or the newest if is_causal. inputs: names of columns.INPUTS, in their order.
    Raises ValueError for inputs that are no columns or in another order.
    """

    outputs = OUTPUTS

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 1, channels: int = 640, blocks: int = 4,
                 inputs: str = " ".join(STILL_INPUTS), is_causal: bool = False):
        super().__init__()
        self.skeleton, self.frames, self.inputs, self.is_causal = skeleton, frames, tuple(inputs.split()), is_causal
        if self.inputs[:2] != INPUTS[:2] or list(self.inputs) != [name for name in STILL_INPUTS if name in self.inputs]:
            raise ValueError(f"inputs is {inputs!r}; wanted x y and any of {' '.join(STILL_INPUTS[2:])}, in this order")
        joints = len(skeleton)
        size = joints * len(self.inputs)
        target = frames - 1 if is_causal else frames // 2
        self.seen = range(target % STRIDE, frames, STRIDE)
        self.target = self.seen.index(target)
        self.register_buffer("input_mean", torch.zeros(size))
        self.register_buffer("input_deviation", torch.ones(size))
        self.register_buffer("output_mean", torch.zeros(3 * joints))
        self.register_buffer("output_deviation", torch.ones(3 * joints))
        self.embed = nn.Linear(size, channels)
        if len(self.seen) > 1:  # how the others differ from the target frame, standardised
            motions = len(self.seen) - 1
            self.register_buffer("motion_deviation", torch.ones(motions * size))
            self.embed_motion = nn.Linear(motions * size, channels, bias=False)
            nn.init.zeros_(self.embed_motion.weight)  # begins as the single-frame network
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels)
        self.head, self.error = nn.Linear(channels, 3 * joints), nn.Linear(channels, joints)
        nn.init.constant_(self.error.bias, 1.0)

    @torch.no_grad()
    def standardise(self, keypoints: torch.Tensor, target: torch.Tensor) -> None:
        """Takes the mean and deviation of both sides from a training set: (N, T, J, C), (N, J, 3)."""
        frame, motion = self.split(keypoints)
        for side, values, least in (("input", frame, LEAST_INPUT_DEVIATION),
                                    ("output", target.flatten(1), LEAST_OUTPUT_DEVIATION)):
            getattr(self, f"{side}_mean").copy_(values.mean(0))
            getattr(self, f"{side}_deviation").copy_(values.std(0).clamp(min=least))
        if len(self.seen) > 1:
            self.motion_deviation.copy_(motion.std(0).clamp(min=LEAST_INPUT_DEVIATION))

    @torch.no_grad()
    def scale_error(self, factor: float) -> None:
        """Multiplies the predicted errors, to calibrate them."""
        self.error.weight *= factor
        self.error.bias *= factor

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The target frame and the others' differences from it: (B, T, J, C) -> (B, JC), (B, (seen - 1)JC)."""
        x = x[:, self.seen].flatten(2)
        frame = x[:, self.target]
        others = [i for i in range(len(self.seen)) if i != self.target]
        return frame, (x[:, others] - frame[:, None]).flatten(1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The features that the heads see: (B, T, J, C) -> (B, channels)."""
        frame, motion = self.split(x)
        x = self.embed((frame - self.input_mean) / self.input_deviation)
        if len(self.seen) > 1:
            x = x + self.embed_motion(motion / self.motion_deviation)
        return self.deepen(x)

    def deepen(self, x: torch.Tensor) -> torch.Tensor:
        """The blocks and the last norm: (..., channels) -> the same."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def answer(self, pose: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        """The heads' values as the answer: (..., 3J), (..., J) -> (..., J, 4), m."""
        pose = (pose * self.output_deviation + self.output_mean).unflatten(-1, (-1, 3))
        return torch.cat([pose, ERROR_UNIT_M * torch.relu(error)[..., None]], -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.features(x)
        # The error learns from what the pose knows, and does not change it.
        return self.answer(self.head(features), self.error(features.detach()))

    def lower(self, plan):
        joints = len(self.skeleton)
        x = plan.frame_tokens()
        if len(self.seen) > 1:
            x = plan.reshape(plan.pick(x, self.seen.start, STRIDE, len(self.seen)), 1)
        x = plan.linear(x, *self.folded_embed())
        for block in self.blocks:
            x = block.lower(plan, x)
        x = plan.normalize(x, self.norm.eps)
        w, b = folded_linear(self.head, self.norm)
        scale = array(self.output_deviation)
        pose = plan.linear(x, w * scale, b * scale + array(self.output_mean))
        w, b = folded_linear(self.error, self.norm)
        error = plan.linear(x, w * ERROR_UNIT_M, b * ERROR_UNIT_M, activation="relu")
        return plan.concat(plan.reshape(pose, joints), plan.reshape(error, joints))

    def folded_embed(self) -> tuple[np.ndarray, np.ndarray]:
        """The first layer for the frames as they are, side by side: w (seen JC, channels), b (channels,)."""
        w, b = folded_linear(self.embed)
        w = w / array(self.input_deviation)[:, None]
        b = b - array(self.input_mean) @ w
        if len(self.seen) == 1:
            return w, b
        motion = array(self.embed_motion.weight).T / array(self.motion_deviation)[:, None]
        motion = motion.reshape(len(self.seen) - 1, *w.shape)
        w = np.insert(motion, self.target, w - motion.sum(0), axis=0)
        return w.reshape(-1, w.shape[-1]), b
