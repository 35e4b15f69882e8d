"""Lowered plans against torch, plans that run at the same time, and plans that are refused."""

import copy
import math

import numpy as np
import pytest
from guarded import WIDENING_ISAS
from models import LIFTERS, SMALL, keypoints, lowered, randomised, small, tiny_lifter, torch_poses

from edgepose import _native
from edgepose.backends.native import Backend
from edgepose.build_engines.lower import lower
from edgepose.skeleton import H36M17
from edgepose.zoo.ampose import AMPose
from edgepose.zoo.strided import StridedTransformer

ISAS = _native.isas()
each_isa = pytest.mark.parametrize("isa", ISAS)
each_lifter = pytest.mark.parametrize("lifter", LIFTERS)


def poses(plan, tensors, x, isa="", threads=1):
    out = np.full((len(x), plan["joints"], len(plan["outputs"])), np.nan, np.float32)
    Backend({"plan": plan}, tensors, threads, isa).run(x, out)
    return out


@each_lifter
def test_a_plan_gives_the_poses_of_torch_within_a_hundredth_of_a_millimetre(lifter):
    model = randomised(LIFTERS[lifter]())
    x = keypoints(model, 3)
    expected = torch_poses(model, x)
    assert 0.1 < np.sqrt((expected**2).mean()) < 10  # metres, like poses; otherwise 0.01 mm would say nothing
    plan, tensors = lower(model, "fp32")
    for isa in ISAS:
        error_mm = np.linalg.norm(poses(plan, tensors, x, isa) - expected, axis=-1) * 1e3
        assert error_mm.max() < 0.01, isa


@each_lifter
def test_half_precision_weights_move_poses_by_their_rounding_alone(lifter):
    model = randomised(LIFTERS[lifter]())
    x = keypoints(model, 3)
    expected = torch_poses(model, x)
    plan, tensors = lower(model, "fp16")
    rounded = {name: t.astype(np.float32) for name, t in tensors.items()}
    # Every product rounds its weights by at most 2^-12 of their size, half the spacing of half precision. The norms and
    # residuals keep an error's share of a pose; the errors of the products add up.
    products = sum(step["op"] in ("linear", "conv", "graph_conv") for step in plan["steps"])
    bound_mm = products * 2**-11 * np.linalg.norm(expected, axis=-1).mean() * 1e3
    for isa in WIDENING_ISAS:
        half = poses(plan, tensors, x, isa)
        np.testing.assert_array_equal(half, poses(plan, rounded, x, isa))  # a storage format: the sums are the same
        assert np.linalg.norm(half - expected, axis=-1).mean() * 1e3 < bound_mm


@each_isa
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "int8", "int16"])
@pytest.mark.parametrize(
    "make", [lambda: AMPose(H36M17, 9, **SMALL), lambda: small("strided27"), lambda: small("strided81-dense"),
             lambda: StridedTransformer(frames=27, is_causal=True, **SMALL), lambda: small("posegate"),
             lambda: small("dln"), lambda: small("martinez")],
    ids=["ampose9", "strided27", "strided81-dense", "causal", "posegate", "dln", "martinez"])
def test_threads_and_batches_change_no_bit(isa, precision, make):
    model = randomised(make())
    plan, tensors = lowered(model, precision)
    x = keypoints(model, 13)
    alone = np.concatenate([poses(plan, tensors, x[i:i + 1], isa) for i in range(len(x))])
    for threads in (1, 2, 3):
        for cuts in ([], [1], [4, 9], [6], list(range(1, 13))):
            split = np.split(x, cuts)
            together = np.concatenate([poses(plan, tensors, np.ascontiguousarray(part), isa, threads)
                                       for part in split])
            np.testing.assert_array_equal(together, alone, err_msg=f"{threads} threads, cut at {cuts}")


@each_isa
@pytest.mark.parametrize("threads", [2, 7, 31])
def test_more_threads_than_work_change_no_bit(isa, threads):
    model = tiny_lifter()
    plan, tensors = lower(model, "fp32")
    x = keypoints(model, 2)
    np.testing.assert_array_equal(poses(plan, tensors, x, isa, threads), poses(plan, tensors, x, isa))


TINY_PLAN, TINY_TENSORS = lower(tiny_lifter(), "fp32")
FIRST = {}  # op -> its first step; "residual": the first step that has one
for number, step in enumerate(TINY_PLAN["steps"]):
    FIRST.setdefault(step["op"], number)
    if "residual" in step:
        FIRST.setdefault("residual", number)


def step_of(op, plan):
    return plan["steps"][FIRST[op]]


def setting(where, /, **values):
    return lambda plan, tensors: step_of(where, plan).update(values)


def without(op, key):
    return lambda plan, tensors: step_of(op, plan).pop(key)


def in_plan(**values):
    return lambda plan, tensors: plan.update(values)


def buffer_of(op, name, **values):
    def change(plan, tensors):
        for key, value in values.items():
            plan["buffers"][step_of(op, plan)[name]][("rows", "columns").index(key)] = value
    return change


def in_place(op):
    """A step that writes to the buffer it reads."""
    return lambda plan, tensors: step_of(op, plan).update(y=step_of(op, plan)["x"])


def tensor_of(op, key, change):
    def apply(plan, tensors):
        name = step_of(op, plan)[key]
        tensors[name] = change(tensors[name])
    return apply


def scaled(op, key):
    """A float32 weight with the scales of an int8 weight."""
    def apply(plan, tensors):
        shape = tensors[step_of(op, plan)["weight"]].shape
        step_of(op, plan)[key] = "more"
        tensors["more"] = np.ones(shape[-2] if key == "x_scale" else (*shape[:-2], shape[-1]), np.float32)
    return apply


def in_int8(op, key, change):
    """An int8 weight with both scales, one of them changed."""
    def apply(plan, tensors):
        step = step_of(op, plan)
        shape = tensors[step["weight"]].shape
        tensors[step["weight"]] = np.ones(shape, np.int8)
        step |= {"scale": "scale", "x_scale": "x_scale"}
        tensors |= {"scale": np.ones((*shape[:-2], shape[-1]), np.float32), "x_scale": np.ones(shape[-2], np.float32)}
        tensors[key] = np.ascontiguousarray(change(tensors[key]))
    return apply


def with_x_bits(op, bits, has_x_scale=False):
    """A weight of int8 with x_bits, and with a scale for all rows of x or without."""
    def apply(plan, tensors):
        in_int8(op, "scale", lambda t: t)(plan, tensors)
        step = step_of(op, plan)
        step["x_bits"] = bits
        if not has_x_scale:
            del step["x_scale"]
    return apply


def no_tensor(op, key):
    return lambda plan, tensors: tensors.pop(step_of(op, plan)[key])


def missing(key):
    return lambda plan, tensors: plan.pop(key)


def at(op, why):
    return f"step {FIRST[op]}: {why}"


HUGE = 2**31 - 1
REFUSED = [
    # the plan as a whole
    *[(f"no {key}", missing(key), f'"{key}" is missing') for key in ("frames", "joints", "buffers", "steps")],
    *[(f"{key} {value!r}", in_plan(**{key: value}), f"{key} (is|are) out of range|wrong type, or is out of range")
      for key in ("frames", "joints") for value in (-1, HUGE, 2**31, 2**63, "3", None, 1.5, [], {})],
    ("frames 0", in_plan(frames=0), "frames are out of range"),
    ("joints 0", in_plan(joints=0), "joints are out of range"),
    *[(f"{key} {value!r}", in_plan(**{key: value}), f"{key} are out of range|wrong type, or is out of range")
      for key in ("inputs", "outputs") for value in ([], ["x"] * 65, 3, None, "xyz")],
    ("another number of inputs", in_plan(inputs=["x", "y", "confidence"]),
     r"step 0: tokens gives \(joints, inputs \* frames\)"),
    ("another number of outputs", in_plan(outputs=["x", "y", "z", "error"]),
     r"the last step does not give \(joints, outputs\)"),
    ("more steps than any model", lambda plan, _: plan["steps"].extend([plan["steps"][-1]] * 1024),
     "it has more than 1024 steps"),
    ("no buffers", in_plan(buffers=[]), "step 0: y is not one of its buffers"),
    ("no steps", in_plan(steps=[]), "it has no steps"),
    *[(f"{key} {value!r}", in_plan(**{key: value}), "")
      for key in ("buffers", "steps") for value in (None, 3, "ab", [None], [3], ["abcd"], [[1, 2, 3]], [{}])],
    ("another number of joints", in_plan(joints=16), r"step 0: tokens gives \(joints, inputs \* frames\)"),
    ("another number of frames", in_plan(frames=9), r"step 0: tokens gives \(joints, inputs \* frames\)"),
    ("an answer that is none", lambda plan, _: plan["steps"].pop(), r"the last step does not give \(joints, outputs\)"),
    # buffers
    *[(f"{key} {value}", buffer_of("linear", "y", **{key: value}),
       "a buffer's shape is out of range|a value has the wrong type, or is out of range")
      for key in ("rows", "columns") for value in (-1, 0, HUGE, 2**31, 2**62, "3", None, 0.5)],
    # steps
    *[(f"{op} without op", without(op, "op"), at(op, '"op" is missing')) for op in ("tokens", "graph_conv")],
    ("an unknown op", setting("add", op="softmax"), at("add", 'unknown op "softmax"')),
    *[(f"op {value!r}", setting("add", op=value), at("add", "a value has the wrong type"))
      for value in (None, 3, [], {})],
    ("an unknown activation", setting("linear", activation="tanh"), at("linear", 'unknown activation "tanh"')),
    ("an activation that is no name", setting("linear", activation=1), at("linear", "a value has the wrong type")),
    *[(f"{op} {name} {value}", setting(op, **{name: value}),
       at(op, f"{name} is not one of its buffers|a value has the wrong type"))
      for op, name in (("tokens", "y"), ("add", "x"), ("linear", "x"), ("normalize", "y"), ("residual", "residual"))
      for value in (-2, 10**6, HUGE, 2**31, 2**32, "0", None, 0.5)],
    *[(f"{op} without {name}", without(op, name), at(op, f"{name} is not one of its buffers"))
      for op, name in (("tokens", "y"), ("add", "x"), ("linear", "x"), ("attention", "x"), ("normalize", "y"))],
    *[(f"{op} to fewer rows", buffer_of(op, "y", rows=16), at(op, "x and y differ in rows|x is not q"))
      for op in ("linear", "graph_conv", "attention")],
    ("a residual of another shape", setting("residual", residual=0), at("residual", "residual is not like y")),
    ("add to another shape", setting("add", x=0), at("add", "x and y differ in shape")),
    ("normalize to another shape", setting("normalize", x=0), at("normalize", "x and y differ in shape")),
    ("heads that do not divide", setting("attention", heads=3), at("attention", "heads do not divide")),
    *[(f"heads {value!r}", setting("attention", heads=value),
       at("attention", "heads do not divide|a value has the wrong type"))
      for value in (0, -2, HUGE, 2**31, None, "2", 2.5)],
    ("no heads", without("attention", "heads"), at("attention", "heads do not divide")),
    ("attention over something else", setting("attention", x=0), at("attention", "x is not q | k | v of y")),
    ("a negative epsilon", setting("normalize", epsilon=-1e-5), at("normalize", "epsilon is negative")),
    *[(f"epsilon {value!r}", setting("normalize", epsilon=value), at("normalize", "a value has the wrong type"))
      for value in (None, "1", [])],
    # buffers that a kernel may not alias
    *[(f"{op} in place", in_place(op), at(op, "it writes what it reads")) for op in ("residual", "graph_conv")],
    # tensors
    *[(f"{op} without its {key}", no_tensor(op, key), at(op, "there is no tensor "))
      for op, key in (("linear", "weight"), ("linear", "bias"), ("add", "bias"), ("graph_conv", "gather"),
                      ("graph_conv", "scatter"))],
    *[(f"{op} names no {key}", without(op, key), at(op, f"{key} is not one of its tensors"))
      for op, key in (("linear", "weight"), ("linear", "bias"), ("add", "bias"), ("graph_conv", "weight"),
                      ("graph_conv", "bias"), ("graph_conv", "gather"), ("graph_conv", "scatter"))],
    *[(f"{op} {key} {name}", tensor_of(op, key, change), at(op, f"{key} has another shape"))
      for op, key in (("linear", "weight"), ("linear", "bias"), ("add", "bias"), ("graph_conv", "weight"),
                      ("graph_conv", "bias"), ("graph_conv", "gather"), ("graph_conv", "scatter"))
      for name, change in (("one shorter", lambda t: np.ascontiguousarray(t[..., :-1])),
                           ("flat", lambda t: t.reshape(1, -1)[0, :-1]),
                           ("with one axis more", lambda t: t[None]),
                           ("of no axis", lambda t: np.array(1, np.float32)))],
    *[(f"{op} bias in half precision", tensor_of(op, "bias", lambda t: t.astype(np.float16)),
       at(op, "bias is not float32"))
      for op in ("linear", "add", "graph_conv")],
    *[(f"a weight in {dtype}", tensor_of("linear", "weight", lambda t, dtype=dtype: t.astype(dtype)),
       "neither float32 nor float16")
      for dtype in ("float64", "int32", "uint16", "bool")],
    # eight bits
    *[(f"{op} in int8 without a scale", tensor_of(op, "weight", lambda t: t.astype(np.int8)),
       at(op, "scale goes with a weight of int8"))
      for op in ("linear", "graph_conv")],
    *[(f"{op} in float32 with a {key}", scaled(op, key), at(op, f"{key} .*goe?s? with a weight of int8"))
      for op in ("linear", "graph_conv") for key in ("scale", "x_scale")],
    *[(f"{op} in float32 with x_bits", setting(op, x_bits=8), at(op, "x_scale and x_bits go with a weight of int8"))
      for op in ("linear", "graph_conv")],
    *[(f"{op} in int8 with x_bits {bits!r}", with_x_bits(op, bits),
       at(op, "(x_bits is neither 8 nor 16|a value has the wrong type)"))
      for op in ("linear", "graph_conv") for bits in (-8, 1, 4, 32, HUGE, 2**31, "8", None)],
    *[(f"{op} in int8 with both", with_x_bits(op, 8, has_x_scale=True), at(op, "x_scale and x_bits exclude each other"))
      for op in ("linear", "graph_conv")],
    *[(f"{op} in int8 whose {key} is {name}", in_int8(op, key, change), at(op, f"{key} {why}"))
      for op in ("linear", "graph_conv") for key in ("scale", "x_scale")
      for name, change, why in (("one shorter", lambda t: t[..., :-1], "has another shape"),
                                ("in half precision", lambda t: t.astype(np.float16), "is not float32"),
                                ("of one axis more", lambda t: t[None], "has another shape"))],
    ("a weight that is not contiguous",
     tensor_of("linear", "weight", lambda t: np.asfortranarray(np.ones((2, 16), np.float32))), "not C-contiguous"),
    ("an empty weight", tensor_of("linear", "weight", lambda t: t[:0]), "a tensor's shape is out of range"),
    ("a tensor nobody needs, empty", lambda plan, tensors: tensors.update(more=np.zeros((0, 3), np.float32)),
     "a tensor's shape is out of range"),
    # groups
    *[(f"group_rows {value!r}", setting("graph_conv", group_rows=value),
       at("graph_conv", "(a group's rows are out of range|too many gathered|a value|weight|gather)"))
      for value in ([], [0, 0, 41], [-1, 21, 21], [17, 16, 9], [41], [256, 256, 256], [HUGE, HUGE, HUGE],
                    [2**31, 1, 1], 3, None, "17", [17, "16", 8])],
]


@pytest.mark.parametrize("change, message", [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_bad_plan_is_refused_with_the_step_and_the_reason(change, message):
    plan, tensors = copy.deepcopy(TINY_PLAN), dict(TINY_TENSORS)
    change(plan, tensors)
    with pytest.raises(ValueError, match=f"^(the engine's plan is not valid: .*({message})|a weight "
                       f"tensor is {message})") as refused:
        _native.Plan(plan, tensors, "")
    if message.startswith("step "):
        assert f"not valid: {message.split(':')[0]}:" in str(refused.value)


@pytest.mark.parametrize("wrong", [None, 3, "plan", [], [TINY_PLAN]])
def test_a_plan_that_is_no_object_is_a_type_error(wrong):
    with pytest.raises(TypeError):
        _native.Plan(wrong, TINY_TENSORS, "")


def test_a_plan_that_asks_for_too_much_memory_is_refused():
    row = {"op": "linear", "x": 0, "y": 1, "weight": "w", "bias": "b"}
    tensors = {"w": np.zeros((2, 1 << 16), np.float32), "b": np.zeros(1 << 16, np.float32)}
    plan = {"frames": 1, "joints": 1, "buffers": [[1, 2], [1, 1 << 16]],
            "steps": [{"op": "tokens", "y": 0}, *[row] * 1000]}
    with pytest.raises(ValueError, match="step 683: the weights up to here are too large"):  # 683 * 3 * 2^16 > 2^27
        _native.Plan(plan, tensors, "")
    plan = copy.deepcopy(TINY_PLAN)
    buffers, step = plan["buffers"], step_of("graph_conv", plan)
    buffers[step["x"]][1] = 1 << 16
    plan["steps"] = [{**step_of("tokens", plan), "y": step["x"]}, step]
    plan["frames"] = 1 << 15
    with pytest.raises(ValueError, match="frames are out of range"):
        _native.Plan(plan, TINY_TENSORS, "")
    many = {"frames": 4096, "joints": 1, "buffers": [[4096, 2], [4096, 1 << 16], [1, 3]], "steps": [
        {"op": "frames", "y": 0}, row, {"op": "pick", "x": 1, "y": 2, "first": 0, "stride": 1}]}
    many["buffers"][2][1] = 1 << 16
    many["steps"].append({"op": "linear", "x": 2, "y": 3, "weight": "last", "bias": "three"})
    many["buffers"].append([1, 3])
    with pytest.raises(ValueError, match="it takes more than 64 MiB a person"):
        _native.Plan(many, {**tensors, "last": np.zeros((1 << 16, 3), np.float32), "three": np.zeros(3, np.float32)},
                     "")


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800"])
def test_a_plan_that_is_no_json_is_refused_with_the_place(value):
    plan = copy.deepcopy(TINY_PLAN)
    plan["steps"][0]["epsilon"] = value
    with pytest.raises(ValueError, match=r"^not JSON at byte \d+: (wanted a value|half a surrogate pair)$"):
        _native.Plan(plan, TINY_TENSORS, "")


def test_a_step_that_reads_what_no_step_wrote_is_refused():
    plan = copy.deepcopy(TINY_PLAN)
    del plan["steps"][0]
    with pytest.raises(ValueError, match="step 0: x is read before anything is written to it"):
        _native.Plan(plan, TINY_TENSORS, "")


def test_too_many_people_at_once_are_refused_with_the_number_that_fits():
    plan = {"frames": 4096, "joints": 1, "buffers": [[4096, 2], [4096, 3], [1, 3]], "steps": [
        {"op": "frames", "y": 0}, {"op": "linear", "x": 0, "y": 1, "weight": "w", "bias": "b"},
        {"op": "pick", "x": 1, "y": 2, "first": 0, "stride": 1}]}
    native_plan = _native.Plan(plan, {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}, "")
    arena = max(offset + rows * ld for rows, _, ld, offset in native_plan.buffers)
    fit = 2**31 // arena
    with pytest.raises(
            ValueError, match=f"{fit + 1} people at once take more than 8 GiB; run fewer at a time: {fit} fit"):
        _native.Context(native_plan, 1).run(np.zeros((fit + 1, 4096, 1, 2), np.float32),
                                            np.zeros((fit + 1, 1, 3), np.float32))


X, Y = np.zeros((1, 1, 17, 2), np.float32), np.zeros((1, 17, 3), np.float32)


@pytest.mark.parametrize("x, y", [(X.astype(np.float64), Y), (X, Y.astype(np.float64)),
                                  (np.zeros((1, 1, 17, 4), np.float32)[..., :2], Y),
                                  (X, np.zeros((1, 17, 6), np.float32)[..., :3])])
def test_the_binding_itself_converts_nothing(x, y):
    context = _native.Context(_native.Plan(TINY_PLAN, TINY_TENSORS, ""), 1)
    with pytest.raises(TypeError):
        context.run(x, y)


def test_the_binding_refuses_threads_out_of_range():
    plan = _native.Plan(TINY_PLAN, TINY_TENSORS, "")
    for threads in (0, -1, 257):
        with pytest.raises(ValueError, match=f"threads must be 1 to 256, not {threads}"):
            _native.Context(plan, threads)


@pytest.mark.parametrize(
    "op, key", [("linear", "gate"), ("tokens", "gate"), ("tokens", "residual"), ("tokens", "x"), ("tokens", "other"),
                ("linear", "other"), ("normalize", "gate")])
@pytest.mark.parametrize("value", [0, 10_000_000])
def test_what_an_op_does_not_read_is_refused(op, key, value):
    plan, tensors = lower(tiny_lifter(), "fp32")
    plan = copy.deepcopy(plan)
    next(step for step in plan["steps"] if step["op"] == op)[key] = value
    with pytest.raises(ValueError, match="this op takes no gate|this op reads the input alone|this op reads no other"):
        _native.Plan(plan, tensors, "")
