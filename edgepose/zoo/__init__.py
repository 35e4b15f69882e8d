"""The models in torch: for building engines, training, tests and benchmarks. The runtime never imports this package."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Callable

import torch
from torch import nn

from ..checks import checked_number, near
from ..columns import inputs_of
from ..skeleton import H36M17, Skeleton
from .ampose import AMPose
from .dln import DLN
from .hrnet import HRNet
from .martinez import Martinez
from .posegate import PoseGateFormer
from .posemlp import PoseMLP
from .refined import RefinedAMPose
from .strided import STRIDES, StridedTransformer
from .strided_causal import DILATIONS, StridedCausal

FRAMES = (1, 9, 27)


@dataclass(frozen=True)
class Entry:
    """A named model: the class that builds it, the options that make it this size, and the window lengths it takes, the
    usual one first."""

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
    "ampose-refined": Entry(RefinedAMPose, {"depth": 4, "channels": 128}),
    "posegate": Entry(PoseGateFormer, {}),
    "posegate-s": Entry(PoseGateFormer, {"channels": 128}),
    "martinez": Entry(Martinez, {}),
    "martinez-s": Entry(Martinez, {"channels": 512}),
    "posemlp": Entry(PoseMLP, {}, (1,)),
    "posemlp-s": Entry(PoseMLP, {"channels": 320}, (1,)),
    "posemlp27": Entry(PoseMLP, {}, (27,)),
    "posemlp27-s": Entry(PoseMLP, {"channels": 320}, (27,)),
    "strided-causal": Entry(StridedCausal, {}, (81, *(reach for reach in DILATIONS if reach != 81))),
    "dln": Entry(DLN, {}),
    "dln-s": Entry(DLN, {"channels": 256}),
}
for _frames in STRIDES:  # -s: for machines and training budgets that are small
    for _suffix, _attention in (("", "sparse"), ("-dense", "dense")):
        MODELS[f"strided{_frames}{_suffix}"] = Entry(StridedTransformer, {"attention": _attention}, (_frames,))
        MODELS[f"strided{_frames}{_suffix}-s"] = Entry(
            StridedTransformer, {"attention": _attention, "channels": 128, "dropout": 0.0, "embed_dropout": 0.0},
            (_frames,))

DETECTORS: dict[str, dict[str, Any]] = {  # picture -> heatmaps; the options of HRNet
    "hrnet-w32": {"width": 32},
    "hrnet-w48": {"width": 48},
    "hrnet-w8": {"width": 8, "modules": (1, 2, 1), "stem": 32},  # small enough to ship
}


def build_detector(name: str) -> HRNet:
    """The detector `name` with fresh weights (seed torch first), in training mode.

    It maps (B, 3, H, W) normalised RGB to (B, 17, H / 4, W / 4) heatmaps. Raises ValueError for an unknown name.
    """
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; there are {', '.join(DETECTORS)}")
    return HRNet(**DETECTORS[name])


def frames_of(name: str, frames: int | None = None) -> int:
    """`frames`, or the usual window length of the model `name` for None.

    Raises ValueError for an unknown name or a window length the model does not take.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(MODELS)}{near(name, MODELS)}")
    lengths = MODELS[name].frames
    if frames is not None and frames not in lengths:
        raise ValueError(f"model {name!r} takes {', '.join(map(str, lengths))} frames, not {frames}")
    return lengths[0] if frames is None else frames


def options_of(name: str) -> dict[str, Any]:
    """The options of the model `name`, with what each is by default. Raises ValueError for an unknown name."""
    frames_of(name)
    options: dict[str, Any] = {}
    for base in MODELS[name].build.__mro__:  # **options are its base class's
        parameters = inspect.signature(base.__init__).parameters.values()
        options = {p.name: p.default for p in parameters if p.default is not p.empty} | options
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    options = {option: default for option, default in options.items() if option not in ("skeleton", "frames")}
    return options | MODELS[name].options


def changed_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Those of a model's options that are not as its name says: {"is_causal": True} of a causal strided27."""
    usual = options_of(name)
    return {option: options[option] for option in sorted(usual) if option in options
            and options[option] != usual[option]}


def check_option(model: str, option: str, value: Any) -> None:
    """Raises ValueError if the model `model` has no such option, TypeError if the option's value is of another kind."""
    known = options_of(model)
    if option not in known:
        raise ValueError(f"model {model!r} has no option {option!r}; it has {', '.join(known)}{near(option, known)}")
    name, kind = f"option {option!r} of model {model!r}", type(known[option])
    if kind is int:
        checked_number(name, value, 1, whole=True)
    elif kind is float:
        checked_number(name, value, 0, 1)
    elif not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}; wanted {'True or False' if kind is bool else 'text'}")


def build(name: str, frames: int | None = None, skeleton: Skeleton = H36M17, **options: Any) -> nn.Module:
    """The model `name` with fresh weights (seed torch first), in training mode; options override those of MODELS.

    It maps (B, frames, J, C) normalised screen coordinates, and what else its `inputs` name, to (B, J, 3) metres, or 4
    columns where its `outputs` say so; frames: None for the usual length.
    Raises ValueError for an unknown name or option, a window length the model does not take or an option it cannot be
    built with, TypeError for an option of another kind.
    """
    frames = frames_of(name, frames)
    entry = MODELS[name]
    for option, value in options.items():
        check_option(name, option, value)
    return entry.build(skeleton=skeleton, frames=frames, **{**entry.options, **options})


def target_frame(model: nn.Module) -> int:
    """The frame of the window that a model's answer is for: the middle one, the newest for a causal model."""
    return model.frames - 1 if getattr(model, "is_causal", False) else model.frames // 2


def parameters(model: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module) -> int:
    """Multiply-accumulates with trained weights for one window, or one frame of a model that remembers those before,
    counted while the model runs on one.

    The products inside attention and the mixing by the skeleton's adjacency are left out, as in the counts the papers
    print (0.5 % of AMPose).
    """
    counted = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel() * (module.weight.numel() // len(module.weight))

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d))]
    training = model.training
    with torch.no_grad():
        frames = 1 if getattr(model, "has_state", False) else model.frames
        model.eval()(torch.zeros(1, frames, len(model.skeleton), len(inputs_of(model)),
                                 device=next(model.parameters()).device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return counted
