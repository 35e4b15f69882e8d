"""Joint angles as a .mot file: OpenSim, with the axes of Rajagopal's model, puts the joints where they were."""

import numpy as np
import pytest

from edgepose.files import mot
from edgepose.files.motion import Motion
from edgepose.files.writing import write_motions
from edgepose.skeleton import H36M17

opensim = pytest.importorskip("opensim", reason="there is no wheel of opensim for this processor")
X, Y, Z = np.eye(3)
HIPS = mot.PELVIS_TO_HIPS_M
# The joints of Rajagopal2016.osim: coordinates with their axes, in its order; where it is in the parent, m.
JOINTS = {
    "pelvis": ("ground", 0 * X, [("pelvis_tilt", Z), ("pelvis_list", X), ("pelvis_rotation", Y)]),
    "torso": ("pelvis", HIPS + 0.2 * Y, [("lumbar_extension", Z), ("lumbar_bending", X), ("lumbar_rotation", Y)]),
    **{joint: limb for side, sign in (("r", 1), ("l", -1)) for joint, limb in {
        f"femur_{side}": ("pelvis", HIPS + 0.08 * sign * Z, [
            (f"hip_flexion_{side}", Z), (f"hip_adduction_{side}", sign * X), (f"hip_rotation_{side}", sign * Y)]),
        f"tibia_{side}": (f"femur_{side}", -0.41 * Y, [(f"knee_angle_{side}", -Z)]),
        f"humerus_{side}": ("torso", 0.3 * Y + 0.17 * sign * Z, [
            (f"arm_flex_{side}", Z), (f"arm_add_{side}", sign * X), (f"arm_rot_{side}", sign * Y)]),
        f"ulna_{side}": (f"humerus_{side}", -0.29 * Y, [(f"elbow_flex_{side}", Z)])}.items()}}
PLACES = {  # a joint of ours: in which body it lies, and where
    "pelvis": ("pelvis", HIPS), "spine": ("torso", 0 * X), "thorax": ("torso", 0.3 * Y), "nose": ("torso", 0.4 * Y),
    "head": ("torso", 0.5 * Y), **{f"{side}_{joint}": (f"{body}_{side[0]}", place) for side in ("left", "right")
                                  for joint, (body, place) in {
        "hip": ("femur", 0 * X), "knee": ("tibia", 0 * X), "ankle": ("tibia", -0.4 * Y), "shoulder": ("humerus", 0 * X),
        "elbow": ("ulna", 0 * X), "wrist": ("ulna", -0.25 * Y)}.items()}}


def model():
    """A model of OpenSim's with the joints above."""
    whole = opensim.Model()
    bodies = {"ground": whole.getGround()}
    for name, (parent, place, axes) in JOINTS.items():
        bodies[name] = opensim.Body(name, 1, opensim.Vec3(0), opensim.Inertia(1, 1, 1))
        turns = opensim.SpatialTransform()
        moved = [("pelvis_tx", X), ("pelvis_ty", Y), ("pelvis_tz", Z)] if name == "pelvis" else []
        unmoved = [("", X), ("", Y)] if len(axes) == 1 else []  # a knee's other axes, which must not be its own
        for i, (coordinate, direction) in [*enumerate(axes + unmoved), *enumerate(moved, 3)]:
            axis, names = turns.updTransformAxis(i), opensim.ArrayStr()
            if coordinate:
                names.append(coordinate)
                axis.setCoordinateNames(names)
            axis.setAxis(opensim.Vec3(*direction))
            axis.set_function(opensim.LinearFunction(1, 0) if coordinate else opensim.Constant(0))
        whole.addBody(bodies[name])
        whole.addJoint(opensim.CustomJoint(f"to_{name}", bodies[parent], opensim.Vec3(*place), opensim.Vec3(0),
                                           bodies[name], opensim.Vec3(0), opensim.Vec3(0), turns))
    return whole, bodies


def joints_at(coordinates):
    """(F, J, 3) m, camera axes: where OpenSim puts our joints, by {coordinate: (F,) degrees or metres}."""
    whole, bodies = model()
    state = whole.initSystem()
    frames = []
    for i in range(len(next(iter(coordinates.values())))):
        for name, values in coordinates.items():
            value = values[i] if name.startswith("pelvis_t") and name != "pelvis_tilt" else np.radians(values[i])
            whole.getCoordinateSet().get(name).setValue(state, float(value), False)
        whole.realizePosition(state)
        frames.append([bodies[body].findStationLocationInGround(state, opensim.Vec3(*place)).to_numpy()
                       for body, place in (PLACES[joint] for joint in H36M17.joints)])
    return -np.array(frames)[..., ::-1]


def some_coordinates(frames=30, seed=0):
    """Angles within the model's ranges that change smoothly; knees and elbows are bent."""
    rng = np.random.default_rng(seed)
    names = [name for _, _, axes in JOINTS.values() for name, _ in axes]
    low = {"knee": 15, "elbow": 15, "pelvis_tilt": -30, "pelvis_list": -30}
    high = {"knee": 120, "elbow": 140, "pelvis_tilt": 30, "pelvis_list": 30}
    found = {}
    for name in names:
        a, b = (next((limits[part] for part in limits if name.startswith(part)), other)
                for limits, other in ((low, -60), (high, 60)))
        wave = 0.5 + 0.5 * np.sin(rng.uniform(0, 6) + np.arange(frames) * rng.uniform(0.05, 0.2))
        found[name] = a + (b - a) * wave
    return {**found, **{f"pelvis_t{axis}": rng.uniform(-1, 1) + 0.01 * np.arange(frames) for axis in "xyz"}}


def motion(joints_m):
    frames = len(joints_m)
    return Motion(0, H36M17, np.arange(frames), np.arange(frames) / 50, joints_m, np.ones(joints_m.shape[:2]),
                  np.ones(joints_m.shape[:2], bool))


def read(path):
    table = opensim.TimeSeriesTable(str(path))
    assert table.getTableMetaDataString("inDegrees") == "yes"
    return np.array(table.getIndependentColumn()), {
        name: table.getDependentColumn(name).to_numpy() for name in table.getColumnLabels()}


@pytest.mark.parametrize("seed", range(3))
def test_opensim_puts_the_joints_where_they_were_and_the_angles_are_those(tmp_path, seed):
    wanted = some_coordinates(seed=seed)
    joints_m = joints_at(wanted)
    write_motions(tmp_path / "a.mot", [motion(joints_m)])
    times_s, found = read(tmp_path / "a.mot")
    np.testing.assert_allclose(times_s, np.arange(30) / 50, atol=1e-6)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=2e-4, err_msg=name)
    assert 1e3 * np.abs(joints_at(found) - joints_m).max() < 0.1


def test_a_straight_limb_keeps_the_turn_it_had(tmp_path):
    wanted = {name: values.copy() for name, values in some_coordinates().items()}
    wanted["knee_angle_r"][10:20] = 2.0
    wanted["hip_rotation_r"][10:20] = wanted["hip_rotation_r"][9]
    write_motions(tmp_path / "a.mot", [motion(joints_at(wanted))])
    _, found = read(tmp_path / "a.mot")
    np.testing.assert_allclose(found["hip_rotation_r"], wanted["hip_rotation_r"], atol=2e-4)
    np.testing.assert_allclose(found["knee_angle_r"], wanted["knee_angle_r"], atol=2e-4)


def test_a_moment_without_a_pose_has_no_row(tmp_path):
    whole = motion(joints_at(some_coordinates()))
    left = ~np.isin(np.arange(30), [10, 11, 12])
    write_motions(tmp_path / "a.mot", [Motion(0, H36M17, *(getattr(whole, name)[left] for name in (
        "frame", "timestamps_s", "joints_m", "confidence", "is_seen")))])
    times_s, _ = read(tmp_path / "a.mot")
    np.testing.assert_allclose(times_s, np.arange(30)[left] / 50, atol=1e-6)


def test_angles_go_on_over_a_whole_turn(tmp_path):
    wanted = {name: np.zeros(72) for name in some_coordinates()}
    wanted["pelvis_rotation"] = np.arange(72) * 10.0
    for name in ("knee_angle_r", "knee_angle_l", "elbow_flex_r", "elbow_flex_l"):
        wanted[name][:] = 30
    write_motions(tmp_path / "a.mot", [motion(joints_at(wanted))])
    np.testing.assert_allclose(read(tmp_path / "a.mot")[1]["pelvis_rotation"], wanted["pelvis_rotation"], atol=2e-4)
