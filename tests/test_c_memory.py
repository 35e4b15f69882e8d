"""Streams of the C library on an engine that remembers frames: as edgepose.Stream, alone, many at once and moved."""

import ctypes

import numpy as np
import pytest
from c_package import BAD_ARGUMENT, Engine, People, Refused, Stream
from test_c_stream import ALLOWED_M, hard
from test_memory import engine_of, lifter
from test_stream_memory import walk

import edgepose

SIZE = (1920, 1080)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """(C engine, Python engine) of one file."""
    python = engine_of(tmp_path_factory.mktemp("engines"), lifter())
    return Engine(python.path), python


def test_the_poses_are_those_of_python_whatever_the_detector_did(engines):
    c_engine, engine = engines
    c_stream, stream = Stream(c_engine, "coco17", SIZE), edgepose.Stream(engine, "coco17", SIZE)
    for keypoints_px, time_s in hard("coco17", 150, 3):
        c_pose, pose = c_stream.push(keypoints_px, time_s), stream.push(keypoints_px, time_s)
        assert (c_pose is None) == (pose is None)
        if pose is not None:
            np.testing.assert_allclose(c_pose.joints_m, pose.joints_m, atol=ALLOWED_M)
            assert c_pose.was_reset == pose.was_reset


def test_many_streams_and_people_are_each_one_stream_to_the_bit(engines):
    keypoints_px, _ = walk(30)
    times_s = 0.03 * np.arange(30)
    alone, streams = Stream(engines[0], "h36m17", SIZE), [Stream(engines[0], "h36m17", SIZE) for _ in range(3)]
    people = People(engines[0], "h36m17", SIZE)
    for frame, time_s in zip(keypoints_px, times_s):
        pose = alone.push(frame, time_s)
        for other in Stream.push_many(streams, [frame] * 3, [time_s] * 3):
            np.testing.assert_array_equal(other.joints_m, pose.joints_m)
        (_, of_people), = people.push(frame[None], time_s)
        np.testing.assert_array_equal(of_people.joints_m, pose.joints_m)


def test_a_memory_goes_on_in_another_stream_to_the_bit(engines):
    keypoints_px, times_s = walk(30)
    first, whole = Stream(engines[0], "h36m17", SIZE), Stream(engines[0], "h36m17", SIZE)
    for frame, time_s in zip(keypoints_px[:15], times_s):
        first.push(frame, time_s), whole.push(frame, time_s)
    other = Stream(engines[0], "h36m17", SIZE)
    other.remember(first.memory())
    for frame, time_s in zip(keypoints_px[15:], times_s[15:]):
        np.testing.assert_array_equal(other.push(frame, time_s).joints_m, whole.push(frame, time_s).joints_m)


def test_memories_of_another_size_and_engines_without_one_are_refused(engines):
    stream = Stream(engines[0], "h36m17", SIZE)
    for call in (lambda: stream.remember(b"abc"), lambda: stream.memory(more=1)):
        with pytest.raises(Refused, match="bytes; ") as refused:
            call()
        assert refused.value.status == BAD_ARGUMENT
    windows = Stream(Engine(edgepose.load("posemlp").path), "h36m17", SIZE)
    assert windows.lib.edgepose_stream_memory_size(windows.handle) == 0
    with pytest.raises(Refused, match="remembers nothing of a person"):
        windows.lib.edgepose_stream_memory_size(ctypes.c_void_p()) or windows.memory()
