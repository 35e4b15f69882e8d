"""Weights that the authors of a model published, under their names, as our modules.

Strided Transformer (Li et al. 2022, the base model): names of the public repository StridedTransformer-Pose3D. What
loads is the model without the authors' `post_refine` network, which needs the camera's intrinsics and is not built:
their `no_refine.pth`. The paper's 43.7 mm on Human3.6M is not measured here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import torch

from ..checks import first_line, listed
from ..skeleton import H36M17, Skeleton
from .strided import STRIDES, StridedTransformer

# Ours, within a layer -> theirs. Several of theirs lie one below the other in ours.
LAYER = {"norm_attention.weight": ("sublayer.0.norm.a_2",), "norm_attention.bias": ("sublayer.0.norm.b_2",),
         "norm_mlp.weight": ("sublayer.1.norm.a_2",), "norm_mlp.bias": ("sublayer.1.norm.b_2",)}
for _kind in ("weight", "bias"):
    LAYER[f"attention.qkv.{_kind}"] = tuple(f"self_attn.linears.{i}.{_kind}" for i in range(3))
    LAYER[f"attention.out.{_kind}"] = (f"self_attn.linears.3.{_kind}",)
    LAYER[f"mlp.expand.{_kind}"] = (f"feed_forward.w_1.{_kind}",)
    LAYER[f"mlp.contract.{_kind}"] = (f"feed_forward.w_2.{_kind}",)
PARTS = {"embed.linear": "encoder.0", "embed.norm": "encoder.1", "sequence_head.norm": "fcn_1.0",
         "sequence_head.linear": "fcn_1.1", "head.norm": "fcn.0", "head.linear": "fcn.1"}
POSITION = "Transformer.pos_embedding"
IDLE = tuple(f"{part}.model.norm.{name}" for part in ("Transformer", "Transformer_reduce") for name in ("a_2", "b_2"))


def _their_names(name: str) -> tuple[str, ...]:
    """The authors' names of what is `name` in a StridedTransformer."""
    if name == "position":
        return (POSITION,)
    part, index, rest = (name.split(".", 2) + ["", ""])[:3]
    if part in ("vanilla", "strided"):
        prefix = "Transformer" if part == "vanilla" else "Transformer_reduce"
        if rest == "position":
            return (f"{prefix}.model.pos_embedding_{int(index) + 1}",)
        return tuple(f"{prefix}.model.layers.{index}.{theirs}" for theirs in LAYER[rest])
    return (f"{PARTS[f'{part}.{index}']}.{rest}",)


def can_take(build: type, options: Mapping[str, Any]) -> bool:
    """True for a model of the zoo that strided_transformer makes."""
    return build is StridedTransformer and dict(options) == {"attention": "dense"}


def strided_transformer(state: Mapping[str, torch.Tensor], skeleton: Skeleton = H36M17) -> StridedTransformer:
    """The base model with published weights, in evaluation mode; its frames and width are read from the shapes.

    The names may have the prefix `module.` of a model trained on several GPUs.
    Raises ValueError, naming the key, if one is missing, not known, or of another shape.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if POSITION not in state:
        raise ValueError(f"no Strided Transformer: wanted {POSITION} among its keys, which are {listed(state)}")
    if state[POSITION].ndim < 2:
        raise ValueError(f"{POSITION} has shape {tuple(state[POSITION].shape)}; wanted (1, frames, channels)")
    frames, channels = state[POSITION].shape[-2:]
    if frames not in STRIDES:
        raise ValueError(f"{POSITION} is for {frames} frames; there are {', '.join(map(str, STRIDES))}")
    model = StridedTransformer(skeleton, frames, channels, attention="dense", norm="sample")
    wanted = model.state_dict()
    theirs = {name: _their_names(name) for name in wanted}
    missing = [key for keys in theirs.values() for key in keys if key not in state]
    unknown = sorted(set(state) - {key for keys in theirs.values() for key in keys} - set(IDLE))
    if missing or unknown:
        raise ValueError(listed([f"missing {key}" for key in missing] + [f"not known {key}" for key in unknown], "; "))
    ours = {}
    for name, tensor in wanted.items():
        parts = [state[key] for key in theirs[name]]
        if any(part.shape != parts[0].shape for part in parts):
            raise ValueError(f"{listed(theirs[name])} have shapes "
                             f"{listed(tuple(part.shape) for part in parts)}; wanted the same")
        value = torch.cat(parts) if len(parts) > 1 else parts[0]
        if name.endswith("position") and value.ndim > 1:
            # Stored for all frames, whatever the layer's stride has left of them.
            value = value.flatten(0, -2)[:len(tensor)]
        elif value.ndim == 3 and tensor.ndim == 2:
            value = value.squeeze(-1)  # a convolution with kernel 1
        if value.shape != tensor.shape:
            raise ValueError(f"{theirs[name][0]} has shape {tuple(parts[0].shape)}; it does not "
                             f"make {tuple(tensor.shape)}")
        ours[name] = value
    model.load_state_dict(ours)
    return model.eval()


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a .pth file, bare or under "state_dict"; nothing in it is run.

    Raises FileNotFoundError if there is none and ValueError, with the path, if it holds anything but tensors by name.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # Whatever torch and pickle make of other bytes: KeyError, UnpicklingError, RuntimeError, ...
    except Exception as error:
        raise ValueError(f"{path} is no .pth file of tensors, as torch.save writes them "
                         f"({first_line(error)})") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{path} holds no tensors by name: it is "
                         f"{type(state).__name__}{' without entries' if state == {} else ''}")
    others = [f"{key!r}: {type(value).__name__}" for key, value in state.items() if not isinstance(key, str)
              or not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(f"{path} holds no tensors by name, or more than those: it has {listed(others)}")
    return state
