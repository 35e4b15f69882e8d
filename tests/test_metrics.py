import numpy as np
import pytest

from edgepose.metrics import auc, mpjpe, mpjve, n_mpjpe, p_mpjpe, pck

ALL = [mpjpe, n_mpjpe, p_mpjpe, pck, auc, mpjve]


@pytest.fixture
def poses():
    return np.random.default_rng(0).normal(0, 300, (5, 17, 3))


@pytest.fixture
def noisy(poses):
    return poses + np.random.default_rng(1).normal(0, 30, poses.shape)


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def test_a_perfect_prediction_scores_perfectly(poses):
    assert mpjpe(poses, poses) == 0 and mpjve(poses, poses) == 0
    assert p_mpjpe(poses, poses) < 1e-9 and n_mpjpe(poses, poses) < 1e-9
    assert pck(poses, poses) == 100
    assert auc(poses, poses) == pytest.approx(100 * 30 / 31)


def test_known_errors_give_known_figures():
    target = np.zeros((2, 4, 3))
    target[:, 1:] = np.eye(3) * 500
    predicted = target.copy()
    predicted[:, 1, 0] += 3
    predicted[:, 1, 1] += 4      # 5 mm
    predicted[:, 2, 2] += 150    # exactly at the threshold
    assert mpjpe(predicted, target) == pytest.approx((5 + 150) / 4)
    assert pck(predicted, target) == 75
    assert pck(predicted, target, threshold_mm=5) == 50
    # root and the last joint count from 5 mm (30 of 31), the first from 10 mm (29), the second never
    assert auc(predicted, target) == pytest.approx(100 * (30 + 29 + 0 + 30) / (4 * 31))


def test_the_velocity_error_is_in_mm_per_frame():
    target = np.zeros((4, 2, 3))
    predicted = target.copy()
    predicted[:, 1, 0] = [0, 3, 6, 9]
    assert mpjve(predicted, target) == pytest.approx(3 / 2)
    assert mpjve(predicted + 100, target) == pytest.approx(3 / 2)


@pytest.mark.parametrize("metric", [mpjpe, n_mpjpe, pck, auc, mpjve])
def test_where_the_person_stands_does_not_matter(metric, poses, noisy):
    away = np.random.default_rng(2).normal(0, 5000, (5, 1, 3))
    assert metric(noisy + away, poses) == pytest.approx(metric(noisy, poses), rel=1e-9)


@pytest.mark.parametrize("metric", [mpjpe, n_mpjpe, pck, auc, mpjve])
def test_turning_both_poses_does_not_matter_but_turning_one_does(metric, poses, noisy):
    r = rotation(3)
    assert metric(noisy @ r, poses @ r) == pytest.approx(metric(noisy, poses), rel=1e-9)
    assert abs(metric(noisy @ r, poses) - metric(noisy, poses)) > 5


def test_n_mpjpe_undoes_the_scale_of_each_frame_and_nothing_else(poses, noisy):
    sizes = np.linspace(0.3, 3, len(poses))[:, None, None]
    assert n_mpjpe(sizes * poses + 100, poses) < 1e-9
    assert n_mpjpe(sizes * noisy, poses) == pytest.approx(n_mpjpe(noisy, poses), rel=1e-9)
    assert p_mpjpe(noisy, poses) < n_mpjpe(noisy, poses)
    small = poses - poses[:, :1]
    assert n_mpjpe(0 * small, small) == pytest.approx(mpjpe(0 * small, small))  # no scale makes a point a person


def test_n_mpjpe_takes_the_scale_of_least_squared_error():
    target = np.zeros((1, 3, 3))
    target[0, 1:, 0] = [100, 300]
    predicted = target.copy()
    predicted[0, 1:, 0] = [100, 100]  # the best scale is 2: 200 and 200
    assert n_mpjpe(predicted, target) == pytest.approx(200 / 3)
    assert n_mpjpe(predicted, target, joints=[2]) == pytest.approx(0)


@pytest.mark.parametrize("metric", [mpjpe, n_mpjpe, pck, auc, mpjve])
def test_only_the_joints_asked_for_count(metric, poses, noisy):
    wild = noisy.copy()
    wild[:, 5] += np.linspace(500, 900, len(poses))[:, None]
    counted = [j for j in range(17) if j != 5]
    assert metric(wild, poses, joints=counted) == pytest.approx(metric(np.delete(noisy, 5, 1), np.delete(poses, 5, 1)))
    assert abs(metric(wild, poses) - metric(wild, poses, joints=counted)) > 1


def test_the_velocity_error_with_times_is_in_mm_per_second_whatever_the_rate():
    target = np.zeros((4, 2, 3))
    predicted = target.copy()
    predicted[:, 1, 0] = [0, 3, 12, 15]
    assert mpjve(predicted, target, joints=[1], times_s=np.array([0, 0.1, 0.4, 0.5])) == pytest.approx(30)
    for times_s in (np.arange(3), np.array([0, 1, 1, 2]), np.array([0, 1, np.nan, 2])):
        with pytest.raises(ValueError, match=r"times_s has shape \(.*\); wanted \(4,\) increasing seconds"):
            mpjve(predicted, target, times_s=times_s)


def test_p_mpjpe_undoes_any_rotation_scale_and_shift_of_each_frame(poses):
    moved = np.stack([0.3 * (n + 1) * pose @ rotation(n) + 1000 * n for n, pose in enumerate(poses)])
    assert p_mpjpe(moved, poses) < 1e-9


def test_p_mpjpe_keeps_the_noise_that_no_alignment_can_remove():
    rng = np.random.default_rng(6)
    poses = rng.normal(0, 300, (1000, 17, 3))
    noisy = poses + rng.normal(0, 30, poses.shape)
    # 30 mm of noise a coordinate is 47.9 mm a joint; the alignment takes 7 of its 51 dimensions
    assert p_mpjpe(noisy, poses) == pytest.approx(47.9 * np.sqrt(44 / 51), rel=0.01)
    assert p_mpjpe(noisy @ rotation(4), poses) == pytest.approx(p_mpjpe(noisy, poses), rel=1e-9)


def test_p_mpjpe_does_not_mirror_a_pose_to_fit(poses):
    mirrored = poses * [-1, 1, 1]
    assert p_mpjpe(mirrored, poses) > 50
    assert p_mpjpe(mirrored, mirrored) < 1e-9


def test_p_mpjpe_aligns_a_flat_pose(poses):
    flat = poses * [1, 1, 0]
    assert p_mpjpe(flat @ rotation(5), flat) < 1e-9


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("shape", [(5, 17), (0, 17, 3), (5, 17, 2)])
def test_a_wrong_shape_is_refused(metric, shape):
    with pytest.raises(ValueError, match=r"wanted \(N, J, 3\)"):
        metric(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("metric", ALL)
def test_different_shapes_are_refused(metric, poses):
    with pytest.raises(ValueError, match=r"\(5, 16, 3\).*\(5, 17, 3\)"):
        metric(poses[:, 1:], poses)


@pytest.mark.parametrize("metric", ALL)
def test_nan_is_refused(metric, poses):
    broken = poses.copy()
    broken[2, 3, 1] = np.nan
    with pytest.raises(ValueError, match="predicted_mm has NaN"):
        metric(broken, poses)
    with pytest.raises(ValueError, match="target_mm has NaN"):
        metric(poses, broken)


def test_p_mpjpe_refuses_a_frame_with_all_joints_in_one_point(poses):
    broken = poses.copy()
    broken[3] = 7.0
    with pytest.raises(ValueError, match="predicted_mm.*frame 3"):
        p_mpjpe(broken, poses)
    with pytest.raises(ValueError, match="target_mm.*frame 3"):
        p_mpjpe(poses, broken)


def test_the_velocity_of_one_frame_is_refused(poses):
    with pytest.raises(ValueError, match="at least 2"):
        mpjve(poses[:1], poses[:1])


def test_only_the_joints_asked_for_are_counted_and_the_root_is_still_the_origin(poses):
    wrong = poses.copy()
    wrong[:, 3] += 1000
    others = [j for j in range(17) if j not in (0, 3)]
    assert pck(wrong, poses) == pytest.approx(100 * 16 / 17) and pck(wrong, poses, joints=others) == 100
    assert pck(wrong, poses, joints=[3, 4]) == 50 and auc(wrong, poses, joints=[3]) == 0
    assert auc(wrong, poses, joints=others) == pytest.approx(100 * 30 / 31)
    assert pck(wrong + 500, poses, joints=others) == 100
