"""Rotations, angles, centre of mass and speeds of poses that are known."""

import json

import numpy as np
import pytest

from edgepose.kinematics import ANGLES, Kinematics, matrices, world_rotations
from edgepose.skeleton import H36M16, H36M17
from test_place import approaching, placed, seen_by

J = {joint: H36M17.index(joint) for joint in H36M17.joints}
LEFT, UP, FORWARD = np.diag([1.0, -1, -1])  # the axes of somebody who faces the camera
SIDES = {"left": LEFT, "right": -LEFT}


def standing(**bones):
    """(17, 3) m: somebody upright who faces the camera with the arms out; bones: directions of others, by the joint at
    their end."""
    direction = {joint: UP for joint in ("spine", "thorax", "nose", "head")}
    for side, out in SIDES.items():
        direction.update({f"{side}_{joint}": out for joint in ("hip", "shoulder", "elbow", "wrist")})
        direction.update({f"{side}_{joint}": -UP for joint in ("knee", "ankle")})
    direction.update(bones)
    joints_m = np.zeros((17, 3))
    for parent, joint in H36M17.bones:
        v = np.asarray(direction[H36M17.joints[joint]], float)
        joints_m[joint] = joints_m[parent] + 0.3 * v / np.linalg.norm(v)
    return joints_m


def angles(joints_m):
    return Kinematics(H36M17).at(joints_m, 0.0).angles_deg


def turned(vector, degrees, axis):
    """A vector turned about an axis, by Rodrigues' formula."""
    axis, angle = axis / np.linalg.norm(axis), np.radians(degrees)
    return (vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle)
            + axis * (axis @ vector) * (1 - np.cos(angle)))


def test_at_rest_all_rotations_are_none_and_the_arms_are_raised_sideways():
    movement = Kinematics(H36M17).at(standing(), 0.0)
    np.testing.assert_allclose(movement.rotations, np.tile([1.0, 0, 0, 0], (17, 1)), atol=1e-7)
    for name, angle in movement.angles_deg.items():
        wanted = 90 if name.endswith("elevation") else -90 if name.endswith("arm_adduction") else 0
        if "arm_" not in name or name.endswith("adduction"):  # raised by 90 degrees, flexion and rotation are one
            assert angle == pytest.approx(wanted, abs=1e-4), name


@pytest.mark.parametrize("side", SIDES)
def test_hips_and_knees_have_the_angles_of_isb(side):
    out = SIDES[side]
    found = angles(standing(**{f"{side}_knee": turned(-UP, -30, LEFT), f"{side}_ankle": turned(-UP, 10, LEFT)}))
    assert turned(-UP, -30, LEFT) @ FORWARD > 0
    assert found[f"{side}_hip_flexion"] == pytest.approx(30, abs=1e-4)
    assert found[f"{side}_knee_flexion"] == pytest.approx(40, abs=1e-4)
    assert found[f"{side}_hip_adduction"] == pytest.approx(0, abs=1e-4)
    assert found[f"{side}_hip_rotation"] == pytest.approx(0, abs=1e-4)
    apart = -UP * np.cos(np.radians(25)) + out * np.sin(np.radians(25))
    found = angles(standing(**{f"{side}_knee": apart, f"{side}_ankle": apart}))
    assert found[f"{side}_hip_adduction"] == pytest.approx(-25, abs=1e-4)  # abduction is negative


@pytest.mark.parametrize("side", SIDES)
def test_internal_rotation_of_a_hip_is_positive(side):
    """Sitting, the foot swings outwards when the thigh turns inwards."""
    shin = -UP * np.cos(np.radians(20)) + SIDES[side] * np.sin(np.radians(20))
    found = angles(standing(**{f"{side}_knee": FORWARD, f"{side}_ankle": shin}))
    assert found[f"{side}_hip_flexion"] == pytest.approx(90, abs=1e-4)
    assert found[f"{side}_hip_rotation"] == pytest.approx(20, abs=1e-4)
    assert found[f"{side}_knee_flexion"] == pytest.approx(90, abs=1e-4)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("plane, elevation", [(0, 60), (90, 60), (45, 120), (-30, 90)])
def test_shoulders_have_plane_and_elevation_of_isb(side, plane, elevation):
    """Plane 0 is abduction, 90 forward flexion."""
    level = SIDES[side] * np.cos(np.radians(plane)) + FORWARD * np.sin(np.radians(plane))
    arm = -UP * np.cos(np.radians(elevation)) + level * np.sin(np.radians(elevation))
    found = angles(standing(**{f"{side}_elbow": arm, f"{side}_wrist": arm}))
    assert found[f"{side}_shoulder_plane"] == pytest.approx(plane, abs=1e-4)
    assert found[f"{side}_shoulder_elevation"] == pytest.approx(elevation, abs=1e-4)
    assert found[f"{side}_elbow_flexion"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("side", SIDES)
def test_internal_rotation_of_a_shoulder_is_positive(side):
    """The upper arm hangs, the forearm points forward and then inwards."""
    for degrees in (0, 40):
        forearm = FORWARD * np.cos(np.radians(degrees)) - SIDES[side] * np.sin(np.radians(degrees))
        found = angles(standing(**{f"{side}_elbow": -UP, f"{side}_wrist": forearm}))
        assert found[f"{side}_elbow_flexion"] == pytest.approx(90, abs=1e-4)
        assert found[f"{side}_shoulder_plane"] + found[f"{side}_shoulder_rotation"] == pytest.approx(degrees, abs=1e-4)
        assert found[f"{side}_arm_rotation"] == pytest.approx(degrees, abs=1e-4)


def test_the_pelvis_turns_in_the_cameras_axes_and_the_trunk_in_the_pelvis():
    joints_m = np.stack([turned(joint, 35, UP) for joint in standing()])
    assert angles(joints_m)["pelvis_rotation"] == pytest.approx(35, abs=1e-4)
    lean = turned(UP, 20, LEFT)
    found = angles(standing(thorax=lean, nose=lean, head=lean))
    assert abs(found["trunk_extension"]) == pytest.approx(20, abs=1e-4)
    assert (found["trunk_extension"] < 0) == (lean @ FORWARD > 0)  # flexion is negative
    assert found["pelvis_tilt"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("skeleton", [H36M17, H36M16])
def test_rotations_and_lengths_give_the_joints_back(skeleton):
    rng, kinematics = np.random.default_rng(0), Kinematics(skeleton)
    for moment in range(50):
        joints_m = np.cumsum(rng.normal(0, 0.3, (len(skeleton), 3)), axis=0)
        joints_m -= joints_m[skeleton.root]
        lengths_m = np.zeros(len(skeleton))
        for parent, joint in skeleton.bones:
            lengths_m[joint] = np.linalg.norm(joints_m[joint] - joints_m[parent])
        movement = kinematics.at(joints_m, moment / 50)
        np.testing.assert_allclose(kinematics.joints_of(movement.rotations, lengths_m), joints_m, atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(movement.rotations, axis=1), 1, atol=1e-12)
        assert (movement.rotations[:, 0] >= 0).all()
        world = world_rotations(movement.rotations, skeleton)
        np.testing.assert_allclose(np.linalg.det(world), 1, atol=1e-9)
        for name, angle in movement.angles_deg.items():
            assert ANGLES[name][0] - 1e-9 <= angle <= ANGLES[name][1] + 1e-9, name


def test_quaternions_are_rotations():
    half = np.radians(60) / 2
    np.testing.assert_allclose(matrices(np.array([np.cos(half), 0, 0, np.sin(half)])) @ [1, 0, 0],
                               [0.5, np.sqrt(0.75), 0], atol=1e-12)


def test_a_nearly_straight_arm_keeps_its_turn():
    kinematics = Kinematics(H36M17)
    bent = kinematics.at(standing(left_wrist=FORWARD + UP), 0.0)
    straight = kinematics.at(standing(), 0.1)
    elbow = J["left_elbow"]
    np.testing.assert_allclose(straight.rotations[elbow], bent.rotations[elbow], atol=1e-6)
    kinematics.reset()
    assert kinematics.at(standing(), 0.2).rotations[elbow] == pytest.approx([1, 0, 0, 0], abs=1e-6)


def test_the_centre_of_mass_lies_where_the_segments_put_it():
    """Winter's table: trunk 0.497 half way from hips to shoulders, head 0.081 at the ear; limbs hang symmetrically."""
    joints_m = standing()
    centre = Kinematics(H36M17).at(joints_m, 0.0).centre_of_mass_m
    hips, shoulders = joints_m[J["pelvis"]], joints_m[[J["left_shoulder"], J["right_shoulder"]]].mean(0)
    height = (0.497 * (hips + shoulders) / 2 + 0.081 * joints_m[J["head"]] + 2 * (0.028 + 0.022) * shoulders) @ UP
    height += 2 * (0.1 * 0.433 * -0.3 + 0.061 * (-0.3 - 0.606 * 0.3))
    np.testing.assert_allclose(centre, height * UP, atol=1e-6)


def test_speeds_are_those_of_the_place_and_0_at_first():
    joints_m, root_m = approaching(60, speed_m_s=-1.5)
    kinematics, still = Kinematics(H36M17), np.repeat(joints_m[:1], 60, axis=0)
    poses = placed(still, seen_by(still + root_m[:, None]))
    movements = [kinematics(pose) for pose in poses]
    assert not movements[0].velocity_m_s.any()
    np.testing.assert_allclose(movements[-1].velocity_m_s, np.tile([0, 0, -1.5], (17, 1)), atol=0.05)
    np.testing.assert_allclose(movements[-1].speed_m_s, 1.5, atol=0.05)
    unplaced = [kinematics(pose) for pose in placed(still, seen_by(still + root_m[:, None]), camera=None)]
    np.testing.assert_allclose(unplaced[-1].velocity_m_s, 0, atol=1e-5)


def test_a_movement_turns_into_json():
    movement = Kinematics(H36M17).at(standing(), 0.5)
    read = json.loads(movement.to_json())
    assert read["timestamp_s"] == 0.5 and read["rotations"]["head"] == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert read["angles_deg"].keys() == ANGLES.keys()


def test_a_pose_of_another_skeleton_is_refused():
    with pytest.raises(ValueError, match=r"joints_m has shape \(16, 3\); wanted \(17, 3\)"):
        Kinematics(H36M17).at(np.zeros((16, 3)), 0.0)
    with pytest.raises(ValueError, match="has no joint 'spine'; joint angles need it"):
        Kinematics(H36M17.without("spine", "no spine"))
