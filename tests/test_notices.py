"""The things that a stream notices of its input: counted, and said once; in C too."""

import warnings

import c_package as c
import numpy as np
import pytest
from models import tiny_lifter, write_engine
from people import DT, SIZE, FakeEngine, person_of, same

from edgepose.stream import Stream, push_many

CLIP = person_of("coco17")


def times_with(step_s, at=10, frames=20):
    return [n * DT + (step_s if n >= at else 0) for n in range(frames)]


def poses_of(stream, times_s):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [stream.push(CLIP[n], t) for n, t in enumerate(times_s)]


@pytest.mark.parametrize("call", ["push", "lift", "push_many"])
def test_a_notice_is_one_warning_on_the_callers_line_and_a_count(call):
    stream = Stream(FakeEngine(), "coco17", SIZE, on_bad_time="drop")
    assert stream.notices["bad_time"] == 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = list(zip(CLIP, times_with(-5.5 * DT)))
        if call == "lift":
            list(stream.lift(frames))
        for frame in frames if call != "lift" else []:
            stream.push(*frame) if call == "push" else push_many([stream], [frame[0]], frame[1])
    assert [(str(w.message), w.filename)
            for w in caught] == [(f"timestamp_s is {10 * DT - 5.5 * DT} after 0.18: the frame is left out", __file__)]
    assert stream.notices["bad_time"] == 5
    stream.reset()
    assert stream.notices["bad_time"] == 5


def test_where_warnings_are_errors_the_stream_goes_on_after_one():
    stream = Stream(FakeEngine(), "coco17", SIZE, on_bad_time="drop")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.push(CLIP[0], 1.0)
        with pytest.raises(UserWarning, match="is left out"):
            stream.push(CLIP[1], 0.5)
        assert stream.push(CLIP[1], 1.02) is not None


def test_frames_of_bad_times_that_are_dropped_change_nothing():
    stream, twin = (Stream(FakeEngine(), "coco17", SIZE, delay_frames=2, on_bad_time=choice)
                    for choice in ("drop", "refuse"))
    for n in range(20):
        pose = stream.push(CLIP[n], n * DT)
        assert same(pose, twin.push(CLIP[n], n * DT))
        for late in (0, 0.5, 7):
            assert poses_of(stream, [(n - late) * DT]) == [None]
    assert stream.notices["bad_time"] == 60


def test_an_earlier_time_begins_another_recording_and_a_repeated_one_is_left_out():
    stream, twin = (Stream(FakeEngine(), "coco17", SIZE, on_bad_time=choice) for choice in ("reset", "refuse"))
    poses = poses_of(stream, times_with(-0.15))
    expected = [twin.push(CLIP[n], n * DT) for n in range(10)]
    twin.reset()
    expected += [twin.push(CLIP[n], n * DT - 0.15) for n in range(10, 20)]
    assert all(map(same, poses, expected)) and [n for n, pose in enumerate(poses) if pose.was_reset] == [0, 10]
    assert poses_of(stream, [19 * DT - 0.15]) == [None] and stream.notices["bad_time"] == 2


@pytest.mark.parametrize("choice", ["refuse", "drop", "reset"])
def test_a_time_that_is_no_time_is_refused_always(choice):
    stream = Stream(FakeEngine(), "coco17", SIZE, on_bad_time=choice)
    for time_s in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="wanted a later, finite time"):
            stream.push(CLIP[0], time_s)
    for time_s in (1.7e18, -1e300):  # nanoseconds, or no time at all
        with pytest.raises(ValueError, match=r"timestamp_s is .*e\+.*; wanted seconds, at most 1e\+15 from 0"):
            stream.push(CLIP[0], time_s)
    assert stream.notices["bad_time"] == 0


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="on_bad_time is 'skip'; wanted one of refuse, drop, reset"):
        Stream(FakeEngine(), "coco17", SIZE, on_bad_time="skip")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return c.Engine(write_engine(tmp_path_factory.mktemp("engine") / "tiny.epose", tiny_lifter(), "fp16"))


@pytest.mark.slow
def test_c_counts_and_says_the_same(engine):
    stream = c.Stream(engine, "coco17", SIZE, on_bad_time=1)
    answers = [stream.push(CLIP[n], t) is not None for n, t in enumerate(times_with(-5.5 * DT))]
    assert answers == [True] * 10 + [False] * 5 + [True] * 5
    assert stream.notices()["bad_time"] == (5, f"timestamp_s is {10 * DT - 5.5 * DT} after 0.18: the frame is left out")
    again = c.Stream(engine, "coco17", SIZE, on_bad_time=2)
    poses = [again.push(CLIP[n], t) for n, t in enumerate(times_with(-0.15))]
    assert [n for n, pose in enumerate(poses) if pose.was_reset] == [0, 10]
    assert again.notices()["bad_time"] == (1, f"timestamp_s is {10 * DT - 0.15} after 0.18: the stream starts "
                                              "over, as for another recording")


@pytest.mark.slow
def test_c_and_python_know_the_same_kinds(engine):
    python, text = Stream(FakeEngine(), "coco17", SIZE), (c.CSRC / "include" / "edgepose.h").read_text()
    stream = c.Stream(engine, "coco17", SIZE)
    assert set(stream.notices()) == set(python.notices) and set(stream.notices().values()) == {(0, "")}
    assert all(f'*   "{name}"' in text and f'"{name}": ' in Stream.notices.__doc__ for name in python.notices)
    assert stream.lib.edgepose_stream_notice_count(stream.handle,
                                                   b"nothing") == 0 == stream.lib.edgepose_stream_notice_count(
                                                       None, b"bad_time")
    assert stream.lib.edgepose_stream_notice_text(stream.handle, None) == b""


@pytest.mark.slow
@pytest.mark.parametrize("choice", [-1, 3])
def test_c_refuses_an_unknown_choice(engine, choice):
    with pytest.raises(c.Refused, match=f"options->on_bad_time is {choice}; wanted EDGEPOSE_REFUSE_BAD_TIME, "):
        c.Stream(engine, "coco17", SIZE, on_bad_time=choice)
