import re

import numpy as np
import pytest

import edgepose
from edgepose import metrics, recording
from edgepose.cli import main


@pytest.mark.parametrize("name", ["balance_cam1", "balance_cam2", "balance_cam3"])
def test_a_shipped_clip_of_real_detections_lifts_near_its_reference(name):
    clip = recording.load_clip(name)
    poses, times_ms = recording.stream_clip(edgepose.load("ampose"), clip)
    assert len(poses) == len(times_ms) == len(clip.keypoints_px) and sum(pose.was_reset for pose in poses) == 1
    joints_mm, reference_mm = 1e3 * np.stack([pose.joints_m for pose in poses]), 1e3 * recording.reference_of(poses, clip)
    best_constant_mm = np.broadcast_to(reference_mm.mean(0), reference_mm.shape)  # a floor that no model can know
    assert metrics.mpjpe(joints_mm, reference_mm) < metrics.mpjpe(best_constant_mm, reference_mm)


def test_the_command_writes_poses_and_a_picture(tmp_path, capsys):
    out, picture = tmp_path / "poses.npz", tmp_path / "poses.png"
    assert main(["stream", "--smooth", "--out", str(out), "--plot", str(picture)]) == 0
    with np.load(out) as poses:
        assert poses["joints_m"].shape == (100, 17, 3) and poses["timestamp_s"][1] == pytest.approx(1 / 60)
        assert list(poses["joint_names"])[0] == "pelvis"
    assert picture.read_bytes()[:4] == b"\x89PNG" and "p99" in capsys.readouterr().out


def test_a_clip_of_another_detector_streams_by_its_layout(tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", keypoints=np.random.default_rng(0).uniform(100, 400, (5, 25, 3)))
    clip = str(tmp_path / "mine.npz")
    assert main(["stream", "--clip", clip, "--layout", "body25", "--image-size", "640", "480", "--fps", "30"]) == 0
    assert main(["stream", "--clip", clip, "--layout", "body25"]) == 1
    assert "--image-size" in capsys.readouterr().err


@pytest.mark.parametrize("content, arguments, message", [
    (None, [], "those that ship"), (b"not an archive", [], "no .npz file"),
    ({"points": np.zeros((3, 17, 2))}, [], "has the arrays points"),
    ({"coco17": np.zeros((0, 17, 3)), "fps": 30, "image_size": (9, 9)}, [], r"\(0, 17, 3\)"),
    ({"coco17": np.zeros((3, 17, 3)), "fps": 30, "image_size": (9, 9)}, [], "nobody was detected"),
    ({"coco17": np.ones((3, 16, 3)), "fps": 30, "image_size": (9, 9)}, [], r"\(16, 3\)"),
    ({"coco17": np.ones((3, 17, 3)), "fps": 30, "image_size": (9, 9)}, ["--engine", "nobody"], "shipped are ampose"),
    ({"coco17": np.ones((3, 17, 3)), "fps": 30, "image_size": (9, 9)}, ["--delay", "4"], "delay_frames is 4; .* wanted 0"),
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


def test_every_frame_of_a_clip_is_answered_also_under_delay():
    engine = edgepose.load("strided27-s")
    clip = recording.load_clip("balance_cam1")
    shown = []
    late, _ = recording.stream_clip(engine, clip, delay_frames=13, show=shown.append)
    now, _ = recording.stream_clip(engine, clip)
    assert [pose.timestamp_s for pose in late] == [pose.timestamp_s for pose in now] and shown == late


def test_a_pose_depends_on_nobody_else_in_the_call():
    engine = edgepose.load("ampose")
    clips = [recording.load_clip(f"balance_cam{i}") for i in (1, 2, 3)]
    alone = [recording.stream_clip(engine, clip)[0] for clip in clips]
    streams = [edgepose.Stream(engine, clip.layout, clip.image_size) for clip in clips]
    for i in range(0, 100):
        together = edgepose.push_many(streams, [clip.keypoints_px[i] for clip in clips], i / 60)
        for pose, single in zip(together, alone):
            np.testing.assert_array_equal(pose.joints_m, single[i].joints_m)
