import numpy as np
import pytest

from edgepose.camera import (flip_left_right, normalize_screen, normalize_with_intrinsics, root_translation,
                             screen_to_px)
from edgepose.skeleton import H36M16, H36M17

INTRINSICS = dict(fx=1150.0, fy=1140.0, cx=640.0, cy=470.0)


@pytest.fixture
def pose():
    return np.random.default_rng(0).normal(0, 0.4, (17, 3)) * (np.arange(17) > 0)[:, None]


def project(points_m, fx, fy, cx, cy):
    return points_m[:, :2] / points_m[:, 2:] * [fx, fy] + [cx, cy]


def test_the_corners_of_the_picture_are_at_one_and_h_over_w():
    corners = normalize_screen(np.array([[0, 0], [1280, 960], [640, 480], [1280, 0]]), (1280, 960))
    np.testing.assert_array_equal(corners, [[-1, -0.75], [1, 0.75], [0, 0], [1, -0.75]])


def test_published_points_normalise_to_their_published_values():
    points_px = np.array([[715, 607.5], [655, 941], [702, 211], [530, 540], [719.3333, 468.75], [705.75, 184.0]])
    np.testing.assert_allclose(normalize_screen(points_px, (1280, 960)), [
        [0.11719, 0.19922], [0.02344, 0.72031], [0.09688, -0.42031], [-0.17188, 0.09375], [0.12396, -0.01758],
        [0.10273, -0.46250]], atol=6e-6)


def test_a_portrait_picture_has_y_beyond_one():
    np.testing.assert_allclose(normalize_screen(np.array([540, 1920]), (1080, 1920)), [0, 1920 / 1080])


@pytest.mark.parametrize("image_size", [(1920, 1080), (1080, 1920), (7, 3)])
def test_screen_to_px_undoes_normalize_screen(image_size):
    points_px = np.random.default_rng(1).uniform(-100, 2000, (3, 17, 2))
    np.testing.assert_allclose(screen_to_px(normalize_screen(points_px, image_size), image_size), points_px, atol=1e-9)


def test_intrinsics_of_the_training_cameras_change_nothing_but_the_centre():
    points_px = np.random.default_rng(2).uniform(0, 1000, (17, 2))
    np.testing.assert_allclose(normalize_with_intrinsics(points_px, 1145, 1145, 500, 500),
                               normalize_screen(points_px, (1000, 1000)), atol=1e-12)


def test_two_lenses_see_one_ray_at_the_same_normalised_place():
    ray = np.array([[0.3, -0.2, 2.0]])
    wide, long = dict(fx=500.0, fy=510.0, cx=320.0, cy=240.0), INTRINSICS
    np.testing.assert_allclose(normalize_with_intrinsics(project(ray, **wide), **wide),
                               normalize_with_intrinsics(project(ray, **long), **long), atol=1e-12)


def test_the_root_is_found_where_it_was(pose):
    place = np.array([0.7, -0.3, 4.2])
    found = root_translation(pose, project(pose + place, **INTRINSICS), np.ones(17), **INTRINSICS)
    np.testing.assert_allclose(found, place, atol=1e-9)


def test_a_pose_too_large_by_a_twentieth_is_placed_a_twentieth_too_far(pose):
    place = np.array([0.7, -0.3, 4.2])
    seen_at = project(pose + place, **INTRINSICS)
    np.testing.assert_allclose(root_translation(1.05 * pose, seen_at, np.ones(17), **INTRINSICS), 1.05 * place)


def test_a_joint_without_confidence_has_no_say_in_the_place(pose):
    place = np.array([0.7, -0.3, 4.2])
    seen_at = project(pose + place, **INTRINSICS)
    seen_at[3], seen_at[9] = 0, np.nan
    confidence = np.ones(17)
    confidence[[3, 9]] = 0
    np.testing.assert_allclose(root_translation(pose, seen_at, confidence, **INTRINSICS), place, atol=1e-9)


def test_a_joint_of_confidence_three_counts_as_three_joints_of_confidence_one(pose):
    seen_at = project(pose + [0.7, -0.3, 4.2], **INTRINSICS) + np.random.default_rng(4).normal(0, 20, (17, 2))
    confidence = np.where(np.arange(17) == 5, 3.0, 1.0)
    thrice = np.concatenate([np.arange(17), [5, 5]])
    np.testing.assert_allclose(root_translation(pose, seen_at, confidence, **INTRINSICS),
                               root_translation(pose[thrice], seen_at[thrice], np.ones(19), **INTRINSICS), atol=1e-9)


@pytest.mark.parametrize("confidence", [np.zeros(17), np.eye(17)[4]])
def test_too_few_joints_for_a_place_are_refused(pose, confidence):
    with pytest.raises(ValueError, match="do not determine"):
        root_translation(pose, project(pose + [0, 0, 4], **INTRINSICS), confidence, **INTRINSICS)


def test_a_confident_joint_that_is_nan_is_refused(pose):
    seen_at = project(pose + [0, 0, 4], **INTRINSICS)
    seen_at[2, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        root_translation(pose, seen_at, np.ones(17), **INTRINSICS)


@pytest.mark.parametrize("skeleton", [H36M17, H36M16])
@pytest.mark.parametrize("channels", [2, 3])
def test_flipping_twice_gives_back_the_pose(skeleton, channels):
    pose = np.random.default_rng(3).normal(size=(2, 4, len(skeleton), channels))
    before = pose.copy()
    flipped = flip_left_right(pose, skeleton)
    np.testing.assert_array_equal(pose, before)
    np.testing.assert_array_equal(flip_left_right(flipped, skeleton), pose)
    left, right = skeleton.index("left_wrist"), skeleton.index("right_wrist")
    np.testing.assert_array_equal(flipped[..., left, 0], -pose[..., right, 0])
    np.testing.assert_array_equal(flipped[..., left, 1:], pose[..., right, 1:])


@pytest.mark.parametrize("image_size", [(0, 100), (100, -1), (np.nan, 100), (100,), (100, 100, 3), 100, None, "ab",
                                        (100, np.inf)])
def test_an_impossible_image_size_is_refused(image_size):
    with pytest.raises(ValueError, match="image_size is .* wanted"):
        normalize_screen(np.zeros((17, 2)), image_size)
    with pytest.raises(ValueError, match="image_size is .* wanted"):
        screen_to_px(np.zeros((17, 2)), image_size)


def test_a_wrong_shape_is_refused(pose):
    with pytest.raises(ValueError, match=r"\(17, 3\).*without the confidence"):
        normalize_screen(np.zeros((17, 3)), (100, 100))
    with pytest.raises(ValueError, match=r"\(17, 3\)"):
        normalize_with_intrinsics(np.zeros((17, 3)), **INTRINSICS)
    with pytest.raises(ValueError, match=r"wanted \(J, 3\), \(J, 2\), \(J,\)"):
        root_translation(pose, np.zeros((16, 2)), np.ones(17), **INTRINSICS)
    with pytest.raises(ValueError, match="h36m16.*16, 2"):
        flip_left_right(np.zeros((17, 2)), H36M16)


@pytest.mark.parametrize(
    "wrong", [dict(fx=0.0), dict(fy=-5.0), dict(cx=np.nan), dict(fx=np.inf), dict(fx="500"), dict(cy=None)])
def test_impossible_intrinsics_are_refused(pose, wrong):
    with pytest.raises(ValueError, match="fx and fy positive"):
        normalize_with_intrinsics(np.zeros((17, 2)), **{**INTRINSICS, **wrong})
    with pytest.raises(ValueError, match="fx and fy positive"):
        root_translation(pose, np.zeros((17, 2)), np.ones(17), **{**INTRINSICS, **wrong})
