"""deadline_ms: whom the engine would lift too late, it does not, and their poses are predicted."""

import time
import warnings

import numpy as np
import pytest
from people import DT, SIZE, FakeEngine, person_of

import edgepose

DEADLINE_MS, SLOW_S, ONE_S = 500.0, 2.5, 0.5  # far apart: a busy machine must not decide


class SlowEngine(FakeEngine):
    """A FakeEngine that takes so long for each person."""

    def __init__(self, one_s=0.0):
        super().__init__(frames=1)
        self.one_s = one_s
        super().run(np.zeros((1, 1, 17, 2), np.float32))  # the first call is slower
        self.calls.clear()

    def run(self, keypoints_norm, out=None):
        time.sleep(self.one_s * len(keypoints_norm))
        return super().run(keypoints_norm, out)


def late_stream(engine, clip, frames=2):
    """A stream whose last push was slow: the next will be predicted; and its poses."""
    stream = edgepose.Stream(engine, "coco17", SIZE, deadline_ms=DEADLINE_MS)
    poses = []
    for i in range(frames):
        engine.one_s = SLOW_S if i == frames - 1 else 0.0
        poses.append(stream.push(clip[i], i * DT))
    return stream, poses


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_frame_that_would_be_late_is_predicted_from_the_last_two_poses():
    engine, clip = SlowEngine(), person_of("coco17")
    stream, (first, second) = late_stream(engine, clip)
    pose = stream.push(clip[2], 2 * DT)
    assert len(engine.calls) == 2 and first.predicted_s == second.predicted_s == 0
    assert pose.predicted_s == pytest.approx(DT) and pose.timestamp_s == 2 * DT
    np.testing.assert_allclose(pose.joints_m, 2 * second.joints_m - first.joints_m, atol=1e-5)
    assert not np.array_equal(pose.keypoints_norm, second.keypoints_norm)  # the frame's own
    assert stream.notices["not_lifted"] == 1 and stream.notices["late_push"] == 1
    assert repr(pose).endswith("predicted for 0.020 s)")


def test_a_prediction_goes_no_further_than_a_tenth_of_a_second():
    engine, clip = SlowEngine(), person_of("coco17")
    stream, (first, second) = late_stream(engine, clip)
    pose = stream.push(clip[2], DT + 0.4)
    assert pose.predicted_s == pytest.approx(0.4)
    speed = (second.joints_m - first.joints_m) / DT
    np.testing.assert_allclose(pose.joints_m, second.joints_m + 0.1 * speed, atol=1e-4)


def test_after_one_pose_the_prediction_is_that_pose():
    engine, clip = SlowEngine(), person_of("coco17")
    stream, (first,) = late_stream(engine, clip, frames=1)
    np.testing.assert_array_equal(stream.push(clip[1], DT).joints_m, first.joints_m)


def test_one_slow_call_is_forgotten():
    engine, clip = SlowEngine(), person_of("coco17")
    stream, _ = late_stream(engine, clip)
    engine.one_s = 0.0
    predicted = [stream.push(clip[i], i * DT).predicted_s > 0 for i in range(2, 40)]
    assert predicted[0] and not predicted[-1]


def test_a_clip_without_a_pose_is_not_predicted_from_the_one_before():
    engine, clip = SlowEngine(), person_of("coco17")
    stream, _ = late_stream(engine, clip)
    assert stream.push(clip[2], 10.0) is None  # after a gap: another clip
    engine.one_s = 0.0
    poses = [stream.push(clip[3], 10.0 + DT * i) for i in range(1, 40)]
    lifted = [pose for pose in poses if pose is not None]
    assert lifted[0].was_reset and lifted[0].predicted_s == 0 and not lifted[1].was_reset


def test_people_are_lifted_in_turn():
    engine, clips = SlowEngine(), np.stack([person_of("coco17", seed=i) for i in range(4)], axis=1)
    people = edgepose.People(engine, "coco17", SIZE, deadline_ms=1600)
    ids = [0, 1, 2, 3]
    engine.one_s = ONE_S
    people.push(clips[0], 0.0, ids)  # the first is not known to be slow: all are lifted
    turns = [{who: pose.predicted_s for who, pose in people.push(clips[i], i * DT, ids)} for i in (1, 2)]
    lifted = [{who for who, predicted_s in turn.items() if predicted_s == 0} for turn in turns]
    assert [set(turn) for turn in turns] == [set(ids)] * 2 and lifted == [{0, 1}, {2, 3}]
    assert turns[1][0] == pytest.approx(DT) and turns[0][3] == pytest.approx(DT)
    assert [len(call) for call in engine.calls] == [4, 2, 2]
    assert people.notices["not_lifted"] == 4


def test_the_shortest_deadline_of_many_streams_holds_for_all():
    engine, clips = SlowEngine(), [person_of("coco17", seed=i) for i in range(2)]
    streams = [edgepose.Stream(engine, "coco17", SIZE, deadline_ms=deadline) for deadline in (1e6, DEADLINE_MS)]
    engine.one_s = SLOW_S
    edgepose.push_many(streams, [clip[0] for clip in clips], 0.0)
    poses = edgepose.push_many(streams, [clip[1] for clip in clips], DT)
    assert all(pose.predicted_s == pytest.approx(DT) for pose in poses) and len(engine.calls) == 1


def test_without_a_deadline_every_pose_is_lifted():
    engine, clip = SlowEngine(0.05), person_of("coco17")
    stream = edgepose.Stream(engine, "coco17", SIZE)
    assert all(stream.push(clip[i], i * DT).predicted_s == 0 for i in range(4))
    assert stream.notices["not_lifted"] == stream.notices["late_push"] == 0


def test_the_end_of_a_recording_has_no_deadline():
    engine, clip = FakeEngine(frames=9), person_of("coco17")
    people = edgepose.People(engine, "coco17", SIZE, delay_frames=4, rate_hz=None, deadline_ms=1e-6)
    for i in range(20):
        people.push(clip[i][None], i * DT)
    assert [pose.predicted_s for _, pose in people.flush()] == [0] * 4


@pytest.mark.parametrize("deadline_ms, error", [(0, ValueError), (-1, ValueError), (float("nan"), ValueError),
                                                (float("inf"), ValueError), ("5", TypeError), (True, TypeError)])
def test_an_impossible_deadline_is_refused(deadline_ms, error):
    with pytest.raises(error, match="deadline_ms is .*; wanted a number above 0"):
        edgepose.Stream(FakeEngine(), "coco17", SIZE, deadline_ms=deadline_ms)


def test_the_first_prediction_is_warned_of():
    engine, clip = SlowEngine(), person_of("coco17")
    stream, _ = late_stream(engine, clip)
    with pytest.warns(UserWarning, match=r"not lifted at 0.04 s.*500 ms.*predicted \(option deadline_ms\)"):
        stream.push(clip[2], 2 * DT)
