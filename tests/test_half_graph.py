import models
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from tensorrt_families import ALL_RUNGS, distances_mm, family, run, shapes_of
from tensorrt_rules import broken_rules

from edgepose import zoo
from edgepose.build_engines import quantise
from edgepose.build_engines.lower import lower
from edgepose.build_engines.quantise import Calibration, Recipe
from edgepose.build_engines.tensorrt import half_graph
from edgepose.build_engines.tensorrt.graph import float32_steps, tensorrt_graph
from edgepose.build_engines.windows import evaluation_windows
from edgepose.zoo import checkpoints

SHIPPED = ("ampose", "posegate-s", "strided27-s", "martinez-s", "dln-s")


def test_what_stays_in_float32_does_so_for_a_reason(monkeypatch):
    model, windows, _ = family("ampose")

    def broken():
        graph = tensorrt_graph(model, ALL_RUNGS["strong-fp16"], 1, None, windows)
        return list(broken_rules(graph.onnx, ALL_RUNGS[graph.rung], shapes_of("ampose", 1)))

    assert broken() == []
    steps = float32_steps(lower(model, "fp32")[0])
    with monkeypatch.context() as patch:
        patch.setattr(half_graph, "FLOAT32_OPS", ("LayerNormalization",))
        assert any("softmax is not in float32" in rule for rule in broken())
    with monkeypatch.context() as patch:
        patch.setattr(half_graph, "_residual_sums", lambda *_: set())
        assert any("reads what was rounded" in rule for rule in broken())
    with monkeypatch.context() as patch:
        patch.setattr("edgepose.build_engines.tensorrt.graph.float32_steps", lambda plan: {max(steps)})
        assert any("reads keypoints in FP16" in rule for rule in broken())
    with monkeypatch.context() as patch:
        patch.setattr("edgepose.build_engines.tensorrt.graph.float32_steps", lambda plan: {min(steps)})
        with pytest.raises(ValueError, match="pose_m is computed in FP16"):
            broken()


# numpy's sigmoid warns.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp", "ignore:invalid value encountered in divide")
@pytest.mark.parametrize("name", SHIPPED)
def test_the_trained_weights_are_within_the_budget_when_every_node_rounds_to_fp16(name):
    model, _ = checkpoints.load_checkpoint(checkpoints.find_checkpoint(name, None), None)
    model.eval()
    x = evaluation_windows(model)[0][::128]
    graph = tensorrt_graph(model, ALL_RUNGS["strong-fp16"], len(x), windows=x)
    y = ReferenceEvaluator(onnx.load_from_string(graph.onnx)).run(None, {"keypoints_norm": x})[0]
    error = distances_mm(y, models.torch_poses(model, x)).mean()
    assert 0.001 < error <= 0.5


@pytest.mark.parametrize("rung", ["strong-fp16", "legacy-fp16"])
def test_what_grows_too_large_for_fp16_stays_in_float32(rung):
    model = models.randomised(zoo.build("ampose", channels=64, heads=4, depth=1))
    mlp = model.blocks[0].mlp
    with torch.no_grad():  # 1e4 times as large inside and, but for the activation, the same outside
        mlp.activation = "relu"
        mlp.expand.weight *= 1e4
        mlp.expand.bias *= 1e4
        mlp.contract.weight *= 1e-4
    x = models.keypoints(model, 4)
    graph = tensorrt_graph(model, ALL_RUNGS[rung], 4, windows=x)
    y = run(graph.onnx, x)
    assert distances_mm(y, models.torch_poses(model, x)).max() < 5
    steps = enumerate(lower(model, "fp32")[0]["steps"])
    expand = next(quantise.label(number, step) for number, step in steps if step["op"] == "linear"
                  and step.get("activation") == "relu")
    if rung == "legacy-fp16":
        assert {f"{expand}/product", f"{expand}/relu"} <= set(graph.keep_float32)
    else:
        types = {info.name: info.type.tensor_type.elem_type
                 for info in onnx.shape_inference.infer_shapes(onnx.load_from_string(graph.onnx)).graph.value_info}
        assert types[f"{expand}/product"] == types[f"{expand}/relu"] == TensorProto.FLOAT


# The head overflows; the graph then has it in float32.
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("factor", [1e7, 1e-7])
def test_weights_that_fp16_has_no_numbers_for_stay_in_float32(factor):
    model = models.randomised(zoo.build("martinez", channels=64))
    x = models.keypoints(model, 4)
    plan, tensors = lower(model, "fp32")
    scales = Calibration(plan, tensors, x).scales(Recipe("max"))
    last = max(scales["steps"])
    linear = model.tower.blocks[1][2]
    with torch.no_grad():
        linear.norm.weight *= factor
        model.head.weight /= factor
    for rung, given_scales in (("strong-fp16", None), ("strong-fp16-qdq", scales)):
        graph = onnx.load_from_string(tensorrt_graph(model, ALL_RUNGS[rung], 4, given_scales, x).onnx)
        types = {info.name: info.type.tensor_type.elem_type
                 for info in onnx.shape_inference.infer_shapes(graph).graph.value_info}
        assert types[f"{last}/product"] == TensorProto.FLOAT
        assert list(types.values()).count(TensorProto.FLOAT16) > 10
        y, wanted = run(graph.SerializeToString(), x), models.torch_poses(model, x)
        assert np.abs(y - wanted).max() < (0.002 if given_scales is None else 0.1) * np.abs(wanted).max()


def test_a_column_of_next_to_no_weight_has_a_scale_in_fp16():
    model, windows, scales = family("martinez")
    model = models.randomised(zoo.build("martinez", channels=64))
    with torch.no_grad():
        model.tower.blocks[0][2].linear.weight[5] *= 1e-6
    graph = tensorrt_graph(model, ALL_RUNGS["strong-fp16-qdq"], 4, scales, windows)
    assert list(broken_rules(graph.onnx, ALL_RUNGS[graph.rung], shapes_of("martinez", 4))) == []
    plain = tensorrt_graph(model, ALL_RUNGS["strong-fp32-qdq"], 4, scales, windows)
    assert distances_mm(run(graph.onnx, windows[:4]), run(plain.onnx, windows[:4])).mean() < 1


def test_a_graph_that_no_runtime_takes_is_an_error_that_says_so():
    model = onnx.load_from_string(tensorrt_graph(models.tiny_lifter(), ALL_RUNGS["strong-fp32"], 1).onnx)
    model.opset_import[0].version = 99
    with pytest.raises(RuntimeError, match="ONNX Runtime does not take the graph"):
        half_graph.magnitudes(model, np.zeros((1, 1, 17, 2), np.float32))
