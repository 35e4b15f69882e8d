"""A zoo model by torch's own exporters: a TorchScript archive, or an ONNX graph, as bytes."""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn

from edgepose.columns import inputs_of

OPSET = 17  # LayerNorm is one node from here on


def _example(model: nn.Module) -> torch.Tensor:
    return torch.zeros(2, model.frames, len(model.skeleton), len(inputs_of(model)))


def to_torchscript(model: nn.Module) -> bytes:
    """The traced and frozen module of a model in evaluation mode; any batch size."""
    with warnings.catch_warnings():
        # torch.jit is deprecated, and tracing fixes the shapes: all of them but the batch are fixed.
        warnings.simplefilter("ignore")
        module = torch.jit.freeze(torch.jit.trace(model, _example(model)))
        buffer = io.BytesIO()
        torch.jit.save(module, buffer)
    return buffer.getvalue()


def to_onnx(model: nn.Module) -> bytes:
    """An ONNX graph by torch's exporter, (B, T, J, C) -> (B, J, D), B free: what one has without edgepose, for the
    benchmark's peers."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (_example(model),), buffer, dynamo=False, opset_version=OPSET,
                          input_names=["keypoints_norm"], output_names=["pose_m"],
                          dynamic_axes={"keypoints_norm": {0: "people"}, "pose_m": {0: "people"}})
    return buffer.getvalue()
