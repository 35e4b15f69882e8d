"""A zoo model -> a TensorRT plan by Torch-TensorRT instead of by way of our graph: for comparison. Needs torch on a
GPU.

The plan is a plain one, which edgepose runs as its own and without torch. float16: all of the model computes in half
precision, between casts; our graph keeps what loses most in float32.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import nn

from edgepose.build_engines.tensorrt.builder import TensorRTPlan, inspected
from edgepose.checks import first_line
from edgepose.columns import inputs_of
from edgepose.enginefile import EngineError

DEVICE = "cuda"
# The types in the program decide, float32 is not TF32, the weights are fixed, nothing is left to torch.
OPTIONS = {"use_explicit_typing": True, "disable_tf32": True, "immutable_weights": True,
           "require_full_compilation": True, "min_block_size": 1}


class HalfModule(nn.Module):
    """A model in half precision between float32 keypoints and float32 poses."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(module).half()

    def forward(self, keypoints_norm: torch.Tensor) -> torch.Tensor:
        return self.module(keypoints_norm.half()).float()


def build(module: nn.Module, precision: str, batch: int) -> TensorRTPlan:
    """The plan of a model for `batch` people. precision: fp32 or fp16.

    Raises ImportError without Torch-TensorRT, EngineError if it converts not all of the model or is too old to give a
    plan.
    """
    import torch_tensorrt

    convert = getattr(torch_tensorrt.dynamo, "convert_exported_program_to_serialized_trt_engine", None)
    if convert is None:
        raise EngineError(f"Torch-TensorRT {torch_tensorrt.__version__} gives no plan of its own; 2.5 and later do")
    model = (HalfModule(module) if precision == "fp16"
             else copy.deepcopy(module)).eval().requires_grad_(False).to(DEVICE)
    example = torch.zeros(batch, module.frames, len(module.skeleton), len(inputs_of(module)), device=DEVICE)
    try:
        with torch.no_grad():
            payload = convert(torch.export.export(model, (example,)), arg_inputs=(example,),
                              **_options(convert, precision))
    except Exception as error:  # whatever torch.export, the converters and TensorRT raise
        raise EngineError(
            f"Torch-TensorRT {torch_tensorrt.__version__} does not convert the model: {first_line(error)}") from error
    return inspected(bytes(payload))


def _options(convert: Any, precision: str) -> dict[str, Any]:
    """The entries of OPTIONS that this version has; without explicit types it gets precisions to choose from."""
    known = inspect.signature(convert).parameters
    options = {name: value for name, value in OPTIONS.items() if name in known}
    if "use_explicit_typing" not in known and "enabled_precisions" in known:
        options["enabled_precisions"] = {torch.float32, torch.float16} if precision == "fp16" else {torch.float32}
    return options
