"""Which keypoints count as found, and which third column is a confidence."""

import numpy as np
import pytest
from people import SIZE, FakeEngine

from edgepose.adapters import ADAPTERS, COCO17
from edgepose.clip import load_clip
from edgepose.skeleton import H36M17
from edgepose.stream import Stream

WRIST, ANKLE = COCO17.index("left_wrist"), COCO17.index("right_ankle")
LIMBS = [H36M17.index(COCO17.joints[keypoint]) for keypoint in (WRIST, ANKLE)]
SIGHTED = np.column_stack([np.random.default_rng(1).uniform(200, 800, (17, 2)), np.full(17, 0.9)])
MARKS = [(0, 0, 0.42), (0, 0, 0.9), (-1, -1, 0.9), (-1, -1, -1), (500, 500, -0.3), (np.nan, np.nan, 0.9),
         (np.nan, np.nan, np.nan), (7e9, -np.inf, 0)]


def marked(mark, columns=3):
    keypoints_px = SIGHTED.copy()
    keypoints_px[WRIST] = mark
    return keypoints_px[:, :columns]


def pushed(keypoints_px, size=SIZE):
    return Stream(FakeEngine(1), "coco17", size).push(keypoints_px, 0.0)


def unseen(pose):
    return [H36M17.joints[j] for j in np.flatnonzero(~pose.is_seen)]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_a_keypoint_that_was_not_found_is_not_seen_whatever_its_confidence(mark, number):
    with np.errstate(over="ignore"):
        pose = pushed(marked(mark).astype(number))
    assert unseen(pose) == ["left_wrist"] and pose.confidence[LIMBS[0]] == 0
    honest = pushed(marked((0, 0, 0)).astype(number))
    np.testing.assert_array_equal(pose.joints_m, honest.joints_m)


@pytest.mark.parametrize("mark", [(0, 0, 1), (-1, -1, 1), (np.nan, np.nan, 1)])
def test_without_confidences_a_mark_is_a_keypoint_that_was_not_found(mark):
    assert unseen(pushed(marked(mark, 2))) == ["left_wrist"]
    assert unseen(pushed([[float(x), float(y)] for x, y in marked(mark, 2)])) == ["left_wrist"]
    _, confidence = ADAPTERS["coco17"](marked(mark, 2))
    assert [joint for joint, sure in zip(H36M17.joints, confidence) if not sure] == ["left_wrist"]


@pytest.mark.parametrize("mark", MARKS)
def test_an_adapter_by_itself_has_no_confidence_in_a_keypoint_that_was_not_found(mark):
    _, confidence = ADAPTERS["coco17"](marked(mark))
    assert [joint for joint, sure in zip(H36M17.joints, confidence) if not sure] == ["left_wrist"]


def test_half_a_keypoint_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="keypoint 9 is .*nan.*finite"):
        pushed(marked((500, np.nan, 0.9)))
    with pytest.raises(ValueError, match="keypoint 9 is .*nan.*finite"):
        pushed(marked((500, 500, np.nan)))


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("masked", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("number", [float, np.float32, np.int32])
def test_a_masked_keypoint_was_not_found(columns, masked, number):
    mask = np.zeros((17, columns), bool)
    mask[WRIST, masked] = True
    keypoints_px = np.ma.masked_array(SIGHTED[:, :columns].round().clip(1).astype(number), mask)
    assert unseen(pushed(keypoints_px)) == ["left_wrist"]
    assert unseen(pushed(np.ma.masked_array(keypoints_px.data))) == []


@pytest.mark.parametrize("score, expected", [(1.02, 1.0), (1.1, 1.0), (8.0, 1.0), (0.7, 0.7)])
def test_a_score_above_1_counts_as_1(score, expected):
    pose = pushed(np.column_stack([SIGHTED[:, :2], np.full(17, score)]))
    np.testing.assert_array_equal(pose.confidence, expected)


def depth(near_m, far_m):
    return np.linspace(near_m, far_m, 17)


@pytest.mark.parametrize("column", [depth(-0.3, 0.3), depth(-200, 300), np.full(17, 90.0), np.full(17, -1.0),
                                    depth(0, 640)])
@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_a_third_column_that_is_no_confidence_is_refused_and_loses_nothing(column, number):
    stream, twin = (Stream(FakeEngine(9), "coco17", SIZE) for _ in range(2))
    stream.push(SIGHTED, 0.0), twin.push(SIGHTED, 0.0)
    with pytest.raises(ValueError, match="the third column of keypoints_px goes from .* to .*; wanted confidences "
                                         "from 0 to 1.*MediaPipe's z"):
        stream.push(np.column_stack([SIGHTED[:, :2], column]).astype(number), 0.02)
    np.testing.assert_array_equal(stream.push(SIGHTED, 0.04).joints_m, twin.push(SIGHTED, 0.04).joints_m)


def test_scores_a_little_below_0_are_the_noise_of_a_heat_map():
    keypoints_px = SIGHTED.copy()
    keypoints_px[11:, 2] = -0.004
    assert "left_hip" in unseen(pushed(keypoints_px))


def test_marks_of_keypoints_not_found_are_no_negative_confidences():
    keypoints_px = SIGHTED.copy()
    keypoints_px[11:] = -1
    assert "left_hip" in unseen(pushed(keypoints_px))


@pytest.mark.parametrize("place", [(-9, 500), (SIZE[0] + 9, 500), (500, -9), (500, SIZE[1] + 9), (500, 3 * SIZE[1])])
@pytest.mark.parametrize("columns", [2, 3])
def test_a_joint_outside_of_the_picture_is_not_seen(place, columns):
    pose = pushed(marked((*place, 0.9), columns))
    assert unseen(pose) == ["left_wrist"] and pose.confidence[LIMBS[0]] == 0


@pytest.mark.parametrize("place", [(0, 500), (SIZE[0], 500), (500, 0), (500, SIZE[1]), (-0.5, 500)])
def test_a_joint_at_the_border_of_the_picture_is_seen(place):
    assert unseen(pushed(marked((*place, 0.9)))) == []


@pytest.mark.parametrize("least", [np.iinfo(np.int32).min, np.iinfo(np.int64).min, -1e300])
def test_the_smallest_whole_numbers_are_no_pixels(least):
    keypoints_px = SIGHTED[:, :2].astype(np.int64 if isinstance(least, int) else float)
    keypoints_px[11:13] = least
    for number in (np.int64, np.int32, np.float64) if least == -2**31 else (keypoints_px.dtype,):
        with pytest.raises(ValueError, match="keypoint 11 .*wanted finite pixels"):
            pushed(keypoints_px.astype(number))


def test_zeroed_keypoints_as_ultralytics_gives_them_cost_no_more_than_honest_ones():
    clip = load_clip("balance_cam1")

    def lifted(marks):
        stream = Stream(FakeEngine(1), "coco17", clip.image_size)
        for i in range(30):
            keypoints_px = clip.keypoints_px[i].copy()
            for keypoint, mark in marks.items():
                keypoints_px[keypoint] = mark
            yield stream.push(keypoints_px, i / clip.fps)

    zeroed, honest = lifted({10: (0, 0, 0.42), 16: (0, 0, 0.38)}), lifted({10: (0, 0, 0), 16: (0, 0, 0)})
    for a, b in zip(zeroed, honest, strict=True):
        np.testing.assert_array_equal(a.joints_m, b.joints_m)
        assert not a.is_seen[[H36M17.index("right_wrist"), H36M17.index("right_ankle")]].any()
