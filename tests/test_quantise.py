import json

import models
import numpy as np
import pytest
import torch

from edgepose import _native, zoo
from edgepose.build_engines import quantise, searches
from edgepose.build_engines.budgets import Budget
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import PlanModule
from edgepose.build_engines.quantise import Calibration, Recipe

pytestmark = pytest.mark.slow

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


def in_eight_bits(calibration, steps):
    return quantise.in_eight_bits(calibration.plan, calibration.tensors, steps)


def every_product(calibration, x_bits):
    return calibration.with_rows({name: x_bits for _, name, _ in quantise.products(calibration.plan)})


@pytest.fixture(scope="module", params=FAMILIES)
def calibrated(request):
    """(a model's calibration, other windows)."""
    model = models.randomised(zoo.build(request.param))
    rng = np.random.default_rng(1)
    shape = (24, model.frames, len(model.skeleton), 2)
    seen, other = (rng.uniform(-0.5, 0.5, shape).astype(np.float32) for _ in range(2))
    return Calibration(*lower(model, "fp32"), seen), other


@pytest.mark.parametrize("x_bits", [0, 8, 16])
def test_the_native_kernels_say_what_the_plan_in_torch_says(calibrated, x_bits):
    # A step by itself: a number half-way between two may round one way here and the other there, and in the steps
    # after it that would grow.
    calibration, x = calibrated
    whole = run_torch(calibration.plan, calibration.tensors, x)
    for name, step in every_product(calibration, x_bits).items():
        eight = in_eight_bits(calibration, {name: step})
        reference = run_torch(*eight, x)
        assert distance_mm(reference, whole) > 0.01
        for isa in _native.isas():
            apart = distance_mm(run_native(*eight, x, isa), reference)
            assert apart <= 0.02 * distance_mm(reference, whole), (isa, name)


def test_one_scale_for_all_rows_is_not_for_the_native_engine(calibrated):
    calibration, x = calibrated
    eight = in_eight_bits(calibration, calibration.scales(Recipe())["steps"])
    with pytest.raises(ValueError, match="one scale for all rows of x.*edgepose compile --model NAME --precision int8"):
        run_native(*eight, x)


def test_eight_bits_lose_little_sixteen_less_and_weights_alone_no_more(calibrated):
    calibration, x = calibrated
    whole = run_torch(calibration.plan, calibration.tensors, x)
    size_mm = 1e3 * np.linalg.norm(whole, axis=-1).mean()
    plans = [in_eight_bits(calibration, every_product(calibration, bits)) for bits in (8, 16, 0)]
    eight, sixteen, weights = (distance_mm(run_native(*plan, x), whole) for plan in plans)
    assert 0 < weights < eight < 0.1 * size_mm and sixteen == pytest.approx(weights, rel=0.05)


def test_a_row_of_its_own_scale_survives_what_calibration_never_saw(calibrated):
    calibration, x = calibrated
    x = 4 * x
    whole = run_torch(calibration.plan, calibration.tensors, x)
    rows = distance_mm(run_native(*in_eight_bits(calibration, every_product(calibration, 8)), x), whole)
    one_scale = distance_mm(run_torch(*in_eight_bits(calibration, calibration.scales(Recipe())["steps"]), x), whole)
    assert rows < 0.5 * one_scale


def test_gptq_loses_less_than_the_nearest_weights(calibrated):
    calibration, _ = calibrated
    steps = every_product(calibration, 0)
    nearest = {name: {} for name in steps}
    assert calibration.error_mm(steps, np.float32) < 0.9 * calibration.error_mm(nearest, np.float32)


def test_correcting_biases_brings_the_outputs_means_back(calibrated):
    calibration, _ = calibrated

    def offset(recipe):
        poses = calibration.poses(calibration.scales(recipe)["steps"])
        return np.abs((poses - calibration.reference).mean(0)).mean()
    assert offset(Recipe(corrects_bias=True)) < offset(Recipe())


def used(calibration, steps, budget):
    return budget.used(calibration.poses(steps), calibration.reference)


@pytest.mark.parametrize("calibrated", ["ampose-s"], indirect=True)
@pytest.mark.parametrize("search", [searches.search_rows, searches.search_w8, lambda *a: searches.search(*a)["steps"]],
                         ids=["rows", "w8", "one scale"])
def test_a_search_stays_within_the_budget_and_takes_all_of_eight_bits_that_it_allows(calibrated, search):
    calibration, _ = calibrated
    names = {name for _, name, _ in quantise.products(calibration.plan)}
    loose = search(calibration, Budget(1e9), lambda line: None)
    assert loose.keys() == names and all(step.get("x_bits", 8) in (0, 8) for step in loose.values())
    lines, budget = [], Budget(0.6 * calibration.error_mm(loose))
    steps = search(calibration, budget, lines.append)
    assert used(calibration, steps, budget) <= 1 and steps.keys() <= names
    schemes = quantise.schemes(calibration.plan, steps)
    assert schemes != quantise.schemes(calibration.plan, loose) and set(schemes.values()) & {"int16", "fp16"}
    assert any(quantise.counted(schemes) in line for line in lines)


@pytest.mark.parametrize("calibrated", ["ampose-s"], indirect=True)
def test_the_tail_counts_as_the_mean_does(calibrated):
    calibration, _ = calibrated
    loose = searches.search_rows(calibration, Budget(1e9), lambda line: None)
    tail = 10 * Budget(1e9, tail_mm=10.0).used(calibration.poses(loose), calibration.reference)
    budget = Budget(1e9, tail_mm=0.6 * tail)
    assert used(calibration, searches.search_rows(calibration, budget, lambda line: None), budget) <= 1


def test_scales_survive_the_file_they_are_written_to(calibrated, tmp_path):
    calibration, _ = calibrated
    scales = calibration.scales(Recipe("mse", equalise=0.5, uses_gptq=True, corrects_bias=True))
    scales |= {"rows": every_product(calibration, 8), "w8": every_product(calibration, 0)}
    quantise.write_scales(tmp_path / "scales.json", scales)
    for part in quantise.PARTS:
        _, written = in_eight_bits(calibration, scales[part])
        _, read = in_eight_bits(calibration, quantise.read_scales(tmp_path / "scales.json")[part])
        for name, tensor in written.items():
            np.testing.assert_array_equal(read[name], tensor)


STEPS = [3, *({"000.linear": step} for step in (
    3, {"x_scale": "x"}, {"x_bits": 7}, {"x_bits": "8"}, {"bias": [[1], 2]}, {"weight": "AAAA"},
    {"weight": {"shape": [3]}},
    *({"weight": {"shape": shape, "int8": text}} for shape, text in (
        ([2], "AAAA"), ([-1], "A"), ([1, 10**30], "AAAA"), (3, "AAAA"), ([3], "AA\u00e9A")))))]
TEXTS = ["", "[]", "{}", "[" * 100_000, "\xff\xfe", '{"model": "ampose", "w8_kept": []}',
         *('{"steps": {"000.linear": {"x_scale": %s}}}' % x for x in ("NaN", "0", "-5", "1e300", "[1, 0]", 400 * "9"))]


@pytest.mark.parametrize("text", [*TEXTS, *(json.dumps({part: steps}) for part in quantise.PARTS for steps in STEPS)])
def test_a_file_that_holds_no_scales_is_named(tmp_path, text):
    (tmp_path / "scales.json").write_text(text)
    with pytest.raises(ValueError, match="scales.json holds no scales"):
        quantise.read_scales(tmp_path / "scales.json")


def test_scales_of_another_plan_are_refused(calibrated):
    calibration, _ = calibrated
    name, step = next(iter(every_product(calibration, 8).items()))
    with pytest.raises(ValueError, match="no steps 999.linear"):
        in_eight_bits(calibration, {"999.linear": step})
    with pytest.raises(ValueError, match=f"{name} has 3 columns"):
        in_eight_bits(calibration, {name: {"x_scale": [1.0, 2.0, 3.0]}})
    with pytest.raises(ValueError, match=f"the weights of {name} are "):
        in_eight_bits(calibration, {name: {"weight": step["weight"][..., :-1]}})
