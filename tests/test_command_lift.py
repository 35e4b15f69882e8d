import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from archives import contents, lift, recorded
from people import SIZE, hard_clip, person_of

import edgepose
from edgepose.clip import Clip
from edgepose.commands import lift as lift_command
from edgepose.filters import SMOOTH
from edgepose.stream import Stream


def poses_of(file):
    """The poses of a result, each with its person."""
    with np.load(file) as result:
        arrays = {key: result[key] for key in ("person", "timestamps_s", "joints_m", "confidence",
                                               "is_seen", "was_reset")}
    return list(zip(*arrays.values()))


# Equal to streaming


@pytest.mark.parametrize("is_smoothed", [False, True])
@pytest.mark.parametrize("name, delay", [("ampose", 0), ("martinez-s", 0), ("strided27-s", 0), ("strided27-s", 13)])
def test_an_archive_has_the_poses_of_a_stream_to_the_bit(name, delay, is_smoothed):
    engine, frames = edgepose.load(name), hard_clip()
    keypoints = np.stack([np.zeros((17, 3)) if keypoints is None else keypoints for keypoints, _ in frames])
    clip = Clip("made", keypoints, "coco17", SIZE, 60.0, timestamps_s=np.array([time_s for _, time_s in frames]))
    result = lift_command.lift_people(engine, [clip], lift_command.Options(name, delay, is_smoothed))
    stream = Stream(engine, "coco17", SIZE, delay_frames=delay, smoothing=SMOOTH if is_smoothed else None)
    expected = [pose for frame in frames if (pose := stream.push(*frame))] + stream.flush()
    assert len(expected) == len(result["joints_m"]) > 100 and result["joints_m"].dtype == np.float32
    for i, pose in enumerate(expected):
        np.testing.assert_array_equal(result["joints_m"][i], pose.joints_m)
        np.testing.assert_array_equal(result["confidence"][i], pose.confidence.astype(np.float32))
        np.testing.assert_array_equal(result["is_seen"][i], pose.is_seen)
        assert result["timestamps_s"][i] == pose.timestamp_s and result["was_reset"][i] == pose.was_reset
        assert result["frame"][i] == clip.frame_at(pose.timestamp_s)


def test_a_bag_that_was_played_twice_and_a_repeated_frame_lose_no_pose(tmp_path):
    person, times_s = person_of("coco17"), np.arange(40) / 50
    times_s[20:] -= times_s[20]
    times_s[39] = times_s[38]
    recorded(tmp_path / "in/bag.npz", person, timestamps_s=times_s)
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--processes", 1,
                "--engine", "strided27-s") == 0
    with np.load(tmp_path / "out/bag.npz") as result:
        assert result["frame"].tolist() == list(range(39))
        assert np.flatnonzero(result["was_reset"]).tolist() == [0, 20]


def test_each_frame_of_a_film_that_is_cut_has_a_pose(tmp_path):
    """Streamed with the delay that `lift` takes by itself: half a window."""
    person = person_of("coco17")
    person[20:, :, 0] += 600
    recorded(tmp_path / "in/cut.npz", person)
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--processes", 1,
                "--engine", "strided27-s") == 0
    with np.load(tmp_path / "out/cut.npz") as result:
        assert len(result["timestamps_s"]) == 40 and np.flatnonzero(result["was_reset"]).tolist() == [0, 20]


def test_people_of_a_recording_are_lifted_apart(tmp_path):
    people = np.stack([person_of("coco17", seed=seed) for seed in range(3)], axis=1)
    recorded(tmp_path / "in/all.npz", people)
    for person in range(3):
        recorded(tmp_path / f"in/{person}.npz", people[:, person])
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--processes", 1) == 0
    together = poses_of(tmp_path / "out/all.npz")
    for person in range(3):
        alone, its = poses_of(tmp_path / f"out/{person}.npz"), [pose for pose in together if pose[0] == person]
        assert len(alone) == len(its) == 40
        for a, b in zip(alone, its):
            assert all(np.array_equal(x, y) for x, y in zip(a[1:], b[1:]))


def test_people_who_change_places_in_the_list_are_followed_and_keep_all_their_poses(tmp_path, capfd):
    people = np.stack([person_of("coco17", seed=seed) + [[[200.0 * seed, 0, 0]]] for seed in range(2)], axis=1)
    recorded(tmp_path / "in/sorted.npz", people)
    people[10:20] = people[10:20, ::-1]
    people[25:, ::-1] = people[25:].copy()
    people[30, 0] = 0  # the first in the list is missing: the other keeps its place
    recorded(tmp_path / "in/all.npz", people)
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--processes", 1) == 0
    assert "warning" not in capfd.readouterr().err.lower()
    mine, theirs = poses_of(tmp_path / "out/all.npz"), poses_of(tmp_path / "out/sorted.npz")
    assert len(mine) == len(theirs) == 80
    differing = [a[:2] for a, b in zip(mine, theirs) if not all(np.array_equal(x, y) for x, y in zip(a, b))]
    assert differing == [(1, 0.6)], "the pose of the one who was missing in frame 30 is repeated"


def test_ids_in_a_file_are_taken_and_two_of_one_id_are_refused(tmp_path, capfd):
    people = np.stack([person_of("coco17", seed=seed) + [[[200.0 * seed, 0, 0]]] for seed in range(2)], axis=1)
    ids = np.tile([7, 3], (40, 1))
    ids[20:], people[20:] = ids[20:, ::-1], people[20:, ::-1].copy()
    recorded(tmp_path / "in/a.npz", people, ids=ids)
    recorded(tmp_path / "in/b.npz", people[:20], ids=np.array([7, 3]))
    ids[4] = 7
    recorded(tmp_path / "bad/c.npz", people, ids=ids)
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--processes", 1) == 0
    assert [sum(pose[0] == person for pose in poses_of(tmp_path / "out/a.npz")) for person in (3, 7)] == [40, 40]
    assert {pose[0] for pose in poses_of(tmp_path / "out/b.npz")} == {3, 7}
    assert lift("--input", tmp_path / "bad", "--output", tmp_path / "worse", "--processes", 1) == 1
    assert "ids has 7 twice in frame 4" in capfd.readouterr().err


def test_a_result_explains_itself(recordings, tmp_path):
    out = tmp_path / "out"
    assert lift("--input", recordings / "balance_cam1.npz", "--output", out, "--engine", "strided27-s",
                "--smooth", "--fps", "30") == 0
    engine = edgepose.load("strided27-s")
    with np.load(out / "balance_cam1.npz") as result:
        assert list(result["joint_names"]) == list(engine.skeleton.joints)
        assert (result["layout"], result["fps"]) == ("coco17", 30)
        assert result["image_size"].tolist() == [1088, 1920] and result["isa"] == engine.isa
        made_by = json.loads(str(result["made_by"]))
    assert made_by["edgepose"] == edgepose.__version__ and made_by["recording"]["name"] == "balance_cam1.npz"
    assert made_by["options"] == {  # all that the engine can use
        "layout": None, "image_size": None, "fps": 30, "delay_frames": 13,
        "smoothing": {"min_cutoff_hz": 1.0, "beta": 5.0, "d_cutoff_hz": 1.0}, "formats": None,
        "known": None, "constant_bones": None}
    assert made_by["engine"]["weights_sha256"] == engine.header["weights_sha256"]
    assert [made_by["engine"][key] for key in ("model", "precision", "backend")] == ["strided27-s", "fp16", "native"]


def test_results_are_the_same_bytes_whoever_makes_them(recordings, tmp_path):
    for processes in (1, 2):
        assert lift("--input", f"{recordings}/**/*.npz", "--output", tmp_path / f"{processes}",
                    "--processes", processes) == 0
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert list(one) == ["b/balance_cam2.npz", "b/c/balance_cam3.npz", "balance_cam1.npz"] and one == two


def test_ray_makes_the_same_bytes(recordings, tmp_path, capsys):
    pytest.importorskip("ray", reason="needs Ray")
    (recordings / "broken.npz").write_bytes(b"nothing")
    for folder, crew in (("processes", ["--processes", 1]), ("ray", ["--processes", 2, "--ray"])):
        assert lift("--input", recordings, "--output", tmp_path / folder, *crew) == 1
        assert "broken.npz is no .npz file" in capsys.readouterr().err
    assert contents(tmp_path / "ray") == contents(tmp_path / "processes") and len(contents(tmp_path / "ray")) == 3


# The inputs


def names(inputs, output):
    return [job.name for job in lift_command.find_recordings(list(map(str, inputs)), Path(output))]


def test_recordings_keep_their_place_below_the_folder_that_is_searched(tmp_path, monkeypatch):
    for name in ("a/1.npz", "a/b/2.npz", "a/b/c/3.npz", "a/[x].npz", "a/.hidden/4.npz"):
        recorded(tmp_path / name)
    (tmp_path / "a/notes.txt").touch()
    (tmp_path / "a/5.npz").mkdir()
    out = tmp_path / "out"
    everything = ["1.npz", "[x].npz", "b/2.npz", "b/c/3.npz"]
    for inputs in ([tmp_path / "a"], [f"{tmp_path}/a/**/*.npz"], [f"{tmp_path}/a/**/*"]):
        assert names(inputs, out) == everything
    assert names([f"{tmp_path}/a/*/*.npz"], out) == ["b/2.npz"] and names([f"{tmp_path}/*/1.npz"], out) == ["a/1.npz"]
    assert names([tmp_path / "a/[x].npz", tmp_path / "a/b/2.npz"], out) == ["[x].npz", "2.npz"]
    assert names([tmp_path / "a", f"{tmp_path}/a/b/*.npz", tmp_path / "a/1.npz"], out) == everything  # each file once
    monkeypatch.chdir(tmp_path / "a")
    assert names(["**/*.npz"], "../out") == names(["."], out) == everything
    (job,) = lift_command.find_recordings(["b/2.npz"], Path("../out"))
    assert (job.recording, job.output) == (tmp_path / "a/b/2.npz", tmp_path / "out/2.npz")


def test_a_recording_that_links_give_several_names_is_one(tmp_path):
    a, elsewhere = tmp_path / "a", tmp_path / "elsewhere"
    for path in (a / "x/1.npz", a / "y/z/2.npz", elsewhere / "3.npz"):
        recorded(path)
    for link, target in (("x/loop", ".."), ("y/loop", "."), ("b", "y/z"), ("0.npz", "x/1.npz"),
                         ("out", "../elsewhere"), ("out2", "../elsewhere")):
        (a / link).symlink_to(target)
    (elsewhere / "back").symlink_to(".")
    assert names([a], "poses") == ["x/1.npz", "y/z/2.npz", "out/3.npz"]
    (a / "y/loop").unlink()
    (elsewhere / "back").unlink()
    assert names([f"{a}/**/*.npz"], "poses") == ["x/1.npz", "y/z/2.npz", "out/3.npz"]
    (tmp_path / "linked").symlink_to(a)
    assert names([tmp_path / "linked", a], "poses") == ["x/1.npz", "y/z/2.npz", "out/3.npz"]


def test_results_inside_of_the_archive_are_no_recordings(tmp_path):
    recorded(tmp_path / "a/1.npz"), recorded(tmp_path / "a/poses/1.npz")
    assert names([tmp_path / "a"], tmp_path / "a/poses") == ["1.npz"]
    assert names([f"{tmp_path}/**/*.npz"], tmp_path / "a/poses") == ["a/1.npz"]
    assert names([tmp_path / "a"], tmp_path / "elsewhere") == ["1.npz", "poses/1.npz"]
    recorded(tmp_path / "raw/2.npz")
    assert names([tmp_path / "raw"], tmp_path) == ["2.npz"]  # the output may lie above the input


@pytest.mark.parametrize("inputs, output, message", [
    (["nowhere"], "out", "--input nowhere: there is no such file or folder"),
    (["a/*.np"], "out", r"--input a/\*.np: no file of keypoints \(.npz, .json, .npy, .csv\) is there"),
    (["empty"], "out", "--input empty: no file of keypoints"),
    (["a", "none/*"], "out", "--input none/.*: no file of keypoints"),
    (["a/notes.txt"], "out", r"--input a/notes.txt: wanted files of keypoints \(.npz"),
    (["a/poses"], "a", "a/1.npz is no result of edgepose lift"),
    (["a/1.npz", "b/1.npz"], "out",
     "a/1.npz and .*b/1.npz would both be written to .*out/1.npz: search a folder that both lie in"),
    (["a"], "a", "a/1.npz is a recording, and would be written over"), (["b"], "b/.", "b/1.npz is a recording"),
    (["only"], "only/poses", r"--input only: no file of keypoints \(.*\) is there, but for those in .*only/poses"),])
def test_inputs_that_cannot_be_meant_are_answered_before_any_work(tmp_path, monkeypatch, capsys,
                                                                  inputs, output, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.npz", "b/1.npz", "a/poses/1.npz", "only/poses/1.npz"):
        recorded(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a/notes.txt").touch()
    before = contents(tmp_path)
    assert lift("--input", *inputs, "--output", output) == 1
    assert re.search(message, capsys.readouterr().err) and contents(tmp_path) == before


@pytest.mark.parametrize("options, message", [
    (["--processes", "0"], "--processes is 0; wanted"), (["--fps", "nan"], "--fps is nan"),
    (["--image-size", "0", "9"], "image_size is"), (["--engine", "nobody"], "shipped are ampose"),
    (["--delay", "1"], "delay_frames is 1; .* wanted 0"), (["--delay", "-1"], "delay_frames is -1"),])
def test_options_that_cannot_be_are_answered_before_any_work(recordings, tmp_path, capsys, options, message):
    assert lift("--input", recordings, "--output", tmp_path / "out", *options) == 1
    assert re.search(message, capsys.readouterr().err) and not (tmp_path / "out").exists()


# Finished recordings and unfinished ones


def test_what_is_finished_is_not_done_again(recordings, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert lift("--input", recordings, "--output", out) == 0
    assert lift("--input", f"{recordings}/b", "--output", out / "b") == 0  # the same results, named another way
    assert "2 recordings, 2 finished before" in capsys.readouterr().out
    before = {path: path.stat().st_ino for path in out.rglob("*.npz")}
    # A machine that fell left this file half written.
    (out / "b/balance_cam2.npz").rename(out / "b/.balance_cam2.npz.1234.part")
    assert lift("--input", recordings, "--output", out) == 0
    assert "3 recordings, 2 finished before" in capsys.readouterr().out
    after = {path: path.stat().st_ino for path in out.rglob("*.npz") if path.suffix == ".npz"}
    assert list(after) == list(before) and sum(after[path] == before[path] for path in before) == 2
    monkeypatch.setattr(lift_command, "Processes", lambda *_: pytest.fail("workers were started"))
    assert lift("--input", recordings, "--output", out) == 0


@pytest.mark.parametrize("options, message", [
    (["--engine", "martinez-s"], "engine model 'ampose', not 'martinez-s'"),
    (["--smooth"], "options smoothing None, not {'min_cutoff_hz': 1.0"),
    (["--fps", "30"], "options fps None, not 30.0"),
    (["--layout", "coco17-demo"], "options layout None, not 'coco17-demo'"),])
def test_a_result_made_otherwise_is_kept_until_told(recordings, tmp_path, capsys, options, message):
    command = ["--input", recordings, "--output", tmp_path / "out", "--processes", 1]
    assert lift(*command) == 0
    before = contents(tmp_path / "out")
    assert lift(*command, *options) == 1
    errors = capsys.readouterr().err
    assert f"out/b/balance_cam2.npz is made with {message}" in errors
    assert "and 2 more results differ: --redo lifts again" in errors
    assert contents(tmp_path / "out") == before
    if "--engine" in options:
        assert lift(*command, *options, "--redo") == 0 and lift(*command, *options) == 0
        after = contents(tmp_path / "out")
        assert list(after) == list(before) and not set(after.values()) & set(before.values())


def test_another_version_or_file_of_the_engine_makes_another_result(recordings, tmp_path, capsys, monkeypatch):
    engine = shutil.copy(edgepose.load("martinez-s").path, tmp_path / "mine.epose")
    command = ["--input", recordings / "balance_cam1.npz", "--output", tmp_path / "out", "--processes", 1, "--engine"]
    assert lift(*command, engine) == 0 and lift(*command, "martinez-s") == 0  # the same engine file
    monkeypatch.setattr(lift_command, "version", lambda _: "0.0.9")
    assert lift(*command, engine) == 1
    assert f"is made with edgepose '{edgepose.__version__}', not '0.0.9'" in capsys.readouterr().err


@pytest.mark.parametrize("changed, message", [("recording", "is made of other keypoints than the recording has now"),
                                              ("result", "is no result of edgepose lift, or damaged")])
def test_a_recording_or_result_that_has_changed_is_noticed(recordings, tmp_path, capsys, changed, message):
    command = ["--input", recordings, "--output", tmp_path / "out", "--processes", 1]
    assert lift(*command) == 0
    before = contents(tmp_path / "out")
    if changed == "recording":
        shutil.copy(recordings / "b/balance_cam2.npz", recordings / "balance_cam1.npz")
    else:
        (tmp_path / "out/balance_cam1.npz").write_bytes(before["balance_cam1.npz"][:-100])
    assert lift(*command) == 1 and f"out/balance_cam1.npz {message}" in capsys.readouterr().err
    assert lift(*command, "--redo") == 0 and "3 recordings, 2 finished before" in capsys.readouterr().out
    after = contents(tmp_path / "out")
    assert (after == before) == (changed == "result")


def test_a_result_that_could_not_be_made_anew_is_named(recordings, tmp_path, capsys):
    command = ["--input", recordings, "--output", tmp_path / "out", "--processes", 1]
    assert lift(*command) == 0
    (recordings / "balance_cam1.npz").write_bytes(b"nothing")
    assert lift(*command, "--engine", "martinez-s", "--redo") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1 of 3 recordings could not be lifted:" and "balance_cam1.npz is no .npz file" in lines[1]
    assert lines[2:] == ["old results of these, made with other settings, are still there:",
                         f"  {tmp_path}/out/balance_cam1.npz"]


def test_results_of_no_recording_are_not_mixed_with_others_unsaid(recordings, tmp_path, capsys):
    out = tmp_path / "out"
    np.savez(tmp_path / "poses.npz", joints_m=np.zeros(3))
    command = ["--input", recordings, "--output", out, "--processes", 1]
    assert lift(*command) == 0
    shutil.copy(tmp_path / "poses.npz", out)  # somebody else's file
    (recordings / "balance_cam1.npz").unlink()
    # The result belongs to no recording, but was made with the same settings.
    assert lift(*command) == 0 and capsys.readouterr().err == ""
    assert lift(*command, "--engine", "martinez-s") == 1 and "--redo" in capsys.readouterr().err
    difference = f"{out}/balance_cam1.npz is made with engine model 'ampose', not 'martinez-s'"
    for _ in range(2):
        assert lift(*command, "--engine", "martinez-s", "--redo") == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines == ["results in this folder that were made with other settings, of recordings that "
                         "--input does not name:", f"  {difference}"]
    assert lift(*command, "--engine", "martinez-s") == 1
    assert f"{difference}; no recording of --input belongs to it: remove it" in capsys.readouterr().err


# Errors


def test_of_many_failures_the_first_are_listed(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i in range(lift_command.MOST_LISTED + 3):
        (tmp_path / f"in/{i:02}.npz").write_bytes(b"nothing")
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--processes", 1) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22 and lines[0] == "23 of 23 recordings could not be lifted:" and "19.npz is no" in lines[20]
    assert lines[21] == "  and 3 more"


def test_a_broken_recording_does_not_stop_the_others_and_is_listed(recordings, tmp_path, capsys):
    (recordings / "a.npz").write_bytes(b"nothing")
    (recordings / "gone.npz").symlink_to(tmp_path / "nowhere.npz")
    recorded(recordings / "late.npz", timestamps_s=np.zeros(40))
    people = np.stack([person_of("coco17"), person_of("coco17", seed=1)], axis=1)
    people[7, 1, 3] = (np.nan, 5, 1)
    recorded(recordings / "nan.npz", people)
    recorded(recordings / "nobody.npz", np.zeros((5, 17, 3)))
    recorded(recordings / "other.npz", np.ones((5, 16, 3)) * 100)
    assert lift("--input", recordings, "--output", tmp_path / "out") == 1
    output, errors = capsys.readouterr()
    assert "4 of 9 lifted, 305 frames -> 300 poses" in output and "; 1 without a pose; 5 failed" in output
    lines = errors.splitlines()
    assert lines[0] == "5 of 9 recordings could not be lifted:" and len(lines) == 6
    for line, message in zip(lines[1:], (
            "a.npz is no .npz file", "gone.npz is no .npz file of arrays .*No such file",
            "late.npz: timestamps_s goes from 0 to 0 and never forward",
            r"nan.npz: frame 7: person 1: keypoint 3 is \(nan, 5, 1\)",
            r"other.npz: frame 0: keypoints_px has shape \(16, 3\)")):
        assert re.search(message, line), line
    with np.load(tmp_path / "out/nobody.npz") as result:
        assert result["joints_m"].shape == (0, 17, 3) and result["is_seen"].shape == (0, 17)


def test_a_recording_is_lifted_with_its_place_and_constant_bones(tmp_path):
    keypoints = person_of("coco17", 60)
    options = ("--intrinsics", "1500", "1500", "960", "540", "--height", "1.8", "--constant-bones")
    recorded(tmp_path / "in" / "walk.npz", keypoints)
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--processes", 1, *options) == 0
    with np.load(tmp_path / "out" / "walk.npz") as result:
        assert result["root_m"].shape == result["root_error_m"].shape == (len(result["joints_m"]), 3)
        forearms = np.linalg.norm(result["joints_m"][:, 13] - result["joints_m"][:, 12], axis=1)
        assert np.ptp(forearms) < 1e-5 * forearms.mean()
        made_by = json.loads(str(result["made_by"]))["options"]
        assert made_by["known"] == {"camera": [1500, 1500, 960, 540], "height_m": 1.8} and made_by["constant_bones"]
