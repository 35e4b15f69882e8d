"""Lifters that take more columns than x and y and answer with more than x, y and z, in every variant."""


import c_package as c
import models
import numpy as np
import pytest
from rich.console import Console
from tensorrt_families import run as run_onnx

import edgepose
from edgepose import enginefile, zoo
from edgepose.build_engines import compile as compiler, quantise
from edgepose.build_engines.budgets import BUDGETS, over_budget
from edgepose.build_engines.lifters import NamedModule
from edgepose.build_engines.lower import lower
from edgepose.build_engines.variants import VARIANTS
from edgepose.build_engines.tensorrt.graph import RUNGS, float32_steps, tensorrt_graph
from edgepose.build_engines.windows import calibration_windows, evaluation_windows
from edgepose.columns import INPUTS, OUTPUTS, USUAL_RATE_HZ, with_all_columns
from edgepose.skeleton import H36M17
from edgepose.training.models import TorchLifter, lift
from edgepose.training.protocols import run_flipped

MODELS = {f"{kind.__name__}, {frames} frames": (kind, frames) for kind in (models.ErrorLifter, models.ErrorJointLifter)
          for frames in (1, 9)}
EVERY_VARIANT = [(backend, precision) for backend, precisions in VARIANTS.items() for precision in precisions]


@pytest.fixture(scope="module", params=MODELS)
def lifter(request):
    """(a lifter of three columns in and four out, its scales in eight bits)."""
    kind, frames = MODELS[request.param]
    module = models.person_sized(models.randomised(kind(frames)))
    calibration = quantise.Calibration(*lower(module, "fp32"), models.keypoints(module, 64, seed=1))
    return NamedModule("tiny", module, False), models.eight_bit_scales(calibration)


@pytest.mark.slow
@pytest.mark.parametrize("backend, precision", EVERY_VARIANT, ids=["-".join(variant) for variant in EVERY_VARIANT])
def test_every_variant_takes_and_answers_all_columns(lifter, backend, precision, tmp_path, on_emulated_gpu):
    named, scales = lifter
    enginefile.write(tmp_path / "a.epose", *compiler.build(named, backend, precision, scales))
    engine = edgepose.load(tmp_path / "a.epose", trust=True)
    assert (engine.inputs, engine.outputs) == (("x", "y", "confidence"), ("x", "y", "z", "error"))
    x = models.keypoints(named.module, 5)
    unseen = x * np.float32([1, 1, 0])
    wanted, of_unseen = (models.torch_poses(named.module, windows) for windows in (x, unseen))
    budget_m = {"fp32": 1e-5, "fp16": 1e-3}.get(precision, 0.02)
    assert np.abs(wanted - of_unseen).max() > 5 * budget_m  # the third column counts
    for windows, poses in ((x, wanted), (unseen, of_unseen)):
        np.testing.assert_allclose(engine.run(windows), poses, rtol=0, atol=budget_m)
    with pytest.raises(ValueError, match=r"needs \(B, \d, 17, 3\)"):
        engine.run(np.zeros((1, engine.frames, 17, 2), np.float32))
    with pytest.raises(ValueError, match=r"needs \(B, 17, 4\)"):
        engine.run(x, np.zeros((5, 17, 3), np.float32))


@pytest.mark.slow
def test_the_c_functions_take_and_answer_all_columns(lifter, tmp_path):
    module = lifter[0].module
    path = models.write_engine(tmp_path / "a.epose", module)
    engine, x = c.Engine(path), models.keypoints(module, 3)
    pose_m = np.empty((3, 17, 4), np.float32)
    assert engine.lib.edgepose_engine_run(engine.handle, 3, c.pointer(x), x.size, c.pointer(pose_m),
                                          pose_m.size) == c.OK
    np.testing.assert_allclose(pose_m, edgepose.load(path).run(x), rtol=0, atol=1e-5)
    assert engine.lib.edgepose_engine_run(engine.handle, 3, c.pointer(x), x.size // 3 * 2,
                                          c.pointer(pose_m), pose_m.size) == c.BAD_ARGUMENT


@pytest.mark.parametrize("rung", [*RUNGS["fp32"], *RUNGS["fp16"]], ids=lambda rung: rung.name)
def test_a_tensorrt_graph_is_the_model_and_keeps_both_heads_in_float32(lifter, rung):
    module = lifter[0].module
    x, windows = models.keypoints(module, 4), models.keypoints(module, 2, seed=1)
    poses = run_onnx(tensorrt_graph(module, rung, 2, windows=windows).onnx, x)
    np.testing.assert_allclose(poses, models.torch_poses(module, x), rtol=0, atol=2e-3 if rung.is_half else 1e-5)
    plan, _ = lower(module, "fp32")
    heads = {quantise.label(number, plan["steps"][number]) for number in quantise.heads_of(plan)}
    assert len(heads) == (2 if isinstance(module, models.ErrorLifter) else 1) and heads <= float32_steps(plan)
    assert not heads & {label for _, label, _ in quantise.products(plan)}


def test_compile_makes_every_variant_on_the_windows_that_ship(tmp_path):
    lifter = NamedModule("tiny", models.person_sized(models.randomised(models.ErrorLifter())), True)
    rows = compiler.compile_lifter(lifter, ["native", "onnx", "torchscript"], ["fp32", "fp16", "w8", "int8"],
                                   tmp_path, 1, Console(quiet=True), keep_slower=True)
    assert len(rows) == 8 and all(row.is_kept for row in rows), [row.refusal for row in rows]
    for row in rows:
        header, _ = enginefile.read(tmp_path / row.file)
        assert (header["inputs"], header["outputs"]) == (["x", "y", "confidence"], ["x", "y", "z", "error"])


@pytest.mark.parametrize("windows", [evaluation_windows, calibration_windows])
def test_the_windows_that_ship_are_filled_with_what_is_known(windows):
    module = models.ErrorLifter()
    module.inputs = INPUTS
    filled = windows(module)[0] if windows is evaluation_windows else windows(module)
    module.inputs = ("x", "y")
    published = windows(module)[0] if windows is evaluation_windows else windows(module)
    # A model without the confidence takes a joint for hidden at higher ones.
    is_sure = (filled[..., 2] >= 0.3).all(axis=(1, 2))
    np.testing.assert_array_equal(filled[is_sure, ..., :2], published[is_sure])
    assert is_sure.mean() > 0.9
    np.testing.assert_array_equal(filled[..., -1], np.float32(1 / USUAL_RATE_HZ))  # the gap between frames
    assert (filled[..., 3:-1] == 0).all() and 0 <= filled[..., 2].min() and filled[..., 2].max() == 1
    # Real detections have a confidence of their own.
    assert windows is calibration_windows or (filled[..., 2] == 1).all()
    assert with_all_columns(published, module) is published


@pytest.mark.parametrize("precision", BUDGETS)
def test_the_predicted_error_has_a_budget_of_its_own(precision):
    poses = np.random.default_rng(0).normal(size=(4, 17, 4)).astype(np.float32)
    budget_m = BUDGETS[precision].mean_mm / 1e3
    assert over_budget(poses, poses, precision) == "" == over_budget(poses + 0.9 * budget_m * np.float32([1, 0, 0, 0]),
                                                                     poses, precision)
    assert "mm mean" in over_budget(poses + 1.1 * budget_m * np.float32([1, 0, 0, 0]), poses, precision)
    assert over_budget(poses + 0.4 * budget_m * np.float32([0, 0, 0, 1]), poses, precision) == ""
    assert "column 'error'" in over_budget(poses + 0.6 * budget_m * np.float32([0, 0, 0, 1]), poses, precision)
    for column in range(4):
        broken = poses.copy()
        broken[0, 0, column] = np.nan
        assert over_budget(broken, poses, precision)


def test_evaluation_fills_windows_and_takes_the_joints():
    module = models.randomised(models.ErrorLifter(9))
    model, x = TorchLifter(module), models.keypoints(module, 70)[..., :2]
    poses = lift(model, x)
    np.testing.assert_array_equal(poses, models.torch_poses(module, with_all_columns(x, module))[..., :3])
    flipped = run_flipped(model, with_all_columns(x, module))
    assert flipped.shape == (70, 17, 4)


def test_multiply_accumulates_are_counted_with_all_columns():
    assert zoo.macs(models.ErrorLifter(9)) == 3 * 9 * 17 * 64 + 2 * 2 * 64 * 64 + 64 * 4 * 17


@pytest.mark.slow
@pytest.mark.parametrize("key, names", [
    ("inputs", ["x"]), ("inputs", ["y", "x"]), ("inputs", ["x", "y", "depth", "confidence"]), ("inputs", []),
    ("inputs", ["x", "y", "x"]), ("inputs", ["x", "y", "heat"]), ("inputs", "xy"), ("inputs", ["x", "y", 3]),
    ("outputs", ["x", "y"]), ("outputs", ["x", "y", "z", "z"]), ("outputs", {"x": "x"}), ("outputs", None)])
def test_columns_that_there_are_none_of_are_refused(tmp_path, key, names):
    module = models.tiny_lifter()
    plan, tensors = lower(module, "fp32")
    enginefile.write(tmp_path / "a.epose", {**models.engine_header(module), "plan": plan, key: names}, tensors)
    with pytest.raises(edgepose.EngineError,
                       match=f"the header's '{key}' is .* it needs the names of columns, the first"):
        edgepose.load(tmp_path / "a.epose")
    with pytest.raises(c.Refused, match=f"the header's '{key}' is .* it needs the names of columns, the first"):
        c.Engine(tmp_path / "a.epose")


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"inputs": ["x", "y", "confidence"]}, {"outputs": ["x", "y", "z", "error"]}])
def test_a_plan_of_other_columns_than_its_header_is_refused(tmp_path, change):
    module = models.tiny_lifter()
    plan, tensors = lower(module, "fp32")
    enginefile.write(tmp_path / "a.epose", {**models.engine_header(module), "plan": plan, **change}, tensors)
    with pytest.raises(edgepose.EngineError, match="the plan takes"):
        edgepose.load(tmp_path / "a.epose")
    with pytest.raises(c.Refused, match="the plan takes"):
        c.Engine(tmp_path / "a.epose")


@pytest.mark.slow
def test_a_file_without_columns_is_of_the_published_form(tmp_path):
    module = models.tiny_lifter()
    plan, tensors = lower(module, "fp32")
    plan, header = ({key: value for key, value in part.items() if key not in ("inputs", "outputs")}
                    for part in (plan, models.engine_header(module)))
    enginefile.write(tmp_path / "a.epose", {**header, "plan": plan}, tensors)
    engine = edgepose.load(tmp_path / "a.epose")
    assert (engine.inputs, engine.outputs) == (("x", "y"), ("x", "y", "z"))
    x = models.keypoints(module, 2)
    np.testing.assert_allclose(c.Engine(tmp_path / "a.epose").run(x), engine.run(x), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_every_column_there_is_is_taken(tmp_path):
    module = models.ErrorJointLifter()
    module.inputs, module.outputs = INPUTS, OUTPUTS
    plan, tensors = lower(module, "fp32")
    assert len(plan["inputs"]) == 10 and plan["buffers"][0][:2] == [17, 10]
    module.embed = type(module.embed)(10, 64)
    path = models.write_engine(tmp_path / "a.epose", module.eval())
    assert edgepose.load(path).inputs == INPUTS and c.Engine(path).joints == len(H36M17)


def test_calibration_windows_have_the_confidences_of_real_detections():
    model = zoo.build("posemlp", channels=16, blocks=1).eval()
    confidence = calibration_windows(model)[..., model.inputs.index("confidence")]
    assert 0.05 < (confidence < 1).mean() < 1 and (confidence == 1).any() and confidence.min() == 0
