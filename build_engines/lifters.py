"""The lifter that a command names: a zoo module with its weights."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from edgepose import zoo
from edgepose.zoo import checkpoints, published as published_weights

UNTRAINED_SEED = 0


@dataclass(frozen=True)
class NamedModule:
    """A zoo module to compile.

    is_trained: False for random weights. options: those it was built with. checkpoint: the stem of its file, where that
    is not the model's name. rate_hz: the frames a second that it was trained on, where the checkpoint says them.
    """

    name: str
    module: nn.Module
    is_trained: bool
    options: dict[str, Any] = field(default_factory=dict)
    checkpoint: str = ""
    rate_hz: float | None = None

    @property
    def file_stem(self) -> str:
        """The beginning of the engine files' names: two checkpoints of a model do not write over each other's engines.

        A checkpoint that is called as its model gets the options that make it another one: "strided27-s-causal".
        """
        usual = checkpoints.checkpoint_name(self.name, self.module.frames)
        if self.checkpoint not in ("", usual):
            return self.checkpoint
        return "-".join([usual, *(_in_a_file_name(option, value) for option, value in self.changed_options.items())])

    @property
    def changed_options(self) -> dict[str, Any]:
        """The options that its model's name does not say."""
        return zoo.changed_options(self.name, self.options) if self.name in zoo.MODELS else self.options


def _in_a_file_name(option: str, value: Any) -> str:
    """{"is_causal": True} is "causal", {"depth": 2} "depth2", {"block": "two residual"} "block-two-residual"."""
    if isinstance(value, bool):
        return "no-" * (not value) + option.removeprefix("is_")
    return option + re.sub(r"[^A-Za-z0-9.]+", "-", f" {value}" if isinstance(value, str) else str(value))


def load_lifter(model: str, frames: int | None = None, untrained: bool = False,
                published: str | None = None) -> NamedModule:
    """The lifter named `model`: a checkpoint file, or a zoo name whose weights ship with edgepose.

    untrained: a zoo name with seeded random weights instead, for timing. published: a .pth file by the model's authors.
    frames: the window length, which a checkpoint must have.
    Raises ValueError or FileNotFoundError, saying what there is and how to train what is not.
    """
    if published and untrained:
        raise ValueError("--published and --untrained exclude each other")
    if untrained:
        torch.manual_seed(UNTRAINED_SEED)
        module = zoo.build(model, frames).eval()
        return NamedModule(model, module, False,
                           checkpoint=f"{checkpoints.checkpoint_name(model, module.frames)}-untrained")
    if published:
        takes = [name for name, entry in zoo.MODELS.items() if published_weights.can_take(entry.build, entry.options)]
        if model in zoo.MODELS and model not in takes:
            raise ValueError(f"--published takes weights by the authors of {', '.join(takes)}; not of {model}")
        state = published_weights.read_state(published)
        try:
            module = published_weights.strided_transformer(state)
        except ValueError as error:
            raise ValueError(f"{published}: {error}") from None
        if zoo.MODELS.get(model) != zoo.Entry(type(module), {"attention": "dense"}, (module.frames,)):
            raise ValueError(f"{published} is a Strided Transformer of {module.frames} frames: --model "
                             f"strided{module.frames}-dense, not {model}")
        zoo.frames_of(model, frames)
        return NamedModule(model, module, True, {"norm": "sample"})
    path = checkpoints.find_checkpoint(model, frames)
    module, metadata = checkpoints.load_checkpoint(path, frames)
    return NamedModule(metadata["model"], module.eval(), True, metadata["options"], path.stem, metadata.get("rate_hz"))


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 of a module's state: which training an engine came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
