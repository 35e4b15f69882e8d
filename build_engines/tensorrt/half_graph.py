"""Half precision as casts: which nodes of a float32 ONNX graph must stay in float32, and the same graph with the others
in FP16.

TensorRT's strongly typed networks compute each node in the type of its inputs, so the graph says all. A weakly typed
network (TensorRT 8) is given the float32 graph and the names of the nodes that stay.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepose.checks import first_line

LARGEST_ACTIVATION = 500.0  # in FP16 the step between numbers is then 0.25, and a square is over the range
LARGEST, SMALLEST = 65504.0, 2.0**-14  # FP16's range with all its digits
FLOAT32_OPS = ("LayerNormalization", "Softmax")  # sums of squares and of exponentials
MOVES = ("Reshape", "Transpose", "Slice", "Split", "Concat")  # their answer has the type of their input
ROUNDS = ("QuantizeLinear", "DequantizeLinear")
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def magnitudes(model: onnx.ModelProto, windows: np.ndarray) -> dict[str, float]:
    """The largest magnitude of each float32 tensor that a graph of batch 1 makes of `windows`, keypoints_norm (N, T, J,
    C); NaN if one is.

    Raises RuntimeError if ONNX Runtime does not take the graph.
    """
    import onnxruntime

    computed = {model.graph.input[0].name}
    for node in model.graph.node:
        computed.update(node.output if computed.intersection(node.input) else ())
    watched = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    watched.graph.output.extend(info for info in watched.graph.value_info
                                if info.name in computed and info.type.tensor_type.elem_type == TensorProto.FLOAT)
    options = onnxruntime.SessionOptions()
    # Else it saturates in 16 bits on many processors.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise RuntimeError(f"ONNX Runtime does not take the graph: {first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]
    largest = dict.fromkeys(names, 0.0)
    for window in windows:
        for name, value in zip(names, session.run(names, {model.graph.input[0].name: window[None]})):
            largest[name] = float(np.maximum(largest[name], np.abs(value).max()))  # maximum hands NaN on
    return largest


def float32_nodes(model: onnx.ModelProto, steps: Collection[str], largest: dict[str, float]) -> set[str]:
    """The names of the nodes that must compute in float32: those of `steps`, sums of squares and exponentials, the
    residual sums that LayerNorm and those steps read (a third of a transformer's rounding error, and one cast fewer),
    and those that touch a number which FP16 has not, be it a constant or one seen among the `magnitudes`."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    too_much = {name for name, value in constants.items() if not _fits(value)}
    too_much |= {name for name, value in largest.items() if not value <= LARGEST_ACTIVATION}
    kept = _residual_sums(model.graph, steps)
    lost: set[str] = set()  # tensors in eight bits, or out of them, that have no half precision
    for node in model.graph.node:
        touched = {*node.input, *node.output}
        if node.op_type in ROUNDS:
            if touched & too_much & constants.keys() or lost.intersection(node.input):
                kept.add(node.name)
                lost.update(node.output)
        elif node.op_type in MOVES:
            lost.update(node.output if lost.intersection(node.input) else ())
        elif node.op_type in FLOAT32_OPS or node.name.split("/")[0] in steps or touched & (too_much | lost):
            kept.add(node.name)
    return kept


def _residual_sums(graph: onnx.GraphProto, steps: Collection[str]) -> set[str]:
    """The additions, but for those of biases, that end in a LayerNorm or one of `steps` with nothing but additions
    between."""
    products = {name for node in graph.node if node.op_type == "MatMul" for name in node.output}
    sums: set[str] = set()
    stream: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "LayerNormalization" or node.name.split("/")[0] in steps:
            stream.update(node.input)
        elif stream.intersection(node.output) and (
                node.op_type in MOVES or (node.op_type == "Add" and not products.intersection(node.input))):
            stream.update(node.input)
            sums.update([node.name] if node.op_type == "Add" else [])
    return sums


def _fits(value: np.ndarray) -> bool:
    top = np.abs(value).max(initial=0)
    return bool(top == 0 or SMALLEST <= top <= LARGEST)


def in_half(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """The graph with every node in FP16 but those named in `kept`; a tensor that is wanted in another type than it has
    is cast once. Input and output stay float32. Scales have the type of what they scale."""
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph, caster = halved.graph, _Caster(halved.graph)
    is_kept = _with_rounding(graph, kept)
    _raise_scales(graph, is_kept)
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        wanted = TensorProto.FLOAT if is_kept[node.name] else TensorProto.FLOAT16
        if node.op_type in MOVES and TensorProto.FLOAT in {caster.types.get(name) for name in node.input}:
            wanted = TensorProto.FLOAT
        node.input[:] = [caster.cast(name, wanted) for name in node.input]
        for name in node.output:
            caster.types[name] = TensorProto.INT8 if node.op_type == "QuantizeLinear" else wanted
        graph.node.append(node)
    output = graph.output[0].name
    if caster.types[output] != TensorProto.FLOAT:
        raise ValueError(f"{output} is computed in FP16: its step must be among those that are kept")
    used = {name for node in graph.node for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    return halved


def _with_rounding(graph: onnx.GraphProto, kept: Collection[str]) -> dict[str, bool]:
    """Name of each node -> whether it stays in float32: rounding is of the type of what reads it, half precision if
    anything is."""
    is_kept = {node.name: node.name in kept for node in graph.node}
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    operators = {node.name: node.op_type for node in graph.node}
    for node in reversed(graph.node):
        if node.op_type in ROUNDS or (node.op_type == "Transpose" and operators.get(node.input[0])
                                      == "DequantizeLinear"):
            is_kept[node.name] |= all(is_kept[reader] for name in node.output for reader in readers[name])
    return is_kept


def _raise_scales(graph: onnx.GraphProto, is_kept: dict[str, bool]) -> None:
    """Weights in eight bits whose column is so small that FP16 has no scale for it are rounded to the smallest one;
    beside the other columns they are next to nothing."""
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants and not is_kept[node.name]:
            weight, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
            raised = np.maximum(scale, np.float32(SMALLEST))
            weight = np.rint(weight * (scale / raised).reshape([-1] + [1] * (weight.ndim - 1))).astype(np.int8)
            for name, value in zip(node.input, (weight, raised)):
                constants[name].CopyFrom(numpy_helper.from_array(value, name))


class _Caster:
    """Tensors of a graph in the type that is wanted."""

    def __init__(self, graph: onnx.GraphProto):
        self.graph = graph
        self.types = {graph.input[0].name: TensorProto.FLOAT} | {t.name: t.data_type for t in graph.initializer}
        self._constants = {t.name: t for t in graph.initializer}

    def cast(self, name: str, wanted: int) -> str:
        """The tensor `name` in the type `wanted`, or as it is if it holds whole numbers."""
        if self.types[name] not in FLOATS or self.types[name] == wanted:
            return name
        other = f"{name}/{'half' if wanted == TensorProto.FLOAT16 else 'float'}"
        if other not in self.types:
            self.types[other] = wanted
            if name in self._constants:
                value = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(value, other))
            else:
                self.graph.node.append(helper.make_node("Cast", [name], [other], other, to=wanted))
        return other
