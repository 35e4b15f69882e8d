import json

import models
import numpy as np
import pytest
import torch

from edgepose import _native, zoo
from edgepose.build_engines import quantise
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import PlanModule
from edgepose.build_engines.quantise import Calibration, Recipe

FAMILIES = ("ampose-s", "strided27-s", "posegate-s", "martinez-s")


def run_native(plan, tensors, x, isa=""):
    y = np.empty((len(x), plan["joints"], 3), np.float32)
    _native.Context(_native.Plan(plan, tensors, isa), 1).run(x, y)
    return y


def run_torch(plan, tensors, x):
    with torch.inference_mode():
        return PlanModule(plan, tensors).eval()(torch.from_numpy(x)).numpy()


def distance_mm(a, b):
    return 1e3 * float(np.linalg.norm(a - b, axis=-1).mean())


@pytest.fixture(scope="module", params=FAMILIES)
def calibrated(request):
    """(a model's calibration, other windows)."""
    model = models.randomised(zoo.build(request.param))
    rng = np.random.default_rng(1)
    seen, other = (rng.uniform(-0.5, 0.5, (24, model.frames, len(model.skeleton), 2)).astype(np.float32)
                   for _ in range(2))
    return Calibration(*lower(model, "fp32"), seen), other


RECIPES = [Recipe("max"), Recipe("percentile"), Recipe("mse"), Recipe("max", equalise=0.5),
           Recipe("max", corrects_bias=True)]


def steps_alone(scales):
    """Scales of one step at a time: a number half-way between two may be rounded either way, and the difference would
    grow in the steps after it."""
    return [{"recipe": "", "steps": {name: step}} for name, step in scales["steps"].items()]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_native_kernels_say_what_the_plan_in_torch_says(calibrated, recipe):
    calibration, x = calibrated
    whole = run_torch(calibration.plan, calibration.tensors, x)
    for scales in steps_alone(calibration.scales(recipe)):
        eight = quantise.in_eight_bits(calibration.plan, calibration.tensors, scales)
        reference = run_torch(*eight, x)
        assert distance_mm(reference, whole) > 0.01
        for isa in _native.isas():
            error_mm = distance_mm(run_native(*eight, x, isa), reference)
            assert error_mm <= 0.02 * distance_mm(reference, whole), (isa, scales["steps"].keys())


def test_eight_bits_lose_little_and_weights_alone_less(calibrated):
    calibration, x = calibrated
    whole = run_torch(calibration.plan, calibration.tensors, x)
    size_mm = 1e3 * np.linalg.norm(whole, axis=-1).mean()
    eight = quantise.in_eight_bits(calibration.plan, calibration.tensors, calibration.scales(Recipe()))
    both = distance_mm(run_native(*eight, x), whole)
    weights = distance_mm(run_native(*quantise.weights_only(calibration.plan, calibration.tensors), x), whole)
    assert 0 < weights < both < 0.1 * size_mm


def test_correcting_biases_brings_the_outputs_means_back(calibrated):
    calibration, _ = calibrated
    def offset(recipe):
        quantised = quantise.in_eight_bits(calibration.plan, calibration.tensors, calibration.scales(recipe))
        return np.abs((run_native(*quantised, calibration.keypoints.numpy()) - calibration.reference).mean(0)).mean()
    assert offset(Recipe(corrects_bias=True)) < offset(Recipe())


def test_the_search_keeps_as_many_steps_in_half_precision_as_the_budget_asks_for(calibrated):
    calibration, _ = calibrated
    loose = calibration.error_mm(quantise.search(calibration, 1e9, lambda line: None))
    lines = []
    scales = quantise.search(calibration, 0.5 * loose, lines.append)
    error = calibration.error_mm(scales)
    assert error <= 0.5 * loose * quantise.ROOM
    count = len(list(quantise.products(calibration.plan)))
    assert len(scales["steps"]) < count and f"{count - len(scales['steps'])} steps in fp16" in scales["recipe"]
    assert lines[-1] == f"int8, taken: {scales['recipe']}" and any(f"{error:.3f} mm" in line for line in lines)


def test_w8_keeps_as_few_steps_in_half_precision_as_its_budget_asks_for(calibrated):
    calibration, _ = calibrated
    assert quantise.search_w8(calibration, 1e9, lambda line: None) == []
    budget = calibration.w8_error_mm(())
    kept = quantise.search_w8(calibration, budget, lambda line: None)
    assert 0 < len(kept) <= len(list(quantise.products(calibration.plan)))
    assert calibration.w8_error_mm(kept) <= quantise.ROOM * budget
    with pytest.raises(ValueError, match="has no steps 999.linear"):
        calibration.w8_error_mm(["999.linear"])


def test_scales_survive_the_file_they_are_written_to(calibrated, tmp_path):
    calibration, _ = calibrated
    scales = calibration.scales(Recipe("mse", equalise=0.5, corrects_bias=True))
    (tmp_path / "scales.json").write_text(json.dumps({"w8_kept": [], **scales}))
    _, written = quantise.in_eight_bits(calibration.plan, calibration.tensors, scales)
    _, read = quantise.in_eight_bits(calibration.plan, calibration.tensors,
                                     quantise.read_scales(tmp_path / "scales.json"))
    for name, tensor in written.items():
        np.testing.assert_array_equal(read[name], tensor)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "\xff\xfe", '{"w8_kept": ["\\ud800"], "steps": {}}',
                                  '{"steps": {}}', '{"w8_kept": [], "steps": 3}',
                                  '{"w8_kept": [3], "steps": {}}', '{"w8_kept": [], "steps": {"000.linear": {}}}',
                                  '{"w8_kept": [], "steps": {"000.linear": {"x_scale": "x"}}}',
                                  *('{"w8_kept": [], "steps": {"000.linear": {"x_scale": %s}}}' % x
                                    for x in ("NaN", "0", "-5", "1e300", "[1, 0]", 400 * "9"))])
def test_a_file_that_holds_no_scales_is_named(tmp_path, text):
    (tmp_path / "scales.json").write_text(text)
    with pytest.raises(ValueError, match="scales.json holds no scales"):
        quantise.read_scales(tmp_path / "scales.json")


def test_scales_of_another_plan_are_refused(calibrated):
    calibration, _ = calibrated
    name, step = next(iter(calibration.scales(Recipe())["steps"].items()))
    with pytest.raises(ValueError, match="no steps 999.linear"):
        quantise.in_eight_bits(calibration.plan, calibration.tensors, {"steps": {"999.linear": step}})
    with pytest.raises(ValueError, match=f"{name} has 3 columns"):
        quantise.in_eight_bits(calibration.plan, calibration.tensors, {"steps": {name: {"x_scale": [1.0, 2.0, 3.0]}}})


@pytest.mark.parametrize("op, shape", [("linear", (5, 7)), ("conv", (3, 5, 7)), ("graph_conv", (3, 5, 7))])
def test_weights_are_rounded_to_half_a_step_and_zero_stays_zero(op, shape):
    w = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    w[..., 3] = 0
    whole, scale = quantise.round_weights(w, op)
    assert scale.shape == ((3, 7) if op == "graph_conv" else (7,)) and np.abs(whole).max() == 127
    wide = scale[:, None] if op == "graph_conv" else scale
    assert (np.abs(whole * wide - w) <= 0.5001 * wide).all() and (whole[..., 3] == 0).all()
