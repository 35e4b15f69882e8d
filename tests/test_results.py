"""The objects that detectors answer with, made up with the fields that their libraries give them."""

from types import SimpleNamespace as Object

import numpy as np
import pytest
import torch

import edgepose
from edgepose.clip import load_clip

CLIP = load_clip("balance_cam1")
MAN = CLIP.keypoints_px[0].astype(float)
PEOPLE = np.stack([MAN, MAN + (200, 0, 0)])
SIZE = CLIP.image_size


def landmarks(person, visibility=True):
    return [Object(x=x / SIZE[0], y=y / SIZE[1], z=0.1, visibility=c if visibility else None) for x, y, c in person]


def ultralytics(people, ids=None):
    data = torch.tensor(people, dtype=torch.float32)
    boxes = Object(id=None if ids is None else torch.tensor(ids))
    return Object(keypoints=Object(data=data, xy=data[..., :2]), boxes=boxes)


RESULTS = {
    "Ultralytics": ultralytics(PEOPLE), "Ultralytics, a list of one": [ultralytics(PEOPLE)],
    "rtmlib": (PEOPLE[..., :2], PEOPLE[..., 2]),
    "MediaPipe's tasks": Object(pose_landmarks=[landmarks(person) for person in PEOPLE]),
    "MMPose": Object(pred_instances=Object(keypoints=PEOPLE[..., :2], keypoint_scores=PEOPLE[..., 2])),
    "Detectron2": {"instances": Object(pred_keypoints=torch.tensor(PEOPLE))},
    "an array": PEOPLE, "a tensor": torch.tensor(PEOPLE),
    "a tensor with a gradient": torch.tensor(PEOPLE, requires_grad=True),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_read_to_its_people(name):
    keypoints_px, ids = edgepose.people_in(RESULTS[name], SIZE)
    np.testing.assert_allclose(keypoints_px, PEOPLE, rtol=1e-6)
    assert ids is None


@pytest.mark.parametrize("name", RESULTS)
def test_a_person_of_a_result_streams(name):
    keypoints_px, _ = edgepose.people_in(RESULTS[name], SIZE)
    stream = edgepose.Stream(edgepose.load("ampose"), "coco17", SIZE)
    assert stream.push(keypoints_px[0], 0.0).is_seen.sum() == 17


def test_the_ids_of_a_tracker_come_with_the_people():
    assert edgepose.people_in(ultralytics(PEOPLE, [7.0, 3.0]))[1] == [7, 3]
    tracked = Object(pred_instances=Object(keypoints=PEOPLE[..., :2], keypoint_scores=PEOPLE[..., 2], track_ids=[7, 3]))
    assert edgepose.people_in(tracked)[1] == [7, 3]


@pytest.mark.parametrize("result, keypoints", [
    (ultralytics(np.zeros((0, 17, 3))), 17), ((np.zeros((0, 17, 2)), np.zeros((0, 17))), 17),
    ((np.array([]), np.array([])), 0),
    (Object(pose_landmarks=[]), 0), (Object(pose_landmarks=None), 0), (Object(keypoints=None, boxes=None), 0)])
def test_nobody_is_no_people(result, keypoints):
    keypoints_px, _ = edgepose.people_in(result, SIZE)
    assert keypoints_px.shape == (0, keypoints, 3)


def test_the_older_mediapipe_finds_one_person():
    keypoints_px, _ = edgepose.people_in(Object(pose_landmarks=Object(landmark=landmarks(MAN))), SIZE)
    np.testing.assert_allclose(keypoints_px, [MAN])


def test_landmarks_without_visibility_are_sure():
    keypoints_px, _ = edgepose.people_in(Object(pose_landmarks=[landmarks(MAN, visibility=False)]), SIZE)
    np.testing.assert_allclose(keypoints_px[0], np.column_stack([MAN[:, :2], np.ones(17)]))


def test_half_precision_is_read():
    keypoints_px, _ = edgepose.people_in(torch.tensor(PEOPLE).bfloat16())
    np.testing.assert_allclose(keypoints_px, PEOPLE, rtol=0.01)


def test_places_without_scores_are_sure_but_for_the_corner():
    places = PEOPLE[..., :2].copy()
    places[1, 4] = 0
    keypoints_px, _ = edgepose.people_in(places)
    assert (keypoints_px[..., 2] == 0).sum() == 1 and keypoints_px[1, 4, 2] == 0


@pytest.mark.parametrize("result, error, message", [
    ("person", TypeError, "result is str; wanted what Ultralytics, rtmlib, MediaPipe"),
    (None, TypeError, "result is NoneType"),
    ([ultralytics(PEOPLE)] * 2, ValueError, "there are the results of 2 pictures; wanted that of one"),
    (np.zeros((2, 17, 5)) + 1, ValueError, r"keypoints have shape \(2, 17, 5\); wanted \(people, K, 2 or 3\)"),
    ((PEOPLE[..., :2], PEOPLE[:, :5, 2]), ValueError, r"scores of shape \(2, 5\); wanted \(2, 17\)"),
    (np.array([object()]), TypeError, "wanted an array of numbers")])
def test_what_is_no_result_is_said(result, error, message):
    with pytest.raises(error, match=message):
        edgepose.people_in(result)


def test_mediapipe_needs_the_size_of_the_picture():
    with pytest.raises(ValueError, match="MediaPipe's landmarks are shares of the picture; wanted image_size"):
        edgepose.people_in(RESULTS["MediaPipe's tasks"])
