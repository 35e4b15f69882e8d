"""A camera that turns: no jump of the person; another person is one."""

import numpy as np
import pytest
from people import FakeEngine

from edgepose.clip import load_clip
from edgepose.stream import Stream

SIZE = (1920, 1080)
FAR = 95 / 245  # a torso of 95 px: balance_cam1 has 245


def far_person():
    """(100, 17, 3) at 60 Hz: the shipped clip as a wide lens sees it from 8 m, in the middle of the picture."""
    keypoints_px = load_clip("balance_cam1").keypoints_px.copy()
    middle = keypoints_px[0, 11:13, :2].mean(axis=0)
    keypoints_px[..., :2] = (keypoints_px[..., :2] - middle) * FAR + np.divide(SIZE, 2)
    return keypoints_px


def resets(keypoints_px, rate_hz):
    stream = Stream(FakeEngine(27), "coco17", SIZE, rate_hz=None)
    poses = [stream.push(person, n / rate_hz) for n, person in enumerate(keypoints_px)]
    return [n for n, pose in enumerate(poses) if pose.was_reset]


def test_the_far_person_has_the_torso_that_the_name_says():
    person = far_person()[0]
    torso_px = np.linalg.norm(person[5:7, :2].mean(axis=0) - person[11:13, :2].mean(axis=0))
    assert torso_px == pytest.approx(95, rel=0.15)


@pytest.mark.parametrize("rate_hz", [25, 30, 60])
@pytest.mark.parametrize("degrees_s", [10, 30, 60])
def test_a_camera_that_turns_to_and_fro_resets_nobody(rate_hz, degrees_s):
    """1920 px are 60 degrees; the camera turns by 30 degrees, stops and turns back, shaking like a hand."""
    keypoints_px = far_person()[::60 // rate_hz] if rate_hz != 25 else far_person()[::2]
    time_s = np.arange(len(keypoints_px)) / rate_hz
    turn = np.deg2rad(15)  # amplitude
    shift_px = 32 * np.rad2deg(turn * np.sin(np.deg2rad(degrees_s) / turn * time_s))
    shift_px = shift_px + np.random.default_rng(0).normal(0, 2, shift_px.shape)
    keypoints_px[..., 0] += shift_px[:, None]
    assert len(resets(keypoints_px, rate_hz)) <= 2  # one where the first two frames already differ


def test_a_camera_that_turns_on_and_on_resets_once():
    """A case from practice: 60 degrees a second at 30 Hz, from one side of the picture to the other, with a reset in
    each frame."""
    keypoints_px = far_person()[:50:2]
    keypoints_px[..., 0] += (64 * np.arange(25) - 768)[:, None]
    assert resets(keypoints_px, 30) in ([0], [0, 1])


@pytest.mark.parametrize("smoothly", [False, True])
def test_another_person_is_still_a_jump(smoothly):
    keypoints_px = far_person()[::2]
    if smoothly:
        keypoints_px[..., 0] += (20 * np.arange(50))[:, None] - 500
    keypoints_px[20:, :, 0] += 150
    assert resets(keypoints_px, 30) == [0, 20]


def test_people_who_change_places_each_frame_are_jumps():
    keypoints_px = far_person()[::2]
    keypoints_px[1::2, :, 0] += 150
    assert resets(keypoints_px, 30) == list(range(50))
