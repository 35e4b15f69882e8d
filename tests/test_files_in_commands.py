"""`edgepose lift` and `stream` on the files of other programs, and with a layout of one's own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from test_files_in import (FOUND, HEIGHT, TRACKED, WIDTH, coco_entry, detectron, npy, openpose_folder, passer_by,
                           results)

from edgepose.adapters import ADAPTERS, Adapter
from edgepose.cli import main


def lift(*arguments):
    size = ["--image-size", str(WIDTH), str(HEIGHT)]
    return main(["lift", *map(str, arguments), "--processes", "1", "--fps", "60", *size])


def poses_of(path):
    with np.load(path) as result:
        return {name: result[name] for name in ("person", "frame", "timestamps_s", "joints_m")}


def test_a_passer_by_who_is_listed_first_is_somebody_else(tmp_path, capsys):
    folder = openpose_folder(tmp_path / "walk", people=lambda i: [passer_by(i)] * (10 <= i < 20) + [FOUND[i]])
    size = ["--fps", "60", "--image-size", str(WIDTH), str(HEIGHT)]
    assert main(["stream", "--clip", str(folder), "--out", str(tmp_path / "poses.trc"), *size]) == 0
    files = [tmp_path / "poses_0.trc", tmp_path / "poses_1.trc"]
    assert ", ".join(map(str, files)) in capsys.readouterr().out and all(file.is_file() for file in files)
    assert lift("--input", folder, "--output", tmp_path / "out") == 0
    poses = poses_of(tmp_path / "out" / "walk.npz")
    assert sorted(np.bincount(poses["person"]).tolist()) == [10, 30]


def test_an_archive_of_all_kinds_is_lifted_but_for_what_is_broken(tmp_path, capsys):
    archive = tmp_path / "in"
    openpose_folder(archive), openpose_folder(archive / "walk")
    openpose_folder(archive / "run", frames=range(3))
    coco = results(archive / "coco.json", [coco_entry(i, FOUND[i]) for i in range(30)])
    detectron(archive / "walk.mp4.npz", [[man] for man in FOUND])
    results(archive / "notes.json", {"made": "today"})
    (archive / "walk.mp4.json").write_text("notes on walk.mp4.npz")
    assert lift("--input", archive, "--output", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "5 of 6 lifted" in said.out and "1 of 6 recordings could not be lifted" in said.err
    assert "notes.json holds a dict of 1 with made; wanted the keypoints of" in said.err
    lifted = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.npz")}
    assert lifted == {"in.npz", "walk.npz", "run.npz", "coco.npz", "walk.mp4.npz"}
    names = ("coco.npz", "walk.mp4.npz", "walk.npz", "in.npz")
    poses = [poses_of(tmp_path / "out" / name)["joints_m"] for name in names]
    np.testing.assert_array_equal(poses[0], poses[1])
    np.testing.assert_array_equal(poses[2], poses[3])
    coco.write_text(coco.read_text() + "\n")  # the same keypoints, other bytes
    (archive / "walk" / "walk_000000000003_keypoints.json").unlink()
    assert lift("--input", archive, "--output", tmp_path / "out") == 1
    assert "coco.npz is made of other keypoints than the recording has now" in capsys.readouterr().err


def test_frames_named_by_a_glob_are_their_folder(tmp_path, capsys):
    folder = openpose_folder(tmp_path / "walk", people=lambda i: [FOUND[i]] * (i % 17 != 3))
    assert lift("--input", folder / "*.json", "--output", folder / "out") == 0
    poses = poses_of(folder / "out" / "walk.npz")
    assert poses["frame"].tolist() == list(range(30)) and "1 recording," in capsys.readouterr().out


def test_a_persons_poses_bear_the_files_id_and_frames(tmp_path):
    entries = [entry for i in range(30) for entry in TRACKED["AlphaPose"](i, FOUND[i], passer_by(i))]
    assert lift("--input", results(tmp_path / "a.json", entries), "--output", tmp_path / "out") == 0
    poses = poses_of(tmp_path / "out" / "a.npz")
    for person, frames in ((7, range(30)), (3, range(10, 30))):
        mine = poses["person"] == person
        assert poses["frame"][mine].tolist() == list(frames)
        np.testing.assert_allclose(poses["timestamps_s"][mine], np.array(frames) / 60)


MINE = {"keypoints": ["top", *ADAPTERS["coco17"].layout.joints[5:]], "joints": {
    "pelvis": ["left_hip", "right_hip"], "spine": ["left_hip", "right_hip", "left_shoulder", "right_shoulder"],
    "thorax": ["left_shoulder", "right_shoulder"], "head": "top", "nose": None,
    **{joint: joint for joint in ADAPTERS["coco17"].layout.joints[5:]}}}


def test_a_layout_of_ones_own_is_a_file_of_the_command(tmp_path, capsys):
    layout = tmp_path / "mine.json"
    layout.write_text(json.dumps(MINE))
    (tmp_path / "in").mkdir()
    file = npy(tmp_path / "in" / "walk.npy", FOUND[:, [0, *range(5, 17)]])
    size = ["--image-size", str(WIDTH), str(HEIGHT), "--fps", "60"]
    assert main(["stream", "--clip", str(file), "--layout", str(layout), *size]) == 0
    assert "30 frames at 60 Hz -> 30 poses" in capsys.readouterr().out
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--layout", layout) == 0
    with np.load(tmp_path / "out" / "walk.npz") as result:
        assert result["layout"] == "mine" and len(result["joints_m"]) == 30
        assert json.loads(str(result["made_by"]))["options"]["layout"].startswith("mine ")
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--layout", layout) == 0
    assert "1 finished before" in capsys.readouterr().out
    layout.write_text(json.dumps({**MINE, "joints": {**MINE["joints"], "nose": "top"}}))
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--layout", layout) == 1
    assert "is made with options layout 'mine " in capsys.readouterr().err


@pytest.mark.parametrize("layout, message", [
    ("coco18", "there is no layout 'coco18'; wanted one of coco17, .*, or a .json file"),
    ("gone.json", "gone.json is no JSON file")])
def test_a_layout_that_is_none_is_answered(capsys, layout, message):
    for command in (["stream"], ["lift", "--input", "a", "--output", "b"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--layout", layout])
        assert stopped.value.code == 2 and re.search(message, capsys.readouterr().err)


def test_the_layout_in_the_docs_is_one(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "files.md").read_text()
    (tmp_path / "desk.json").write_text(page.split("```json\n")[1].split("```")[0])
    assert len(Adapter.from_file(tmp_path / "desk.json").layout) == 7
