import re
import sys

import numpy as np
import pytest

import edgepose
from edgepose import metrics
from edgepose.cli import main
from edgepose.clip import load_clip, reference_of, stream_clip
from edgepose.commands import stream as stream_command


@pytest.mark.parametrize("name", ["balance_cam1", "balance_cam2", "balance_cam3"])
def test_a_shipped_clip_of_real_detections_lifts_near_its_reference(name):
    clip = load_clip(name)
    poses, times_ms = stream_clip(edgepose.load("ampose"), clip)
    assert len(poses) == len(times_ms) == len(clip.keypoints_px) and sum(pose.was_reset for pose in poses) == 1
    joints_mm, reference_mm = 1e3 * np.stack([pose.joints_m for pose in poses]), 1e3 * reference_of(poses, clip)
    best_constant_mm = np.broadcast_to(reference_mm.mean(0), reference_mm.shape)  # no model can know this pose
    assert metrics.mpjpe(joints_mm, reference_mm) < metrics.mpjpe(best_constant_mm, reference_mm)


def test_the_command_writes_poses_and_a_picture(tmp_path, capsys):
    out, picture = tmp_path / "poses.npz", tmp_path / "poses.png"
    assert main(["stream", "--smooth", "--out", str(out), "--plot", str(picture)]) == 0
    with np.load(out) as poses:
        assert poses["joints_m"].shape == (100, 17, 3) and poses["timestamp_s"][1] == pytest.approx(1 / 60)
        assert list(poses["joint_names"])[0] == "pelvis"
    assert picture.read_bytes()[:4] == b"\x89PNG" and "p99" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["npz", "jsonl"])
def test_people_without_ids_are_followed_and_written_apart(tmp_path, capsys, suffix):
    left, right = (load_clip(name).keypoints_px for name in ("balance_cam2", "balance_cam3"))
    everybody = np.stack([left, right + [1088, 0, 0]], axis=1)
    everybody[1::2] = everybody[1::2, ::-1].copy()
    np.savez(tmp_path / "two.npz", coco17=everybody, fps=60, image_size=(2176, 1920))
    command = ["stream", "--clip", str(tmp_path / "two.npz"), "--engine", "dln-s"]
    assert main([*command, "--out", str(tmp_path / f"poses.{suffix}")]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"person (\d): frames 0 to 99 at 60 Hz -> 100 poses by .*; resets: 0", said) == ["0", "1"]
    if suffix == "npz":
        with np.load(tmp_path / "poses.npz") as poses:
            assert poses["person"].tolist() == [0] * 100 + [1] * 100 and poses["joints_m"].shape == (200, 17, 3)
    else:
        assert len((tmp_path / "poses.jsonl").read_text().splitlines()) == 200
    assert main([*command, "--plot", str(tmp_path / "two.png")]) != 0
    assert "--plot shows one person; two has 2" in capsys.readouterr().err


def test_a_clip_of_another_detector_streams_by_its_layout(tmp_path, capsys):
    random = np.random.default_rng(0)
    keypoints = np.concatenate([random.uniform(100, 400, (5, 25, 2)), random.uniform(0.5, 1, (5, 25, 1))], -1)
    np.savez(tmp_path / "mine.npz", keypoints=keypoints)
    clip = str(tmp_path / "mine.npz")
    assert main(["stream", "--clip", clip, "--layout", "body25", "--image-size", "640", "480", "--fps", "30"]) == 0
    assert main(["stream", "--clip", clip, "--layout", "body25"]) == 1
    assert "mine.npz: say --fps HZ and --image-size WIDTH HEIGHT" in capsys.readouterr().err


MINE = {"coco17": np.random.default_rng(0).uniform(100, 400, (3, 17, 3)), "fps": 30, "image_size": (640, 480)}


@pytest.mark.parametrize("content, arguments, message", [
    (None, [], "those that ship"), (b"not an archive", [], "no .npz file"),
    (b"PK\x03\x04" + bytes(100), [], "clip.npz is no .npz file of arrays"),
    ({**MINE, "fps": "fast"}, [], "clip.npz: fps is 'fast'; wanted one number above 0"),
    ({**MINE, "fps": 0}, [], "clip.npz: fps is 0; wanted"), ({**MINE, "fps": np.nan}, [], "clip.npz: fps is nan"),
    ({**MINE, "fps": (30, 30)}, [], r"clip.npz: fps is \[30, 30\]"),
    ({**MINE, "image_size": 640}, [], "clip.npz: image_size is 640; wanted 2 numbers above 0"),
    ({**MINE, "image_size": (640, -480)}, [], r"clip.npz: image_size is \[640, -480\]"),
    ({**MINE, "image_size": (640, 480, 3)}, [], r"clip.npz: image_size is \[640, 480, 3\]"),
    ({**MINE, "image_size": (64, 48)}, [],
     r"clip.npz: 100% of the keypoints are outside of a picture of 64 x 48; their median is \(\d+, \d+\)"),
    (MINE, ["--image-size", "64", "48"], "outside of a picture of 64 x 48"),
    (MINE, ["--fps", "0"], "--fps is 0.0; wanted a number above 0"),
    (MINE, ["--fps", "nan"], "--fps is nan"), (MINE, ["--fps", "inf"], "--fps is inf"),
    (MINE, ["--image-size", "0", "480"], r"image_size is \(0.0, 480.0\)"),
    ({**MINE, "reference_m": np.zeros((3, 16, 3))}, [],
     r"clip.npz: reference_m is float64 of shape \(3, 16, 3\); wanted finite metres, \(3, 17, 3\)"),
    ({**MINE, "reference_m": np.full((3, 17, 3), np.nan)}, [], "clip.npz: reference_m is .*finite"),
    ({**MINE, "coco17": np.full((3, 17, 3), "x")}, [],
     r"clip.npz: the keypoints are <U1 of shape \(3, 17, 3\); wanted numbers"),
    ({**MINE, "coco17": np.ones((3, 17, 4))}, [], r"\(3, 17, 4\); wanted numbers, \(frames, K, 2 or 3\)"),
    ({"points": np.zeros((3, 17, 2))}, [], "has the arrays points"),
    ({"coco17": np.zeros((0, 17, 3)), "fps": 30, "image_size": (9, 9)}, [], r"\(0, 17, 3\)"),
    ({"coco17": np.zeros((3, 17, 3)), "fps": 30, "image_size": (9, 9)}, [], "nobody was detected"),
    ({"coco17": np.pad(np.full((3, 5, 3), 50.0) * (1, 1, 0.018), ((0, 0), (0, 12), (0, 0))), "fps": 30,
      "image_size": (99, 99)}, [],
     "no frame of 3 gave a pose: someone was detected in 3 of them, but never with a hip or both shoulders"),
    ({**MINE, "coco17": MINE["coco17"] / (640, 480, 400)}, [],
     "clip.npz: the keypoints are all within 2 px of the corner"),
    ({"coco17": np.full((3, 16, 3), 5.0), "fps": 30, "image_size": (9, 9)}, [], r"\(16, 3\)"),
    ({"coco17": np.ones((3, 17, 3)), "fps": 30, "image_size": (9, 9)}, ["--engine", "nobody"], "shipped are ampose"),
    ({"coco17": np.ones((3, 17, 3)), "fps": 30, "image_size": (9, 9)}, ["--delay", "4"],
     "delay_frames is 4; .* wanted 0"),
])
def test_a_clip_that_cannot_be_streamed_is_answered(tmp_path, capsys, content, arguments, message):
    file = tmp_path / "clip.npz"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        np.savez(file, **content)
    assert main(["stream", "--clip", str(file), *arguments]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error) and "Traceback" not in error


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_clip_is_named(tmp_path, share):
    np.savez_compressed(tmp_path / "clip.npz", **MINE)
    whole = (tmp_path / "clip.npz").read_bytes()
    (tmp_path / "clip.npz").write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match="clip.npz is no .npz file of arrays"):
        load_clip(str(tmp_path / "clip.npz"))


def test_a_single_array_is_told_from_an_archive(tmp_path):
    np.save(tmp_path / "clip.npy", MINE["coco17"])
    (tmp_path / "clip.npy").rename(tmp_path / "clip.npz")
    with pytest.raises(ValueError, match=r"clip.npz is no .npz file .*one array of shape \(3, 17, 3\), "
                       r"an .npy file; write it with np.savez"):
        load_clip(str(tmp_path / "clip.npz"))


def test_a_person_half_out_of_the_picture_is_no_wrong_picture(tmp_path):
    keypoints = MINE["coco17"].copy()
    keypoints[:, 9:, 1] += 400  # the legs are guessed below the picture's edge
    keypoints[0, :, 2], keypoints[0, :, :2] = 0, 1e5  # nobody is there
    np.savez(tmp_path / "clip.npz", **{**MINE, "coco17": keypoints})
    assert load_clip(str(tmp_path / "clip.npz")).image_size == (640, 480)


@pytest.mark.parametrize("option, name, module, wanted", [
    ("--plot", "a.png", "matplotlib", r"\[plot\]"), ("--save", "a.gif", "PIL", r"\[plot\]"),
    ("--save", "a.mp4", "av", r"\[plot\]"), ("--live", "a.rrd", "rerun", r"\[live\]"),
    ("--live", None, "rerun", r"\[live\]"), ("--video", "a.avi", "cv2", r"\[video\]")])
def test_a_library_that_is_missing_is_noticed_before_any_work(tmp_path, monkeypatch, capsys,
                                                              option, name, module, wanted):
    monkeypatch.setitem(sys.modules, module, None)
    for work in ("stream_clip", "film_people", "open_detector"):
        monkeypatch.setattr(stream_command, work, lambda *_, **__: pytest.fail("work was done"))
    assert main(["stream", option, *([str(tmp_path / name)] if name else [])]) == 1
    assert re.search(f"which is not installed: pip install 'edgepose{wanted}'", capsys.readouterr().err)


def test_every_frame_of_a_clip_is_answered_also_under_delay():
    engine = edgepose.load("strided27-s")
    clip = load_clip("balance_cam1")
    shown = []
    late, _ = stream_clip(engine, clip, delay_frames=13, show=shown.append)
    now, _ = stream_clip(engine, clip)
    assert [pose.timestamp_s for pose in late] == [pose.timestamp_s for pose in now] and shown == late


def test_a_pose_depends_on_nobody_else_in_the_call():
    engine = edgepose.load("ampose")
    clips = [load_clip(f"balance_cam{i}") for i in (1, 2, 3)]
    alone = [stream_clip(engine, clip)[0] for clip in clips]
    streams = [edgepose.Stream(engine, clip.layout, clip.image_size) for clip in clips]
    for i in range(0, 100):
        together = edgepose.push_many(streams, [clip.keypoints_px[i] for clip in clips], i / 60)
        for pose, single in zip(together, alone):
            np.testing.assert_array_equal(pose.joints_m, single[i].joints_m)


LENS = ["--intrinsics", "1681", "1681", "540", "964"]


def test_a_lens_and_a_height_give_the_poses_their_place(tmp_path, capsys):
    out = tmp_path / "poses.npz"
    assert main(["stream", *LENS, "--distortion", "-0.05", "0.01", "0", "0", "--height", "1.7", "--constant-bones",
                 "--out", str(out)]) == 0
    assert re.search(r"place         \d\.\d\d to \d\.\d\d m in front of the camera, good to 0\.\d\d m",
                     capsys.readouterr().out)
    with np.load(out) as poses:
        assert poses["root_m"].shape == (100, 3) and 2.5 < np.median(poses["root_m"][:, 2]) < 4.5
        assert (poses["root_error_m"] > 0).all()
    assert main(["stream", "--distortion", "-0.05", "0.01", "0", "0"]) == 1
    assert "--distortion is given and --intrinsics are not; wanted both" in capsys.readouterr().err
    assert main(["stream", "--height", "17"]) == 1
    assert "--height is 17.0; wanted a number from 0.5 to 2.5" in capsys.readouterr().err


class Couple:
    """A detector that lists two people in an order that changes with every picture."""

    layout = "coco17"

    def __init__(self):
        clips = [load_clip(name).keypoints_px for name in ("balance_cam2", "balance_cam3")]
        self._pictures, self._calls = np.stack([clips[0], clips[1] + [1088, 0, 0]], axis=1), 0

    def people(self, image):
        self._calls += 1
        return self._pictures[self._calls - 1][::(-1) ** self._calls]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def pictures(*_, **__):
    """Fifty pictures of 2176 x 1920 px at 60 Hz."""
    yield from ((i / 60, np.zeros((1920, 2176, 3), np.uint8)) for i in range(50))


@pytest.mark.parametrize("source", ["--video", "--camera"])
def test_everybody_in_a_video_or_before_a_camera_is_followed(tmp_path, monkeypatch, capsys, source):
    monkeypatch.setattr(stream_command, "open_detector", lambda *_, **__: Couple())
    monkeypatch.setattr(stream_command, "check_video", lambda *_: None)
    for name in ("video_frames", "camera_frames"):
        monkeypatch.setattr(stream_command, name, pictures)
    out = tmp_path / "poses.npz"
    assert main(["stream", source, "0", "--detector", "both", "--people", "--engine", "dln-s", "--out", str(out)]) == 0
    with np.load(out) as poses:
        assert np.bincount(poses["person"]).tolist() == [50, 50]
        for person in (0, 1):
            assert poses["frame"][poses["person"] == person].tolist() == list(range(50))
    assert main(["stream", "--people"]) == 1
    assert "--people and --flip-test are for --video and --camera" in capsys.readouterr().err
