"""DLN + Transformer: a deep fully connected network beside a branch of the same kind that gates its input.

Source: "Combination of Deep Learner Network and Transformer for 3D Human Pose Estimation" (000), section 2.1; reported
with HRNet's 2D on Human3.6M: 50.6 mm (protocol 1), 38.3 mm (protocol 2).

Decided where the source is silent: a branch's tower is Linear(2J -> 1024), then the "8 layers of the fully connected
layer" as four residual blocks of two [Linear, BatchNorm, ReLU, dropout 0.25], the layers of the network it builds on
(Martinez); the skip connection of the "transformer" branch is Linear(2J -> 1024), the element-wise product is taken
with it before the sigmoid. What the source calls a transformer has no attention.
"""

from __future__ import annotations

import torch
from torch import nn

from ..skeleton import H36M17, Skeleton
from .layers import ResidualTower, folded_linear

BLOCKS = 4


class Branch(nn.Module):
    """A tower over the keypoints and its own view of the pose: (B, 2TJ) -> (B, 3J)."""

    def __init__(self, inputs: int, channels: int, outputs: int, dropout: float):
        super().__init__()
        self.embed = nn.Linear(inputs, channels)
        self.tower = ResidualTower(channels, BLOCKS, dropout)
        self.head = nn.Linear(channels, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.tower(self.embed(x)))

    def lower(self, plan, x):
        """The tower alone: the head is folded into what follows."""
        return self.tower.lower(plan, plan.linear(x, *folded_linear(self.embed)))


class GatedBranch(Branch):
    """The "transformer" branch: the tower times a skip connection, through a sigmoid. (B, 2TJ) -> (B, 3J)."""

    def __init__(self, inputs: int, channels: int, outputs: int, dropout: float):
        super().__init__(inputs, channels, outputs, dropout)
        self.skip = nn.Linear(inputs, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.sigmoid(self.tower(self.embed(x)) * self.skip(x)))

    def lower(self, plan, x):
        return plan.multiply(super().lower(plan, x), plan.linear(x, *folded_linear(self.skip)), activation="sigmoid")


class DLN(nn.Module):
    """Lifts 2D keypoints to a 3D pose: (B, T, J, 2) normalised screen -> (B, J, 3) metres from the root, camera axes.

    The T frames are concatenated; the answer is for the middle one.
    """

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 1, channels: int = 1024, dropout: float = 0.25):
        super().__init__()
        self.skeleton, self.frames = skeleton, frames
        inputs, outputs = 2 * frames * len(skeleton), 3 * len(skeleton)
        self.gated = GatedBranch(inputs, channels, outputs, dropout)
        self.plain = Branch(inputs, channels, outputs, dropout)
        self.head = nn.Linear(outputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.head(self.gated(x) + self.plain(x)).reshape(-1, len(self.skeleton), 3)

    def lower(self, plan):
        keypoints = plan.reshape(plan.frame_tokens(), 1)
        w, b = folded_linear(self.head)
        answer = None
        for branch in (self.gated, self.plain):  # head(gated + plain): the linears fold into one a branch
            branch_w, branch_b = folded_linear(branch.head)
            answer = plan.linear(branch.lower(plan, keypoints), branch_w @ w, branch_b @ w + b, residual=answer)
            b = 0
        return plan.reshape(answer, len(self.skeleton))
