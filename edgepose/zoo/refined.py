"""A lifter with pose refinement: a small fully connected network corrects its pose.

Source: the starred rows of AMPose's Tables 4.1 and 4.2 add "a pose refinement module" (Cai et al. 2019, as the Strided
Transformer's code has it too): two fully connected layers, 1024 wide, that see the pose beside the keypoints.

Where it differs: the authors blend the pose's x and y with those of the keypoints' rays, which takes the camera's
intrinsics and the true distance of the root; neither is known at run time. Here the same layers, with the same input,
give a correction in metres. It starts at zero, so that a refined lifter begins as good as the lifter.
"""

from __future__ import annotations

import torch
from torch import nn

from ..skeleton import H36M17, Skeleton
from .ampose import AMPose
from .layers import folded_linear

HIDDEN = 1024
DROPOUT = 0.5


class RefinedAMPose(AMPose):
    """AMPose, then the correction: (B, T, J, 2) normalised screen -> (B, J, 3) metres from the root, camera axes.

    options: those of AMPose, whose weights it loads under the same names.
    """

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 1, **options):
        super().__init__(skeleton, frames, **options)
        joints = len(skeleton)
        self.refine = nn.Sequential(nn.Linear(5 * joints, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT),
                                    nn.Linear(HIDDEN, 3 * joints))
        nn.init.zeros_(self.refine[-1].weight)
        nn.init.zeros_(self.refine[-1].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pose = super().forward(x)
        seen = torch.cat([pose.flatten(1), x[:, x.shape[1] // 2].flatten(1)], 1)
        return pose + self.refine(seen).reshape(pose.shape)

    def lower(self, plan):
        pose = plan.reshape(super().lower(plan), 1)
        keypoints = plan.pick(plan.frame_tokens(), self.frames // 2, 1, 1)
        hidden = plan.linear(plan.concat(pose, keypoints), *folded_linear(self.refine[0]), activation="relu")
        return plan.reshape(plan.linear(hidden, *folded_linear(self.refine[3]), residual=pose), len(self.skeleton))
