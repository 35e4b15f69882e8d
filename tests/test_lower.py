"""The plans that lower() records: places of values, products of a graph convolution."""

import numpy as np
import pytest
import torch
from models import LIFTERS, TINY, tiny_lifter

from edgepose import _native
from edgepose.build_engines.lower import executed_macs, lower
from edgepose.zoo.ampose import AMPose

each_lifter = pytest.mark.parametrize("lifter", LIFTERS)


@each_lifter
def test_values_alive_at_the_same_time_never_overlap(lifter):
    plan, tensors = lower(LIFTERS[lifter]().eval(), "fp32")
    buffers = _native.Plan(plan, tensors, "").buffers
    assert [buffer[:2] for buffer in buffers] == plan["buffers"]
    owner = np.full(max(offset + rows * ld for rows, _, ld, offset in buffers), -1)

    def place(value):
        rows, _, ld, offset = buffers[value]
        assert offset >= 0
        return slice(offset, offset + rows * ld)

    for number, step in enumerate(plan["steps"]):
        for name in ("x", "other", "residual", "gate"):
            if name in step:
                assert (owner[place(step[name])] == step[name]).all(), f"step {number}: its {name} was written over"
        if "x" in step:
            x, y = place(step["x"]), place(step["y"])
            assert x.stop <= y.start or y.stop <= x.start, f"step {number}: y lies on x"
        owner[place(step["y"])] = step["y"]
    assert (owner[place(plan["steps"][-1]["y"])] == plan["steps"][-1]["y"]).all()
    assert len(owner) < sum(rows * ld for rows, _, ld, _ in buffers)  # values share memory


def test_a_buffer_that_several_steps_write_lives_from_the_first_to_the_last_use():
    w, b = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    plan = {"frames": 1, "joints": 17, "inputs": ["x", "y", "confidence"], "outputs": ["x", "y", "z"],
            "buffers": [[17, 3]] * 4, "steps": [
                {"op": "tokens", "y": 0}, {"op": "linear", "x": 0, "y": 1, "weight": "w", "bias": "b"},
                {"op": "multiply", "x": 1, "other": 1, "y": 1},
                {"op": "linear", "x": 0, "y": 2, "weight": "w", "bias": "b"},
                {"op": "multiply", "x": 1, "other": 2, "y": 2},
                {"op": "linear", "x": 2, "y": 3, "weight": "w", "bias": "b", "residual": 1}]}
    native_plan = _native.Plan(plan, {"w": w, "b": b}, "")
    assert len({tuple(native_plan.buffers[i]) for i in range(3)}) == 3
    x = np.random.default_rng(0).uniform(-1, 1, (2, 1, 17, 3)).astype(np.float32)
    y = np.empty((2, 17, 3), np.float32)
    _native.Context(native_plan, 1).run(x, y)
    np.testing.assert_allclose(y, x[:, 0] ** 3 + x[:, 0] ** 2, rtol=0, atol=8 * 2.0**-24)


def test_rows_do_not_share_lines_of_the_cache_and_do_not_fall_on_the_same_set():
    for channels in (3, 16, 108, 128, 256, 512, 1536):
        plan, tensors = lower(AMPose(depth=1, channels=channels, heads=1).eval(), "fp32")
        for rows, columns, ld, offset in _native.Plan(plan, tensors, "").buffers:
            assert ld >= columns and ld % 16 == 0 and offset % 16 == 0 and ld % 256


def test_a_graph_convolution_of_the_h36m_tree_takes_41_rows_of_products():
    plan, _ = lower(AMPose(**TINY), "fp32")
    rows = {sum(step["group_rows"]) for step in plan["steps"] if step["op"] == "graph_conv"}
    assert rows == {41}  # 17 centres, 16 joints with a parent (or 8 parents), 8 parents of children


def test_executed_macs_count_the_products_by_hand():
    plan, _ = lower(AMPose(**TINY), "fp32")
    c, joints = TINY["channels"], 17
    encoder = joints * (3 * c * c + c * c + 2 * c * c + 2 * c * c) + 2 * joints * joints * c
    assert executed_macs(plan) == joints * 2 * c + encoder + 2 * 41 * c * c + joints * c * 3


@pytest.mark.filterwarnings("error")
def test_a_weight_too_large_for_half_precision_is_named_when_lowering():
    model = tiny_lifter()
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="linear.weight does not fit float16"):
        lower(model, "fp16")
