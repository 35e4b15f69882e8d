import copy

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from tensorrt_families import ALL_RUNGS, FAMILIES, distances_mm, family, graph_of, run

from edgepose import zoo
from edgepose.build_engines import quantise
from edgepose.build_engines.lower import PlanBuilder, lower
from edgepose.build_engines.plan_module import MATRIX_PRODUCTS, PlanModule
from edgepose.build_engines.plan_onnx import plan_to_onnx
from edgepose.build_engines.tensorrt.graph import RUNGS, float32_steps, tensorrt_graph


def fake_quantised(model, scales):
    """The plan in eight bits, in torch, as TensorRT computes it: heads and steps that read keypoints in float32, and
    the neighbours of a graph convolution mixed after its product."""
    plan, tensors = lower(model, "fp32")
    steps = {name: step for name, step in scales["steps"].items() if name not in float32_steps(plan)}
    plan, rounded = quantise.in_eight_bits(plan, tensors, steps)
    return mixed_after(plan, rounded | {name: tensors[name] for name, tensor in rounded.items()
                                        if tensor.dtype == np.float16})


def mixed_after(plan, tensors):
    """The plan in torch, the neighbours of each graph convolution mixed after its product."""
    for step in plan["steps"]:
        if step["op"] == "graph_conv":
            ends = np.cumsum(step["group_rows"])[:-1]
            parts = zip(np.split(tensors[step["scatter"]], ends, 1), np.split(tensors[step["gather"]], ends))
            mixes, joints = [after @ before for after, before in parts], plan["joints"]
            tensors[step["gather"]] = np.tile(np.eye(joints, dtype=np.float32), (len(mixes), 1))
            tensors[step["scatter"]] = np.concatenate(mixes, 1)
            step["group_rows"] = [joints] * len(mixes)
    return PlanModule(plan, tensors).eval()


@pytest.mark.parametrize("rung", RUNGS["fp32"], ids=lambda rung: rung.name)
@pytest.mark.parametrize(
    "name", [*models.WINDOWED, "block two residual", "block transformer", "block convnext", "gate fixed bias",
             "gate fixed attention", "strided, 27 frames, {'norm': 'sample'}", "posegate, 16 joints"])
def test_a_graph_in_float32_is_the_model(name, rung):
    model = models.randomised(models.small(name) if name in zoo.MODELS else models.LIFTERS[name]())
    x = models.keypoints(model, 4)
    wanted = models.torch_poses(model, x)
    y = run(tensorrt_graph(model, rung, 2).onnx, x)
    assert np.abs(y - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())


def steps_alone(scales):
    """Scales for one step at a time: a number rounded the other way would change all steps after it."""
    return [{"recipe": "", "steps": {name: step}} for name, step in scales["steps"].items()]


@pytest.mark.parametrize("rung", ["strong-fp32-qdq", "legacy-qdq"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_in_eight_bits_is_the_plan_in_eight_bits(name, rung):
    model, windows, scales = family(name)
    x = models.keypoints(model, 8)
    float32 = float32_steps(lower(model, "fp32")[0])
    for alone in steps_alone(scales):
        graph = tensorrt_graph(model, ALL_RUNGS[rung], 8, alone, windows[:1])
        if set(alone["steps"]) <= float32:
            assert "QuantizeLinear" not in {node.op_type for node in onnx.load_from_string(graph.onnx).graph.node}
            continue
        wanted = models.torch_poses(fake_quantised(model, alone), x)
        off = np.abs(run(graph.onnx, x) - wanted).max((1, 2)) / np.abs(wanted).max()
        assert np.median(off) <= 1e-5  # a number half-way between two may be rounded the other way, in a window or two
        assert off.max() <= 0.3 * np.abs(models.torch_poses(model, x) - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("name", FAMILIES)
def test_all_graphs_of_eight_bits_lose_what_the_plan_loses(name):
    model, _, scales = family(name)
    x = models.keypoints(model, 8)
    whole, plan = models.torch_poses(model, x), models.torch_poses(fake_quantised(model, scales), x)
    loss_mm = distances_mm(plan, whole).mean()
    poses = {rung.name: run(graph_of(name, rung.name, 4).onnx, x) for rung in RUNGS["int8"]}
    assert distances_mm(poses["strong-fp32-qdq"], poses["legacy-qdq"]).mean() <= 0.05 * loss_mm
    for pose in poses.values():
        assert distances_mm(pose, whole).mean() == pytest.approx(loss_mm, rel=0.2)


@pytest.mark.parametrize("multipliers, pairs", [((40.0, 40.0), 1), ((40.0, 50.0), 2)])
def test_products_that_round_a_tensor_the_same_share_the_rounding(multipliers, pairs):
    rng = np.random.default_rng(0)

    def weights(k, n):
        return rng.normal(0, k**-0.5, (k, n)), rng.normal(0, 0.1, n)

    builder = PlanBuilder(1, 17, "fp32")
    x = builder.linear(builder.joint_tokens(), *weights(2, 64), activation="relu")
    y = builder.linear(x, *weights(64, 64))
    builder.linear(builder.linear(x, *weights(64, 64), residual=y), *weights(64, 3))
    steps = {label: {"x_scale": multiplier} for label, multiplier in zip(("002.linear", "003.linear"), multipliers)}
    plan, tensors = quantise.in_eight_bits(builder.plan(), builder.tensors, steps)
    graph = plan_to_onnx(plan, tensors, 3, 19, stores_int8=True)
    assert [node.op_type for node in graph.graph.node].count("QuantizeLinear") == pairs
    keypoints = rng.uniform(-0.5, 0.5, (3, 1, 17, 2)).astype(np.float32)
    assert distances_mm(run(graph.SerializeToString(), keypoints),
                        models.torch_poses(PlanModule(plan, tensors), keypoints)).max() < 0.01


def in_onnxruntime(model, x):
    """The poses of a graph whose batch is free, in batches of 1, 3 and the rest."""
    payload = model.SerializeToString()
    onnx.checker.check_model(payload, full_check=True)
    options = onnxruntime.SessionOptions()
    # Else it saturates in 16 bits on many processors.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[0] == "people" == session.get_outputs()[0].shape[0]
    return np.concatenate([session.run(["pose_m"], {"keypoints_norm": part})[0] for part in np.split(x, [1, 4])])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [*models.WINDOWED, "posegate, 16 joints"])
def test_a_graph_of_any_number_of_people_is_the_plan(name, precision):
    model = models.randomised(models.small(name) if name in zoo.MODELS else models.LIFTERS[name]())
    plan, tensors = lower(model, precision)
    graph, x = plan_to_onnx(plan, tensors, None, 17, stores_int8=True), models.keypoints(model, 9)
    wanted = models.torch_poses(PlanModule(plan, tensors).eval(), x)
    assert np.abs(in_onnxruntime(graph, x) - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())
    halves = {tensor.name for tensor in graph.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    assert halves == {node.input[0] for node in graph.graph.node if node.op_type == "Cast"}
    assert len(halves) == (sum(step["op"] in MATRIX_PRODUCTS for step in plan["steps"]) if precision == "fp16" else 0)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_of_any_number_of_people_in_eight_bits_is_the_plan(name):
    model, _, scales = family(name)
    x = models.keypoints(model, 8)
    for alone in steps_alone(scales):
        plan, tensors = quantise.in_eight_bits(*lower(model, "fp32"), alone["steps"])
        graph = plan_to_onnx(plan, tensors, None, 17, stores_int8=True)
        wanted = models.torch_poses(mixed_after(copy.deepcopy(plan), dict(tensors)), x)
        off = np.abs(in_onnxruntime(graph, x) - wanted).max((1, 2)) / np.abs(wanted).max()
        assert np.median(off) <= 1e-5  # a number half-way between two may be rounded the other way, in a window or two


@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_in_eight_bits_keeps_to_the_rules_of_quantised_graphs(name):
    model, _, scales = family(name)
    eight = quantise.in_eight_bits(*lower(model, "fp32"), scales["steps"])
    graph = plan_to_onnx(*eight, None, 17, stores_int8=True).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    readers = {}
    for node in graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node.op_type)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            _, scale, zero = node.input
            assert (constants[scale] > 0).all() and constants[zero].dtype == np.int8 and not constants[zero].any()
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[1]].shape == () and readers[node.output[0]] == ["DequantizeLinear"]
    weights = [constants[node.input[0]] for node in graph.node if node.op_type == "DequantizeLinear"
               and node.input[0] in constants]
    assert len(weights) == len(scales["steps"]) and all(w.dtype == np.int8 and w.min() >= -127 for w in weights)


def test_a_step_that_no_onnx_is_known_for_is_named():
    plan, tensors = lower(models.tiny_lifter(), "fp32")
    plan["steps"][-1] = {**plan["steps"][-1], "op": "fourier"}
    with pytest.raises(ValueError, match="no ONNX is known for a plan's step 'fourier'"):
        plan_to_onnx(plan, tensors, 1, 17, stores_int8=False)
