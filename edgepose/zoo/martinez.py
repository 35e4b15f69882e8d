"""Martinez's simple baseline: a fully connected network with two residual blocks.

Source: Martinez et al. 2017, "A simple yet effective baseline for 3d human pose estimation" (ICCV); it is also the
lifter of "HRNet + simple baseline" (004). With 16 joints it has the 4.29 M parameters that are published for it.

Where it differs: the original gives 16 joints without the root from pixels of a 1000 x 1000 picture. Here the input is
normalised screen coordinates, which have that picture's geometry whatever the camera's, and the root is an output that
stands at zero. The training set's mean and deviation are buffers of the model, so they travel with its weights.
"""

from __future__ import annotations

import torch
from torch import nn

from ..skeleton import H36M17, Skeleton
from .layers import NormedLinear, ResidualTower, array, folded_linear, norm_constants

LEAST_DEVIATION = 1e-6  # a coordinate that never changes (the root's) is not divided by zero


class Martinez(nn.Module):
    """Lifts 2D keypoints to a 3D pose: (B, T, J, 2) normalised screen -> (B, J, 3) metres from the root, camera axes.

    The T frames are concatenated; the answer is for the middle one.
    """

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 1, channels: int = 1024, dropout: float = 0.5):
        super().__init__()
        self.skeleton, self.frames = skeleton, frames
        inputs, outputs = 2 * frames * len(skeleton), 3 * len(skeleton)
        for side, size in (("input", inputs), ("output", outputs)):
            self.register_buffer(f"{side}_mean", torch.zeros(size))
            self.register_buffer(f"{side}_deviation", torch.ones(size))
        self.embed = NormedLinear(inputs, channels)
        self.dropout = nn.Dropout(dropout)
        self.tower = ResidualTower(channels, 2, dropout)
        self.head = nn.Linear(channels, outputs)

    @torch.no_grad()
    def standardise(self, keypoints: torch.Tensor, target: torch.Tensor) -> None:
        """Takes the mean and deviation of both sides from a training set: (N, T, J, 2), (N, J, 3)."""
        for side, values in (("input", keypoints.flatten(1)), ("output", target.flatten(1))):
            getattr(self, f"{side}_mean").copy_(values.mean(0))
            getattr(self, f"{side}_deviation").copy_(values.std(0).clamp(min=LEAST_DEVIATION))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x.flatten(1) - self.input_mean) / self.input_deviation
        x = self.head(self.tower(self.dropout(self.embed(x))))
        return (x * self.output_deviation + self.output_mean).reshape(-1, len(self.skeleton), 3)

    def lower(self, plan):
        x = plan.reshape(plan.frame_tokens(), 1)
        w, b = folded_linear(self.embed.linear)
        gain, shift = norm_constants(self.embed.norm)
        w = w / array(self.input_deviation)[:, None]
        b = b - array(self.input_mean) @ w
        x = self.tower.lower(plan, plan.linear(x, w * gain, b * gain + shift, activation="relu"))
        w, b = folded_linear(self.head)
        scale = array(self.output_deviation)
        return plan.reshape(plan.linear(x, w * scale, b * scale + array(self.output_mean)), len(self.skeleton))
