import subprocess
import sys

import numpy as np
import pytest

from edgepose.skeleton import H36M17
from edgepose.training import cmu
from edgepose.training.mocap import read_motion

# A made-up skeleton with CMU's bones: (name, parent, vector from the parent's end to its own, in the file's units).
BONES = [("lhipjoint", "root", (1.5, -1.5, 0)), ("lfemur", "lhipjoint", (0, -7, 0)), ("ltibia", "lfemur", (0, -7, 0)),
         ("rhipjoint", "root", (-1.5, -1.5, 0)), ("rfemur", "rhipjoint", (0, -7, 0)), ("rtibia", "rfemur", (0, -7, 0)),
         ("lowerback", "root", (0, 2, 0)), ("upperback", "lowerback", (0, 2.5, 0)),
         ("thorax", "upperback", (0, 2.5, 0)), ("lowerneck", "thorax", (0, 1.5, 0)),
         ("upperneck", "lowerneck", (0, 1.75, 0)), ("head", "upperneck", (0, 1.75, 0)),
         ("lclavicle", "thorax", (3, 0.5, 0)), ("lhumerus", "lclavicle", (5, 0, 0)),
         ("lradius", "lhumerus", (3.5, 0, 0)), ("lwrist", "lradius", (1.75, 0, 0)),
         ("rclavicle", "thorax", (-3, 0.5, 0)), ("rhumerus", "rclavicle", (-5, 0, 0)),
         ("rradius", "rhumerus", (-3.5, 0, 0)), ("rwrist", "rradius", (-1.75, 0, 0))]
REST = {"pelvis": (0, -1.5, 0), "left_hip": (1.5, -1.5, 0), "left_knee": (1.5, -8.5, 0), "left_ankle": (1.5, -15.5, 0),
        "right_hip": (-1.5, -1.5, 0), "right_knee": (-1.5, -8.5, 0), "right_ankle": (-1.5, -15.5, 0),
        "spine": (0, 2, 0), "thorax": (0, 7, 0), "nose": (0, 10.25, 0), "head": (0, 12, 0),
        "left_shoulder": (3, 7.5, 0), "left_elbow": (8, 7.5, 0), "left_wrist": (13.25, 7.5, 0),
        "right_shoulder": (-3, 7.5, 0), "right_elbow": (-8, 7.5, 0), "right_wrist": (-13.25, 7.5, 0)}
UNIT_M = 0.0254 / 0.45


def asf():
    text = (":units\n length 0.45\n angle deg\n:root\n order TX TY TZ RX RY RZ\n axis XYZ\n"
            " position 0 0 0\n orientation 0 0 0\n:bonedata\n")
    for name, _, vector in BONES:
        length = np.linalg.norm(vector)
        x, y, z = np.array(vector) / length
        text += f" begin\n  name {name}\n  direction {x} {y} {z}\n  length {length}\n  axis 0 0 0 XYZ\n"
        text += ("  dof rx ry rz\n" if name == "lhumerus" else "") + " end\n"
    return text + ":hierarchy\n begin\n" + "".join(f"  {parent} {name}\n" for name, parent, _ in BONES) + " end\n"


def amc(roots, bend=0.0):
    """One frame for each place of the root; the left arm turned forward (about y) by `bend` degrees."""
    frames = (f"{n}\nroot {x} {y} {z} 0 0 0\nlhumerus 0 {bend} 0\n" for n, (x, y, z) in enumerate(roots, 1))
    return ":FULLY-SPECIFIED\n:DEGREES\n" + "".join(frames)


CONVERTED = {  # the BVH conversions' skeleton: no thorax bone, no wrist bones, no head
    "Hips": [(0, 0, 0), ["LHipJoint", "RHipJoint", "LowerBack"]], "LHipJoint": [(0, 0, 0), ["LeftUpLeg"]],
    "LeftUpLeg": [(1.5, -1.5, 0), ["LeftLeg"]], "LeftLeg": [(0, -7, 0), ["LeftFoot"]], "LeftFoot": [(0, -7, 0), []],
    "RHipJoint": [(0, 0, 0), ["RightUpLeg"]], "RightUpLeg": [(-1.5, -1.5, 0), ["RightLeg"]],
    "RightLeg": [(0, -7, 0), ["RightFoot"]], "RightFoot": [(0, -7, 0), []], "LowerBack": [(0, 0, 0), ["Spine"]],
    "Spine": [(0, 2, 0), ["Spine1"]], "Spine1": [(0, 2.5, 0), ["Neck", "LeftShoulder", "RightShoulder"]],
    "Neck": [(0, 0, 0), ["Neck1"]], "Neck1": [(0, 1.5, 0), ["Head"]], "Head": [(0, 1.75, 0), []],
    "LeftShoulder": [(0, 0, 0), ["LeftArm"]], "LeftArm": [(3, 0.5, 0), ["LeftForeArm"]],
    "LeftForeArm": [(5, 0, 0), ["LeftHand"]],
    "LeftHand": [(3.5, 0, 0), ["LeftFingerBase"]], "LeftFingerBase": [(0, 0, 0), []],
    "RightShoulder": [(0, 0, 0), ["RightArm"]], "RightArm": [(-3, 0.5, 0), ["RightForeArm"]],
    "RightForeArm": [(-5, 0, 0), ["RightHand"]], "RightHand": [(-3.5, 0, 0), ["RightFingerBase"]],
    "RightFingerBase": [(0, 0, 0), []]}


def bvh(frames, table=CONVERTED):
    def joint(name, word="JOINT"):
        (x, y, z), children = table[name]
        positions = "6 Xposition Yposition Zposition " if word == "ROOT" else "3 "
        inside = "".join(joint(child) for child in children) or "End Site\n{\nOFFSET 0 0 0\n}\n"
        return f"{word} {name}\n{{\nOFFSET {x} {y} {z}\nCHANNELS {positions}Zrotation Yrotation Xrotation\n{inside}}}\n"

    columns = 3 + 3 * len(table)
    rows = (" ".join(["0", "17", str(z)] + ["0"] * (columns - 3)) + "\n" for z in range(frames))
    return f"HIERARCHY\n{joint('Hips', 'ROOT')}MOTION\nFrames: {frames}\nFrame Time: 0.00833333\n" + "".join(rows)


def at_rest(place):
    return (np.array([REST[joint] for joint in H36M17.joints]) + place) * UNIT_M


def steady(frames):
    return [(0, 17, 0.1 * n) for n in range(frames)]


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files" / "05"
    folder.mkdir(parents=True)
    (folder / "05.asf").write_text(asf())
    (folder / "05_01.amc").write_text(amc(steady(121)))
    return folder


def test_an_amc_gives_our_joints_in_metres(files):
    joints_m = cmu.joints_of_amc(files / "05_01.amc", files / "05.asf")
    np.testing.assert_allclose(joints_m[0], at_rest((0, 17, 0)), atol=1e-9)
    np.testing.assert_allclose(joints_m[10], at_rest((0, 17, 1)), atol=1e-9)
    assert joints_m[0, H36M17.index("left_ankle"), 1] == pytest.approx(1.5 * 0.0254 / 0.45)


def test_an_arm_that_turns_takes_elbow_and_wrist_with_it(files):
    (files / "05_02.amc").write_text(amc([(0, 0, 0)], bend=-90))
    joints_m = cmu.joints_of_amc(files / "05_02.amc", files / "05.asf")[0] / UNIT_M
    for joint, place in (("left_shoulder", (3, 7.5, 0)), ("left_elbow", (3, 7.5, 5)), ("left_wrist", (3, 7.5, 10.25)),
                         ("right_wrist", REST["right_wrist"])):
        np.testing.assert_allclose(joints_m[H36M17.index(joint)], place, atol=1e-9)


def test_bones_that_a_bvh_has_lost_are_put_back(tmp_path):
    (tmp_path / "07_01.bvh").write_text(bvh(3))
    joints_m, fps = cmu.joints_of_bvh(tmp_path / "07_01.bvh")
    np.testing.assert_allclose(joints_m[2], at_rest((0, 17, 2)), atol=1e-9)
    assert fps == pytest.approx(120, rel=1e-4)


def test_bones_that_a_bvh_has_kept_stay_as_they_are(tmp_path):
    table = {**CONVERTED,
             **{name: [(0, 4, 0), CONVERTED[name][1]] for name in ("Neck", "LeftShoulder", "RightShoulder")},
             "LeftFingerBase": [(1, 0, 0), []]}
    (tmp_path / "07_01.bvh").write_text(bvh(1, table))
    joints = dict(zip(H36M17.joints, cmu.joints_of_bvh(tmp_path / "07_01.bvh")[0][0] / UNIT_M - (0, 17, 0)))
    np.testing.assert_allclose(joints["thorax"], (0, 8.5, 0), atol=1e-9)
    np.testing.assert_allclose(joints["left_wrist"], (12.5, 9, 0), atol=1e-9)


def test_what_is_written_is_what_training_reads(files, tmp_path):
    (files.parent / "7_01.bvh").write_text(bvh(61))
    assert cmu.convert(files.parent, tmp_path / "out") == {"cmu_005": 61, "cmu_007": 31}
    training, validation = (read_motion(tmp_path / "out", split) for split in ("training", "validation"))
    assert training.clip_names == ("cmu_005/05_01",) and validation.clip_names == ("cmu_007/7_01",)
    assert training.fps == 60 and training.positions_m.dtype.is_floating_point
    np.testing.assert_allclose(training.positions_m[[0, 5]], [at_rest((0, 17, 0)), at_rest((0, 17, 1))], atol=1e-6)


def test_an_amc_goes_before_a_bvh_of_the_same_trial(files, tmp_path):
    (files / "05_01.bvh").write_text(bvh(3))
    cmu.convert(files, tmp_path / "out")
    with np.load(tmp_path / "out" / "cmu_005.npz") as file:
        assert file["clip_sources"].tolist() == ["mocap.cs.cmu.edu (AMC)"] and len(file["positions"]) == 61


def test_a_trial_is_cut_at_a_glitch_and_short_parts_are_left_out(files, tmp_path):
    places = np.array(steady(300))
    places[100:, 0] += 100
    places[290:, 0] += 100
    (files / "05_01.amc").write_text(amc(places))
    cmu.convert(files, tmp_path / "out")
    with np.load(tmp_path / "out" / "cmu_005.npz") as file:
        assert file["clip_names"].tolist() == ["05_01_p1", "05_01_p2"] and file["clip_starts"].tolist() == [0, 50]
        assert len(file["positions"]) == 50 + 95
        assert np.abs(np.diff(file["positions"][:50], axis=0)).max() < 0.02


@pytest.mark.parametrize("fps, expected",
                         [(120, [0, 2, 4, 6]), (60, [0, 1, 2, 3, 4, 5, 6]), (24, [0, 0.4, 0.8, 1.2, 1.6, 2])])
def test_other_rates_are_interpolated_at_60_hz(fps, expected):
    frames = int(expected[-1]) + 1
    joints_m = np.arange(frames)[:, None, None] * np.ones((1, 17, 3))
    np.testing.assert_allclose(cmu._resampled(joints_m, fps)[:, 0, 0], expected)


@pytest.mark.parametrize("spoil, message", [
    (lambda f: (f / "05.asf").unlink(), r"05_01.amc has no skeleton; wanted .*05.asf"),
    (lambda f: (f / "05.asf").write_text(asf().replace("thorax", "chest")),
     r"05.asf has no thorax; it has root, lhipjoint"),
    (lambda f: (f / "05_01.amc").unlink(), r"files.* has no .amc and no .bvh file"),
    (lambda f: (f / "06_01.bvh").write_text(bvh(2).replace("Neck1", "Nape").replace("Spine1", "Upper")),
     r"06_01.bvh has no joint Spine1; it has Hips"),
    (lambda f: (f / "05_02.amc").write_text(amc([(0, 0, 0)]).replace("lhumerus 0", "lhumerus")),
     r"05_02.amc, line 5: ")])
def test_what_is_wrong_is_named_and_nothing_is_written(files, tmp_path, spoil, message):
    spoil(files)
    with pytest.raises(ValueError, match=message):
        cmu.convert(files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote(files, tmp_path):
    command = [sys.executable, "-m", "edgepose.training.cmu", "--files", str(files), "--out",
               str(tmp_path / "out"), "--amc-hz", "60"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0 and "cmu_005.npz: 121 frames at 60 Hz" in process.stdout
