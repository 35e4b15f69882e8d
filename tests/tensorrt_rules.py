"""The rules of TensorRT's parsers and builders for a graph, checked on a file: what it breaks, in words."""

import re
from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

OPSETS = {"legacy": (17, 8), "strong": (19, 9)}  # flavour -> opset, IR version
OPS = {"Transpose", "Reshape", "Slice", "Split", "Concat", "MatMul", "Conv", "Add", "Sub",
       "Mul", "Div", "Erf", "Relu", "Sigmoid", "Softmax",
       "LayerNormalization", "QuantizeLinear", "DequantizeLinear"}  # no Gemm, Gelu, Attention, Shape, Gather, Constant
MOVES = {"Transpose", "Reshape", "Slice", "Split", "Concat"}
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


class Graph:
    def __init__(self, payload):
        self.model = onnx.load_from_string(payload)
        self.nodes = list(self.model.graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        inferred = onnx.shape_inference.infer_shapes(self.model, check_type=True, strict_mode=True,
                                                     data_prop=True).graph
        self.infos = {info.name: info.type.tensor_type
                      for info in (*inferred.value_info, *inferred.input, *inferred.output)}
        self.types = ({name: info.elem_type for name, info in self.infos.items()}
                      | {t.name: t.data_type for t in self.model.graph.initializer})

    def axis(self, node):
        return next((a.i for a in node.attribute if a.name == "axis"), 1)

    def source(self, name):
        """The operator that makes a tensor, behind casts and moves; None for constants and for what holds keypoints."""
        node = self.maker.get(name)
        if node is None or not (node.op_type == "Cast" or node.op_type in MOVES):
            return node
        return None if self.holds_keypoints(name) else self.source(node.input[0])

    def holds_keypoints(self, name):
        node = self.maker.get(name)
        moved = node is not None and (node.op_type == "Cast" or node.op_type in MOVES)
        return name == "keypoints_norm" or (moved and any(self.holds_keypoints(other) for other in node.input))

    def operator(self, name):
        source = self.source(name)
        return None if source is None else source.op_type


def broken_rules(payload, rung, shapes, keep_float32=()):
    """The rules that the graph of a rung breaks, in words. shapes: of the input and the output."""
    onnx.checker.check_model(payload, full_check=True)
    graph = Graph(payload)
    return [*_of_the_file(graph, rung, shapes), *_of_names(graph, rung, keep_float32), *_of_types(graph, rung),
            *_of_rounding(graph, rung)]


def _of_the_file(graph, rung, shapes):
    model = graph.model
    opset, ir_version = OPSETS[rung.flavour]
    if [(o.domain, o.version) for o in model.opset_import] != [("", opset)] or model.ir_version != ir_version:
        yield f"opset {model.opset_import[0].version}, IR {model.ir_version}"
    borders = {i.name: (i.type.tensor_type.elem_type, tuple(d.dim_value for d in i.type.tensor_type.shape.dim))
               for i in (*model.graph.input, *model.graph.output)}
    if borders != {name: (TensorProto.FLOAT, shape) for name, shape in zip(("keypoints_norm", "pose_m"), shapes)}:
        yield f"input and output are {borders}"
    for name in graph.maker:
        dims = graph.infos[name].shape.dim if name in graph.infos else []
        if not dims or not all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in dims):
            yield f"{name} has no static shape"
    if any(t.external_data for t in model.graph.initializer):
        yield "constants outside the file"
    if unused := set(graph.constants) - set(graph.readers):
        yield f"nobody reads {unused}"


def _of_names(graph, rung, keep_float32):
    counts = Counter(node.name for node in graph.nodes)
    if bad := [name for name, count in counts.items() if count > 1 or not name or re.search(r"_\d+$", name)]:
        yield f"names that are not unique or end in a number: {bad}"
    is_told = rung.flavour == "legacy" and rung.precision != "fp32"
    if bool(keep_float32) != is_told or not set(keep_float32) <= set(counts):
        yield f"told to stay in float32: {keep_float32}"
    for node in graph.nodes:
        if is_told and node.op_type in ("LayerNormalization", "Softmax"):
            before = graph.maker[node.input[0]]
            for one in [node] + [before] * (before.op_type == "Add" and node.op_type == "LayerNormalization"):
                if one.name not in keep_float32:
                    yield f"{one.name} is not told to stay in float32"
        if node.name in keep_float32 and node.op_type in MOVES | {"QuantizeLinear", "DequantizeLinear"}:
            yield f"{node.name} computes nothing, and is told to stay in float32"
        if node.op_type not in OPS | ({"Cast"} if rung.is_half else set()):
            yield f"{node.name} is a {node.op_type}"


def _of_types(graph, rung):
    halves = {name for name, kind in graph.types.items() if kind == TensorProto.FLOAT16}
    if bool(halves) != rung.is_half:
        yield f"{len(halves)} tensors in FP16"
    casts = Counter()
    for node in graph.nodes:
        kinds = {graph.types[name] for name in (*node.input, *node.output)} & FLOATS
        if node.op_type == "Cast":
            source, kind = node.input[0], graph.types[node.output[0]]
            casts[source, kind] += 1
            is_cast = source in graph.maker and graph.maker[source].op_type == "Cast"
            if source in graph.constants or graph.types[source] == kind or is_cast:
                yield f"{node.name} casts in vain"
        elif len(kinds) > 1:
            yield f"{node.name} reads and writes two types"
        if node.op_type in ("LayerNormalization", "Softmax") and kinds != {TensorProto.FLOAT}:
            yield f"{node.name} is not in float32"
        if node.op_type == "LayerNormalization" and graph.maker[node.input[0]].op_type == "Cast":
            yield f"{node.name} reads what was rounded to FP16"
        if node.op_type in ("MatMul", "Conv") and graph.holds_keypoints(node.input[0]) and kinds != {TensorProto.FLOAT}:
            yield f"{node.name} reads keypoints in FP16"
    for (name, _), count in casts.items():
        if count > 1:
            yield f"{name} is cast {count} times"
    for name in graph.constants:
        if graph.types[name] in FLOATS and not np.isfinite(graph.constants[name]).all():
            yield f"{name} is not finite"
    head = graph.source("pose_m")
    while head.op_type != "MatMul":
        head = next(node for name in head.input if (node := graph.source(name)) is not None)
    if graph.types[head.output[0]] != TensorProto.FLOAT:
        yield "the head is in FP16"


def _of_rounding(graph, rung):
    rounds = [node for node in graph.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if bool(rounds) != (rung.precision == "int8"):
        yield f"{len(rounds)} roundings"
    seen = set()
    for node in rounds:
        data, (scale, zero) = node.input[0], node.input[1:]
        if scale not in graph.constants or zero not in graph.constants:
            yield f"{node.name} has a scale or zero that is computed"
            continue
        value, kind = graph.constants[scale], graph.types[scale]
        if not (value > 0).all():
            yield f"{node.name} has a scale that is not above 0"
        zeros = graph.constants[zero]
        if zeros.dtype != np.int8 or zeros.any() or zeros.shape != value.shape:
            yield f"{node.name} has a zero that is not int8 0"
        floats = data if node.op_type == "QuantizeLinear" else node.output[0]
        if kind != graph.types[floats] or (not rung.is_half and kind != TensorProto.FLOAT):
            yield f"{node.name} has a scale of another type than its data"
        is_weight = data in graph.constants or (node.op_type == "DequantizeLinear"
                                                and graph.maker[data].input[0] in graph.constants)
        shape = (graph.constants[data].shape if data in graph.constants
                 else [d.dim_value for d in graph.infos[data].shape.dim])
        if is_weight and (graph.axis(node) != 0 or value.shape != (shape[0],)):
            yield f"{node.name} has not a scale for each output channel"
        if not is_weight and value.shape != ():
            yield f"{node.name} has more than one scale for x"
        if node.op_type == "QuantizeLinear":
            if (data, value.tobytes()) in seen:
                yield f"{data} is quantised twice"
            seen.add((data, value.tobytes()))
            if rung.flavour == "strong" and is_weight:
                yield f"{node.name}: weights of a strong graph are stored in eight bits"
            readers = graph.readers.get(node.output[0], [])
            if (len(readers) != 1 or readers[0].op_type != "DequantizeLinear"
                    or list(readers[0].input[1:]) != [scale, zero]):
                yield f"{node.name} does not lead to its DequantizeLinear"
        else:
            if is_weight and rung.flavour == "legacy" and data in graph.constants:
                yield f"{node.name}: weights of a legacy graph are float32 before their QuantizeLinear"
            for reader in graph.readers.get(node.output[0], []):
                if is_weight and reader.op_type == "Transpose":
                    reader = graph.readers[reader.output[0]][0]
                operators = {graph.operator(name) for name in reader.input[:2]}
                if reader.op_type not in ("MatMul", "Conv") or operators != {"DequantizeLinear"}:
                    yield f"{node.name} leads to {reader.name}, which is no product in eight bits"
