"""Streams of an engine that remembers frames: the person holds the state, also among many, through gaps, in C++."""

import time

import numpy as np
import pytest
import torch
from test_deadline import DEADLINE_MS, SLOW_S
from test_memory import EQUAL_M, engine_of, lifter

import edgepose
from edgepose.columns import joints_of
from edgepose.training.models import TorchLifter


@pytest.fixture(scope="module")
def module():
    return lifter()


@pytest.fixture(scope="module")
def engine(module, tmp_path_factory):
    return engine_of(tmp_path_factory.mktemp("engines"), module)


def walk(frames, seed=0):
    """Keypoints of somebody who moves a little, (frames, 17, 3) px with confidence, and times with gaps in them."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(300, 700, (17, 2)) + np.cumsum(rng.normal(0, 1.5, (frames, 17, 2)), 0)
    times_s = np.cumsum(rng.uniform(0.01, 0.05, frames) + 0.2 * (rng.random(frames) < 0.1))
    return np.concatenate([points, rng.uniform(0.5, 1, (frames, 17, 1))], -1).astype(np.float32), times_s


def stream_of(engine, **options):
    return edgepose.Stream(engine, "h36m17", (1000, 1000), mend_sides=False, **options)


def answered(engine, keypoints_px, times_s):
    stream = stream_of(engine)
    return [stream.push(frame, time_s) for frame, time_s in zip(keypoints_px, times_s)]


def as_module(module, keypoints_px, times_s):
    """The module's own answers to these frames in one piece, (frames, J, D)."""
    x = np.zeros((len(times_s), 17, len(module.inputs)), np.float32)
    x[..., :2] = edgepose.camera.normalize_screen(keypoints_px[..., :2], (1000, 1000))
    x[..., 2] = keypoints_px[..., 2]
    x[..., -1] = np.diff(times_s, prepend=times_s[:1])[:, None]
    with torch.inference_mode():
        return module.sequence(torch.from_numpy(x[None]))[0].numpy()


def test_every_frame_has_its_pose_at_once_and_is_the_modules(engine, module):
    keypoints_px, times_s = walk(70)
    poses = answered(engine, keypoints_px, times_s)
    wanted = as_module(module, keypoints_px, times_s)
    assert [pose.timestamp_s for pose in poses] == list(times_s)
    assert [pose.was_reset for pose in poses] == [True] + [False] * 69
    np.testing.assert_allclose([pose.joints_m for pose in poses], joints_of(wanted), atol=EQUAL_M)
    np.testing.assert_allclose([pose.error_m for pose in poses], wanted[..., 3], atol=EQUAL_M)


def test_a_gap_that_ends_a_clip_and_a_reset_begin_anew(engine):
    keypoints_px, times_s = walk(40)
    fresh = answered(engine, keypoints_px[20:], times_s[20:])
    later_s = times_s + 10.0 * (np.arange(40) >= 20)
    after_gap = answered(engine, keypoints_px, later_s)[20:]
    stream = stream_of(engine)
    for frame, time_s in zip(keypoints_px[:20], times_s):
        stream.push(frame, time_s)
    stream.reset()
    after_reset = [stream.push(frame, time_s) for frame, time_s in zip(keypoints_px[20:], times_s[20:])]
    for a, b, c in zip(fresh, after_gap, after_reset):
        np.testing.assert_array_equal(a.joints_m, c.joints_m)
        np.testing.assert_allclose(a.joints_m, b.joints_m, atol=EQUAL_M)  # other times, nearly the same differences
    assert after_gap[0].was_reset and after_reset[0].was_reset


def test_frames_without_a_detection_have_a_pose_from_memory(engine):
    keypoints_px, times_s = walk(30)
    times_s = 0.03 * np.arange(30)
    stream = stream_of(engine)
    poses = [stream.push(frame if i % 5 == 0 else None, t) for i, (frame, t) in enumerate(zip(keypoints_px, times_s))]
    assert all(pose is not None for pose in poses)
    assert [pose.is_seen.any() for pose in poses] == [i % 5 == 0 for i in range(30)]


def test_many_people_in_one_call_are_each_alone_to_the_bit(engine):
    clips = [walk(25, seed) for seed in range(5)]
    alone = [answered(engine, *clip) for clip in clips]
    streams = [stream_of(engine) for _ in clips]
    for i in range(25):
        poses = edgepose.stream.push_many(streams, [keypoints_px[i] for keypoints_px, _ in clips],
                                          [times_s[i] for _, times_s in clips])
        for person, pose in enumerate(poses):
            np.testing.assert_array_equal(pose.joints_m, alone[person][i].joints_m)


def test_people_are_each_a_stream(engine):
    keypoints_px, _ = walk(25)
    times_s = 0.03 * np.arange(25)
    alone = answered(engine, keypoints_px, times_s)
    people = edgepose.People(engine, "h36m17", (1000, 1000), mend_sides=False)
    for i in range(25):
        found = people.push(np.stack([keypoints_px[i], keypoints_px[i] + (150, 0, 0)]), times_s[i], ids=[4, 2])
        assert [number for number, _ in found] == [4, 2]
        np.testing.assert_array_equal(found[0][1].joints_m, alone[i].joints_m)


def test_a_recording_lifted_at_once_is_the_stream(engine):
    keypoints_px, times_s = walk(25)
    poses = list(stream_of(engine).lift(zip(keypoints_px, times_s)))
    for pose, pushed in zip(poses, answered(engine, keypoints_px, times_s), strict=True):
        np.testing.assert_array_equal(pose.joints_m, pushed.joints_m)


def test_a_memory_put_into_another_stream_goes_on_to_the_bit(engine):
    keypoints_px, times_s = walk(40)
    alone = answered(engine, keypoints_px, times_s)
    first = stream_of(engine)
    for frame, time_s in zip(keypoints_px[:20], times_s):
        first.push(frame, time_s)
    memory = first.memory()
    assert len(memory) < 1e6
    other = stream_of(engine)
    other.push(keypoints_px[3] + (90, 0, 0), 0.5)  # its own past is forgotten
    other.remember(memory)
    for pose, frame, time_s in zip(alone[20:], keypoints_px[20:], times_s[20:]):
        np.testing.assert_array_equal(other.push(frame, time_s).joints_m, pose.joints_m)


def test_a_memory_of_long_ago_begins_anew(engine):
    keypoints_px, times_s = walk(20)
    stream = stream_of(engine)
    stream.push(keypoints_px[0], times_s[0])
    other = stream_of(engine)
    other.remember(stream.memory())
    pose = other.push(keypoints_px[1], times_s[0] + 3)
    np.testing.assert_array_equal(pose.joints_m, answered(engine, keypoints_px[1:2], times_s[1:2])[0].joints_m)


def test_a_memory_that_was_never_saved_is_refused_and_loses_nothing(engine):
    keypoints_px, times_s = walk(20)
    alone = answered(engine, keypoints_px, times_s)
    stream = stream_of(engine)
    for frame, time_s in zip(keypoints_px[:10], times_s):
        stream.push(frame, time_s)
    with pytest.raises(ValueError, match="the memory has 3 bytes; this model's has"):
        stream.remember(b"abc")
    with pytest.raises(ValueError, match="the memory holds a number that is not finite"):
        stream.remember(stream.memory()[:-4] + np.float32(np.nan).tobytes())
    np.testing.assert_array_equal(stream.push(keypoints_px[10], times_s[10]).joints_m, alone[10].joints_m)
    with pytest.raises(ValueError, match="remembers nothing of a person"):
        edgepose.Stream(edgepose.load("posemlp"), "h36m17", (1000, 1000)).memory()


def test_a_checkpoint_streams_as_its_engine(engine, module):
    keypoints_px, times_s = walk(30)
    for pose, native in zip(answered(TorchLifter(module, 50.0), keypoints_px, times_s),
                            answered(engine, keypoints_px, times_s), strict=True):
        np.testing.assert_allclose(pose.joints_m, native.joints_m, atol=EQUAL_M)


class Slow:
    """An engine with a state that may take its time, and keeps the gaps it is given."""

    def __init__(self, engine):
        self.engine, self.sleep_s, self.gaps_s = engine, 0.0, []
        for name in ("frames", "skeleton", "inputs", "outputs", "is_causal", "state"):
            setattr(self, name, getattr(engine, name))

    def run(self, keypoints_norm, out=None):
        raise AssertionError("an engine with a state takes steps")

    def step(self, keypoints_norm, states):
        time.sleep(self.sleep_s)
        self.gaps_s.append(float(keypoints_norm[0, 0, 0, -1]))
        return self.engine.step(keypoints_norm, states)


@pytest.mark.filterwarnings("ignore")
def test_a_frame_that_was_not_lifted_in_time_is_a_gap_for_the_next(engine):
    keypoints_px, _ = walk(30)
    slow = Slow(engine)
    stream, poses = stream_of(slow, deadline_ms=DEADLINE_MS), []
    for i, frame in enumerate(keypoints_px):
        slow.sleep_s = SLOW_S if i == 5 else 0.0
        poses.append(stream.push(frame, 0.02 * i))
    lifted_s = [pose.timestamp_s for pose in poses if pose.predicted_s == 0]
    assert len(lifted_s) == len(slow.gaps_s) < 30 and lifted_s[-1] > 0.12
    np.testing.assert_allclose(slow.gaps_s, np.diff(lifted_s, prepend=lifted_s[:1]), atol=1e-6)
