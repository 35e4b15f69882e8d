"""The models in torch: for building engines, training, tests and benchmarks. The runtime never imports this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import torch
from torch import nn

from ..skeleton import H36M17, Skeleton
from .ampose import AMPose

FRAMES = (1, 9, 27)


@dataclass(frozen=True)
class Entry:
    """A named model: the class that builds it, the options that make it this size, and the window lengths it takes."""

    build: Callable[..., nn.Module]
    options: dict[str, Any]
    frames: tuple[int, ...] = FRAMES


MODELS = {  # depth and channels: AMPose, Table 4.9
    "ampose": Entry(AMPose, {"depth": 4, "channels": 128}),
    "ampose-s": Entry(AMPose, {"depth": 4, "channels": 108, "heads": 4}),
    "ampose-m": Entry(AMPose, {"depth": 4, "channels": 256}),
    "ampose-l": Entry(AMPose, {"depth": 5, "channels": 512}),
    "ampose-5x128": Entry(AMPose, {"depth": 5, "channels": 128}),
    "ampose-4x384": Entry(AMPose, {"depth": 4, "channels": 384}),
    "ampose-6x512": Entry(AMPose, {"depth": 6, "channels": 512}),
}


def build(name: str, frames: int = 1, skeleton: Skeleton = H36M17, **options: Any) -> nn.Module:
    """The model `name` with fresh weights (seed torch first), in training mode; options override those of MODELS.

    It maps (B, frames, J, 2) normalised screen coordinates to (B, J, 3) metres.
    Raises ValueError for an unknown name or a window length the model does not take.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(MODELS)}")
    entry = MODELS[name]
    if frames not in entry.frames:
        raise ValueError(f"model {name!r} takes {', '.join(map(str, entry.frames))} frames, not {frames}")
    return entry.build(skeleton=skeleton, frames=frames, **{**entry.options, **options})


def parameters(model: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module) -> int:
    """Multiply-accumulates with trained weights for one window, counted while the model runs on one.

    The products inside attention and the mixing by the skeleton's adjacency are left out, as in the counts the papers
    print (0.5 % of AMPose).
    """
    counted = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel() * module.in_features

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Linear)]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, model.frames, len(model.skeleton), 2, device=next(model.parameters()).device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return counted
