import math
from dataclasses import replace

import pytest
import torch
from tiny_mocap import standing

from edgepose.skeleton import H36M17
from edgepose.training import noise
from edgepose.training.landmarks import COCO_JOINTS
from edgepose.training.observation import observe


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def points():
    """(20000, 1, 17, 2): COCO points in a box of 0.5 by 1."""
    grid = torch.linspace(0, 1, 17)
    return torch.stack([grid.roll(3) / 2, grid], -1).expand(20_000, 1, -1, -1)


def test_jitter_has_the_median_of_the_table(points):
    error = (noise.add_jitter(points, generator(), replace(noise.STEADY, levels=(1.0, 1.0)))[0]
             - points).norm(dim=-1)[:, 0]
    for joint, name in enumerate(COCO_JOINTS):
        scale = noise.JITTER_PERCENT[name.split("_")[-1]] / 100
        # The median of a bivariate t of 2 degrees of freedom is sqrt(2) scales; 20000 draws give it to 2 %.
        assert error[:, joint].median() == pytest.approx(math.sqrt(2) * scale, rel=0.04)
        assert error[:, joint].quantile(0.95) > 4 * error[:, joint].median()


def test_jitter_grows_with_the_person(points):
    small, large = ((noise.add_jitter(k * points, generator())[0] - k * points) for k in (1, 10))
    torch.testing.assert_close(large, 10 * small, atol=1e-5, rtol=1e-4)


def test_jitter_of_neighbouring_frames_is_correlated():
    points = torch.rand(1, 1, 17, 2, generator=generator(1)).expand(500, 27, -1, -1)
    error = noise.add_jitter(points, generator())[0] - points
    error = error / error.pow(2).mean((1, 3), keepdim=True).sqrt()
    correlation = (error[:, 1:] * error[:, :-1]).mean()
    assert correlation == pytest.approx(noise.FRAME_CORRELATION, abs=0.03)


def test_swapping_exchanges_whole_limbs_rarely(points):
    swapped = noise.swap_sides(points, generator())
    moved = (swapped != points).any(-1)[:, 0]
    arms, legs = ([i for i, name in enumerate(COCO_JOINTS) if name.split("_")[-1] in parts]
                  for parts in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")))
    for limb in (arms, legs):
        assert (moved[:, limb].any(-1) == moved[:, limb].all(-1)).all()
        deviation = (noise.STEADY.swapped / 20_000) ** 0.5
        assert moved[:, limb[0]].float().mean() == pytest.approx(noise.STEADY.swapped, abs=4 * deviation)
    assert not moved[:, :5].any()
    first = moved[:, arms[0]].nonzero()[0, 0]
    left, right = COCO_JOINTS.index("left_wrist"), COCO_JOINTS.index("right_wrist")
    assert torch.equal(swapped[first, 0, left], points[first, 0, right])


def test_lost_joints_sit_at_their_parent(points):
    lost = noise.draw_lost(len(points), 1, generator())
    placed = noise.place_lost(points, lost, generator())
    for parent, joint in H36M17.bones:
        moved = (placed[:, 0, joint] != points[:, 0, joint]).any(-1)
        assert torch.equal(moved, lost[:, 0, joint]) and torch.equal(placed[moved, 0, joint], placed[moved, 0, parent])
        is_limb = H36M17.joints[joint].split("_")[-1] in (*noise.STEADY.lost, "nose")
        assert 0.005 < moved.float().mean() < 0.1 if is_limb else not moved.any()


def test_without_noise_the_model_gets_the_midpoints():
    points = torch.rand(3, 2, 17, 2, generator=generator())
    joints, confidence = noise.adapted(points)
    assert (confidence == 1).all()
    hips = (points[:, :, COCO_JOINTS.index("left_hip")] + points[:, :, COCO_JOINTS.index("right_hip")]) / 2
    torch.testing.assert_close(joints[:, :, H36M17.root], hips)
    torch.testing.assert_close(joints[:, :, H36M17.index("nose")], points[:, :, COCO_JOINTS.index("nose")])


def test_an_observation_is_the_projection_of_its_answer():
    motion = torch.from_numpy(standing()).expand(64, 9, -1, -1)
    keypoints, target = observe(motion, generator(), noisy=False)
    assert keypoints.shape == (64, 9, 17, 2) and target.shape == (64, 17, 3)
    assert (target[:, H36M17.root] == 0).all()
    length = lambda joints: (joints[..., 1:, :] - joints[..., list(H36M17.parents[1:]), :]).norm(dim=-1)  # noqa: E731
    torch.testing.assert_close(length(target), length(motion[:, 4]), atol=1e-5, rtol=0)
    head, ankle = H36M17.index("head"), H36M17.index("left_ankle")
    assert (target[:, head, 1] < target[:, ankle, 1]).all()
    assert (keypoints[:, :, head, 1] < keypoints[:, :, ankle, 1]).all()
    left, right = H36M17.index("left_shoulder"), H36M17.index("right_shoulder")
    observed, true = (a[:, left, 0] - a[:, right, 0] for a in (keypoints[:, 4], target))
    # From the side, a shoulder line along the ray may appear turned round; a mirrored picture would give 0.
    assert (observed.sign() == true.sign())[true.abs() > 0.1].float().mean() > 0.9


def test_a_bias_lasts_the_window_and_is_part_of_the_scale(points):
    windows = points[:4000].expand(-1, 5, -1, -1)
    detector = replace(noise.STEADY, jitter=dict.fromkeys(noise.JITTER_PERCENT, 0.0), levels=(0.5, 1.0),
                       bias=dict.fromkeys(noise.JITTER_PERCENT, 1.0))
    observed, scale = noise.add_jitter(windows, generator(), detector)
    error = observed - windows
    assert (error - error[:, :1]).abs().max() < 1e-6  # the same in every frame
    normalised = error[:, 0] / scale[:, 0, :, None].expand_as(error[:, 0])
    assert normalised.std() == pytest.approx(1, rel=0.02) and 0.005 <= scale.min() < scale.max() <= 0.01


def test_jitter_in_pixels_does_not_shrink_with_the_person(points):
    detector = replace(noise.STEADY, levels=(0.0, 0.0), pixel=0.002)
    small, large = ((noise.add_jitter(k * points, generator(), detector)[0] - k * points) for k in (0.1, 1))
    torch.testing.assert_close(small, large, atol=1e-6, rtol=0)
    assert small.std() > 0.0005


def test_confidence_falls_with_the_error_of_an_honest_detector():
    scale = torch.linspace(0, 0.03, 17).expand(6000, 1, 17)
    confidence = noise.confidences(scale, 2, generator())
    assert confidence.shape == (6000, 2, 17) and confidence.min() >= noise.LEAST_CONFIDENCE and confidence.max() <= 1
    means = confidence.mean((0, 1))
    assert (means.diff() < 0.01).all() and means[0] > means[-1] + 0.3
    sure = (confidence[..., -1] > 0.8).float().mean()  # for the worst joint: MediaPipe's kind of confidence
    assert sure == pytest.approx(1 - noise.HONEST - noise.OPENPOSE_LIKE, abs=0.03)


def test_a_loss_spreads_to_children_and_takes_the_pelvis_with_a_hip():
    detector = replace(noise.ANY_DETECTOR, passing=0.0)
    lost = noise.draw_lost(40_000, 1, generator(), detector)[:, 0]
    elbow, wrist = H36M17.index("left_elbow"), H36M17.index("left_wrist")
    expected = 1 - (1 - detector.spread) * (1 - detector.lost["wrist"])
    assert lost[lost[:, elbow], wrist].float().mean() == pytest.approx(expected, abs=0.04)
    hips = lost[:, H36M17.index("left_hip")] | lost[:, H36M17.index("right_hip")]
    assert torch.equal(hips, lost[:, H36M17.root]) and torch.equal(hips, lost[:, H36M17.index("spine")])
    assert hips.float().mean() > 0.03


def test_a_passing_loss_is_held_at_the_last_offset():
    keypoints = torch.randn(1, 6, 17, 2, generator=generator()).cumsum(1)
    wrist, elbow = H36M17.index("left_wrist"), H36M17.index("left_elbow")
    lost = torch.zeros(1, 6, 17, dtype=torch.bool)
    lost[0, 2:5, wrist] = True
    placed = noise.place_lost(keypoints, lost, generator())
    offset = keypoints[0, 1, wrist] - keypoints[0, 1, elbow]
    torch.testing.assert_close(placed[0, 2:5, wrist], keypoints[0, 2:5, elbow] + offset)
    assert torch.equal(placed[0, [0, 1, 5]], keypoints[0, [0, 1, 5]])


def test_a_pelvis_that_is_lost_stands_at_the_hip_that_is_seen_else_below_the_shoulders():
    keypoints = torch.randn(2, 1, 17, 2, generator=generator())
    pelvis, left, right, thorax = (H36M17.index(joint) for joint in ("pelvis", "left_hip", "right_hip", "thorax"))
    lost = torch.zeros(2, 1, 17, dtype=torch.bool)
    lost[:, :, [pelvis, left]] = True
    lost[1, :, right] = True
    placed = noise.place_lost(keypoints, lost, generator())
    assert torch.equal(placed[0, 0, pelvis], keypoints[0, 0, right])
    assert placed[1, 0, pelvis, 0] == keypoints[1, 0, thorax, 0]
    assert placed[1, 0, pelvis, 1] > keypoints[1, 0, thorax, 1]
    assert torch.equal(placed[1, 0, left], placed[1, 0, pelvis])


def test_a_point_outside_of_the_picture_is_lost(points):
    outside = torch.zeros(20_000, 1, 17, dtype=torch.bool)
    outside[..., noise._joint("left_ankle")] = True
    _, confidence = noise.detect(points, generator(), noise.ANY_DETECTOR, outside)
    assert (confidence[..., H36M17.index("left_ankle")] == 0).all()
    assert (confidence[..., H36M17.index("right_ankle")] > 0).any()
