"""Warnings of input that is likely wrong."""

import warnings

import numpy as np
import pytest
from people import FakeEngine

from edgepose.adapters import COCO17
from edgepose.clip import load_clip
from edgepose.stream import Stream, push_many

CLIP = load_clip("balance_cam1")
UPRIGHT_DEG = -31  # by so much its person leans
WIDTH, HEIGHT = CLIP.image_size


def warnings_of(change=lambda keypoints_px: keypoints_px, size=CLIP.image_size, unit=1.0, hz=CLIP.fps, frames=120,
                layout="coco17"):
    stream = Stream(FakeEngine(1), layout, size)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(frames):
            stream.push(change(CLIP.keypoints_px[i % len(CLIP.keypoints_px)].copy()), unit * (5 + i / hz))
    return [str(warning.message) for warning in caught], stream.notices


@pytest.mark.parametrize("name", ["balance_cam1", "balance_cam2", "balance_cam3"])
def test_a_clean_clip_is_not_doubted(name):
    clip = load_clip(name)
    stream = Stream(FakeEngine(1), clip.layout, clip.image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(len(clip.keypoints_px)):
            stream.push(clip.seen_in(i), clip.time_of(i))
    assert not any(stream.notices.values())


@pytest.mark.parametrize("unit", [1e3, 1e6, 1e9, CLIP.fps])
def test_times_that_are_no_seconds_are_told_once(unit):
    said, notices = warnings_of(unit=unit)
    assert len(said) == 1 and "wants seconds" in said[0] and "milliseconds" in said[0] and "frame numbers" in said[0]
    assert notices["time_unit"] == 1


def test_it_takes_ten_long_steps_in_a_row_from_the_first():
    assert warnings_of(unit=1e3, frames=10)[1]["time_unit"] == 0
    assert warnings_of(unit=1e3, frames=11)[1]["time_unit"] == 1
    stream = Stream(FakeEngine(1), "coco17", CLIP.image_size)
    for time_s in (0.0, 0.02, *range(1, 40)):
        stream.push(CLIP.keypoints_px[0], time_s)
    assert stream.notices["time_unit"] == 0


def test_a_slow_camera_is_not_doubted():
    assert warnings_of(hz=1.5)[0] == []


def test_the_person_who_is_doubted_in_a_crowd_has_the_notice():
    engine = FakeEngine(1)
    streams = [Stream(engine, "coco17", CLIP.image_size) for _ in range(2)]
    with pytest.warns(UserWarning, match="wants seconds"):
        for i in range(20):
            push_many(streams, [CLIP.keypoints_px[i]] * 2, [i / 60, 16.7 * i])
    assert [stream.notices["time_unit"] for stream in streams] == [0, 1]


def low(keypoints_px):
    """The person further down in the picture."""
    return keypoints_px + [0, HEIGHT - 20 - CLIP.keypoints_px[..., 1].max(), 0] * (keypoints_px[:, 2:] > 0)


@pytest.mark.parametrize("change, size, likely", [
    (low, (HEIGHT, WIDTH), r"image_size is \(height, width\), or the keypoints are \(y, x\)"),
    (lambda k: low(k)[:, [1, 0, 2]], (WIDTH, HEIGHT),
     r"image_size is \(height, width\), or the keypoints are \(y, x\)"),
    (lambda k: k, (WIDTH / 3, HEIGHT / 3), "of a resized picture"),
    (lambda k: k[:, :2] , (WIDTH / 3, HEIGHT / 3), "of a resized picture")])
def test_keypoints_mostly_outside_of_the_picture_are_told_once_with_the_likely_cause(change, size, likely):
    with pytest.warns(UserWarning, match="of the keypoints of 51 frames lie outside of the picture.*" + likely):
        said, notices = warnings_of(change, size)
        for text in said:
            warnings.warn(text)
    assert sum("outside" in text for text in said) == 1 and notices["outside_picture"] == 2  # in 120 frames


def test_legs_below_the_picture_are_no_doubt_of_its_size():
    def legs_below(keypoints_px):
        keypoints_px[13:, 1] += HEIGHT
        return keypoints_px

    assert warnings_of(legs_below)[0] == []


def test_keypoints_in_another_order_are_told_once():
    order = np.random.default_rng(0).permutation(len(COCO17))
    said, notices = warnings_of(lambda k: k[order])
    assert len(said) == 1 and "of the person's size, where people show" in said[
        0] and "another order than the layout's" in said[0]
    assert notices["proportions"] == 2


def turned(angle_deg):
    """A picture of half the size, turned about its middle."""
    middle, angle = np.array([WIDTH / 2, HEIGHT / 2]), np.radians(angle_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return lambda keypoints_px: np.column_stack([(keypoints_px[:, :2] - middle) @ rotation.T * 0.5 + middle,
                                                 keypoints_px[:, 2]])


@pytest.mark.parametrize("angle_deg", [0, 45, -45, 90, 180, UPRIGHT_DEG, UPRIGHT_DEG + 90])
def test_people_in_any_direction_but_one_are_not_doubted(angle_deg):
    assert warnings_of(turned(angle_deg))[0] == []


@pytest.mark.parametrize("change",
                         [turned(UPRIGHT_DEG - 90),
                          lambda keypoints_px: turned(UPRIGHT_DEG)(keypoints_px)[:, [1, 0, 2]]])
def test_someone_who_always_lies_as_where_x_and_y_are_exchanged_is_told_once(change):
    said, notices = warnings_of(change)
    assert len(said) == 1 and "lies with the head to the left" in said[0] and "the keypoints are (y, x)" in said[0]
    assert notices["lying"] == 2
