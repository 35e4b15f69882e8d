import copy
import math
import pickle

import numpy as np
import pytest
import torch
from people import DT, SIZE, FakeEngine, person_of, same

import edgepose
from edgepose.adapters import ADAPTERS
from edgepose.filters import OneEuro
from edgepose.stream import Stream, push_many


def broken(value, row=4, column=1):
    keypoints_px = person_of("coco17")[0]
    keypoints_px[row, column] = value
    return keypoints_px


BAD_KEYPOINTS = [
    (np.zeros((16, 2)), ValueError, r'shape \(16, 2\); layout "coco17" needs \(17, 2\) or \(17, 3\)'),
    (np.zeros((17, 4)), ValueError, r"shape \(17, 4\)"), (np.zeros((2, 17, 3)), ValueError, "one person"),
    (np.zeros(51), ValueError, "one person"), (7.0, ValueError, "one person"), ([], ValueError, "one person"),
    (np.zeros((0, 3)), ValueError, r"shape \(0, 3\)"), (np.zeros((17, 0)), ValueError, r"shape \(17, 0\)"),
    ([[1, 2], [1, 2, 3]], ValueError, "different lengths"),
    (broken(np.nan), ValueError, "keypoint 4 is .*nan.*finite"), (broken(np.inf), ValueError, "keypoint 4 .*inf"),
    (broken(-np.inf), ValueError, "keypoint 4"), (broken(1e300), ValueError, "keypoint 4 .*1e.300"),
    (broken(np.nan, column=2), ValueError, "keypoint 4 .*nan"),
    (broken(np.nan)[:, :2], ValueError, "keypoint 4 .*nan"),
    (np.zeros((17, 2), object), TypeError, "dtype object"), (np.zeros((17, 2), bool), TypeError, "dtype bool"),
    (np.zeros((17, 2), complex), TypeError, "dtype complex"), ([["a", "b"]] * 17, TypeError, "dtype <U1"),
    ("coco17", TypeError, "dtype <U6"), ([[None, 1.0]] * 17, TypeError, "dtype object"),
    ([[10**400, 1.0]] * 17, TypeError, "dtype object; wanted real numbers"),
]
BAD_TIMES = [(0.06, ValueError, "0.06 after 0.06; wanted a later"), (0.0, ValueError, "wanted a later"),
             (math.nan, ValueError, "nan"), (math.inf, ValueError, "inf"), (-math.inf, ValueError, "inf"),
             (10**400, ValueError, "too large for a number of seconds"),
             (None, TypeError, "None; wanted a number"), ("1.5", TypeError, "'1.5'; wanted a number"),
             ([1.0, 2.0], TypeError, "wanted a number"), (np.datetime64("2020-01-01"), TypeError, "wanted a number")]
GOOD = person_of("coco17")[4]


def running(count):
    """Streams of one engine with some past, smoothing and a delay."""
    engine = FakeEngine()
    streams = [Stream(engine, "coco17", SIZE, delay_frames=1, smoothing=OneEuro()) for _ in range(count)]
    for n, keypoints_px in enumerate(person_of("coco17")[:4]):
        push_many(streams, [keypoints_px] * count, n * DT)
    return engine, streams


def assert_go_on_alike(streams):
    for n, keypoints_px in enumerate(person_of("coco17")[4:8]):
        poses = [stream.push(keypoints_px, (n + 4) * DT) for stream in streams]
        assert poses[0] is not None and all(same(pose, poses[0]) for pose in poses)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("keypoints_px, timestamp_s, error, message",
                         [(keypoints_px, 0.08, error, message) for keypoints_px, error, message in BAD_KEYPOINTS]
                         + [(GOOD, *bad) for bad in BAD_TIMES] + [(None, *bad) for bad in BAD_TIMES])
def test_a_refused_push_says_why_and_loses_nothing(keypoints_px, timestamp_s, error, message):
    engine, (stream, twin) = running(2)
    calls = len(engine.calls)
    with pytest.raises(error, match=message):
        stream.push(keypoints_px, timestamp_s)
    assert len(engine.calls) == calls
    assert_go_on_alike([stream, twin])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("keypoints_px, error, message", BAD_KEYPOINTS)
def test_one_refused_person_is_named_and_loses_nothing_for_the_others(keypoints_px, error, message):
    engine, (stream, neighbour, twin) = running(3)
    calls = len(engine.calls)
    with pytest.raises(error, match="person 1: .*" + message):
        push_many([neighbour, stream], [GOOD, keypoints_px], 0.08)
    assert len(engine.calls) == calls
    assert_go_on_alike([neighbour, stream, twin])


def test_people_that_cannot_go_together_are_refused_and_lose_nothing():
    _, (a, b, twin) = running(3)
    with pytest.raises(ValueError, match="1 people's keypoints for 2 streams"):
        push_many([a, b], [GOOD], 0.08)
    with pytest.raises(ValueError, match="listed twice"):
        push_many([a, b, a], [GOOD] * 3, 0.08)
    with pytest.raises(ValueError, match="different engines"):
        push_many([a, Stream(FakeEngine(), "coco17", SIZE), b], [GOOD] * 3, 0.08)
    assert_go_on_alike([a, b, twin])


def test_a_tensor_that_is_no_array_of_numbers_is_refused_as_such():
    stream = Stream(FakeEngine(), "coco17", SIZE)
    with pytest.raises(TypeError, match="keypoints_px is no array of numbers .*requires grad"):
        stream.push(torch.tensor(GOOD, requires_grad=True), 0.0)
    assert stream.push(torch.tensor(GOOD), 0.0) is not None


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_is_not_copied(take):
    """A copy would share the window: each push would move both."""
    with pytest.raises(
            TypeError, match="a stream cannot be copied or pickled: .*wanted another Stream on the same engine"):
        take(Stream(FakeEngine(), "coco17", SIZE))


@pytest.mark.parametrize("layout", ["coco-17", "", None, 17, ["coco17"]])
def test_an_unknown_layout_is_answered_with_those_there_are(layout):
    with pytest.raises(ValueError, match=f"no layout .*wanted one of {', '.join(ADAPTERS)}"):
        Stream(FakeEngine(), layout, SIZE)


@pytest.mark.parametrize("image_size", [(0, 1080), (1920, -1), (1920,), None, (math.nan, 1),
                                        "hd", 1920, True, (True, True), {1920, 1080}, {1920: 0, 1080: 0},
                                        (1e-300, 1080), (1920, 1e300), (1920, 10**400)])
def test_an_impossible_image_size_is_refused(image_size):
    with pytest.raises(ValueError, match="image_size is"):
        Stream(FakeEngine(), "coco17", image_size)


def test_a_delay_beyond_the_middle_is_refused():
    with pytest.raises(ValueError, match="takes 0 to 4"):
        Stream(FakeEngine(9), "coco17", SIZE, delay_frames=5)


def test_normalised_keypoints_are_refused_as_such():
    stream = Stream(edgepose.load("ampose"), "coco17", (640, 480))
    with pytest.raises(ValueError, match="within 2 px of the corner, as normalised ones are"):
        stream.push(np.random.default_rng(0).uniform(0, 1, (17, 2)), 0.0)


@pytest.mark.parametrize("engine, options, message", [
    ("ampose", {}, "engine is 'ampose'; wanted an Engine"), (None, {"smoothing": True}, "smoothing is True"),
    (None, {"smoothing": OneEuro}, "smoothing is <class"),
    (None, {"seen_above": -1.0}, "seen_above is -1.0; wanted a number above 0, at most 1"),
    (None, {"hold_s": -1.0}, "hold_s is -1.0; wanted 0 or more"),
    (None, {"max_gap_s": "x"}, "max_gap_s is 'x'; wanted a number, 0 or more"),
    (None, {"seen_above": 7}, "seen_above is 7; wanted a number above 0, at most 1"),
    (None, {"seen_above": "0.3"}, "seen_above is '0.3'"), (None, {"delay_frames": "1"}, "delay_frames is '1'"),
    (None, {"delay_frames": 10**30}, "delay_frames is 10+; wanted a whole number from 0"),
    (None, {"rate_hz": math.inf}, "rate_hz is inf")])
def test_a_wrong_part_is_refused_when_the_stream_is_made(engine, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Stream(engine or edgepose.load("ampose"), "coco17", (640, 480), **options)
