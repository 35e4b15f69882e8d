import math

import numpy as np
import pytest
import torch
from tiny_mocap import standing

from edgepose.skeleton import H36M17
from edgepose.training import noise
from edgepose.training.landmarks import COCO_JOINTS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def points():
    """(20000, 1, 17, 2): COCO points in a box of 0.5 by 1."""
    grid = torch.linspace(0, 1, 17)
    return torch.stack([grid.roll(3) / 2, grid], -1).expand(20_000, 1, -1, -1)


def test_jitter_has_the_median_of_the_table(points, monkeypatch):
    monkeypatch.setattr(noise, "LEVELS", (1.0, 1.0))
    error = (noise.add_jitter(points, generator()) - points).norm(dim=-1)[:, 0]
    for joint, name in enumerate(COCO_JOINTS):
        scale = noise.JITTER_PERCENT[name.split("_")[-1]] / 100
        # The median of a bivariate t of 2 degrees of freedom is sqrt(2) scales; 20000 draws give it to 2 %.
        assert error[:, joint].median() == pytest.approx(math.sqrt(2) * scale, rel=0.04)
        assert error[:, joint].quantile(0.95) > 4 * error[:, joint].median()


def test_jitter_grows_with_the_person(points):
    small, large = ((noise.add_jitter(k * points, generator()) - k * points) for k in (1, 10))
    torch.testing.assert_close(large, 10 * small, atol=1e-5, rtol=1e-4)


def test_jitter_of_neighbouring_frames_is_correlated():
    points = torch.rand(1, 1, 17, 2, generator=generator(1)).expand(500, 27, -1, -1)
    error = noise.add_jitter(points, generator()) - points
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
        assert moved[:, limb[0]].float().mean() == pytest.approx(noise.SWAPPED, abs=4 * (noise.SWAPPED / 20_000) ** 0.5)
    assert not moved[:, :5].any()
    first = moved[:, arms[0]].nonzero()[0, 0]
    left, right = COCO_JOINTS.index("left_wrist"), COCO_JOINTS.index("right_wrist")
    assert torch.equal(swapped[first, 0, left], points[first, 0, right])


def test_lost_joints_sit_at_their_parent(points):
    lost = noise.lose_joints(points, generator())
    for parent, joint in H36M17.bones:
        moved = (lost[:, 0, joint] != points[:, 0, joint]).any(-1)
        assert torch.equal(lost[moved, 0, joint], lost[moved, 0, parent])
        is_limb = H36M17.joints[joint].split("_")[-1] in (*noise.LOST, "nose")
        assert 0.005 < moved.float().mean() < 0.1 if is_limb else not moved.any()


def test_without_noise_the_model_gets_the_midpoints():
    points = torch.rand(3, 2, 17, 2, generator=generator())
    joints = noise.adapted(points)
    hips = (points[:, :, COCO_JOINTS.index("left_hip")] + points[:, :, COCO_JOINTS.index("right_hip")]) / 2
    torch.testing.assert_close(joints[:, :, H36M17.root], hips)
    torch.testing.assert_close(joints[:, :, H36M17.index("nose")], points[:, :, COCO_JOINTS.index("nose")])


def test_an_observation_is_the_projection_of_its_answer():
    motion = torch.from_numpy(standing()).expand(64, 9, -1, -1)
    keypoints, target = noise.observe(motion, generator(), noisy=False)
    assert keypoints.shape == (64, 9, 17, 2) and target.shape == (64, 17, 3)
    assert (target[:, H36M17.root] == 0).all()
    length = lambda joints: (joints[..., 1:, :] - joints[..., list(H36M17.parents[1:]), :]).norm(dim=-1)  # noqa: E731
    torch.testing.assert_close(length(target), length(motion[:, 4]), atol=1e-5, rtol=0)
    head, ankle = H36M17.index("head"), H36M17.index("left_ankle")
    assert (target[:, head, 1] < target[:, ankle, 1]).all()
    assert (keypoints[:, :, head, 1] < keypoints[:, :, ankle, 1]).all()
    left, right = H36M17.index("left_shoulder"), H36M17.index("right_shoulder")
    seen, true = (a[:, left, 0] - a[:, right, 0] for a in (keypoints[:, 4], target))
    # Seen from the side of the picture a shoulder line along the ray may turn over; a mirrored picture would give 0.
    assert (seen.sign() == true.sign())[true.abs() > 0.1].float().mean() > 0.9


def test_the_fit_finds_the_jitter_and_the_correlation_that_were_put_in(tmp_path):
    rng = np.random.default_rng(0)
    frames, views, correlation, sigma = 4000, 3, 0.85, 0.01
    camera = {"camera_R": np.diag([1.0, -1.0, -1.0]), "camera_t": np.array([0.0, 1.0, 4.0]),
              "camera_K": np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]), "camera_dist": np.zeros(4)}
    world = np.broadcast_to(standing(), (frames, 17, 3))
    seen = noise.project_distorted(world, camera)
    jitter = rng.normal(size=seen.shape)
    for t in range(1, frames):
        jitter[t] = correlation * jitter[t - 1] + math.sqrt(1 - correlation**2) * jitter[t]
    seen = seen + sigma * (seen[0].max(0) - seen[0].min(0)).max() * jitter
    np.savez(tmp_path / "pose2sim_balance_3d.npz", positions=world, views_used=np.full((frames, 17), views))
    np.savez(tmp_path / "one.npz", coco17=np.concatenate([seen, np.ones((frames, 17, 1))], -1), fps=50.0, **camera)
    table, fitted = noise.fit_jitter(tmp_path, clips=("one",))
    # The median length of a normal error is sqrt(2 ln 2) sigma, and the t's is sqrt(2) scales.
    expected = 100 * sigma * math.sqrt(math.log(2)) * math.sqrt(2 * views / (2 * views - 3))
    assert list(table.values()) == pytest.approx([expected] * len(table), rel=0.06)  # 4000 correlated frames: about 4 %
    assert fitted == pytest.approx(correlation, abs=0.01)
