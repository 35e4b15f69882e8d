"""The steps of models over frames and of gated models: their results, and those that are refused."""

import copy

import numpy as np
import pytest
import torch
from models import keypoints, randomised, small
from test_plan import poses

from edgepose import _native
from edgepose.build_engines.lower import PlanBuilder, lower
from edgepose.zoo.strided import ATTENTIONS, StridedTransformer

TINY = {"channels": 16, "heads": 2, "depth": 1}
PLANS = {"strided": lower(randomised(StridedTransformer(frames=27, **TINY)), "fp32"),
         "refined": lower(randomised(small("ampose-refined")), "fp32"),
         "posegate": lower(randomised(small("posegate-s")), "fp32"), "dln": lower(randomised(small("dln-s")), "fp32")}


def step(plan, op):
    return next(step for step in plan["steps"] if step["op"] == op)


def run(build, frames=9, joints=2, x=None):
    """The answer of a plan of `build(builder)`, and its keypoints."""
    builder = PlanBuilder(frames, joints, "fp32")
    build(builder)
    x = np.random.default_rng(0).normal(size=(3, frames, joints, 2)).astype(np.float32) if x is None else x
    out = np.full((len(x), joints, 3), np.nan, np.float32)
    _native.Context(_native.Plan(builder.plan(), builder.tensors, ""), 1).run(x, out)
    return x, out


def test_frames_reshape_and_pick_move_elements_and_change_none():
    identity = np.eye(6)

    def build(plan):
        tokens = plan.frame_tokens()  # (9, 4)
        rows = plan.reshape(tokens, 6)  # 36 numbers as (6, 6)
        picked = plan.pick(rows, 1, 5, 1)  # row 1, (1, 6)
        plan.reshape(plan.linear(picked, identity, np.zeros(6)), 2)

    x, out = run(build)
    np.testing.assert_array_equal(out.reshape(3, 6), x.reshape(3, 36)[:, 6:12])


@pytest.mark.parametrize("first, stride, rows, taps",
                         [(-1, 3, 3, 3), (-1, 9, 1, 3), (0, 3, 3, 3), (6, 9, 1, 3), (-1, 1, 9, 3), (-2, 4, 2, 5)])
def test_a_convolution_is_torchs_with_zeros_outside(first, stride, rows, taps):
    rng = np.random.default_rng(1)
    w, b, residual = rng.normal(size=(taps, 4, 6)), rng.normal(size=6), rng.normal(size=(rows, 6))

    def build(plan):
        tokens = plan.frame_tokens()
        zero = plan.linear(plan.pick(tokens, 0, 1, rows), np.zeros((4, 6)), np.zeros(6))
        y = plan.conv(tokens, w, b, first, stride, residual=plan.add_constant(zero, residual))
        plan.reshape(plan.linear(plan.reshape(y, 1), np.tile(np.eye(6), (rows, 1)), np.zeros(6)), 2)  # sums the rows

    x, out = run(build)
    flat = torch.from_numpy(x.astype(np.float64)).flatten(2).transpose(1, 2)
    after = (rows - 1) * stride + taps + first - 9
    padded = torch.nn.functional.pad(flat[..., max(0, first):], (max(0, -first), max(0, after)))
    y = torch.nn.functional.conv1d(padded, torch.from_numpy(w).permute(2, 1, 0), torch.from_numpy(b),
                                   stride)[..., :rows]
    expected = (y.transpose(1, 2) + torch.from_numpy(residual)).sum(1).numpy()
    np.testing.assert_allclose(out.reshape(3, 6), expected, atol=1e-4)


def test_nothing_a_person_does_reaches_another():
    for plan, tensors in PLANS.values():
        rng = np.random.default_rng(2)
        x = rng.uniform(-0.5, 0.5, (3, plan["frames"], 17, 2)).astype(np.float32)
        broken = x.copy()
        broken[1] = np.nan
        before, after = poses(plan, tensors, x), poses(plan, tensors, broken)
        assert np.isnan(after[1]).all()
        np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])


def test_a_context_forgets_a_broken_frame():
    for plan, tensors in PLANS.values():
        x = np.random.default_rng(3).uniform(-0.5, 0.5, (1, plan["frames"], 17, 2)).astype(np.float32)
        context = _native.Context(_native.Plan(plan, tensors, ""), 1)
        first, broken, second = (np.empty((1, 17, 3), np.float32) for _ in range(3))
        for keypoints_norm, out in ((x, first), (np.full_like(x, np.nan), broken), (x, second)):
            context.run(keypoints_norm, out)
        assert np.isnan(broken).any()
        np.testing.assert_array_equal(first, second)


def setting(where, /, **values):
    return lambda plan: step(plan, where).update(values)


def rows_of(op, name, rows):
    def change(plan):
        plan["buffers"][step(plan, op)[name]][0] = rows
    return change


REFUSED = [
    ("strided", "another order of tokens", setting("frames", op="tokens"), "tokens gives"),
    ("strided", "frames of another shape", rows_of("frames", "y", 26), "frames gives"),
    ("strided", "reshape to another size", rows_of("reshape", "y", 16), "x and y differ in size"),
    ("strided", "rows that are not there", setting("pick", first=3), "it picks rows that x does not have"),
    ("strided", "rows before the first", setting("pick", first=-1), "it picks rows that x does not have"),
    ("strided", "a long stride", setting("pick", stride=4), "it picks rows that x does not have"),
    ("strided", "a huge stride", setting("pick", stride=2**31 - 1), "stride is out of range"),
    ("strided", "no stride", setting("conv", stride=0), "stride is out of range"),
    ("strided", "taps that all miss a row", setting("conv", first=5), "no tap has all its rows"),
    ("strided", "taps before the first row", setting("conv", first=-5), "no tap has all its rows"),
    ("strided", "first out of range", setting("conv", first=-(2**31)), "first is out of range"),
    ("strided", "an activation nobody runs", setting("conv", activation="relu"), "a convolution has no activation"),
    ("strided", "a convolution with a linear's weight",
     lambda plan: step(plan, "conv").update(weight=step(plan, "linear")["weight"]), r"weight is not \(taps, k, n\)"),
    ("strided", "a residual nobody adds", lambda plan: step(plan, "pick").update(residual=step(plan, "pick")["y"]),
     "residual is read before"),
    ("strided", "a negative span", setting("attention", span=-1), "span is out of range"),
    ("strided", "a gate that is none", setting("attention", gate=0), r"gate is not \(1, 2 heads\)"),
    ("strided", "is_causal as a number", setting("attention", is_causal="yes"), "a value has the wrong type"),
    ("refined", "a side that is not there", lambda plan: step(plan, "concat").pop("other"),
     "other is not one of its buffers"),
    ("refined", "sides of another width", setting("concat", other=0), r"y is not x \| other"),
    ("posegate", "a gate not yet written", lambda plan: step(plan, "attention").update(gate=plan["steps"][-1]["y"]),
     "gate is read before"),
    ("posegate", "a gate for more heads", setting("attention", heads=2), "gate is not"),
    ("dln", "a factor that is not there", lambda plan: step(plan, "multiply").pop("other"),
     "other is not one of its buffers"),
    ("dln", "a factor of another shape", setting("multiply", other=0), "x, other and y differ in shape"),]


@pytest.mark.parametrize("model, change, message", [(case[0], *case[2:]) for case in REFUSED],
                         ids=[case[1] for case in REFUSED])
def test_a_bad_step_is_refused(model, change, message):
    plan, tensors = copy.deepcopy(PLANS[model][0]), PLANS[model][1]
    change(plan)
    with pytest.raises(ValueError, match=message):
        _native.Plan(plan, tensors, "")


@pytest.mark.parametrize("model, op", [("refined", "concat"), ("dln", "multiply")])
def test_the_other_operand_may_have_its_name_of_formats_1_and_2(model, op):
    plan, tensors = PLANS[model]
    older = copy.deepcopy(plan)
    for each in older["steps"]:
        if each["op"] == op:
            each["residual"] = each.pop("other")
    x = np.random.default_rng(4).uniform(-0.5, 0.5, (2, plan["frames"], 17, 2)).astype(np.float32)
    assert any("residual" in each for each in older["steps"] if each["op"] == op)
    np.testing.assert_array_equal(poses(older, tensors, x), poses(plan, tensors, x))


def test_a_causal_model_answers_for_the_newest_frame_whatever_follows_none():
    model = randomised(StridedTransformer(frames=27, is_causal=True, **TINY))
    x = keypoints(model, 1)
    changed = x.copy()
    changed[:, -1] += 0.1
    with torch.no_grad():
        encoded, other = (model.encode(torch.from_numpy(part)) for part in (x, changed))
    assert torch.equal(encoded[:, :-1], other[:, :-1]) and not torch.equal(encoded[:, -1], other[:, -1])
    with torch.no_grad():
        assert not torch.equal(model(torch.from_numpy(x)), model(torch.from_numpy(changed)))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("frames", [27, 81])
def test_no_token_of_the_causal_strided_layers_looks_ahead(frames, attention):
    model = randomised(StridedTransformer(frames=frames, is_causal=True, attention=attention, **TINY))
    x = torch.from_numpy(keypoints(model, 1)).repeat(frames - 1, 1, 1, 1)
    unchanged = torch.arange(1, frames)  # frames that change nothing in a row of the batch
    later = torch.arange(frames) >= unchanged[:, None]
    with torch.no_grad():
        tokens, others = model.encode(x), model.encode(x + 0.1 * later[..., None, None])
        ends = torch.arange(frames)  # the frame of each token
        for layer in model.strided:
            tokens, others, ends = layer(tokens), layer(others), ends[layer.stride - 1::layer.stride]
            assert torch.equal((tokens == others).all(-1), ends < unchanged[:, None])
