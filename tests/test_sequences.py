"""Sequences for models that remember frames: rates, gaps, frames without a detection."""

import numpy as np
import pytest
import torch
from tiny_mocap import write_all

from edgepose.columns import INPUTS
from edgepose.training.mocap import WINDOW_HZ
from edgepose.training.sequences import MISSED, SKIPPED, STRIDES, at_times, draw_times, miss_frames
from edgepose.training.sources import open_source


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_times_ascend_from_zero_at_the_rates_of_the_table():
    seen = set()
    for seed in range(60):
        times = draw_times(50, 20, generator(seed))
        steps = times.diff(dim=1)
        assert (times[:, 0] == 0).all() and (steps >= 1).all()
        stride = int(steps.min())
        seen.add(stride)
        assert (steps == stride).float().mean() > 0.8 and (steps > stride).any()  # few are missing or pause
    assert seen == set(STRIDES)


def test_frames_at_times_know_how_far_they_are_apart():
    windows = torch.arange(30.0)[None, :, None, None].expand(2, 30, 17, len(INPUTS)).clone()
    times = torch.tensor([[0, 2, 7], [0, 1, 29]])
    keypoints, joints = at_times(windows, windows[..., :3], times, INPUTS)
    assert torch.equal(keypoints[..., 0, 0].long(), times) and torch.equal(joints[..., 0, 0].long(), times)
    gap_s = keypoints[..., INPUTS.index("gap")]
    assert (gap_s == gap_s[..., :1]).all()
    np.testing.assert_allclose(gap_s[..., 0] * WINDOW_HZ, [[0, 2, 5], [0, 1, 28]], rtol=1e-6)


def test_a_frame_without_a_detection_repeats_the_last_one_with_confidence_0():
    count, frames = 400, 40
    keypoints = torch.ones(count, frames, 17, len(INPUTS))
    keypoints[..., 0] = torch.arange(frames)[None, :, None]
    keypoints[..., INPUTS.index("gap")] = 0.02 * torch.arange(frames)[None, :, None]
    missed = miss_frames(keypoints, INPUTS, generator())
    is_missed = missed[..., 0, INPUTS.index("confidence")] == 0
    last = missed[..., 0, 0].long()
    assert not is_missed[:, 0].any() and 0.05 < is_missed.float().mean() < 0.5
    time = torch.arange(frames)
    assert torch.equal(last, torch.where(is_missed, 0, time).cummax(1).values)
    assert (time - last).max() <= max(SKIPPED, MISSED) + SKIPPED
    assert torch.equal(missed[..., INPUTS.index("gap")], keypoints[..., INPUTS.index("gap")])
    for name in ("depth", "depth_known"):
        assert torch.equal(missed[..., 0, INPUTS.index(name)] == 0, is_missed)
    assert (missed[..., INPUTS.index("length")] == 1).all()


@pytest.fixture
def path(tmp_path):
    return write_all(tmp_path / "mocap")


def test_a_source_draws_sequences_for_a_model_that_takes_gaps(path):
    source = open_source("mocap", path, "gt", 27, 26, INPUTS)
    (keypoints, joints), (again, _) = source.draw(6, generator()), source.draw(6, generator())
    assert keypoints.shape == (6, 27, 17, len(INPUTS)) and joints.shape == (6, 27, 17, 3)
    assert torch.equal(keypoints, again)
    gap_s = keypoints[..., 0, INPUTS.index("gap")]
    assert (gap_s[:, 0] == 0).all() and (gap_s[:, 1:] > 0.019).all()
    validation_s = source.validation(6, generator())[0][..., 0, INPUTS.index("gap")]
    np.testing.assert_allclose(validation_s, np.broadcast_to([0] + 26 * [0.02], (6, 27)), rtol=1e-6)
