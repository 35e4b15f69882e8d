"""Frames in, poses out: whatever ends a clip, each frame that the stream took has its pose, in order, with a delay as
without."""

import c_package as c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import tiny_lifter, write_engine
from people import DT, SIZE, FakeEngine, person_of

from edgepose.stream import Stream

CLIP = person_of("coco17", frames=100)
# What follows a frame: the next one, nobody, a gap in the recording, another person.
EVENTS = st.lists(st.sampled_from(["frame"] * 6 + ["nobody", "nobody for long", "gap", "cut"]), min_size=1, max_size=60)


def frames_of(events):
    frames, time_s, place = [], 0.0, 0.0
    for n, event in enumerate(events):
        time_s += 31 * DT if event == "gap" else DT
        place += 400 * (event == "cut")
        person = CLIP[n] + [place % 800, 0, 0]
        frames.append((None if event == "nobody" else person, time_s))
        if event == "nobody for long":
            frames += [(None, time_s + i * DT) for i in range(1, 31)]
            time_s += 30 * DT
    return frames


def pushed(frames, delay, **options):
    """(the poses that pushing and flushing give, how many of them each push gave)."""
    stream = Stream(FakeEngine(27), "coco17", SIZE, delay_frames=delay, **options)
    answers = [stream.push(*frame) for frame in frames]
    return [pose for pose in answers + stream.flush() if pose is not None], [pose is not None for pose in answers]


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, 13), st.sampled_from([None, 50.0]))
def test_every_frame_that_has_a_pose_without_delay_has_it_with_one(events, delay, rate_hz):
    frames = frames_of(events)
    at_once, late = pushed(frames, 0, rate_hz=rate_hz)[0], pushed(frames, delay, rate_hz=rate_hz)[0]
    np.testing.assert_allclose([pose.timestamp_s for pose in late], [pose.timestamp_s for pose in at_once], atol=1e-9)
    assert [pose.was_reset for pose in late] == [pose.was_reset for pose in at_once]
    for a, b in zip(at_once, late):
        np.testing.assert_array_equal(a.keypoints_norm, b.keypoints_norm)
        np.testing.assert_array_equal(a.confidence, b.confidence)
    detected = sum(keypoints_px is not None for keypoints_px, _ in frames)
    assert sum(pose.confidence.any() for pose in late) == detected
    lifted = Stream(FakeEngine(27), "coco17", SIZE, delay_frames=delay, rate_hz=rate_hz).lift(frames)
    assert [pose.timestamp_s for pose in lifted] == [pose.timestamp_s for pose in late]


@settings(max_examples=30, deadline=None)
@given(EVENTS, st.integers(0, 13))
def test_with_full_delay_a_clip_is_lifted_as_if_it_were_alone(events, delay):
    """Each pose is that of its clip padded with its ends, whatever came before and after."""
    frames = frames_of(events)
    poses, _ = pushed(frames, delay, rate_hz=None)
    begins = [n for n, pose in enumerate(poses) if pose.was_reset]
    for first, end in zip(begins, begins[1:] + [len(poses)]):
        xy = np.stack([pose.keypoints_norm for pose in poses[first:end]])
        padded = np.pad(xy, ((13, 13), (0, 0), (0, 0)), mode="edge")
        for n, pose in enumerate(poses[first:end]):
            window = padded[n:n + 27].copy()
            # Answered before the clip had ended: no later frames were known.
            if end - first > delay + 1 and n < end - first - delay:
                window[13 + delay:] = window[13 + delay]
            np.testing.assert_array_equal(pose.joints_m, FakeEngine(27).run(window[None])[0])


@pytest.mark.parametrize("event", ["gap", "cut", "nobody for long"])
def test_waiting_frames_are_answered_one_with_each_following_push(event):
    frames = frames_of(["frame"] * 40 + [event] + ["frame"] * 40)
    poses, is_answered = pushed(frames, 13)
    assert is_answered == [False] * 13 + [True] * (len(frames) - 13) if event != "nobody for long" else all(
        is_answered[13:40])
    assert len(poses) == len(pushed(frames, 0)[0]) and (np.diff([pose.timestamp_s for pose in poses]) > 0).all()


@pytest.mark.parametrize("length", [1, 5, 12, 13, 14])
def test_clips_shorter_than_the_delay_have_all_their_poses(length):
    frames = frames_of([("cut" if n % length == 0 else "frame") for n in range(60)])
    assert len(pushed(frames, 13)[0]) == 60


def test_a_slower_camera_keeps_its_pace_over_a_cut():
    frames = [(keypoints_px, 2 * time_s)
              for keypoints_px, time_s in frames_of(["frame"] * 30 + ["cut"] + ["frame"] * 30)]
    poses, is_answered = pushed(frames, 13)
    times_s = [pose.timestamp_s for pose in poses]
    assert all(is_answered[7:]) and (np.diff(times_s) > 0).all() and sum(pose.was_reset for pose in poses) == 2


@pytest.mark.slow
def test_c_answers_the_waiting_frames_too(tmp_path):
    engine = c.Engine(write_engine(tmp_path / "tiny.epose", tiny_lifter(frames=27), "fp16"))
    frames = frames_of(["frame"] * 30 + ["cut"] + ["frame"] * 5 + ["gap"] + ["frame"] * 3 + ["nobody for long"]
                       + ["frame"] * 20)
    answers = {}
    for delay in (0, 13):
        stream = c.Stream(engine, "coco17", SIZE, delay_frames=delay)
        answers[delay] = [pose for frame in frames if (pose := stream.push(*frame))] + stream.flush()
    assert [pose.timestamp_s
            for pose in answers[13]] == pytest.approx([pose.timestamp_s for pose in answers[0]]) and len(
                answers[0]) > 60


def test_an_earlier_time_ends_a_clip_too():
    frames = [(CLIP[n], (n % 30) * DT) for n in range(90)]
    with pytest.warns(UserWarning, match="starts over"):
        poses, is_answered = pushed(frames, 13, on_bad_time="reset")
    assert len(poses) == 90 and all(is_answered[13:]) and [n for n, pose in enumerate(poses)
                                                           if pose.was_reset] == [0, 30, 60]


@pytest.mark.parametrize("max_gap_s", [1e5, np.inf])
@pytest.mark.parametrize("gap_s", [86400.0, 1.76e9, 1e14])
def test_a_gap_of_any_length_costs_no_more_than_a_window(gap_s, max_gap_s):
    """A grid point each 20 ms would be 4 million a day."""
    stream = Stream(FakeEngine(27), "coco17", SIZE, max_gap_s=max_gap_s)
    stream.push(CLIP[0], 0.0)
    pose = stream.push(CLIP[0], gap_s)
    is_bridged = gap_s <= max_gap_s and gap_s < 1e12
    assert pose.was_reset != is_bridged and pose.timestamp_s == pytest.approx(gap_s, abs=DT)
    np.testing.assert_allclose(stream.engine.calls[-1][0], stream.engine.calls[0][0], atol=1e-6)
    assert stream.push(CLIP[1], gap_s + max(DT, gap_s * 1e-12)) is not None


def test_a_bridged_gap_is_what_walking_every_grid_point_made_of_it():
    stream, (a, b) = Stream(FakeEngine(9), "coco17", SIZE, max_gap_s=60), CLIP[:2]
    stream.push(a, 0.0)
    pose = stream.push(b, 4.0)
    first, last = stream.engine.calls[0][0, 0], pose.keypoints_norm
    shares = 1 - np.arange(4, -1, -1) * DT / 4.0
    expected = first + shares[:, None, None] * (last - first)
    np.testing.assert_allclose(stream.engine.calls[-1][0, :5], expected, atol=1e-5)
