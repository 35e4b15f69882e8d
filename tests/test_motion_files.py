import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from edgepose.training.motion_files import bvh_positions, read_amc, read_asf, read_bvh, rotations

ASF = """# a comment
:version 1.10
:units
  mass 1.0
  length 0.45
  angle deg
:documentation
   begin with anything
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name trunk
     direction 0 1 0
     length 2
     axis 0 0 0  XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
  end
  begin
     id 2
     name arm
     direction 1 0 0
     length 3
     axis 0 0 90  XYZ
    dof rx
  end
  begin
     name hand
     direction 1 0 0
     length 0.5
     axis 0 0 0 XYZ
  end
:hierarchy
  begin
    root trunk
    trunk arm
    arm hand
  end
"""
AMC = """#!OML:ASF
:FULLY-SPECIFIED
:DEGREES
1
root 0 0 0 0 0 0
trunk 0 0 0
arm 0
2
root 1 2 3 0 0 90
trunk 0 0 0
arm 0
3
root 0 0 0 0 0 0
trunk 90 0 90
arm 0
4
root 0 0 0 0 0 0
trunk 0 0 0
arm 90
5
root 0 0 0 0 0 90
trunk 90 0 0
arm 0.0
"""
BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT Chest
  {
    OFFSET 0 2 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 1 0 0
    }
  }
}
MOTION
Frames: 3
Frame Time: 0.008333
0 0 0 0 0 0 0 0 0
1 2 3 90 0 0 0 0 0
0 0 0 0 0 0 90 90 0
"""


def write(path, text):
    path.write_text(text)
    return path


def test_rotations_are_those_of_scipy():
    degrees = np.random.default_rng(0).uniform(-180, 180, (20, 3))
    for axes in ("xyz", "zyx", "zxy"):
        np.testing.assert_allclose(rotations(degrees, axes),
                                   Rotation.from_euler(axes.upper(), degrees, degrees=True).as_matrix(), atol=1e-12)


def test_an_acclaim_skeleton_moves_as_computed_by_hand(tmp_path):
    bones, unit = read_asf(write(tmp_path / "1.asf", ASF))
    assert list(bones) == ["root", "trunk", "arm", "hand"] and unit == 0.45
    ends = read_amc(write(tmp_path / "1_1.amc", AMC), bones)
    root, trunk, arm, hand = (ends[name] for name in bones)
    expected = {
        0: [(0, 0, 0), (0, 2, 0), (3, 2, 0), (3.5, 2, 0)],       # at rest
        1: [(1, 2, 3), (-1, 2, 3), (-1, 5, 3), (-1, 5.5, 3)],    # moved, and turned about z by 90 degrees
        2: [(0, 0, 0), (0, 0, 2), (0, 3, 2), (0, 3.5, 2)],       # about x first: up becomes forward; then about z
        3: [(0, 0, 0), (0, 2, 0), (0, 2, -3), (0, 2, -3.5)],     # about the arm's own x axis, which is the world's y
        4: [(0, 0, 0), (0, 0, 2), (0, 3, 2), (0, 3.5, 2)]}       # the trunk about x, then everything about z
    for frame, places in expected.items():
        np.testing.assert_allclose([root[frame], trunk[frame], arm[frame], hand[frame]], places, atol=1e-12)


def test_a_bvh_moves_as_computed_by_hand(tmp_path):
    joints, values, fps = read_bvh(write(tmp_path / "a.bvh", BVH))
    assert list(joints) == ["Hips", "Chest", "Chest end"] and fps == pytest.approx(120, abs=0.01)
    places = bvh_positions(joints, values)
    expected = {0: [(0, 0, 0), (0, 2, 0), (1, 2, 0)], 1: [(1, 2, 3), (-1, 2, 3), (-1, 3, 3)],
                2: [(0, 0, 0), (0, 2, 0), (0, 3, 0)]}
    for frame, rows in expected.items():
        np.testing.assert_allclose([places[name][frame] for name in joints], rows, atol=1e-12)


def test_a_bvh_turns_by_its_first_rotation_last_and_by_its_parents_after_its_own(tmp_path):
    joints, _, _ = read_bvh(write(tmp_path / "a.bvh", BVH))
    root, chest = np.array([40.0, 50, 60]), np.array([10.0, 20, 30])
    joints["Chest end"].offset = np.array([1.0, 2, 3])
    place = bvh_positions(joints, np.array([[0, 0, 0, *root, *chest]]))["Chest end"]
    turned = Rotation.from_euler("ZXY", chest, degrees=True).apply((1, 2, 3))
    np.testing.assert_allclose(place[0], Rotation.from_euler("ZYX", root, degrees=True).apply(turned + (0, 2, 0)))


@pytest.mark.parametrize("old, new, message", [
    ("angle deg", "angle rad", "1.asf, line 6: angles in rad; wanted deg"),
    ("direction 0 1 0", "direction 0 1", r"line 18: '0 1' has 2 words; wanted 3 finite numbers"),
    ("length 2\n", "length two\n", "line 19: 'two' has 1 words; wanted 1 finite numbers"),
    ("axis 0 0 90  XYZ", "axis 0 0 90", "line 30: axis order ''; wanted one like XYZ"),
    ("dof rx\n", "dof rx l\n", "line 31: degree of freedom 'l'; there are tx, ty, tz, rx, ry, rz"),
    ("     name hand\n", "", "line 37: a bone needs a name, a direction and a length"),
    ("position 0 0 0", "position 0 1 0", "line 12: a root that is not at 0 0 0 is not read"),
    ("    arm hand\n", "    arm foot\n", "line 43: bone 'foot' is not in :bonedata; there are root, trunk, arm, hand"),
    ("    root trunk\n", "", "line 41: 'trunk' has children before it has a parent"),
    (ASF, "HIERARCHY\nROOT Hips\n", "1.asf has no :root with an order, or no :hierarchy; it is no Acclaim skeleton")])
def test_what_is_wrong_with_a_skeleton_is_named_by_its_line(tmp_path, old, new, message):
    assert old in ASF
    with pytest.raises(ValueError, match=message):
        read_asf(write(tmp_path / "1.asf", ASF.replace(old, new)))


@pytest.mark.parametrize("old, new, message", [
    (":DEGREES", ":RADIANS", "a.amc, line 3: angles in radians; wanted :DEGREES"),
    ("trunk 90 0 90", "trunk 90 0", "line 14: '90 0' has 2 words; wanted 3 finite numbers"),
    ("trunk 90 0 90", "trunk 90 0 nan", "line 14: '90 0 nan' has 3 words; wanted 3 finite"),
    ("trunk 90 0 90", "tail 90 0 90", "line 14: 'tail' is no bone that moves; the skeleton has root, trunk, arm"),
    ("trunk 90 0 90", "arm 0", "line 15: 'arm' twice in frame 3"),
    ("trunk 90 0 90\n", "", "line 15: the frame that ends here has no trunk"),
    ("arm 90\n", "", "line 19: the frame that ends here has no arm"),
    ("arm 0.0\n", "", "line 22: the frame that ends here has no arm"),
    ("\n3\n", "\n5\n", "line 12: frame 5 after frame 2"),
    ("1\nroot 0 0 0 0 0 0", "root 0 0 0 0 0 0", "line 4: 'root' before the first frame"),
    (AMC, ":DEGREES\n", "a.amc has no frames")])
def test_what_is_wrong_with_a_motion_is_named_by_its_line(tmp_path, old, new, message):
    assert old in AMC
    bones, _ = read_asf(write(tmp_path / "1.asf", ASF))
    with pytest.raises(ValueError, match=message):
        read_amc(write(tmp_path / "a.amc", AMC.replace(old, new, 1)), bones)


@pytest.mark.parametrize("old, new, message", [
    ("OFFSET 0 2 0", "OFFSET 0 2", "a.bvh, line 8: '0 2' has 2 words; wanted 3 finite numbers"),
    ("CHANNELS 3 Z", "CHANNELS 2 Z", "line 9: 'CHANNELS 2 Zrotation Xrotation Yrotation'; wanted their number"),
    ("CHANNELS 3 Zrotation Xrotation Yrotation", "CHANNELS 1 Zposition", "line 9: 'Chest' moves against its parent"),
    ("JOINT Chest", "JOINT Hips", "line 6: 'JOINT Hips': wanted one root, and every name once"),
    ("0 0 0 0 0 0 90 90 0", "0 0 0 0 0 0 90 90", "line 21: .* has 8 words; wanted 9 finite numbers"),
    ("Frames: 3", "Frames: 4", "a.bvh has 3 frames; it says 4"),
    ("Frame Time: 0.008333", "Frame Time: 0", "line 18: a frame of 0.0 s"),
    ("CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation", "CHANNELS",
     "line 5: 'CHANNELS'; wanted their number"),
    ("HIERARCHY", "GEOMETRY", "line 1: 'GEOMETRY' does not belong in a BVH"),
    ("MOTION", "}\nMOTION", "line 16: a } without its {")])
def test_what_is_wrong_with_a_bvh_is_named_by_its_line(tmp_path, old, new, message):
    assert old in BVH
    with pytest.raises(ValueError, match=message):
        read_bvh(write(tmp_path / "a.bvh", BVH.replace(old, new, 1)))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no.bvh cannot be read"):
        read_bvh(tmp_path / "no.bvh")
