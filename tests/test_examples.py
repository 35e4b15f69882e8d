"""Every program of examples/ runs as its first lines say."""

import json
import os
import re
import runpy
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import edgepose
from edgepose.clip import load_clip, stream_clip
from edgepose.pictures import video
from edgepose.skeleton import H36M17

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"


def output_of(example: str, *arguments: object) -> list[str]:
    """The lines that an example prints, run in a process of its own."""
    path = os.pathsep.join([str(Path(edgepose.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run([sys.executable, EXAMPLES / example, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, env={**os.environ, "PYTHONPATH": path, "PATH": programs})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_webcam_follows_the_shipped_clip_without_a_camera():
    lines = output_of("webcam.py", "balance_cam1")
    clip = load_clip("balance_cam1")
    poses, _ = stream_clip(edgepose.load("ampose"), clip, smoothing=edgepose.OneEuro(min_cutoff_hz=1.0, beta=5.0))
    x, y, z = poses[-1].joints_m[poses[-1].skeleton.index("left_wrist")]
    assert len(lines) == len(poses) == 100
    assert lines[-1].endswith(f"left wrist {x:+.2f} {y:+.2f} {z:+.2f} m from the pelvis")


def test_webcam_asks_the_detector_about_every_picture_of_the_camera(monkeypatch, capsys):
    clip, opened = load_clip("balance_cam1"), []
    width, height = map(int, clip.image_size)

    def pictures(camera):
        opened.append(camera)
        yield from ((clip.time_of(i), np.full((height, width, 3), i, np.uint8)) for i in range(5))

    def detector(image):
        return clip.keypoints_px[image[0, 0, 0]]

    detector.layout = clip.layout
    monkeypatch.setattr(video, "camera_frames", pictures)
    monkeypatch.setattr(edgepose, "open_detector", lambda name: nullcontext(detector))
    monkeypatch.setattr(sys, "argv", ["webcam.py", "1"])
    runpy.run_path(str(EXAMPLES / "webcam.py"), run_name="__main__")
    assert opened == ["1"]
    assert capsys.readouterr().out.splitlines() == output_of("webcam.py", "balance_cam1")[:5]


def test_several_people_are_lifted_in_every_picture():
    lines = output_of("several_people.py")
    assert len(lines) == 100 and all(line.count("head") == 3 for line in lines)
    first = load_clip("balance_cam1")
    pose = edgepose.Stream(edgepose.load("dln-s"), first.layout, first.image_size).push(first.keypoints_px[0], 0.0)
    assert lines[0].startswith(f"frame 0: head {-pose.joints_m[pose.skeleton.index('head')][1]:.2f} m above")


def test_who_is_who_follows_both_people_through_a_shuffled_list():
    lines = output_of("who_is_who.py")
    assert len(lines) == 100 and all(re.findall(r"person (\d+)", line) == ["0", "1"] for line in lines)


def test_serve_client_prints_what_a_running_server_answers():
    pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")
    server = subprocess.Popen([sys.executable, "-m", "edgepose", "serve", "--port", "0"], stdout=subprocess.PIPE,
                              text=True)
    try:
        address = server.stdout.readline().split()[2].replace("http", "ws") + "ws"
        lines = output_of("serve_client.py", address)
    finally:
        server.terminate()
        server.wait(timeout=60)
    poses, _ = stream_clip(edgepose.load("ampose"), load_clip("balance_cam1"))
    height_m = -poses[-1].joints_m[poses[-1].skeleton.index("head")][1]
    assert len(lines) == 100 and lines[-1] == f"person 0: head {height_m:.2f} m above the pelvis"


def test_serve_lines_prints_an_answer_for_every_frame():
    lines = output_of("serve_lines.py")
    assert lines[0].startswith("Engine(ampose") and len(lines) == 101
    assert all(line.startswith('{"type": "poses", "feed": 1') for line in lines[1:])


def test_deadline_shows_every_pose_and_what_was_late():
    lines = output_of("deadline.py")
    assert len(lines) == 101 and re.fullmatch(r"\{'not_lifted': \d+, 'late_push': \d+\}", lines[-1])
    counts = [int(number) for number in re.findall(r"\d+", lines[-1])]
    assert sum("predicted for" in line for line in lines) == counts[0]


def test_place_says_where_the_man_on_the_beam_stands():
    lines = output_of("place.py")
    found = np.array([[float(number) for number in re.findall(r"(-?\d+\.\d\d)", line)] for line in lines])
    assert found.shape == (100, 4)
    ahead, error, _, head = np.median(found, axis=0)
    assert 3.0 < ahead < 3.6 and 0.1 < error < 0.4 and 1.2 < head < 1.8


def test_angles_are_lines_of_json():
    lines = [json.loads(line) for line in output_of("angles.py")]
    assert len(lines) == 100 and all(0 <= line["angles_deg"]["left_knee_flexion"] <= 180 for line in lines)
    assert lines[-1]["velocity_m_s"].keys() == set(H36M17.joints)


def test_own_layout_gives_a_pose_for_every_frame():
    lines = output_of("own_layout.py")
    assert len(lines) == 100
    assert all(re.fullmatch(r"Pose\(\d\.\d{3} s, h36m17, \d+ of 17 joints seen(, was_reset)?\)", line)
               for line in lines)
    assert lines[0].endswith(", was_reset)") and not any(line.endswith(", was_reset)") for line in lines[1:])


def test_detector_files_are_lifted_for_opensim(tmp_path):
    lines = output_of("detector_files.py", tmp_path / "walk")
    assert lines[0].startswith("walk: 100 frames at 60 Hz -> 100 poses")
    last = (tmp_path / "walk" / "walk.trc").read_text().splitlines()[-1].split("\t")
    marker = last[2 + 3 * H36M17.index("left_wrist")]
    poses, _ = stream_clip(edgepose.load("ampose"), load_clip("balance_cam1"))
    z_m = poses[-1].joints_m[H36M17.index("left_wrist")][2]
    assert float(marker) == pytest.approx(-1e3 * z_m, abs=0.1)  # OpenSim's x is towards the camera


def test_recorded_archive_makes_a_recording_lifts_it_and_leaves_it_alone_the_second_time(tmp_path):
    lines = output_of("recorded_archive.py", tmp_path / "recordings", tmp_path / "poses")
    assert lines[-1] == "walk.npz: 100 poses of 17 joints, 0.00 to 1.65 s"
    with np.load(tmp_path / "poses" / "walk.npz") as result:
        poses, _ = stream_clip(edgepose.load("ampose"), load_clip("balance_cam1"))
        np.testing.assert_array_equal(result["joints_m"], [pose.joints_m for pose in poses])
    again = output_of("recorded_archive.py", tmp_path / "recordings", tmp_path / "poses")
    assert again[0].startswith("1 recording, 1 finished before") and again[-1] == lines[-1]


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_is_short_and_has_a_test_here(example):
    text = (EXAMPLES / example).read_text()
    assert len(text.splitlines()) <= 32 and text.startswith('"""')
    assert f'output_of("{example}"' in Path(__file__).read_text()
