"""Camera coordinates in other axes: ROS, a calibrated world, gravity, the floor that feet stand on."""

import cv2
import numpy as np
import pytest

import edgepose
from edgepose import Axes, Floor
from edgepose.skeleton import H36M17
from test_place import approaching, placed, seen_by

RIGHT, DOWN, FORWARD = np.eye(3)


def rotation(degrees, axis):
    return cv2.Rodrigues(np.radians(degrees) * np.asarray(axis, float))[0]


@pytest.mark.parametrize("name", ["camera", "opencv", "ros_optical"])
def test_the_cameras_own_axes_change_nothing(name):
    points = np.random.default_rng(0).normal(size=(2, 17, 3))
    np.testing.assert_array_equal(Axes.named(name)(points), points)


def test_ros_body_axes_are_those_of_rep_103():
    body = Axes.named("ros_body")
    np.testing.assert_array_equal(body(FORWARD), [1, 0, 0])
    np.testing.assert_array_equal(body(-RIGHT), [0, 1, 0])
    np.testing.assert_array_equal(body(-DOWN), [0, 0, 1])


def test_y_up_looks_back_at_the_camera():
    np.testing.assert_array_equal(Axes.named("y_up")([RIGHT, -DOWN, -FORWARD]), np.eye(3))


def test_all_axes_are_right_handed():
    for axes in (Axes.named("ros_body"), Axes.named("y_up"), Axes.of_gravity((0.1, 0.9, 0.2), 1.5)):
        assert np.linalg.det(axes.rotation) == pytest.approx(1)
        np.testing.assert_allclose(axes.rotation @ axes.rotation.T, np.eye(3), atol=1e-12)


def test_a_camera_pose_leads_back_to_the_world():
    world = np.random.default_rng(1).normal(size=(5, 3))
    turn, shift = rotation(70, (0.3, 0.8, -0.5)), np.array([0.5, -1.0, 4.0])
    axes = Axes.of_camera(turn, shift)
    np.testing.assert_allclose(axes(world @ turn.T + shift), world, atol=1e-12)
    np.testing.assert_allclose(axes.turn(turn @ [1, 2, 3]), [1, 2, 3], atol=1e-12)


@pytest.mark.parametrize("pitch, roll", [(0, 0), (25, 0), (-30, 12)])
def test_gravity_gives_a_level_world(pitch, roll):
    turn = rotation(roll, FORWARD) @ rotation(pitch, RIGHT)  # turns the level camera into this one
    axes = Axes.of_gravity(9.81 * turn @ DOWN, 1.2)
    np.testing.assert_allclose(axes.turn(turn @ -DOWN), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(axes.turn(turn @ FORWARD)[2], 0, atol=1e-12)
    assert axes.turn(FORWARD)[1] == pytest.approx(0, abs=1e-12) and axes.turn(FORWARD)[0] > 0
    np.testing.assert_array_equal(axes([0, 0, 0]), [0, 0, 1.2])


@pytest.mark.parametrize("gravity", [None, (0.0, np.cos(np.radians(20)), np.sin(np.radians(20)))])
@pytest.mark.parametrize("is_walking", [True, False])
def test_the_floor_lies_under_the_feet(gravity, is_walking):
    """The camera looks down by 20 degrees, from 1.6 m above the soles."""
    joints_m, root_m = approaching(120, speed_m_s=-1.0 if is_walking else 0.0)
    level = joints_m + root_m[:, None]
    ankles = [H36M17.index("left_ankle"), H36M17.index("right_ankle")]
    level[..., 1] += 1.6 - 0.07 - level[:, ankles, 1].max()
    tilted = level @ rotation(20, RIGHT).T
    roots = tilted[:, 0]
    floor = Floor(H36M17, gravity)
    for pose in placed(tilted - roots[:, None], seen_by(tilted)):
        floor.add(pose)
    axes = floor.axes()
    up = axes.turn(rotation(20, RIGHT) @ -DOWN)
    assert np.degrees(np.arccos(up[2])) < (3.0 if gravity is None else 1e-3)
    assert axes([0, 0, 0])[2] == pytest.approx(1.6, abs=0.1 if gravity is None else 0.05)
    lowest = axes(tilted[:, ankles])[..., 2].min(axis=1)
    assert np.abs(lowest - 0.07).max() < 0.12


def test_a_pose_is_moved_with_its_place_and_one_without_is_refused():
    joints_m, root_m = approaching(2)
    keypoints = seen_by(joints_m + root_m[:, None])
    pose = placed(joints_m, keypoints)[0]
    np.testing.assert_allclose(Axes.named("ros_body").of_pose(pose)[:, 0], (pose.joints_m + pose.root_m)[:, 2])
    unplaced = placed(joints_m, keypoints, camera=None)[0]
    with pytest.raises(ValueError, match="the pose has no place: root_m is None; wanted a Stream with camera="):
        Axes.named("ros_body").of_pose(unplaced)
    floor = Floor(H36M17)
    floor.add(unplaced)
    with pytest.raises(ValueError, match="no pose has shown the floor yet"):
        floor.axes()


@pytest.mark.parametrize("make, words", [
    (lambda: Axes.named("unity"), "there are no axes 'unity'; wanted camera, opencv, ros_optical, ros_body or y_up"),
    (lambda: Axes.of_camera(2 * np.eye(3), np.zeros(3)), "the camera's pose is no rotation and translation"),
    (lambda: Axes.of_camera(np.diag([1, 1, -1]), np.zeros(3)), "the camera's pose is no rotation and translation"),
    (lambda: Axes.of_camera(np.eye(2), np.zeros(3)), "have shapes .2, 2. and .3,.; wanted .3, 3. and .3,."),
    (lambda: Axes.of_gravity((0, 0, 0)), "gravity is .0, 0, 0.; wanted where it points"),
    (lambda: Axes.of_gravity((0, 0, 1)), "the camera looks straight up or down"),
    (lambda: Floor(edgepose.Skeleton("two", ("a", "b"), (-1, 0))), "has no ankles or no thorax")])
def test_impossible_axes_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
