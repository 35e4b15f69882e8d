"""A depth camera's depths and the direction of gravity, from the caller to the columns that a model takes."""

import numpy as np
import pytest
import torch
from test_stream_lengths import PERSON_PX, Recorder

import edgepose
from edgepose.camera import H36M_FOCAL
from edgepose.columns import INPUTS, OUTPUTS, STILL_INPUTS
from edgepose.skeleton import H36M17
from edgepose.training.cameras import Cameras
from edgepose.training.observation import MOST_DEPTH_M, _elevations

HIPS, LEFT_WRIST = [H36M17.index(name) for name in ("left_hip", "right_hip")], H36M17.index("left_wrist")
LEFT_WRIST_PX = 9  # its row in coco17
CAMERA = (600.0, 610.0, 330.0, 235.0)


def person(depth_m):
    return np.column_stack([PERSON_PX, np.full(17, 0.9), np.broadcast_to(depth_m, 17)])


def columns_after(keypoints_px, engine=None, **options):
    """{column: (J,)} of the window after a push."""
    engine = engine or Recorder()
    assert edgepose.Stream(engine, "coco17", (640, 480), **options).push(keypoints_px, 0.0) is not None
    return {name: engine.window[0, 0, :, i] for i, name in enumerate(engine.inputs)}


def test_depths_are_from_the_median_of_the_joints():
    depth_m = np.linspace(2.0, 2.8, 17)
    columns = columns_after(person(depth_m))
    assert columns["depth_known"].all() and sorted(columns["depth"])[8] == 0
    at_the_wrist, at_the_hips = columns["depth"][LEFT_WRIST], columns["depth"][HIPS]
    assert at_the_wrist - at_the_hips[0] == pytest.approx(depth_m[LEFT_WRIST_PX] - depth_m[11], abs=1e-6)
    assert columns["depth"][H36M17.root] == pytest.approx(at_the_hips.mean(), abs=1e-6)


@pytest.mark.parametrize("nothing", [0.0, np.nan, np.inf, -np.inf])
def test_where_nothing_was_measured_no_depth_is_known(nothing):
    depth_m = np.full(17, 2.0)
    depth_m[LEFT_WRIST_PX] = nothing
    columns = columns_after(person(depth_m))
    assert not columns["depth_known"][LEFT_WRIST] and columns["depth_known"].sum() == 16
    assert not columns["depth"].any() and columns["confidence"].all()
    assert not columns_after(person(nothing))["depth_known"].any()


def test_the_depth_of_a_joint_that_was_not_seen_is_not_known():
    keypoints = person(2.0)
    keypoints[LEFT_WRIST_PX, 2] = 0
    assert not columns_after(keypoints)["depth_known"][LEFT_WRIST]


def test_a_far_background_is_cut():
    depth_m = np.full(17, 2.0)
    depth_m[LEFT_WRIST_PX] = 60.0
    assert columns_after(person(depth_m))["depth"][LEFT_WRIST] == MOST_DEPTH_M


def test_a_masked_depth_hides_the_depth_alone():
    keypoints = np.ma.array(person(2.0), mask=False)
    keypoints[LEFT_WRIST_PX, 3] = np.ma.masked
    columns = columns_after(keypoints)
    assert not columns["depth_known"][LEFT_WRIST] and columns["confidence"].all()


@pytest.mark.parametrize("depth_m, message", [
    (2350.0, "the depth of keypoint 0 is 2350; wanted metres from 0 to 100, .* Divide millimetres by 1000"),
    (-0.2, "the depth of keypoint 0 is -0.2; wanted metres")])
def test_what_is_no_depth_in_metres_is_refused_and_changes_nothing(depth_m, message):
    engine, twin = Recorder(), Recorder()
    stream, untouched = (edgepose.Stream(one, "coco17", (640, 480)) for one in (engine, twin))
    for one in (stream, untouched):
        one.push(person(2.0), 0.0)
    with pytest.raises(ValueError, match=message):
        stream.push(person(depth_m), 0.1)
    for one in (stream, untouched):
        one.push(person(2.1), 0.1)
    np.testing.assert_array_equal(engine.window, twin.window)


def test_a_model_that_takes_no_depths_says_so():
    with pytest.raises(ValueError, match=r"needs \(17, 2\) or \(17, 3\): the model takes no depths"):
        edgepose.Stream(Recorder(INPUTS[:3]), "coco17", (640, 480)).push(person(2.0), 0.0)
    with pytest.raises(ValueError, match=r"or with depths \(17, 4\)"):
        edgepose.Stream(Recorder(), "coco17", (640, 480)).push(np.zeros((17, 5)), 0.0)


def test_the_elevation_is_that_of_training():
    gravity = np.array([0.1, 0.9, -0.3])
    columns = columns_after(PERSON_PX, camera=CAMERA, gravity=tuple(9.81 * gravity))
    up = torch.from_numpy(-gravity / np.linalg.norm(gravity)).float()
    rotation = torch.zeros(1, 3, 3)
    rotation[0, :, 1] = up
    seen_by = Cameras(rotation=rotation, position_m=torch.zeros(1, 3), focal=torch.tensor([H36M_FOCAL / 2]),
                      aspect=torch.ones(1))
    keypoints = torch.from_numpy(np.stack([columns["x"], columns["y"]], -1))[None, None]
    elevation, _ = _elevations(keypoints, seen_by, torch.Generator(), noisy=False)
    np.testing.assert_allclose(columns["elevation"], elevation[0, 0], atol=1e-6)
    assert columns["elevation_known"].all()


def test_of_a_level_camera_the_horizon_is_at_the_optical_centre():
    keypoints = PERSON_PX.copy()
    keypoints[LEFT_WRIST_PX] = CAMERA[2:]
    columns = columns_after(keypoints, camera=CAMERA, gravity=(0, 1, 0))
    assert columns["elevation"][LEFT_WRIST] == pytest.approx(0, abs=1e-6)
    for joint, y_px in ((H36M17.index("left_knee"), PERSON_PX[13, 1]), (H36M17.index("right_knee"), PERSON_PX[14, 1])):
        assert np.sign(columns["elevation"][joint]) == np.sign(CAMERA[3] - y_px)


@pytest.mark.parametrize("options, message", [
    ({"gravity": (0, 1, 0)}, "gravity is known and the lens is not; wanted both"),
    ({"gravity": (0, 0, 0), "camera": CAMERA}, r"gravity is \(0, 0, 0\); wanted where it points"),
    ({"gravity": (0, np.nan, 0), "camera": CAMERA}, r"gravity is \(0, nan, 0\)"),
    ({"gravity": (0, 1), "camera": CAMERA}, r"gravity is \(0, 1\); wanted three numbers"),
    ({"gravity": "down", "camera": CAMERA}, "gravity is 'down'; wanted three numbers")])
def test_gravity_that_points_nowhere_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        edgepose.Stream(Recorder(), "coco17", (640, 480), **options)


def test_a_model_that_takes_no_gravity_says_so():
    with pytest.raises(ValueError, match="the model takes no gravity; wanted none, or a model that does"):
        edgepose.Stream(Recorder(INPUTS[:7]), "coco17", (640, 480), camera=CAMERA, gravity=(0, 1, 0))


@pytest.mark.slow
def test_c_answers_as_python_does():
    import c_package as c

    engine = edgepose.load("posemlp")
    assert engine.inputs == STILL_INPUTS and engine.outputs == OUTPUTS
    options = {"camera": CAMERA, "gravity": (0.1, 0.9, -0.3)}
    python = edgepose.Stream(engine, "coco17", (640, 480), **options)
    fx, fy, cx, cy = CAMERA
    stream = c.Stream(c.Engine(engine.path), "coco17", (640, 480), fx=fx, fy=fy, cx=cx, cy=cy,
                      gravity=options["gravity"])
    keypoints = person(np.linspace(2.0, 2.8, 17)).astype(np.float32)
    pose, ours = stream.push(keypoints, 0.0), python.push(keypoints, 0.0)
    np.testing.assert_allclose(pose.joints_m, ours.joints_m, atol=1e-5)
    without = edgepose.Stream(engine, "coco17", (640, 480), camera=CAMERA).push(keypoints[:, :3], 0.0)
    assert np.abs(without.joints_m - ours.joints_m).max() > 0.01
    with pytest.raises(c.Refused, match="Divide millimetres by 1000"):
        stream.push(person(2350.0), 1.0)
