"""Place, bones, axes, floor and kinematics of the C library: the answers of Python, and what it refuses."""

import ctypes

import c_package as c
import numpy as np
import pytest
from test_place import BARREL, CAMERA, SIZE, approaching, seen_by

import edgepose
from edgepose import Axes, Floor, Kinematics, with_constant_bones
from edgepose.kinematics import ANGLES

@pytest.fixture(scope="module")
def engines():
    """(of C, of Python), from one file."""
    engine = edgepose.load("dln-s")
    return c.Engine(engine.path), engine


def pushes(frames=60, with_depth=False):
    """Rows of keypoints as a lens with distortion sees them, float32."""
    joints_m, root_m = approaching(frames)
    points_m = joints_m + root_m[:, None]
    columns = [seen_by(points_m, BARREL), np.ones((frames, 17, 1))] + [points_m[..., 2:]] * with_depth
    return np.concatenate(columns, axis=-1).astype(np.float32)


@pytest.mark.parametrize("options", [
    {}, {"height_m": 1.6}, {"height_m": "learn"}, {"constant_bones": True}, {"constant_bones": True, "height_m": 1.8},
    {"constant_bones": True, "lengths_m": {"thigh": 0.44, "hip_width": 0.2}}], ids=str)
@pytest.mark.parametrize("with_depth", [False, True])
def test_poses_and_places_are_those_of_python(engines, options, with_depth):
    fx, fy, cx, cy = CAMERA
    height_m = options.get("height_m", 0.0)
    told = {**options, "height_m": -1.0 if height_m == "learn" else height_m,
            "constant_bones": int(options.get("constant_bones", False)),
            "lengths_m": (0, 0, 0.44, 0, 0, 0.2, 0) if "lengths_m" in options else (0.0,) * 7}
    mine = c.Stream(engines[0], "h36m17", SIZE, fx=fx, fy=fy, cx=cx, cy=cy, distortion=(*BARREL, 0, 0, 0), **told)
    theirs = edgepose.Stream(engines[1], "h36m17", SIZE, camera=CAMERA, distortion=BARREL, **options)
    for i, rows in enumerate(pushes(with_depth=with_depth)):
        rows = None if 20 <= i < 23 else rows
        found, wanted = mine.push(rows, i / 30), theirs.push(rows, i / 30)
        np.testing.assert_allclose(found.joints_m, wanted.joints_m, atol=1e-4)
        np.testing.assert_allclose(found.root_m, wanted.root_m, atol=2e-3)
        np.testing.assert_allclose(found.root_error_m, wanted.root_error_m, atol=2e-3)


def test_without_a_lens_there_is_no_place(engines):
    found = c.Stream(engines[0], "h36m17", SIZE).push(pushes(1)[0], 0.0)
    assert found.root_m is None and found.root_error_m is None


def test_bones_are_held_as_in_python(engines):
    joints_m = np.random.default_rng(0).normal(0, 0.3, (30, 17, 3)).astype(np.float32)
    for lengths, numbers in ((None, None), ({"forearm": 0.25}, (0, 0.25, 0, 0, 0, 0, 0))):
        held = joints_m.copy()
        c.checked(engines[0].lib.edgepose_hold_bones(engines[0].handle, c.numbers(numbers), c.pointer(held), 30))
        np.testing.assert_array_equal(held, with_constant_bones(joints_m, engines[1].skeleton, lengths))


def test_a_depth_picture_is_read_as_in_python():
    picture = np.zeros((60, 80), np.float32)
    picture[20:31, 30:41] = 2.5
    at = c.library().edgepose_depth_at
    assert at(c.pointer(picture), 80, 60, 35.2, 24.9, 2) == 2.5
    assert np.isnan([at(c.pointer(picture), 80, 60, x, y, 2) for x, y in ((5, 5), (99, 5), (np.nan, 5))]).all()
    assert np.isnan(at(None, 80, 60, 35, 25, 2))


def test_axes_are_those_of_python():
    lib, axes = c.library(), c.Axes()
    turn, shift = edgepose.kinematics.matrices(np.array([0.5, 0.5, -0.5, 0.5])), [1.0, 2.0, 3.0]
    for made, wanted in (
            (lambda: lib.edgepose_axes_named(b"ros_body", axes), Axes.named("ros_body")),
            (lambda: lib.edgepose_axes_of_camera(c.numbers(turn.ravel()), c.numbers(shift), axes),
             Axes.of_camera(turn, shift)),
            (lambda: lib.edgepose_axes_of_gravity(c.numbers((0.1, 0.9, 0.3)), 1.5, axes),
             Axes.of_gravity((0.1, 0.9, 0.3), 1.5))):
        c.checked(made())
        for found, array in zip(axes.arrays(), (wanted.rotation, wanted.origin_m)):
            np.testing.assert_allclose(found, array, atol=1e-12)
        points = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
        for is_relative, moved in ((0, wanted(points)), (1, wanted.turn(points))):
            mine = points.copy()
            c.checked(lib.edgepose_axes_move(axes, c.pointer(mine), 4, is_relative))
            np.testing.assert_allclose(mine, moved, atol=1e-6)


@pytest.mark.parametrize("gravity", [None, (0.0, 1.0, 0.1)])
def test_a_floor_is_that_of_python(engines, gravity):
    lib, handle, axes = engines[0].lib, ctypes.c_void_p(), c.Axes()
    c.checked(lib.edgepose_floor_open(engines[0].handle, c.numbers(gravity), handle))
    with pytest.raises(c.Refused, match="no pose has shown the floor yet"):
        c.checked(lib.edgepose_floor_axes(handle, axes))
    floor, stream = Floor(engines[1].skeleton, gravity), edgepose.Stream(engines[1], "h36m17", SIZE, camera=CAMERA)
    for i, rows in enumerate(pushes()):
        pose = stream.push(rows, i / 30)
        floor.add(pose)
        c.checked(lib.edgepose_floor_add(handle, c.pointer(pose.joints_m), c.numbers(pose.root_m)))
    c.checked(lib.edgepose_floor_axes(handle, axes))
    np.testing.assert_allclose(axes.arrays()[0], floor.axes().rotation, atol=1e-9)
    np.testing.assert_allclose(axes.arrays()[1], floor.axes().origin_m, atol=1e-9)
    c.checked(lib.edgepose_floor_reset(handle))
    lib.edgepose_floor_close(handle)


def test_kinematics_are_those_of_python(engines):
    lib, handle, movement = engines[0].lib, ctypes.c_void_p(), c.sized(c.Movement)
    c.checked(lib.edgepose_kinematics_open(engines[0].handle, handle))
    kinematics, rng = Kinematics(engines[1].skeleton), np.random.default_rng(0)
    for moment in range(20):
        joints_m = rng.normal(0, 0.3, (17, 3)).astype(np.float32)
        root_m = None if moment < 5 else rng.normal(size=3)
        c.checked(lib.edgepose_kinematics_update(handle, c.pointer(joints_m), c.numbers(root_m), moment / 30, movement))
        wanted = kinematics.at(joints_m, moment / 30, root_m)
        for found, array in ((movement.rotations, wanted.rotations), (movement.velocity_m_s, wanted.velocity_m_s),
                             (movement.angles_deg, list(wanted.angles_deg.values()))):
            np.testing.assert_allclose(np.ctypeslib.as_array(found, np.shape(array)), array, atol=1e-9)
        np.testing.assert_allclose(movement.centre_of_mass_m, wanted.centre_of_mass_m, atol=1e-12)
    assert movement.joints == 17
    c.checked(lib.edgepose_kinematics_reset(handle))
    lib.edgepose_kinematics_close(handle)


def test_angles_have_the_names_and_ranges_of_python():
    lib, least, most, found = c.library(), ctypes.c_double(), ctypes.c_double(), {}
    while name := lib.edgepose_angle_name(len(found)):
        c.checked(lib.edgepose_angle_range(len(found), least, most))
        found[name.decode()] = (least.value, most.value)
    assert found == ANGLES
    with pytest.raises(c.Refused, match="there is no angle 28; there are 28"):
        c.checked(lib.edgepose_angle_range(len(found), least, most))


@pytest.mark.parametrize("call, words", [
    (lambda lib, engine, axes: lib.edgepose_axes_named(b"unity", axes), "there are no axes 'unity'"),
    (lambda lib, engine, axes: lib.edgepose_axes_named(None, axes), "name is null"),
    (lambda lib, engine, axes: lib.edgepose_axes_named(b"camera", None), "axes is null"),
    (lambda lib, engine, axes: lib.edgepose_axes_of_gravity(c.numbers((0, 0, 0)), 0, axes), "gravity is .0, 0, 0."),
    (lambda lib, engine, axes: lib.edgepose_hold_bones(engine, None, None, 3), "joints_m is null"),
    (lambda lib, engine, axes: lib.edgepose_floor_add(None, None, None), "floor is null"),
    (lambda lib, engine, axes: lib.edgepose_kinematics_update(None, None, None, 0, None), "kinematics is null")])
def test_what_cannot_be_is_refused(engines, call, words):
    with pytest.raises(c.Refused, match=words):
        c.checked(call(engines[0].lib, engines[0].handle, c.Axes()))
