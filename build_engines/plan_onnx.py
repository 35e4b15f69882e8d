"""A native plan as an ONNX graph, computed in float32: the ONNX engines, and what TensorRT builds its engines from.

It is written from the plan, not exported from torch, since a plan already says what runtimes fuse best: LayerNorm is
one node whose gain and shift lie in the next product's weights (SampleLayerNorm too, as the standard one), attention's
scale lies in q's weights, before the product, BatchNorm in the product before it, q, k and v are one product that is
split on its channels, and no shape is computed. Nodes bear their step's name ("012.attention/softmax"), and a tensor
that of the node which writes it.

Two steps are not as the CPU kernels have them: a graph convolution is one product for all groups of neighbours, then
one that mixes them (two kernels instead of eight), so that its x is rounded before the mixing; a convolution has two
dimensions, the second of size one.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepose.build_engines.plan_module import AGE_UNIT_S, MASKED, MATRIX_PRODUCTS, MOST_PLACE
from edgepose.build_engines.quantise import label
from edgepose.zoo.layers import AttentionPattern

INPUT, OUTPUT = "keypoints_norm", "pose_m"
STATE, NEXT_STATE = "state", "next_state"
PEOPLE = "people"  # the name of a free batch axis
IR_VERSIONS = {17: 8, 19: 9}  # opset: the oldest IR version that has it
ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid"}


def plan_to_onnx(plan: dict, tensors: dict[str, np.ndarray], batch: int | None, opset: int,
                 stores_int8: bool) -> onnx.ModelProto:
    """(batch, T, J, C) -> (batch, J, D), as PlanModule computes it, with QuantizeLinear and DequantizeLinear around
    what the plan has in eight bits; weights in half precision are widened by a Cast. batch: None for any. stores_int8:
    weights in eight bits are stored so; else in float32, before a QuantizeLinear (all that TensorRT 8 takes).

    Of a plan with a state it is one step: (batch, 1, J, C) and STATE (batch, S) -> (batch, J, D) and NEXT_STATE (batch,
    S), zeros at first.
    """
    writer = _Writer(plan, tensors, batch, stores_int8)
    for number, step in enumerate(plan["steps"]):
        writer.step(number, step)
    writer.nodes[-1].output[0] = OUTPUT
    people, has_state = PEOPLE if batch is None else batch, plan.get("has_state", False)
    shapes = {INPUT: (people, 1 if has_state else plan["frames"], plan["joints"], len(plan["inputs"])),
              OUTPUT: (people, plan["joints"], len(plan["outputs"]))}
    if has_state:
        floats = writer.finish_state()
        shapes |= {STATE: (people, floats), NEXT_STATE: (people, floats)}
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    inputs, outputs = ([infos[name] for name in names if name in infos]
                       for names in ((INPUT, STATE), (OUTPUT, NEXT_STATE)))
    used = {name for node in writer.nodes for name in node.input}
    constants = [numpy_helper.from_array(array, name) for name, array in writer.constants.items() if name in used]
    graph = helper.make_graph(writer.nodes, "edgepose", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSIONS[opset],
                             producer_name="edgepose")


def state_floats(graph: onnx.ModelProto) -> int:
    """The floats of a person's state in a graph of plan_to_onnx; 0 if it has none."""
    of = {tensor.name: tensor.type.tensor_type.shape.dim for tensor in graph.graph.input}
    return of[STATE][1].dim_value if STATE in of else 0


class _Writer:
    """Nodes and constants of a plan's steps so far."""

    def __init__(self, plan: dict, tensors: dict[str, np.ndarray], batch: int | None, stores_int8: bool):
        self.plan, self.tensors, self.stores_int8 = plan, tensors, stores_int8
        self.batch = batch or 0  # a Reshape takes 0 for what the axis was
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._values: dict[int, str] = {}  # a buffer of the plan: its tensor's name
        self._rounded: dict[tuple, str] = {}  # (tensor, what it is multiplied by) -> the same in eight bits
        self._remembered: list[tuple[str, int, str]] = []  # a step's part of the state, its floats, the next state

    def step(self, number: int, step: dict) -> None:
        name, shape = label(number, step), self.plan["buffers"][step["y"]][:2]
        x, other, residual, gate = (self._values.get(step.get(key)) for key in ("x", "other", "residual", "gate"))
        op = step["op"]
        if op in MATRIX_PRODUCTS:
            y = getattr(self, f"_{op}")(name, step, x)
            y = self._activated(name, y, step)
            y = y if residual is None else self._node("Add", f"{name}/residual", [y, residual])
        elif op == "tokens":
            y = self._reshape(f"{name}/reshape",
                              self._node("Transpose", f"{name}/transpose", [INPUT], perm=[0, 2, 1, 3]), *shape)
        elif op in ("frames", "reshape"):
            y = self._reshape(f"{name}/reshape", INPUT if op == "frames" else x, *shape)
        elif op == "pick":
            y = self._rows(f"{name}/slice", x, step["first"], step["first"] + step["stride"] * (shape[0] - 1) + 1,
                           step["stride"])
        elif op == "concat":
            y = self._node("Concat", f"{name}/concat", [x, other], axis=2)
        elif op == "multiply":
            y = self._activated(name, self._node("Mul", f"{name}/mul", [x, other]), step)
        elif op == "add":
            y = self._node("Add", f"{name}/add", [x, self._stored(name, step, "bias")])
        elif op == "normalize":
            gain, shift = (self._constant(f"{name}/{what}", np.full(shape[1], of))
                           for what, of in (("gain", 1.0), ("shift", 0.0)))
            y = self._node("LayerNormalization", f"{name}/norm", [x, gain, shift], axis=-1, epsilon=step["epsilon"])
        elif op == "attention":
            y = self._attention(name, step, x, gate)
        elif op == "clock":
            y = self._clock(name, step, x, shape[1] - 1)
        elif op == "hats":
            age = self._columns(f"{name}/age", x, step["first"], step["first"] + 1)
            place = self._place(name, self._node("Relu", f"{name}/since", [age]))
            y = self._reshape(f"{name}/row", self._hats(name, place, shape[1]), 1, shape[1])
        elif op == "taps":
            past = self._past(name, x, shape[1] // step["count"], step["count"])
            y = self._reshape(f"{name}/row", self._node("Mul", f"{name}/known", [past, self._node(
                "Cast", f"{name}/is_known_float", [self._is_known(name, other, step["count"])], to=TensorProto.FLOAT)]),
                1, shape[1])
        elif op == "ring_attention":
            y = self._ring_attention(name, step, x, other, shape[1])
        else:
            raise ValueError(f"no ONNX is known for a plan's step {op!r}")
        self._values[step["y"]] = y

    def _linear(self, name: str, step: dict, x: str) -> str:
        y = self._node("MatMul", f"{name}/product", [self._seen(name, step, x), self._matrix(name, step)])
        return self._node("Add", f"{name}/add", [y, self._stored(name, step, "bias")])

    def _graph_conv(self, name: str, step: dict, x: str) -> str:
        joints, columns = self.plan["buffers"][step["y"]][:2]
        groups = len(step["group_rows"])
        y = self._node("MatMul", f"{name}/product", [self._seen(name, step, x), self._matrix(name, step)])
        # Row j * groups + g is joint j with the weights of group g.
        y = self._reshape(f"{name}/reshape", y, joints * groups, columns)
        ends = np.cumsum(step["group_rows"])[:-1]
        gather, scatter = np.split(self.tensors[step["gather"]], ends), np.split(self.tensors[step["scatter"]], ends, 1)
        mix = np.stack([after @ before for after, before in zip(scatter, gather)], -1).reshape(joints, joints * groups)
        y = self._node("MatMul", f"{name}/mix", [self._constant(f"{name}/neighbours", mix), y])
        return self._node("Add", f"{name}/add", [y, self._stored(name, step, "bias")])

    def _conv(self, name: str, step: dict, x: str) -> str:
        x_rows, x_columns = self.plan["buffers"][step["x"]][:2]
        rows, columns = self.plan["buffers"][step["y"]][:2]
        first, stride, taps = step["first"], step["stride"], step["taps"]
        reach = first + stride * (rows - 1) + taps
        begin, end = max(0, first), min(x_rows, reach)
        if (begin, end) != (0, x_rows):
            x = self._rows(f"{name}/slice", x, begin, end, 1)
        x = self._node("Transpose", f"{name}/channels_first",
                       [self._reshape(f"{name}/picture", x, end - begin, 1, x_columns)], perm=[0, 3, 1, 2])
        w = self._weight(name, step, lambda w: w.transpose(2, 1, 0)[..., None])
        y = self._node("Conv", f"{name}/product",
                       [self._seen(name, step, x, is_picture=True), w, self._stored(name, step, "bias")],
                       kernel_shape=[taps, 1], strides=[stride, 1], pads=[begin - first, 0, reach - end, 0])
        return self._reshape(f"{name}/rows", self._node("Transpose", f"{name}/channels_last", [y], perm=[0, 2, 3, 1]),
                             rows, columns)

    def _attention(self, name: str, step: dict, x: str, gate: str | None) -> str:
        heads, (tokens, channels) = step["heads"], self.plan["buffers"][step["y"]][:2]
        parts = self._split(f"{name}/qkv", x, {"q": channels, "k": channels, "v": channels})
        shaped = [self._reshape(f"{part}/heads", part, tokens, heads, channels // heads) for part in parts]
        q, k, v = (self._node("Transpose", f"{part}/transpose", [by_head], perm=perm)
                   for part, by_head, perm in zip(parts, shaped, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])))
        scores = self._node("MatMul", f"{name}/scores", [q, k])
        pattern = AttentionPattern(step.get("span"), step.get("is_causal", False))
        if pattern != AttentionPattern():  # layers that see alike share the matrix: 4 MB for 351 frames
            hidden = self._constant(f"hidden/{heads}/{tokens}/{pattern.span}/{pattern.is_causal}",
                                    np.where(pattern.mask(tokens, heads).numpy(), 0.0, MASKED))
            scores = self._node("Add", f"{name}/mask", [scores, hidden])
        y = self._node("MatMul", f"{name}/context", [self._node("Softmax", f"{name}/softmax", [scores], axis=-1), v])
        if gate is not None:  # g y + (1 - b) g v
            g, b = (self._reshape(f"{part}/heads", part, heads, 1, 1)
                    for part in self._split(f"{name}/gate", gate, {"g": heads, "b": heads}))
            kept = self._node("Sub", f"{name}/kept", [self._constant(f"{name}/one", 1.0), b])
            own = self._node("Mul", f"{name}/own", [self._node("Mul", f"{name}/share", [kept, g]), v])
            y = self._node("Add", f"{name}/gated", [self._node("Mul", f"{name}/others", [g, y]), own])
        return self._reshape(f"{name}/merge", self._node("Transpose", f"{name}/transpose", [y], perm=[0, 2, 1, 3]),
                             tokens, channels)

    def finish_state(self) -> int:
        """Cuts the state into the steps' parts, and puts the next ones together; its floats."""
        floats = sum(part for _, part, _ in self._remembered)
        nodes, self.nodes = self.nodes, []
        parts = {name: part for name, part, _ in self._remembered}
        sizes = self._constant("state/sizes", np.array(list(parts.values()), np.int64))
        rows = self._reshape("state/rows", STATE, 1, floats)
        self.nodes.append(helper.make_node("Split", [rows, sizes], list(parts), "state/split", axis=2))
        self.nodes += nodes
        after = self._node("Concat", "state/next", [after for *_, after in self._remembered], axis=2)
        self.nodes.append(helper.make_node("Reshape", [after, self._constant(
            "state/shape", np.array([self.batch, floats], np.int64))], [NEXT_STATE], NEXT_STATE))
        return floats

    def _clock(self, name: str, step: dict, x: str, frames: int) -> str:
        one, zero = self._constant(f"{name}/one", 1.0), self._constant(f"{name}/zero", 0.0)
        gap = self._columns(f"{name}/gap", x, step["first"], step["first"] + 1)
        before = f"{name}/before"
        count = self._columns(f"{name}/count", before, 0, 1)
        goes_on = self._node("Greater", f"{name}/goes_on", [gap, zero])
        known = self._node("Where", f"{name}/known", [goes_on, count, zero])
        newest = self._node("Sub", f"{name}/newest", [gap, gap])
        ages = self._node("Concat", f"{name}/moved", [newest, self._columns(f"{name}/ages", before, 1, frames)], axis=2)
        ages = self._node("Add", f"{name}/ages_s", [ages, self._node("Relu", f"{name}/since", [gap])])
        places = self._place(name, ages)
        order = self._constant(f"{name}/order", np.arange(frames, dtype=np.float32))
        is_known = self._node("Less", f"{name}/is_known", [order, known])
        places = self._node("Where", f"{name}/known_places", [is_known, places, self._constant(f"{name}/none", -1.0)])
        more = self._node("Min", f"{name}/more", [self._node("Add", f"{name}/counted", [known, one]),
                                                  self._constant(f"{name}/all", float(frames))])
        after = self._node("Concat", f"{name}/after", [more, ages], axis=2)
        self._remembered.append((before, 1 + frames, after))
        return self._node("Concat", f"{name}/clock", [newest, places], axis=2)

    def _place(self, name: str, ages: str) -> str:
        """The places of ages of 0 or more on the scale of functions of time: log2(1 + age / AGE_UNIT_S)."""
        places = self._node("Div", f"{name}/over_unit", [ages, self._constant(f"{name}/unit", AGE_UNIT_S)])
        places = self._node("Log", f"{name}/log", [self._node("Add", f"{name}/plus_one", [
            places, self._constant(f"{name}/one_unit", 1.0)])])
        places = self._node("Div", f"{name}/log2", [places, self._constant(f"{name}/log_two", math.log(2))])
        return self._node("Min", f"{name}/places", [places, self._constant(f"{name}/most", MOST_PLACE)])

    def _hats(self, name: str, place: str, values: int) -> str:
        """The weights of a function's values at places: (B, 1, n) -> (B, n, values)."""
        place = self._node("Clip", f"{name}/clip", [place, self._constant(f"{name}/first", 0.0),
                                                    self._constant(f"{name}/last", float(values - 1))])
        place = self._node("Transpose", f"{name}/column", [place], perm=[0, 2, 1])
        values_at = self._constant(f"{name}/values", np.arange(values, dtype=np.float32))
        off = self._node("Sub", f"{name}/off", [place, values_at])
        return self._node("Relu", f"{name}/hats", [self._node("Sub", f"{name}/left", [
            self._constant(f"{name}/whole", 1.0), self._node("Abs", f"{name}/distance", [off])])])

    def _past(self, name: str, x: str, columns: int, frames: int) -> str:
        """The last `frames` x, the newest, (B, 1, columns), first; and remembers all but the oldest."""
        before = f"{name}/before"
        rows = self._reshape(f"{name}/rows", before, frames - 1, columns)
        past = self._node("Concat", f"{name}/past", [x, rows], axis=1)
        after = self._reshape(f"{name}/after", self._rows(f"{name}/kept", past, 0, frames - 1, 1),
                              1, (frames - 1) * columns)
        self._remembered.append((before, (frames - 1) * columns, after))
        return past

    def _is_known(self, name: str, places: str, frames: int) -> str:
        """Which of the last `frames` frames are remembered: (B, frames, 1)."""
        places = self._node("Transpose", f"{name}/places",
                            [self._columns(f"{name}/last_places", places, 0, frames)], perm=[0, 2, 1])
        return self._node("GreaterOrEqual", f"{name}/is_known", [places, self._constant(f"{name}/zero", 0.0)])

    def _ring_attention(self, name: str, step: dict, x: str, places: str, channels: int) -> str:
        heads, span, count = step["heads"], step["span"], step["count"]
        rows, width = span * (count - 1) + 1, channels // step["heads"]
        q, kv = self._split(f"{name}/qkv", x, {"q": channels, "kv": 2 * channels})
        past = self._past(name, kv, 2 * channels, rows)
        halves, age = [], self.tensors[step["bias"]]
        for half, seen in (("local", (0, span + 1, 1)), ("strided", (0, rows, span))):
            part, frames = f"{name}/{half}", len(range(*seen))

            def of_heads(what: str, tensor: str, frames: int, first: int) -> str:
                """Its heads of `channels` columns: (B, frames, columns) -> (B, heads / 2, frames, width)."""
                pairs = self._reshape(f"{part}/{what}/pairs", self._columns(f"{part}/{what}", tensor, first,
                                                                            first + channels),
                                      frames, heads // 2, 2 * width)
                own = self._columns(f"{part}/{what}/own", pairs, width * (half == "strided"),
                                    width * (1 + (half == "strided")), axis=3)
                return self._node("Transpose", f"{part}/{what}/heads", [own], perm=[0, 2, 1, 3])

            rows_seen = self._rows(f"{part}/rows", past, *seen)
            place = self._columns(f"{part}/place", places, *seen[:2], stride=seen[2])
            k, v = (of_heads(what, rows_seen, frames, first) for what, first in (("k", 0), ("v", channels)))
            scores = self._node("MatMul", f"{part}/scores", [
                of_heads("q", q, 1, 0), self._node("Transpose", f"{part}/k/transpose", [k], perm=[0, 1, 3, 2])])
            added = self._node("MatMul", f"{part}/age", [
                self._hats(f"{part}/age_hats", place, age.shape[1]),
                self._constant(f"{part}/ages", age[half == "strided"::2].T)])
            added = self._reshape(f"{part}/age_rows", self._node("Transpose", f"{part}/age_transpose", [added],
                                                                 perm=[0, 2, 1]), heads // 2, 1, frames)
            unknown = self._node("Less", f"{part}/unknown", [place, self._constant(f"{part}/zero", 0.0)])
            hidden = self._node("Where", f"{part}/hidden", [unknown, self._constant(f"{part}/masked", MASKED),
                                                            self._constant(f"{part}/seen", 0.0)])
            scores = self._node("Add", f"{part}/with_age", [scores, added])
            scores = self._node("Add", f"{part}/mask", [scores, self._reshape(f"{part}/mask_rows", hidden,
                                                                              1, 1, frames)])
            weights = self._node("Softmax", f"{part}/softmax", [scores], axis=-1)
            halves.append(self._node("MatMul", f"{part}/context", [weights, v]))
        return self._reshape(f"{name}/merge", self._node("Concat", f"{name}/heads", halves, axis=3), 1, channels)

    def _columns(self, name: str, x: str, begin: int, end: int, axis: int = 2, stride: int = 1) -> str:
        limits = {"begin": [begin], "end": [end], "axis": [axis], "stride": [stride]}
        return self._node("Slice", name, [x, *(self._constant(f"{name}/{what}", np.array(at, np.int64))
                                               for what, at in limits.items())])

    def _activated(self, name: str, x: str, step: dict) -> str:
        activation = step.get("activation", "none")
        if activation == "none":
            return x
        if activation != "gelu":
            return self._node(ACTIVATIONS[activation], f"{name}/{activation}", [x])
        # The form that torch exports, which TensorRT knows; an operator of its own it is in opset 20 only.
        y = self._node("Div", f"{name}/gelu_div", [x, self._constant(f"{name}/root_two", math.sqrt(2))])
        y = self._node("Add", f"{name}/gelu_add",
                       [self._node("Erf", f"{name}/gelu_erf", [y]), self._constant(f"{name}/one", 1.0)])
        y = self._node("Mul", f"{name}/gelu_mul", [x, y])
        return self._node("Mul", f"{name}/gelu", [y, self._constant(f"{name}/one_half", 0.5)])

    def _seen(self, name: str, step: dict, x: str, is_picture: bool = False) -> str:
        """x as the weights see it: rounded to int8 where the plan says so; products that round a tensor the same share
        it.
        is_picture: x is (B, k, rows, 1)."""
        if "x_scale" not in step:
            return x
        multiplier = self.tensors[step["x_scale"]]
        key = (x, multiplier.tobytes())
        if key not in self._rounded:
            unit = _unit(multiplier)
            if not (multiplier == multiplier[0]).all():  # how the columns differ is multiplied in before
                equaliser = multiplier * unit
                equaliser = self._constant(f"{name}/equaliser", equaliser.reshape(-1, 1, 1)
                                           if is_picture else equaliser)
                x = self._node("Mul", f"{name}/equalise", [x, equaliser])
            scale, zero = self._constant(f"{name}/x_scale", unit), self._constant(f"{name}/x_zero", np.int8(0))
            x = self._node("QuantizeLinear", f"{name}/quantise_x", [x, scale, zero])
            self._rounded[key] = self._node("DequantizeLinear", f"{name}/dequantise_x", [x, scale, zero])
        return self._rounded[key]

    def _matrix(self, name: str, step: dict) -> str:
        """The weights as (k, n); of a graph_conv the groups side by side. In eight bits they are stored as (n, k): the
        axis of their scales is the first, which TensorRT wants, and it folds the transposition."""
        if "scale" not in step:
            return self._weight(name, step, _side_by_side)
        return self._node("Transpose", f"{name}/weight_transpose",
                          [self._weight(name, step, lambda w: _side_by_side(w).T)], perm=[1, 0])

    def _weight(self, name: str, step: dict, arranged) -> str:
        """The weights of a product as `arranged` makes them of the plan's, in eight bits with output channels first."""
        w = arranged(self.tensors[step["weight"]])
        if "scale" not in step:
            weight = self._constant(f"{name}/weight", w)
            return self._node("Cast", f"{name}/widen", [weight],
                              to=TensorProto.FLOAT) if w.dtype == np.float16 else weight
        scale = self.tensors[step["scale"]].reshape(-1) / _unit(self.tensors[step["x_scale"]])
        constants = (self._constant(f"{name}/weight_scale", scale),
                     self._constant(f"{name}/weight_zero", np.zeros(len(scale), np.int8)))
        if self.stores_int8:
            weight = self._constant(f"{name}/weight", w)
        else:
            weight = self._constant(f"{name}/weight", w * scale.reshape([-1] + [1] * (w.ndim - 1)))
            weight = self._node("QuantizeLinear", f"{name}/quantise_weight", [weight, *constants], axis=0)
        return self._node("DequantizeLinear", f"{name}/dequantise_weight", [weight, *constants], axis=0)

    def _stored(self, name: str, step: dict, key: str) -> str:
        return self._constant(f"{name}/{key}", self.tensors[step[key]])

    def _rows(self, name: str, x: str, begin: int, end: int, stride: int) -> str:
        return self._columns(name, x, begin, end, axis=1, stride=stride)

    def _reshape(self, name: str, x: str, *shape: int) -> str:
        return self._node("Reshape", name,
                          [x, self._constant(f"{name}/shape", np.array([self.batch, *shape], np.int64))])

    def _split(self, name: str, x: str, parts: dict[str, int]) -> list[str]:
        """x cut along its last axis into `parts`, name -> columns."""
        sizes = self._constant(f"{name}/sizes", np.array(list(parts.values()), np.int64))
        outputs = [f"{name}/{part}" for part in parts]
        self.nodes.append(helper.make_node("Split", [x, sizes], outputs, name, axis=2))
        return outputs

    def _node(self, op: str, name: str, inputs: list[str], **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def _constant(self, name: str, value) -> str:
        array = np.asarray(value)
        self.constants[name] = array if array.dtype in (np.int8, np.int64, np.float16) else array.astype(np.float32)
        return name


def _unit(multiplier: np.ndarray) -> np.float32:
    """The step between x's whole numbers, once its columns (k,) are equalised: to about the size they had, since FP16
    is short of range."""
    if (multiplier == multiplier[0]).all():
        return 1 / multiplier[0]
    return np.float32(np.exp(-np.log(multiplier.astype(np.float64)).mean()))


def _side_by_side(w: np.ndarray) -> np.ndarray:
    """(k, n) as it is; (groups, k, n) as (k, groups n)."""
    return w if w.ndim == 2 else w.transpose(1, 0, 2).reshape(w.shape[1], -1)
