"""A zoo model as an ONNX graph or a TorchScript archive, as bytes; the graph of an engine as a file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgepose import enginefile

OPSET = 17  # the newest that TensorRT 8.6 reads; LayerNorm is one node from here on


def _example(model: nn.Module) -> torch.Tensor:
    return torch.zeros(2, model.frames, len(model.skeleton), 2)


def to_torchscript(model: nn.Module) -> bytes:
    """The traced and frozen module of a model in evaluation mode; any batch size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and tracing fixes the shapes: all of them but the batch are fixed
        module = torch.jit.freeze(torch.jit.trace(model, _example(model)))
        buffer = io.BytesIO()
        torch.jit.save(module, buffer)
    return buffer.getvalue()


def to_onnx(model: nn.Module, precision: str) -> bytes:
    """An ONNX graph, opset 17, (B, T, J, 2) -> (B, J, 3), B free.

    precision fp16: the weight matrices are stored in half precision and widened by a Cast when the graph is loaded;
    the arithmetic stays float32, as in the native engine. int8: `model` is a PlanModule in eight bits; its weights are stored as
    int8 before their DequantizeLinear.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (_example(model),), buffer, dynamo=False, opset_version=OPSET, input_names=["keypoints_norm"],
                          output_names=["pose_m"], dynamic_axes={"keypoints_norm": {0: "people"}, "pose_m": {0: "people"}})
    graph = onnx.load_from_string(buffer.getvalue())
    if graph.opset_import[0].version != OPSET:
        raise RuntimeError(f"the exporter wrote opset {graph.opset_import[0].version} instead of {OPSET}")
    with torch.inference_mode():
        shape = model(_example(model)).shape
    for dimension, size in zip(graph.graph.output[0].type.tensor_type.shape.dim[1:], shape[1:]):
        dimension.dim_value = size  # the exporter names what it cannot follow; only the people are free
    if precision == "fp16":
        _halve_weights(graph.graph)
    if precision == "int8":
        _fold_weights(graph.graph)
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


def write_graph(engine: Path, say: Callable[[str], None]) -> None:
    """The graph of an ONNX engine as a plain file beside it, "ampose_fp32.onnx" of "ampose_onnx_fp32.epose"."""
    header, tensors = enginefile.read(engine)
    path = engine.with_name(f"{engine.stem.removesuffix('_onnx_' + header['precision'])}_{header['precision']}.onnx")
    enginefile.write_atomically(path, tensors["payload"].tobytes())
    say(f"plain ONNX: {path}; {header['units']}")


def _halve_weights(graph: onnx.GraphProto) -> None:
    matrices = [t for t in graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) >= 2]
    casts = []
    for tensor in matrices:
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)


def _fold_weights(graph: onnx.GraphProto) -> None:
    """Weights that the graph quantises, each by an operator of its own, become what that operator gives."""
    constants = {t.name: t for t in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    folded = {}
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or any(name not in constants for name in node.input):
            continue
        weight, scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if zero.any():
            raise RuntimeError(f"{node.input[2]} is not zero: the scheme is symmetric")
        shape = [-1 if i == axis % weight.ndim else 1 for i in range(weight.ndim)]
        folded[node.output[0]] = np.rint(weight / scale.reshape(shape)).astype(np.int8)
    kept = [node for node in graph.node if node.op_type != "QuantizeLinear" or node.output[0] not in folded]
    used = {name for node in kept for name in node.input}
    initializers = [t for t in graph.initializer if t.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(node for node in kept if node.op_type != "Constant" or node.output[0] in used)
    graph.initializer.extend([*initializers, *(numpy_helper.from_array(w, name) for name, w in folded.items())])
