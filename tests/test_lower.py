"""What lower() records: where values lie, how many products a graph convolution takes."""

import numpy as np
import pytest
import torch
from models import LIFTERS, TINY, tiny_lifter

from edgepose.build_engines.lower import executed_macs, lower
from edgepose.zoo.ampose import AMPose

each_lifter = pytest.mark.parametrize("lifter", LIFTERS)


@each_lifter
def test_values_alive_at_the_same_time_never_overlap(lifter):
    plan, _ = lower(LIFTERS[lifter]().eval(), "fp32")
    owner = np.full(plan["arena"], -1)

    def place(value):
        rows, _, ld, offset = plan["buffers"][value]
        assert offset >= 0 and offset + rows * ld <= plan["arena"]
        return slice(offset, offset + rows * ld)

    for number, step in enumerate(plan["steps"]):
        for name in ("x", "residual"):
            if name in step:
                assert (owner[place(step[name])] == step[name]).all(), f"step {number}: its {name} was written over"
        if "x" in step:
            x, y = place(step["x"]), place(step["y"])
            assert x.stop <= y.start or y.stop <= x.start, f"step {number}: y lies on x"
        owner[place(step["y"])] = step["y"]
    assert (owner[place(plan["steps"][-1]["y"])] == plan["steps"][-1]["y"]).all()


def test_rows_do_not_share_lines_of_the_cache_and_do_not_fall_on_the_same_set():
    for channels in (3, 16, 108, 128, 256, 512, 1536):
        plan, _ = lower(AMPose(depth=1, channels=channels, heads=1).eval(), "fp32")
        for rows, columns, ld, offset in plan["buffers"]:
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
