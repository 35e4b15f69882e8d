"""push() and push_many() of anything: a pose, None or an error that loses nothing."""

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import edgepose
from edgepose.clip import load_clip
from edgepose.filters import SMOOTH

CLIP = load_clip("balance_cam1")
ENGINE = edgepose.load("strided27-s")
SETTINGS = settings(max_examples=200, deadline=None)

NUMBERS = st.floats() | st.integers(-2**70, 2**70) | st.booleans() | st.none() | st.text(max_size=3) | st.just(10**400)
SHAPES = st.sampled_from([(), (0,), (17,), (17, 1), (17, 2), (17, 3), (17, 4), (16, 3), (18, 2), (2, 17, 3), (3, 17)])
TYPES = st.sampled_from(["<f4", "<f8", ">f4", "<f2", "<i4", "<i8", "u1", "?", "<c8", "<U3", "M8[s]", "O"])


def filled(shape, dtype, value):
    """An array of one value, or of zeros if its type has no such value."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.full(shape, value).astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return np.zeros(shape, dtype)


FLOATS = hnp.arrays(st.sampled_from([np.float32, np.float64]), st.sampled_from([(17, 2), (17, 3)]),
                    elements=st.floats(width=32) | st.floats(0, 900, width=32))
LISTS = st.lists(st.lists(NUMBERS, max_size=3), max_size=18)
KEYPOINTS = st.builds(filled, SHAPES, TYPES, NUMBERS) | FLOATS | NUMBERS | LISTS
TIMES = st.floats() | st.floats(0, 3) | NUMBERS


def begun():
    """A stream after three frames of the clip."""
    stream = edgepose.Stream(ENGINE, CLIP.layout, CLIP.image_size, delay_frames=0, smoothing=SMOOTH)
    for i in range(3):
        stream.push(CLIP.keypoints_px[i], i / ENGINE.rate_hz)
    return stream


def refused(call):
    """True for an error that a caller expects; whatever is answered is a pose that one can use, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            poses = call()
        except (TypeError, ValueError):
            return True
    for pose in poses:
        assert pose is None or np.isfinite(pose.joints_m).all() and np.isfinite(pose.timestamp_s)
    return False


def check_nothing_is_lost(stream):
    """The next frame's pose is that of a stream which has never been asked the odd question."""
    # Between two points of the model's time grid, so that all that came before counts.
    pose, expected = (each.push(CLIP.keypoints_px[3], 3.25 / ENGINE.rate_hz) for each in (stream, begun()))
    np.testing.assert_array_equal(pose.joints_m, expected.joints_m)


@SETTINGS
@given(keypoints=KEYPOINTS, time_s=TIMES)
def test_any_push_is_answered_or_refused_without_a_loss(keypoints, time_s):
    stream = begun()
    if refused(lambda: [stream.push(keypoints, time_s)]):
        check_nothing_is_lost(stream)


@SETTINGS
@given(keypoints=st.lists(KEYPOINTS, max_size=3), time_s=TIMES | st.lists(TIMES, max_size=3))
def test_any_push_of_many_is_answered_or_refused_without_a_loss(keypoints, time_s):
    streams = [begun(), begun()]
    if refused(lambda: edgepose.push_many(streams, keypoints, time_s)):
        for stream in streams:
            check_nothing_is_lost(stream)


@SETTINGS
@given(image_size=st.tuples(NUMBERS, NUMBERS) | NUMBERS | st.lists(NUMBERS, max_size=3), seen_above=NUMBERS,
       hold_s=NUMBERS, max_gap_s=NUMBERS, delay_frames=NUMBERS)
def test_any_option_is_taken_or_refused(image_size, seen_above, hold_s, max_gap_s, delay_frames):
    options = {"seen_above": seen_above, "hold_s": hold_s, "max_gap_s": max_gap_s, "delay_frames": delay_frames}
    for size, more in ((image_size, {}), *((CLIP.image_size, {name: value}) for name, value in options.items())):
        refused(lambda: [edgepose.Stream(ENGINE, CLIP.layout, size, **more).push(CLIP.keypoints_px[0], 0.0)])
