"""What every training run does: draw from a step's own generator, average the weights, and be stopped and resumed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def step_generator(seed: int, step: int, process: int = 0) -> torch.Generator:
    """The generator of one step: what it draws depends on the seed, the step's number and the process alone."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step + process * 0x9E3779B1)


@torch.no_grad()
def average(mean: nn.Module, new: nn.Module, keep: float, done: int) -> None:
    """Moves `mean` towards `new`: an exponential moving average that forgets the first steps faster; counters are copied."""
    keep = min(keep, (1 + done) / (10 + done))
    for old, tensor in zip(mean.state_dict().values(), new.state_dict().values()):
        if old.is_floating_point():
            old.lerp_(tensor, 1 - keep)
        else:
            old.copy_(tensor)


def pack(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Everything a resumed run needs, as tensors: the modules' and the optimisers' states under their names."""
    state = {f"{part}.{name}": tensor for part, module in modules.items() for name, tensor in module.state_dict().items()}
    for part, optimiser in optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            state |= {f"{part}.{index}.{name}": tensor for name, tensor in moments.items()}
    return state


def unpack(state: Mapping[str, torch.Tensor], modules: Mapping[str, nn.Module],
           optimisers: Mapping[str, torch.optim.Optimizer]) -> None:
    """Puts back what pack() gave."""
    def part(name: str) -> dict[str, torch.Tensor]:
        return {key[len(name) + 1:]: tensor for key, tensor in state.items() if key.startswith(name + ".")}

    for name, module in modules.items():
        module.load_state_dict(part(name))
    for name, optimiser in optimisers.items():
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in part(name).items():
            index, _, moment = key.partition(".")
            moments.setdefault(int(index), {})[moment] = tensor
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
