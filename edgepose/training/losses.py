"""The losses of supervised training."""

from __future__ import annotations

import torch
from torch import nn

from .. import zoo
from ..columns import outputs_of


def mean_distance(predicted_m: torch.Tensor, target_m: torch.Tensor) -> torch.Tensor:
    """The mean distance of the joints, a scalar in the unit given: (..., J, 3), (..., J, 3)."""
    return (predicted_m - target_m).norm(dim=-1).mean()


def squared_error(predicted_m: torch.Tensor, target_m: torch.Tensor) -> torch.Tensor:
    """The mean squared error of the coordinates, a scalar: (..., J, 3), (..., J, 3)."""
    return (predicted_m - target_m).square().mean()


LOSSES = {"distance": mean_distance, "squared": squared_error}


def frame_weights(frames: int, target: int) -> torch.Tensor:
    """alpha_t of the full-to-single loss (Strided Transformer with sparse attention, eq. 15): (T,), mean 1.

    Largest at the target and falling to the ends; its figure is lost, decided:
    0.25 + 0.75 exp(-(t - c)^2 / (2 (T/6)^2)).
    """
    t = torch.arange(frames, dtype=torch.float32) - target
    weights = 0.25 + 0.75 * torch.exp(-t**2 / (2 * (frames / 6) ** 2))
    return weights / weights.mean()


MOTION = 2.0  # weight of what joints move wrongly from frame to frame

# Part of the joints that lie within the error a model predicts: one standard deviation of a normal distribution.
ERROR_QUANTILE = 0.683


def error_loss(error_m: torch.Tensor, distance_m: torch.Tensor) -> torch.Tensor:
    """The negative log-likelihood of the distances under an asymmetric Laplace distribution whose ERROR_QUANTILE is the
    error, a scalar.

    error_m, distance_m: (..., J). Least where that part of the joints lies within the error. Source: Koenker and
    Bassett 1978 (the quantile's loss), Yu and Moyeed 2001 (as a likelihood).
    """
    over = distance_m - error_m
    return torch.maximum(ERROR_QUANTILE * over, (ERROR_QUANTILE - 1) * over).mean()


class Objective(nn.Module):
    """A lifter and its loss as one module, so that compiling it and sharing it among GPUs take both.

    keypoints (B, T, J, C), joints of every frame (B, T, J, 3) m, a teacher's answer (B, J, 3) m or None -> (loss, mean
    joint distance of the answer), scalars in m.
    The loss is the mean joint distance of the answer (MPJPE: it is what is reported, and a depth that the picture
    leaves open does not rule it), or with loss="squared" the mean squared error of its coordinates. With a teacher it
    is the mean of the losses to the truth and to the teacher's answer, which does not err where the picture leaves the
    depth open. For a model with a `full_to_single` pass the loss of every frame is added, weighted by frame_weights,
    both parts alike (eq. 17 with both lambdas 1); for one that predicts its error, error_loss is added.
    A model with a `sequence` pass answers for every frame: all count alike, and MOTION times the mean distance by which
    the joints move otherwise than in truth from a frame to the next is added.
    """

    def __init__(self, lifter: nn.Module, loss: str = "distance"):
        super().__init__()
        self.lifter, self.off = lifter, LOSSES[loss]
        self.target = zoo.target_frame(lifter)
        self.register_buffer("weights", frame_weights(lifter.frames, self.target), persistent=False)

    def forward(self, keypoints: torch.Tensor, joints_m: torch.Tensor,
                taught_m: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        target, sequence = joints_m[:, self.target], None
        if hasattr(self.lifter, "full_to_single"):
            sequence, answer = self.lifter.full_to_single(keypoints)
        elif hasattr(self.lifter, "sequence"):
            answer, target = self.lifter.sequence(keypoints), joints_m
        else:
            answer = self.lifter(keypoints)
        pose = answer[..., :3].float()
        loss, distance = self.off(pose, target), mean_distance(pose, target)
        if hasattr(self.lifter, "sequence"):
            loss = loss + MOTION * mean_distance(pose.diff(dim=1), target.diff(dim=1))
        if taught_m is not None:
            loss = (loss + self.off(pose, taught_m)) / 2
        if sequence is not None:
            by_frame = (sequence.float() - joints_m).norm(dim=-1).mean((0, 2))
            loss = loss + (self.weights * by_frame).mean()
        if "error" in outputs_of(self.lifter):
            loss = loss + error_loss(answer[..., 3].float(), (pose - target).norm(dim=-1).detach())
        return loss, distance
