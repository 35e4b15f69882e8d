import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from walking import film

import edgepose
from edgepose.cli import main
from edgepose.clip import load_windows
from edgepose.commands import stream as stream_command
from edgepose.pictures import video
from edgepose.pictures.detector import Detector

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cv2():
    return pytest.importorskip("cv2", reason="videos are read and written by OpenCV")


def write(cv2, path, frames, fps=30.0, fourcc="MJPG"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), fps, (frames.shape[2], frames.shape[1]))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV does not write {fourcc} {path.suffix}")
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def movie(cv2, tmp_path_factory):
    rendered = film(24, seed=0)
    return write(cv2, tmp_path_factory.mktemp("films") / "walk.avi", rendered.frames.numpy()), rendered


@pytest.mark.parametrize("suffix, fourcc", [("avi", "MJPG"), ("mp4", "mp4v")])
def test_a_files_frames_come_in_rgb_with_their_times(cv2, tmp_path, suffix, fourcc):
    frames = np.zeros((10, 64, 96, 3), np.uint8)
    frames[:, :, :, 0], frames[5:, :, :, 2] = 200, 100
    path = write(cv2, tmp_path / f"a.{suffix}", frames, fps=12.5, fourcc=fourcc)
    read = list(video.video_frames(path))
    np.testing.assert_allclose([t for t, _ in read], np.arange(10) / 12.5, atol=1e-6)
    for (_, image), frame in zip(read, frames):
        # What the compression leaves.
        assert image.shape == frame.shape and np.abs(image.astype(int) - frame).max() < 12
    np.testing.assert_allclose([t for t, _ in video.video_frames(path, fps=50.0)], np.arange(10) / 50, atol=1e-9)


def fake_cv2(stamps_ms, fps):
    class Capture:
        def __init__(self, source):
            self.frame = -1

        def get(self, key):
            return fps if key == "fps" else stamps_ms[self.frame]

        def read(self):
            self.frame += 1
            return self.frame < len(stamps_ms), np.zeros((4, 4, 3), np.uint8)

        def release(self):
            pass
    return SimpleNamespace(VideoCapture=Capture, CAP_PROP_FPS="fps", CAP_PROP_POS_MSEC="ms")


@pytest.mark.parametrize("stamps_ms, fps, wanted", [
    ([0, 40, 90, 130], 25.0, [0, 0.04, 0.09, 0.13]),  # a variable rate
    ([0, 0, 0], 10.0, [0, 0.1, 0.2]),  # a format without times
    ([0, 0], 0.0, [0, 0.04])])  # a format without times and without a rate
def test_times_always_increase(monkeypatch, tmp_path, stamps_ms, fps, wanted):
    (tmp_path / "a.avi").touch()
    monkeypatch.setitem(sys.modules, "cv2", fake_cv2(stamps_ms, fps))
    np.testing.assert_allclose([t for t, _ in video.video_frames(tmp_path / "a.avi")], wanted)


def test_a_camera_that_ends_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", fake_cv2([0, 0, 0], 30.0))
    times_s = []
    with pytest.raises(ValueError, match="camera 3 gives no pictures any more"):
        for stamp_s, _ in video.camera_frames(3, give_up_s=0):
            times_s.append(stamp_s)
    assert len(times_s) == 3 and times_s[0] == 0 and times_s == sorted(times_s)


@pytest.mark.parametrize("content, error", [(None, FileNotFoundError), (b"", ValueError), (b"no video", ValueError)])
def test_a_file_without_pictures_is_refused(cv2, tmp_path, content, error):
    path = tmp_path / "a.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match="a.avi"):
        list(video.video_frames(path))


def test_without_opencv_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    pytest.importorskip("onnxruntime")
    assert main(["stream", "--video", str(tmp_path / "a.avi")]) == 1
    assert "pip install 'edgepose[video]'" in capsys.readouterr().err


class Blinking(Detector):
    """A detector that finds somebody in all but every third frame."""

    layout = "coco17"

    def __init__(self):
        self.calls = -1

    def __call__(self, image):
        self.calls += 1
        if self.calls % 3 == 2:
            return None
        return np.column_stack([np.arange(17) * 4.0, np.arange(17) * 5.0, np.full(17, 0.9)])


def test_a_clip_of_a_video_knows_when_nobody_was_found(movie):
    (clip,), times_ms = stream_command.film_people(movie[0], Blinking())
    assert [clip.seen_in(i) is None for i in range(24)] == [i % 3 == 2 for i in range(24)] and len(times_ms) == 24
    assert clip.image_size == (256, 192) and clip.fps == pytest.approx(30, rel=1e-3)
    assert clip.time_of(3) == pytest.approx(0.1)


def test_the_command_lifts_a_video_by_the_shipped_detector(movie, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="the shipped detector runs in onnxruntime")
    out, picture = tmp_path / "poses.npz", tmp_path / "poses.png"
    assert main(["stream", "--video", str(movie[0]), "--out", str(out), "--plot", str(picture)]) == 0
    output = capsys.readouterr().out
    assert re.search(r"somebody in 2[0-4] of 24 frames by shipped, p50", output) and picture.is_file()
    with np.load(out) as poses:
        joints_m, frames = poses["joints_m"], np.rint(poses["timestamp_s"] * 30).astype(int)
    truth = movie[1].joints_m.numpy()[frames]
    mean_pose = load_windows(1)[1].mean(0)
    errors = [np.linalg.norm(pose - truth, axis=-1).mean() for pose in (joints_m, mean_pose)]
    assert errors[0] < 2 / 3 * errors[1]  # the bound of test_detector.py, after the compression


@pytest.mark.parametrize("arguments, message", [
    (["--video", "gone.mp4"], "no video at gone.mp4"),
    (["--video", "gone.mp4", "--detector", "nobody"], "no video at gone.mp4"),
    (["--video", __file__, "--detector", "nobody"], "no detector 'nobody'"),
    (["--video", __file__, "--layout", "body25"], "layout 'body25' has 25 keypoints; the detector gives 'coco17'"),
    (["--video", "gone.mp4", "--image-size", "9", "9"], "a video has its own"),
    (["--flip-test"], "a clip has its keypoints"), (["--detector", "rtmlib"], "a clip has its keypoints"),
    (["--camera", "0", "--fps", "30"], "--fps is for clips and videos"),
    (["--detector", "shipped"], "a clip has its keypoints")])
def test_options_that_do_not_go_together_are_answered(cv2, capsys, arguments, message):
    pytest.importorskip("onnxruntime")
    assert main(["stream", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("arguments, message", [
    (["--fps", "0"], "--fps is 0.0; wanted a number above 0"), (["--fps", "-5"], "--fps is -5.0"),
    (["--fps", "nan"], "--fps is nan"), (["--delay", "3"], "delay_frames is 3"),
    (["--engine", "strided27-s", "--delay", "14"], "delay_frames is 14; a window of 27 frames takes 0 to 13")])
def test_an_impossible_number_is_refused_before_anything_is_opened(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(stream_command, "open_detector", lambda *_, **__: pytest.fail("a detector was opened"))
    assert main(["stream", "--video", "gone.mp4", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_rate_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.avi").touch()
    with pytest.raises(ValueError, match="fps is 0; wanted a number above 0"):
        next(video.video_frames(tmp_path / "a.avi", fps=0))


def test_a_missing_video_is_told_before_a_detector_is_opened(cv2, monkeypatch, capsys):
    monkeypatch.setattr(stream_command, "open_detector", lambda *_, **__: pytest.fail("a detector was opened"))
    assert main(["stream", "--video", "gone.mp4"]) == 1
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "edgepose stream: no video at gone.mp4\n")


def test_the_demonstration_is_named_where_it_is_taken_by_default(cv2, monkeypatch, capsys):
    monkeypatch.setattr(stream_command, "open_detector", lambda *_, **__: Blinking())
    for arguments, is_told in (([], True), (["--detector", "shipped"], False)):
        assert main(["stream", "--video", __file__, *arguments]) == 1
        assert ("no --detector given: hrnet-w8, which ships, is a demonstration" in capsys.readouterr().out) == is_told


def test_a_camera_is_lifted_live_until_interrupted(monkeypatch, tmp_path, capsys):
    rendered = film(4, seed=2)
    detector = Blinking()

    def frames(camera, **_):
        assert camera == "7"
        for i in range(12):
            yield i * 0.3, rendered.frames[i % 4].numpy()
        raise KeyboardInterrupt

    monkeypatch.setattr(stream_command, "camera_frames", frames)
    monkeypatch.setattr(stream_command, "open_detector", lambda *_, **__: detector)
    out = tmp_path / "poses.npz"
    assert main(["stream", "--camera", "7", "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert len(re.findall(r"frames/s  Pose\(", output)) >= 2 and detector.calls == 11
    with np.load(out) as poses:
        # 12 frames; in one of three nobody is found, and its last pose is repeated.
        assert len(poses["joints_m"]) == 12 and poses["timestamp_s"][-1] == pytest.approx(3.3)


def test_a_camera_that_is_interrupted_is_answered_to_the_last_frame(monkeypatch):
    def frames(camera, **_):
        yield from ((i * 0.02, np.zeros((192, 256, 3), np.uint8)) for i in range(10))
        raise KeyboardInterrupt

    monkeypatch.setattr(stream_command, "camera_frames", frames)
    poses = stream_command.watch(edgepose.load("strided27-s"), 0, Blinking(), delay_frames=3, keep=True)
    assert [(person, pose.timestamp_s) for person, pose in poses] == [
        (0, pytest.approx(i * 0.02)) for i in range(10)]


def test_a_film_of_a_video_has_its_pictures_behind_the_keypoints(tmp_path, monkeypatch):
    from edgepose.commands.stream import small_frames

    images = [np.full((1000, 600, 3), shade, np.uint8) for shade in (10, 200)]
    monkeypatch.setattr(stream_command, "video_frames", lambda path, fps: iter([(0.0, images[0]), (0.04, images[1])]))
    frames = small_frames("walk.mp4")
    assert [frame.shape for frame in frames] == [(334, 200, 3)] * 2
    assert [int(frame.mean()) for frame in frames] == [10, 200]


def test_a_camera_below_zero_is_refused_before_opencv_sees_it():
    with pytest.raises(ValueError, match="camera is -1; wanted 0 or more"):
        next(video.camera_frames(-1))
