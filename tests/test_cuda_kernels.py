"""The CUDA kernels against float64: emulated on a CPU, and on the GPU where there is one."""

import copy

import emulated
import models
import numpy as np
import pytest
import reference
import torch

from edgepose.build_engines.lower import PlanBuilder, lower
from edgepose.build_engines.plan_module import PlanModule
from edgepose.zoo.ampose import AMPose
from edgepose.zoo.layers import AttentionPattern
from edgepose.skeleton import H36M17

pytestmark = pytest.mark.slow

try:
    from edgepose import _cuda
    NO_GPU = _cuda.why_unavailable()
except ImportError:
    NO_GPU = "edgepose._cuda is not built"
EPS = 2.0**-24
HALF = 2.0**-11  # half the spacing of half precision for numbers up to 1


@pytest.fixture(scope="module")
def module():
    return emulated.module()


@pytest.fixture(params=[
    "plain", "tensor cores",
    pytest.param("gpu", marks=pytest.mark.skipif(bool(NO_GPU), reason=f"needs a GPU: {NO_GPU}"))])
def device(request):
    if request.param == "gpu":
        return emulated.OnDevice()
    return emulated.Emulated(emulated.module(), request.param == "tensor cores")


def in_float64(plan, tensors, x):
    """The plan's answer with weights as stored and the rest in float64; in float32 where x is rounded to int8."""
    if any("x_scale" in step for step in plan["steps"]):
        with torch.inference_mode():
            return PlanModule(plan, tensors).eval()(torch.from_numpy(x)).numpy()
    steps, tensors = copy.deepcopy(plan["steps"]), dict(tensors)
    for step in steps:
        if "scale" in step:
            scale = tensors[step.pop("scale")].astype(np.float64)
            scale = scale[:, None] if step["op"] == "graph_conv" else scale
            tensors[step["weight"]] = tensors[step["weight"]] * scale
    with torch.inference_mode():
        return PlanModule({**plan, "steps": steps}, tensors).double().eval()(torch.from_numpy(x).double()).numpy()


class Small:
    """A plan of a few steps with weights and inputs within 1, so that its answer is small enough to bound."""

    def __init__(self, precision="fp32", frames=4, joints=17, seed=0):
        self.plan = PlanBuilder(frames, joints, "fp16" if precision == "fp16" else "fp32")
        self.precision, self.random = precision, np.random.default_rng(seed)
        self.x = self.random.uniform(-1, 1, (3, frames, joints, 2)).astype(np.float32)

    def weights(self, *shape):
        return self.random.uniform(-1, 1, shape)

    def finished(self):
        plan, tensors = self.plan.plan(), self.plan.tensors
        if self.precision in ("w8", "int8"):
            step = {"x_scale": 30.0} if self.precision == "int8" else {}
            steps = {name: step for name in models.product_labels(plan)}
            plan, tensors = models.quantise.in_eight_bits(plan, tensors, steps)
        return plan, tensors


def widest(precision, device):
    """The error of rounding one number within 1 before its product, beyond float32's own."""
    return HALF if device.uses_tensor_cores and precision in ("fp16", "w8") else 0.0


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "int8"])
@pytest.mark.parametrize("k, n", [(2, 1), (15, 15), (17, 17), (64, 16), (65, 51), (520, 33), (1100, 3)])
def test_linear_is_within_its_bound_at_every_width(device, precision, k, n):
    small = Small(precision, frames=1)
    wide = small.plan.linear(small.plan.joint_tokens(), small.weights(2, k), small.weights(k))
    y = small.plan.linear(wide, small.weights(k, n) / k, small.weights(n), activation="relu")
    small.plan.linear(y, np.eye(n, 3), np.zeros(3))
    plan, tensors = small.finished()
    answer, expected = device.run(plan, tensors, small.x), in_float64(plan, tensors, small.x)
    # x within 3 and weights within 1 / k; int8 rounds x, and float32 may fall on the other side of a rounding.
    rounding = 3 * 2 * k * EPS + widest(precision, device) * 6 + (6 / 30 + 3 / 30 if precision == "int8" else 0)
    assert np.abs(answer - expected).max() <= rounding


@pytest.mark.parametrize("precision, bound", [("fp32", 0.01), ("fp16", 0.01), ("w8", 0.01), ("int8, one scale", None)])
@pytest.mark.parametrize("lifter", ["ampose, 1 frames, small", "ampose, 27 frames, small", "posegate, 9 frames, small",
                                    "martinez, 1 frames, small", "dln, 1 frames, small", "strided27, 27 frames, small",
                                    "strided81-dense, 81 frames, small", "strided, 27 frames, {'is_causal': True}",
                                    "16 joints, 1 frames", "block convnext", "groups centre+closer+farther+symmetry"])
def test_every_family_gives_the_poses_of_its_plan(device, lifter, precision, bound):
    model = models.randomised(models.LIFTERS[lifter]())
    plan, tensors = models.lowered(model, precision)
    x = models.keypoints(model, 2)
    answer, expected = device.run(plan, tensors, x), in_float64(plan, tensors, x)
    error_mm = 1e3 * np.linalg.norm(answer - expected, axis=-1)
    size_mm = 1e3 * np.linalg.norm(expected, axis=-1).mean()
    products = sum(step["op"] in ("linear", "conv", "graph_conv") for step in plan["steps"])
    if bound is None:  # a rounded x may differ by one where float32 differs from float64
        with torch.inference_mode():
            flipped = PlanModule(plan, tensors).double().eval()(torch.from_numpy(x).double()).numpy()
        assert error_mm.mean() < 2 * 1e3 * np.linalg.norm(flipped - expected, axis=-1).mean() + 0.01
    # x is rounded too, by 2^-12 of its size on average; products add up.
    elif device.uses_tensor_cores and precision != "fp32":
        assert error_mm.mean() < products * 2**-11 * size_mm
    else:
        assert error_mm.max() < bound


@pytest.mark.parametrize("precision", ["fp16", "int8, one scale"])
@pytest.mark.parametrize("uses_tensor_cores", [False, True])
@pytest.mark.parametrize(
    "lifter", ["ampose, 9 frames, small", "strided27, 27 frames, small", "posegate, 1 frames, small"])
def test_order_blocks_and_company_change_no_bit(module, lifter, precision, uses_tensor_cores):
    model = models.randomised(models.LIFTERS[lifter]())
    plan, tensors = models.lowered(model, precision)
    x = models.keypoints(model, 2)
    expected = emulated.Emulated(module, uses_tensor_cores).run(plan, tensors, x)
    for blocks, order in ((1, 1), (2, 11)):
        answer = emulated.Emulated(module, uses_tensor_cores, blocks, order).run(plan, tensors, x)
        np.testing.assert_array_equal(answer, expected, err_msg=f"{blocks} blocks, order {order}")
    alone = np.concatenate([emulated.Emulated(module, uses_tensor_cores).run(plan, tensors, x[i:i + 1])
                            for i in range(2)])
    np.testing.assert_array_equal(alone, expected)


@pytest.mark.parametrize("tokens, d, heads, span, is_causal", [
    (1, 4, 1, None, False), (17, 12, 3, None, False), (33, 64, 2, None, False), (40, 8, 2, 6, False),
    (81, 16, 4, 9, True), (7, 192, 1, None, True), (31, 5, 2, 40, False)])
def test_attention_is_within_its_bound(device, tokens, d, heads, span, is_causal):
    small = Small(frames=tokens)
    qkv = small.plan.linear(small.plan.frame_tokens(), small.weights(34, 3 * heads * d) / 6,
                            small.weights(3 * heads * d))
    y = small.plan.attention(qkv, heads, span, is_causal)
    y = small.plan.reshape(y, 1)
    small.plan.reshape(small.plan.linear(y, small.weights(tokens * heads * d, 51) / (tokens * heads * d), np.zeros(51)),
                       17)
    plan, tensors = small.finished()
    answer, expected = device.run(plan, tensors, small.x), in_float64(plan, tensors, small.x)
    # Values within 7; a score's error is d products of numbers within 7.
    assert np.abs(answer - expected).max() <= 2 * 7 * (2 * d * 49 + 2 * 34 + 4 * tokens) * EPS


@pytest.mark.parametrize("span", [0, 3, 5])
@pytest.mark.parametrize("capacity, newest, count", [(40, 39, 40), (40, 3, 40), (40, 3, 4), (9, 0, 9), (5, 2, 1)])
def test_attention_of_the_newest_token_reads_its_rings(device, span, capacity, newest, count):
    random, heads, d = np.random.default_rng(0), 4, 12
    q = random.uniform(-1, 1, (2, heads * d)).astype(np.float32)
    keys, values = (random.uniform(-1, 1, (2, capacity, heads * d)).astype(np.float32) for _ in range(2))
    answer = device.attention_newest(q, keys, values, newest, count, heads, span)
    order = [(newest - age) % capacity for age in range(count - 1, -1, -1)]  # oldest first
    for person in range(2):
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            k, v = keys[person, order, part], values[person, order, part]
            queries = np.repeat(q[person, None, part], count, 0)
            mask = AttentionPattern(span or None, True).mask(count, heads)[head].numpy()
            expected = reference.attention(queries, k, v, mask)[-1]
            assert np.abs(answer[person, part] - expected).max() <= 8 * (d + count) * EPS


def test_what_feeds_a_product_needs_no_step_of_its_own(module):
    plan, tensors = lower(AMPose(H36M17, 9, **models.TINY).eval(), "fp32")
    # A pair of blocks: qkv, attention, out, expand, contract and two graph convolutions; plus the embedding and the
    # head.
    assert module.steps(plan, tensors) == 7 + 2
    strided, tensors = lower(models.small("strided27").eval(), "fp32")
    layers = sum(step["op"] == "attention" for step in strided["steps"])
    assert module.steps(strided, tensors) == 5 * layers + 2


def test_an_infinite_keypoint_is_not_hidden_by_whole_numbers(device):
    model = models.tiny_lifter()
    plan, tensors = models.lowered(model, "int8, one scale")
    x = models.keypoints(model, 9)
    x[4, 0, 3, 0] = np.nan
    y = device.run(plan, tensors, x)
    assert np.isnan(y[4, 3]).all() and np.isfinite(np.delete(y, 4, 0)).all()


def test_an_infinite_row_is_not_taken_for_one_of_the_next_rows(module):
    small = Small("int8", frames=1)
    small.plan.linear(small.plan.joint_tokens(), small.weights(2, 3), small.weights(3))
    x = np.concatenate([small.x] * 3)
    x[4, 0, 3, 0] = np.nan  # row 71, the last of its tile
    for order in range(25):
        y = emulated.Emulated(module, False, 1, order).run(*small.finished(), x)
        assert np.isnan(y[4, 3]).all() and np.isnan(y).sum() == 3, order


def test_a_scale_a_row_is_refused(module):
    model = models.tiny_lifter()
    with pytest.raises(ValueError, match="step 1: a scale for each row of x is for CPUs.*edgepose compile .*cuda"):
        emulated.Emulated(module, False).run(*models.lowered(model, "int8"), models.keypoints(model, 1))


def test_heads_that_do_not_fit_are_refused(module):
    small = Small(frames=1)
    small.plan.attention(small.plan.linear(small.plan.joint_tokens(), small.weights(2, 3 * 193),
                                           small.weights(3 * 193)), 1)
    with pytest.raises(ValueError, match="step 2: heads of 193 channels; the CUDA kernels take 192"):
        emulated.Emulated(module, False).run(*_with_head(small), small.x)


def _with_head(small):
    value = small.plan._values[-1]
    small.plan.linear(value, small.weights(value.columns, 3), np.zeros(3))
    return small.finished()


def test_a_plan_that_is_not_valid_is_refused(module):
    plan, tensors = lower(models.tiny_lifter(), "fp32")
    plan = copy.deepcopy(plan)
    plan["steps"][3]["x"] = 10_000
    with pytest.raises(ValueError, match="step 3: x is not one of its buffers"):
        emulated.Emulated(module, False).run(plan, tensors, np.zeros((1, 1, 17, 2), np.float32))


def test_the_trained_lifter_on_tensor_cores_is_within_the_budget_of_fp16(module):
    from edgepose.build_engines import compile as compiler
    from edgepose.build_engines.windows import evaluation_windows

    lifter = compiler.load_lifter("ampose")
    x = evaluation_windows(lifter.module)[0][::97]
    with torch.inference_mode():
        expected = lifter.module(torch.from_numpy(x)).numpy()
    plan, tensors = lower(lifter.module, "fp16")
    answer = emulated.Emulated(module, True).run(plan, tensors, x)
    assert 1e3 * np.linalg.norm(answer - expected, axis=-1).mean() < compiler.BUDGETS["fp16"].mean_mm
