import re

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from tensorrt_families import ALL_RUNGS, FAMILIES, distances_mm, family, graph_of, run, shapes_of
from tensorrt_rules import broken_rules

from edgepose import zoo
from edgepose.build_engines import quantise
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import MATRIX_PRODUCTS
from edgepose.build_engines.tensorrt.graph import RUNGS, float32_steps, tensorrt_graph


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("rung", ALL_RUNGS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_keeps_to_the_rules_of_its_rung(name, rung, batch):
    graph = graph_of(name, rung, batch)
    assert (graph.rung, graph.batch) == (rung, batch)
    assert list(broken_rules(graph.onnx, ALL_RUNGS[graph.rung], shapes_of(name, batch), graph.keep_float32)) == []


def node_of(model, op, place=0):
    return [node for node in model.graph.node if node.op_type == op][place]


def change(model, name, of):
    """Replace a constant by of(it)."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(of(numpy_helper.to_array(tensor))), name))


def without(model, node):
    """Let the node's readers read its input."""
    for other in model.graph.node:
        other.input[:] = [node.input[0] if name == node.output[0] else name for name in other.input]
    model.graph.node.remove(node)


def twice(model, node):
    """Let the last reader of the node read a second one like it."""
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name, twin.output[0] = f"{node.name}/twin", f"{node.output[0]}/twin"
    reader = [other for other in model.graph.node if node.output[0] in other.input][-1]
    reader.input[:] = [twin.output[0] if name == node.output[0] else name for name in reader.input]
    model.graph.node.insert(list(model.graph.node).index(node), twin)


def read_too(model, node):
    """Add a node that reads the node's output."""
    model.graph.node.append(onnx.helper.make_node("Relu", [node.output[0]], ["spare"], "spare"))


def there_and_back(model, node):
    """Let the node's output go through FP16."""
    name = node.output[0]
    node.output[0] = f"{name}/before"
    casts = [onnx.helper.make_node("Cast", [a], [b], b, to=to) for a, b, to in
             ((f"{name}/before", f"{name}/there", TensorProto.FLOAT16), (f"{name}/there", name, TensorProto.FLOAT))]
    for cast in reversed(casts):
        model.graph.node.insert(list(model.graph.node).index(node) + 1, cast)


def free_batch(model):
    for info in (model.graph.input[0], model.graph.output[0]):
        info.type.tensor_type.shape.dim[0].dim_param = "people"


MUTATIONS = [  # rung, change of its graph, message
    ("legacy-fp16", lambda m: setattr(m.opset_import[0], "version", 18), "opset 18"),
    ("strong-fp16", lambda m: setattr(m, "ir_version", 10), "IR 10"),
    ("legacy-fp32", free_batch, "input and output are"),
    ("strong-fp32", lambda m: setattr(node_of(m, "Relu"), "op_type", "Tanh"), "is a Tanh"),
    ("strong-fp32", lambda m: setattr(node_of(m, "Relu"), "name", "relu_1"), "end in a number"),
    ("strong-fp32", lambda m: setattr(node_of(m, "Relu"), "name", node_of(m, "Relu", 1).name), "not unique"),
    ("strong-fp32", lambda m: m.graph.initializer.append(numpy_helper.from_array(np.zeros(1), "alone")),
     "nobody reads"),
    ("strong-fp16", lambda m: change(m, "013.linear/bias", lambda b: b * np.nan), "not finite"),
    ("legacy-fp16", lambda m: there_and_back(m, node_of(m, "Relu")), "tensors in FP16"),
    ("strong-fp16", lambda m: there_and_back(m, node_of(m, "LayerNormalization")), "casts in vain"),
    ("strong-fp16", lambda m: twice(m, node_of(m, "Cast")), "is cast 2 times"),
    ("strong-fp16-qdq", lambda m: change(m, node_of(m, "DequantizeLinear").input[1], lambda s: -s), "not above 0"),
    ("legacy-qdq", lambda m: change(m, node_of(m, "QuantizeLinear").input[2], lambda z: z + np.int8(1)), "not int8 0"),
    ("legacy-qdq", lambda m: change(m, node_of(m, "QuantizeLinear").input[2], lambda z: z.astype(np.uint8)),
     "not int8 0"),
    ("legacy-qdq", lambda m: setattr(node_of(m, "QuantizeLinear", 1).attribute[0], "i", 1),
     "a scale for each output channel"),
    ("strong-fp32-qdq", lambda m: twice(m, node_of(m, "QuantizeLinear")), "quantised twice"),
    ("strong-fp32-qdq", lambda m: read_too(m, node_of(m, "DequantizeLinear")),
     "leads to spare, which is no product in eight bits"),
    ("strong-fp32-qdq", lambda m: [without(m, node_of(m, op)) for op in ("QuantizeLinear", "DequantizeLinear")],
     "no product in eight bits"),]


@pytest.mark.parametrize("rung, mutate, message", MUTATIONS,
                         ids=[f"{rung}: {message}" for rung, _, message in MUTATIONS])
def test_a_graph_that_breaks_a_rule_is_told_so(rung, mutate, message):
    graph = graph_of("ampose", rung, 1)
    model = onnx.load_from_string(graph.onnx)
    mutate(model)
    try:
        broken = list(broken_rules(model.SerializeToString(), ALL_RUNGS[graph.rung], shapes_of("ampose", 1),
                                   graph.keep_float32))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        broken = [f"checker: {error}"]
    assert any(re.search(message, rule) for rule in broken), broken


def test_each_flavour_breaks_the_rules_of_the_other():
    for rung, other, message in (("strong-fp32-qdq", "legacy-qdq", "legacy graph are float32 before"),
                                 ("legacy-qdq", "strong-fp32-qdq", "strong graph are stored in eight bits"),
                                 ("strong-fp16", "legacy-fp16", "tensors in FP16"),
                                 ("strong-fp16-qdq", "strong-fp32-qdq", "scale of another type")):
        graph = graph_of("ampose", rung, 1)
        broken = broken_rules(graph.onnx, ALL_RUNGS[other], shapes_of("ampose", 1), graph.keep_float32)
        assert any(message in rule for rule in broken)


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_and_what_reads_keypoints_are_the_ones_that_stay(name):
    plan, _ = lower(family(name)[0], "fp32")
    products = [label for number, step in enumerate(plan["steps"]) if step["op"] in MATRIX_PRODUCTS
                for label in [quantise.label(number, step)]]
    float32 = [label for label in products if label in float32_steps(plan)]
    assert products[0] in float32 and products[-1] in float32
    # Two heads, and two or three steps that read keypoints.
    assert len(float32) == {"ampose-refined": 4, "dln": 5}.get(name, 2)


@pytest.mark.parametrize("rung", ["strong-fp16", "strong-fp16-qdq", "legacy-qdq"])
def test_a_person_has_the_same_pose_in_a_batch_of_any_size(rung):
    x = models.keypoints(family("ampose")[0], 4)
    one, four = (run(graph_of("ampose", rung, batch).onnx, x) for batch in (1, 4))
    assert distances_mm(one, four).mean() < 0.05


def test_a_graph_that_cannot_be_is_refused():
    model, windows, scales = family("martinez")
    int8, fp16 = RUNGS["int8"][0], RUNGS["fp16"][0]
    with pytest.raises(ValueError, match="strong-fp16-qdq needs scales"):
        tensorrt_graph(model, int8, 1, None, windows)
    with pytest.raises(ValueError, match="strong-fp16 takes no scales"):
        tensorrt_graph(model, fp16, 1, scales, windows)
    with pytest.raises(ValueError, match="the scales are of another model: this one has no steps 001.nothing"):
        tensorrt_graph(model, int8, 1, {"steps": {"001.nothing": {"x_scale": 1.0}}}, windows)
    with pytest.raises(ValueError, match="batch is 0; wanted 1 or more"):
        tensorrt_graph(model, fp16, 0, None, windows)
    with pytest.raises(ValueError, match="training mode"):
        tensorrt_graph(zoo.build("martinez-s"), fp16, 1, None, windows)


def test_rungs_are_in_the_order_in_which_they_are_tried():
    assert {precision: [rung.name for rung in rungs] for precision, rungs in RUNGS.items()} == {
        "fp32": ["strong-fp32", "legacy-fp32"], "fp16": ["strong-fp16", "legacy-fp16"],
        "int8": ["strong-fp16-qdq", "strong-fp32-qdq", "legacy-qdq"]}
    assert all(rung.precision == precision for precision, rungs in RUNGS.items() for rung in rungs)
    assert [rung.name for rung in ALL_RUNGS.values() if rung.is_half] == ["strong-fp16", "strong-fp16-qdq"]
