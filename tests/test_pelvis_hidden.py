"""People whose hips the detector does not see."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from people import FakeEngine

from edgepose import _native
from edgepose.adapters import ADAPTERS, COCO17
from edgepose.clip import load_clip
from edgepose.skeleton import H36M16, H36M17
from edgepose.stream import Stream
from edgepose.training import noise

PELVIS, THORAX, NOSE, LEFT_HIP, RIGHT_HIP = (H36M17.index(joint)
                                             for joint in ("pelvis", "thorax", "nose", "left_hip", "right_hip"))
SHOULDERS = [H36M17.index("left_shoulder"), H36M17.index("right_shoulder")]
FROM_HIPS_ON = COCO17.index("left_hip")


def joints(seed=0):
    return np.random.default_rng(seed).uniform(100, 900, (17, 2))


def seen(*hidden):
    confidence = np.ones(17)
    confidence[[H36M17.index(joint) for joint in hidden]] = 0
    return confidence


LEGS = ("pelvis", "spine", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle")


@pytest.mark.parametrize("hidden, other", [("left_hip", RIGHT_HIP), ("right_hip", LEFT_HIP)])
def test_the_hip_that_is_seen_stands_in_for_the_pelvis(hidden, other):
    xy = joints()
    placed, is_seen = _native.Hold(H36M17)(xy, seen("pelvis", "spine", hidden), 0.0)
    for joint in (PELVIS, H36M17.index(hidden), H36M17.index("spine")):
        np.testing.assert_array_equal(placed[joint], xy[other])
    assert not is_seen[PELVIS] and is_seen[other]


def below(xy, nose=True):
    width, face = np.linalg.norm(xy[SHOULDERS[0]] - xy[SHOULDERS[1]]), np.linalg.norm(xy[NOSE] - xy[THORAX])
    return xy[THORAX] + [0, max(noise.TRUNK_OVER_SHOULDERS * width, noise.TRUNK_OVER_NOSE * face * nose)]


def test_the_middle_of_the_hips_stands_in_for_a_detectors_own_pelvis():
    xy = joints()
    placed, _ = _native.Hold(H36M17)(xy, seen("pelvis", "spine"), 0.0)
    np.testing.assert_allclose(placed[PELVIS], (xy[LEFT_HIP] + xy[RIGHT_HIP]) / 2)


@pytest.mark.parametrize("shoulder_width, nose", [(50, True), (400, True), (50, False)])
def test_without_hips_the_pelvis_stands_below_the_shoulders(shoulder_width, nose):
    xy = joints()
    xy[SHOULDERS[0]] = xy[SHOULDERS[1]] + [shoulder_width, 0]
    placed, is_seen = _native.Hold(H36M17)(xy, seen(*LEGS, *(() if nose else ("nose",))), 0.0)
    for joint in LEGS:
        np.testing.assert_allclose(placed[H36M17.index(joint)], below(xy, nose), rtol=1e-12, err_msg=joint)
        assert not is_seen[H36M17.index(joint)]


def test_training_places_a_lost_pelvis_as_the_runtime_does():
    for hidden in (LEGS, ("pelvis", "left_hip"), ("pelvis", "right_hip", "spine"), (*LEGS, "nose")):
        xy = joints(3)
        lost = torch.tensor(seen(*hidden) == 0)[None, None]
        simulated = noise.place_lost(torch.tensor(xy)[None, None], lost, torch.Generator())[0, 0]
        placed, _ = _native.Hold(H36M17)(xy, seen(*hidden), 0.0)
        np.testing.assert_allclose(placed, simulated.numpy(), rtol=1e-6)


def test_the_trunks_proportions_are_those_of_training():
    source = (Path(__file__).parents[1] / "csrc/runtime/pelvis.h").read_text()
    numbers = {name: float(value) for name, value in re.findall(r"(kTrunk\w+) = ([\d.]+)", source)}
    assert numbers == {"kTrunkOverShoulders": noise.TRUNK_OVER_SHOULDERS, "kTrunkOverNose": noise.TRUNK_OVER_NOSE}


def test_a_model_without_a_nose_has_the_shoulders_alone():
    xy = joints()[[H36M17.index(joint) for joint in H36M16.joints]]
    confidence = np.array([joint not in LEGS for joint in H36M16.joints], float)
    placed, _ = _native.Hold(H36M16)(xy, confidence, 0.0)
    at = {joint: xy[j] for j, joint in enumerate(H36M16.joints)}
    width = np.linalg.norm(at["left_shoulder"] - at["right_shoulder"])
    np.testing.assert_allclose(placed[0], at["thorax"] + [0, 1.4 * width])


@pytest.mark.parametrize("hidden", [(*LEGS, "thorax", "left_shoulder"), (*LEGS, "left_shoulder", "nose")])
def test_without_hips_and_shoulders_there_is_nothing_to_place_a_body_by(hidden):
    assert _native.Hold(H36M17)(joints(), seen(*hidden), 0.0) is None


def test_a_pelvis_that_was_seen_moves_with_the_body_until_that_is_pointless():
    hold, xy = _native.Hold(H36M17), joints()
    hold(xy, seen(), 0.0)
    for n in range(1, 41):  # 2 s
        placed, _ = hold(xy + 3 * n, seen(*LEGS), 0.05 * n)
        np.testing.assert_allclose(placed[PELVIS], xy[PELVIS] + 3 * n)
    placed, _ = hold(xy + 123, seen(*LEGS), 2.06)
    np.testing.assert_allclose(placed[PELVIS], below(xy + 123))
    placed, _ = hold(xy + 123, seen(), 2.1)
    np.testing.assert_array_equal(placed, xy + 123)


def test_a_pelvis_that_had_a_place_moves_with_the_body_where_nothing_stands_in():
    hold, xy = _native.Hold(H36M17), joints()
    hold(xy, seen(*LEGS), 0.0)
    placed, _ = hold(xy + 5, seen(*LEGS, "thorax", "left_shoulder"), 0.02)
    np.testing.assert_allclose(placed[PELVIS], below(xy) + 5)


def clip_poses(change):
    clip = load_clip("balance_cam1")
    stream = Stream(FakeEngine(1), "coco17", clip.image_size)
    poses = []
    for i in range(37):  # nobody was found in the next one
        keypoints_px = clip.keypoints_px[i].copy()
        change(keypoints_px)
        poses.append(stream.push(keypoints_px, i / 60))
    return poses


def test_someone_at_a_desk_gets_a_pose_for_every_frame():
    def desk(keypoints_px):
        keypoints_px[FROM_HIPS_ON:] = 0
        keypoints_px[:FROM_HIPS_ON, 2] = 0.9
        if keypoints_px[0, 0] == 0:  # in some frames the detector has the nose at the border of the picture
            keypoints_px[0] = 0

    poses = clip_poses(desk)
    assert all(pose is not None and not pose.is_seen[PELVIS] and pose.confidence[PELVIS] == 0 for pose in poses)
    assert sum(pose.was_reset for pose in poses) == 1


def test_someone_in_profile_gets_a_pose_for_every_frame():
    def profile(keypoints_px):
        keypoints_px[FROM_HIPS_ON, 2] = 0.1

    poses = clip_poses(profile)
    assert all(pose is not None and not pose.is_seen[PELVIS] for pose in poses)
    assert sum(pose.was_reset for pose in poses) == 1


def test_every_layout_gives_a_pose_without_hips():
    for name, adapter in ADAPTERS.items():
        keypoints_px = np.column_stack([joints()[:1].repeat(len(adapter.layout), 0)
                                        + np.arange(len(adapter.layout))[:, None] * 5,
                                        np.full(len(adapter.layout), 0.9)])
        for k, keypoint in enumerate(adapter.layout.joints):
            keypoints_px[k, 2] *= not any(part in keypoint for part in ("hip", "pelvis", "knee", "ankle"))
        assert Stream(FakeEngine(1), name, (1920, 1920)).push(keypoints_px, 0.0) is not None, name
