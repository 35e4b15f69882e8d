"""Files of poses, read back by libraries that no one here wrote: ezc3d, OpenSim and bvhio; and by those of Python."""

import csv
import json
import sys

import numpy as np
import pytest

from edgepose.cli import main
from edgepose.clip import load_clip
from edgepose.files.motion import Motion, evenly
from edgepose.files.writing import SUFFIXES, write_motions
from edgepose.skeleton import H36M16, H36M17

MOST_MM = 0.1
Y_UP, Z_UP = np.array([1, -1, -1]), ([0, 2, 1], [1, 1, -1])  # x, -y, -z; and x, z, -y of camera axes


def library(name):
    """A library that reads files; the test is skipped where it has no wheel."""
    return pytest.importorskip(name, reason=f"there is no wheel of {name} for this processor")


def in_ground(joints_m):
    """Camera axes to OpenSim's, and back: x towards the camera, y up."""
    return -joints_m[..., ::-1]


def motion(frames=40, person=0, seed=0, skeleton=H36M17, rate_hz=60.0, start_s=2.0):
    """Somebody whose bones keep their lengths and turn all ways."""
    rng = np.random.default_rng(seed)
    joints_m = np.zeros((frames, len(skeleton), 3))
    joints_m[:, skeleton.root] = rng.normal(0, 0.3, (frames, 3))
    for parent, joint in skeleton.bones:
        direction = rng.normal(size=3) + np.cumsum(rng.normal(0, 0.2, (frames, 3)), axis=0)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        joints_m[:, joint] = joints_m[:, parent] + rng.uniform(0.1, 0.5) * direction
    confidence = rng.uniform(0, 1, joints_m.shape[:2])
    return Motion(person, skeleton, np.arange(frames), start_s + np.arange(frames) / rate_hz,
                  joints_m.astype(np.float32), confidence, confidence > 0.3)


def without(whole, frames):
    """The motion without some of its frames."""
    left = ~np.isin(whole.frame, frames)
    return Motion(whole.person, whole.skeleton, *(getattr(whole, name)[left] for name in (
        "frame", "timestamps_s", "joints_m", "confidence", "is_seen")))


def written(path, *people):
    files = write_motions(path, people)
    assert files == [path]
    return path


def column(table, joint):
    """(F, 3): a marker's places in a table of OpenSim's."""
    places = table.getDependentColumn(joint)
    return np.array([places[i].to_numpy() for i in range(table.getNumRows())])


def test_a_trc_file_is_read_by_opensim(tmp_path):
    mine = motion()
    table = library("opensim").TimeSeriesTableVec3(str(written(tmp_path / "a.trc", mine)))
    assert table.getTableMetaDataString("Units") == "mm" and table.getTableMetaDataString("DataRate") == "60"
    assert table.getColumnLabels() == H36M17.joints
    np.testing.assert_allclose(table.getIndependentColumn(), mine.timestamps_s, atol=1e-6)
    for j, joint in enumerate(H36M17.joints):
        np.testing.assert_allclose(column(table, joint), 1e3 * in_ground(mine.joints_m[:, j]), atol=MOST_MM)


def test_a_gap_in_a_trc_file_has_no_markers(tmp_path):
    table = library("opensim").TimeSeriesTableVec3(str(written(tmp_path / "a.trc", without(motion(), range(10, 14)))))
    is_missing = np.isnan(column(table, "head")).all(axis=1)
    assert np.flatnonzero(is_missing).tolist() == [10, 11, 12, 13] and table.getNumRows() == 40


def test_a_c3d_file_is_read_by_ezc3d(tmp_path):
    mine = motion()
    file = library("ezc3d").c3d(str(written(tmp_path / "a.c3d", mine)))
    assert file["parameters"]["POINT"]["LABELS"]["value"] == list(H36M17.joints)
    assert file["parameters"]["POINT"]["UNITS"]["value"] == ["mm"] and file["header"]["points"]["frame_rate"] == 60
    axes, signs = Z_UP
    wanted_mm = 1e3 * mine.joints_m[..., axes] * signs
    np.testing.assert_allclose(file["data"]["points"][:3].transpose(2, 1, 0), wanted_mm, atol=MOST_MM)


def test_several_people_are_points_of_one_c3d_file_and_gaps_are_invalid(tmp_path):
    people = [motion(person=3), without(motion(person=8, seed=1), range(20))]
    file = library("ezc3d").c3d(str(written(tmp_path / "a.c3d", *people)))
    labels = file["parameters"]["POINT"]["LABELS"]["value"]
    assert labels == [f"{person}:{joint}" for person in (3, 8) for joint in H36M17.joints]
    residuals = file["data"]["meta_points"]["residuals"][0]
    assert (residuals[:17] == 0).all() and (residuals[17:, :20] == -1).all() and (residuals[17:, 20:] == 0).all()


def test_more_frames_than_a_c3d_file_has_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a.c3d: there are 65536 frames; a .c3d file has at most 65535"):
        write_motions(tmp_path / "a.c3d", [motion(65536)])


def bvh_joints_m(path, skeleton, frames):
    """(F, J, 3): the places that bvhio finds, metres, camera axes."""
    root = library("bvhio").readAsHierarchy(str(path))
    nodes = {node.Name: node for node, _, _ in root.layout()}
    places = []
    for frame in range(frames):
        root.loadPose(frame)
        places.append([list(nodes[joint].PositionWorld) for joint in skeleton.joints])
    return np.array(places) / 100 * Y_UP


@pytest.mark.parametrize("skeleton", [H36M17, H36M16])
def test_a_bvh_file_is_read_by_bvhio(tmp_path, skeleton):
    mine = motion(skeleton=skeleton)
    path = written(tmp_path / "a.bvh", mine)
    places_m = bvh_joints_m(path, skeleton, 40)
    assert np.abs(1e3 * (places_m - mine.joints_m)).max() < MOST_MM
    file = library("bvhio").readAsBvh(str(path))
    assert file.FrameCount == 40 and file.FrameTime == pytest.approx(1 / 60)


def test_a_bvh_file_repeats_the_pose_before_a_gap(tmp_path):
    mine = motion()
    places_m = bvh_joints_m(written(tmp_path / "a.bvh", without(mine, range(10, 14))), H36M17, 40)
    for frame in range(10, 14):
        assert np.abs(places_m[frame] - mine.joints_m[9]).max() < 1e-3 * MOST_MM
    assert np.abs(places_m[14:] - mine.joints_m[14:]).max() < 1e-3 * MOST_MM


def test_bones_of_a_bvh_file_have_their_mean_lengths_and_keep_their_directions(tmp_path):
    mine = motion()
    knee, hip = (H36M17.index(f"left_{joint}") for joint in ("knee", "hip"))
    mine.joints_m[::2, knee] = mine.joints_m[::2, hip] + 1.2 * (mine.joints_m[::2, knee] - mine.joints_m[::2, hip])
    places_m = bvh_joints_m(written(tmp_path / "a.bvh", mine), H36M17, 40)
    read, wanted = (places[:, knee] - places[:, hip] for places in (places_m, mine.joints_m))
    np.testing.assert_allclose(np.linalg.norm(read, axis=1), np.linalg.norm(wanted, axis=1).mean(), atol=1e-4)
    cosines = (read * wanted).sum(1) / np.linalg.norm(read, axis=1) / np.linalg.norm(wanted, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_a_bone_opposite_to_its_place_at_rest_is_turned_by_half(tmp_path):
    mine = motion()
    shoulder, elbow = (H36M17.index(f"left_{joint}") for joint in ("shoulder", "elbow"))
    for x in (-0.3, 0.3):  # metres along x, with the body upright
        mine.joints_m[...] = 0
        for parent, joint in H36M17.bones:
            side, _, part = H36M17.joints[joint].partition("_")
            step = {"left": (0.2, 0, 0), "right": (-0.2, 0, 0)}.get(side, (0, -0.2, 0))
            mine.joints_m[:, joint] = mine.joints_m[:, parent] + ((0, 0.2, 0) if part in ("knee", "ankle") else step)
        mine.joints_m[:, elbow] = mine.joints_m[:, shoulder] + (x, 0, 0)
        places_m = bvh_joints_m(written(tmp_path / "a.bvh", mine), H36M17, 3)
        np.testing.assert_allclose(places_m, mine.joints_m[:3], atol=1e-5)


def test_json_says_every_pose_by_the_names_of_its_joints(tmp_path):
    people = [motion(person=3), motion(person=8, seed=1, frames=5)]
    file = json.loads(written(tmp_path / "a.json", *people).read_text())
    lines = [json.loads(line) for line in written(tmp_path / "a.jsonl", *people).read_text().splitlines()]
    assert file["poses"] == lines and len(lines) == 45 and file["joints"] == list(H36M17.joints)
    assert [line["timestamp_s"] for line in lines] == sorted(line["timestamp_s"] for line in lines)
    for mine in people:
        poses = [line for line in lines if line["person"] == mine.person]
        assert [pose["frame"] for pose in poses] == mine.frame.tolist()
        joints_m = np.array([[pose["joints_m"][joint] for joint in H36M17.joints] for pose in poses])
        assert np.abs(1e3 * (joints_m - mine.joints_m)).max() < MOST_MM
        assert [list(pose["is_seen"].values()) for pose in poses] == mine.is_seen.tolist()
        sure = [[pose["confidence"][joint] for joint in H36M17.joints] for pose in poses]
        np.testing.assert_allclose(sure, mine.confidence, atol=1e-6)


def test_a_table_has_a_row_for_each_pose(tmp_path):
    people = [motion(person=3), motion(person=8, seed=1, frames=5)]
    with open(written(tmp_path / "a.csv", *people), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["person"]) for row in rows] == [3] * 40 + [8] * 5
    joints_m = np.array([[[float(row[f"{joint}_{axis}_m"]) for axis in "xyz"] for joint in H36M17.joints]
                         for row in rows])
    wanted_m = np.concatenate([mine.joints_m for mine in people])
    assert np.abs(1e3 * (joints_m - wanted_m)).max() < MOST_MM
    assert float(rows[1]["timestamp_s"]) == pytest.approx(2 + 1 / 60, abs=1e-6)


@pytest.mark.parametrize("suffix", [".trc", ".bvh", ".mot"])
def test_a_format_of_one_person_has_a_file_for_each(tmp_path, suffix):
    files = write_motions(tmp_path / f"a{suffix}", [motion(person=3), motion(person=8)])
    assert files == [tmp_path / f"a_3{suffix}", tmp_path / f"a_8{suffix}"] and all(file.is_file() for file in files)


def test_uneven_times_are_interpolated_between_neighbours_and_gaps_stay_gaps():
    rng = np.random.default_rng(0)
    mine = motion(200, rate_hz=50)
    mine.joints_m[:, :, 0] = mine.timestamps_s[:, None]  # moves evenly
    jittered = mine.timestamps_s + rng.uniform(-0.004, 0.004, 200)
    uneven = Motion(0, H36M17, mine.frame, jittered, mine.joints_m.copy(), mine.confidence, mine.is_seen)
    uneven.joints_m[:, :, 0] = jittered[:, None]
    even = evenly([without(uneven, range(90, 110))])
    assert even.rate_hz == pytest.approx(50, rel=2e-3) and len(even.times_s) == pytest.approx(200, abs=1)
    found = ~np.isnan(even.joints_m[0][:, 0, 0])
    np.testing.assert_allclose(even.joints_m[0][found, 0, 0], even.times_s[found], atol=2e-4)
    assert 16 <= (~found).sum() <= 24


def test_times_that_go_back_have_no_even_times():
    mine = motion()
    mine.timestamps_s[20:] -= 1
    with pytest.raises(ValueError, match="the times of person 0 go back, so there are several recordings in one"):
        evenly([mine])


def test_one_pose_is_a_file_too(tmp_path):
    for suffix in SUFFIXES:
        assert written(tmp_path / f"a{suffix}", motion(1)).is_file()


def test_nobody_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="a.trc: there are no poses to write"):
        write_motions(tmp_path / "a.trc", [without(motion(3), range(3))])




@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stream_chooses_by_the_suffix(tmp_path, suffix):
    assert main(["stream", "--out", str(tmp_path / f"a{suffix}")]) == 0
    assert (tmp_path / f"a{suffix}").stat().st_size > 10_000


def test_lift_writes_what_is_wanted_beside_its_own_files(tmp_path, capsys):
    clip = load_clip("balance_cam1")
    says = {"fps": 60, "image_size": clip.image_size, "layout": "coco17"}
    np.savez(tmp_path / "one.npz", keypoints=clip.keypoints_px, **says)
    np.savez(tmp_path / "two.npz", keypoints=np.stack([clip.keypoints_px, clip.keypoints_px + (300, 0, 0)], 1), **says)
    np.savez(tmp_path / "none.npz", keypoints=np.zeros((5, 17, 3)), **says)
    command = ["lift", "--input", str(tmp_path / "*.npz"), "--output", str(tmp_path / "out"), "--processes", "1"]
    assert main([*command, "--format", "trc", "c3d"]) == 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"one.npz", "two.npz", "none.npz", "one.trc", "two_0.trc", "two_1.trc", "one.c3d", "two.c3d"}
    with np.load(tmp_path / "out" / "one.npz") as result:
        wrist_m = result["joints_m"][:, H36M17.index("left_wrist")]
    read_mm = column(library("opensim").TimeSeriesTableVec3(str(tmp_path / "out" / "one.trc")), "left_wrist")
    assert np.abs(read_mm - 1e3 * in_ground(wrist_m)).max() < MOST_MM
    assert main([*command, "--format", "trc", "c3d"]) == 0 and "3 finished before" in capsys.readouterr().out
    assert main(command) == 1
    assert "is made with options formats ['.trc', '.c3d'], not None, and 2 more" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npz", *SUFFIXES])
def test_lift_writes_one_recording_to_one_file(tmp_path, suffix, capsys):
    clip = load_clip("balance_cam1")
    for name in ("one", "two"):
        np.savez(tmp_path / f"{name}.npz", coco17=clip.keypoints_px, fps=60, image_size=clip.image_size)
    output = tmp_path / f"poses{suffix}"
    assert main(["lift", "--input", str(tmp_path / "one.npz"), "--output", str(output)]) == 0
    assert output.stat().st_size > 10_000 and str(output) in capsys.readouterr().out
    assert main(["lift", "--input", str(tmp_path / "*.npz"), "--output", str(tmp_path / f"more{suffix}")]) == 1
    assert "is a file, and --input names" in capsys.readouterr().err


def test_a_library_that_is_missing_is_noticed_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ezc3d", None)
    np.savez(tmp_path / "a.npz", keypoints=np.ones((3, 17, 3)))
    for arguments in (["stream", "--out", str(tmp_path / "a.c3d")],
                      ["lift", "--input", str(tmp_path), "--output", str(tmp_path / "out"), "--format", "c3d"]):
        assert main(arguments) == 1
        assert "needs ezc3d, which is not installed: pip install 'edgepose[c3d]'" in capsys.readouterr().err
