"""deadline_ms in C: the same poses and counts as in Python."""

import c_package as c
import numpy as np
import pytest
from c_package import Refused
from people import DT, SIZE, person_of
from test_c_people import engine, path  # noqa: F401

IMPOSSIBLE_MS = 1e-6  # no engine is so fast: after the first push everybody is predicted


def test_a_stream_predicts_what_would_be_late(engine):  # noqa: F811
    stream, clip = c.Stream(engine, "coco17", SIZE, deadline_ms=IMPOSSIBLE_MS, rate_hz=0.0), person_of("coco17")
    first, second = (stream.push(clip[i], i * DT) for i in range(2))
    assert first.predicted_s == 0 and second.predicted_s == pytest.approx(DT) and second.timestamp_s == DT
    np.testing.assert_array_equal(first.joints_m, second.joints_m)
    assert not np.array_equal(first.keypoints_norm, second.keypoints_norm)
    counts = {kind: count for kind, (count, _) in stream.notices().items()}
    assert counts["not_lifted"] == 1 and counts["late_push"] == 1
    assert "(option deadline_ms)" in stream.notices()["not_lifted"][1]


def test_streams_pushed_together_predict_those_who_would_be_late(engine):  # noqa: F811
    clips = [person_of("coco17", seed=i) for i in range(2)]
    streams = [c.Stream(engine, "coco17", SIZE, deadline_ms=deadline, rate_hz=0.0) for deadline in (0.0, IMPOSSIBLE_MS)]
    poses = [c.Stream.push_many(streams, [clip[i] for clip in clips], [i * DT] * 2) for i in range(2)]
    assert [pose.predicted_s for pose in poses[0]] == [0, 0]
    assert [pose.predicted_s for pose in poses[1]] == pytest.approx([DT, DT])


def test_people_predict_those_who_would_be_late_and_lift_all_at_the_end(engine):  # noqa: F811
    people = c.People(engine, "coco17", SIZE, delay_frames=2, deadline_ms=IMPOSSIBLE_MS, rate_hz=0.0)
    clips = np.stack([person_of("coco17"), person_of("coco17", seed=4)], axis=1)
    found = [people.push(frame, i * DT, [7, 8]) for i, frame in enumerate(clips[:6])]
    shown = [[(who, round(pose.predicted_s / DT)) for who, pose in frame] for frame in found]
    assert shown == [[], [], [(7, 0), (8, 0)], [(7, 1), (8, 1)], [(7, 2), (8, 2)], [(7, 3), (8, 3)]]
    assert [pose.predicted_s for _, pose in people.flush()] == [0] * 4


@pytest.mark.parametrize("deadline_ms", [-1.0, float("nan"), float("inf")])
def test_an_impossible_deadline_is_refused(engine, deadline_ms):  # noqa: F811
    with pytest.raises(Refused, match="deadline_ms is .*; wanted a number above 0, or 0 for none"):
        c.Stream(engine, "coco17", SIZE, deadline_ms=deadline_ms)
