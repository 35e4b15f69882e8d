"""Films and cameras by address, as pictures, and away for a while: with a real RTSP server and FFmpeg's own files."""

import functools
import http.server
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from edgepose.cli import main
from edgepose.clip import load_clip
from edgepose.commands import stream
from edgepose.pictures import video

SIZE = (192, 144)
SERVE = """
import asyncio
from aio_rtsp_toolkit import server
asyncio.run(server.serve({folder!r}, "127.0.0.1", {port}, control_port={control}))
"""


def shade(i):
    """The red of the i-th picture of a film."""
    return 20 + 4 * i


def film(path, frames=50, stamps=None, codec="libx264"):
    """A film by FFmpeg's libraries; stamps: the time of each picture in 1/1000 s, None for 25 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "5", "bf": "0"} if codec == "libx264" else {})
        stream.pix_fmt, (stream.width, stream.height) = "yuv420p", SIZE
        stream.codec_context.time_base, stream.bit_rate = Fraction(1, 1000), 4_000_000
        for i in range(frames):
            image = np.zeros((*SIZE[::-1], 3), np.uint8)
            image[..., 0] = shade(i)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 40 * i if stamps is None else stamps[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shades(frames):
    return [float(image[..., 0].mean()) for _, image in frames]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RtspServer:
    """aio-rtsp-toolkit's server of the films in a folder, in a process of its own, at one port."""

    def __init__(self, folder):
        self._code = SERVE.format(folder=str(folder), port=(port := free_port()), control=free_port())
        self.address, self._port = f"rtsp://127.0.0.1:{port}", port
        self.start()

    def start(self):
        self._process = subprocess.Popen([sys.executable, "-c", self._code], stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)
        pytest.fail("the RTSP server does not answer")

    def stop(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server(tmp_path):
    film(tmp_path / "walk.mp4")
    running = RtspServer(tmp_path)
    yield running
    running.stop()


def test_a_camera_goes_on_after_its_connection_was_dropped(server):
    drops, stamps_s, seen = [], [], []
    frames = video.camera_frames(f"{server.address}/walk.mp4", on_drop=lambda *drop: drops.append(drop))
    for stamp_s, image in frames:
        stamps_s.append(stamp_s)
        seen.append(float(image[..., 0].mean()))
        if len(seen) == 20:
            server.stop()
            restart = threading.Timer(1.5, server.start)
            restart.start()
        if drops and len(seen) >= 60:
            break
    restart.join()
    assert stamps_s[0] == 0 and (np.diff(stamps_s) > 0).all()
    assert len(drops) == 1 and drops[0][1] == 1 and 1.5 < drops[0][0] < 10
    assert np.diff(stamps_s).max() == pytest.approx(drops[0][0], abs=0.1)
    np.testing.assert_allclose(seen[:10], [shade(i) for i in range(10)], atol=4)
    again = int(np.diff(stamps_s).argmax()) + 1
    np.testing.assert_allclose(seen[again:again + 10], [shade(i) for i in range(10)], atol=4)


def test_a_camera_that_stays_away_is_given_up(server):
    with pytest.raises(ValueError, match="camera rtsp://127.0.0.1:.*/walk.mp4 gives no pictures any more"):
        for i, _ in enumerate(video.camera_frames(f"{server.address}/walk.mp4", give_up_s=1.0)):
            if i == 5:
                server.stop()


def test_a_camera_that_is_not_there_is_an_error_at_once_that_keeps_the_password():
    address = f"127.0.0.1:{free_port()}/walk"
    with pytest.raises(ValueError, match=f"camera rtsp://{address} gives no pictures$"):
        next(video.camera_frames(f"rtsp://somebody:secret@{address}"))


def test_a_film_is_read_over_http(tmp_path):
    film(tmp_path / "walk.mkv")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        frames = list(video.video_frames(f"http://127.0.0.1:{httpd.server_port}/walk.mkv"))
        httpd.shutdown()
    np.testing.assert_allclose(shades(frames), [shade(i) for i in range(50)], atol=4)


@pytest.mark.parametrize("name, codec", [
    ("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx265"), ("a.webm", "libvpx-vp9"),
    ("a.avi", "mpeg4")])
def test_films_that_ffmpeg_writes_are_read_with_their_times(tmp_path, name, codec):
    frames = list(video.video_frames(film(tmp_path / name, 20, codec=codec)))
    np.testing.assert_allclose([stamp_s for stamp_s, _ in frames], np.arange(20) / 25, atol=2e-3)
    np.testing.assert_allclose(shades(frames), [shade(i) for i in range(20)], atol=6)


def test_a_film_of_uneven_times_keeps_them(tmp_path):
    stamps = np.cumsum([0] + [33, 20, 71, 40] * 5).tolist()
    frames = list(video.video_frames(film(tmp_path / "a.mkv", 20, stamps)))
    np.testing.assert_allclose([stamp_s for stamp_s, _ in frames], np.array(stamps[:20]) / 1000, atol=2e-3)


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "walk").mkdir()
    for i in range(12):
        image = np.zeros((*SIZE[::-1], 3), np.uint8)
        image[..., 2] = shade(i)  # OpenCV's order
        cv2.imwrite(str(tmp_path / "walk" / f"frame_{i}.png"), image)
    (tmp_path / "walk" / "notes.txt").touch()
    return tmp_path / "walk"


@pytest.mark.parametrize("pattern", ["", "frame_%d.png", "frame_%06d.png", "*.png", "frame_?*.png"])
def test_a_folder_or_a_pattern_of_pictures_is_a_film(pictures, pattern):
    frames = list(video.video_frames(pictures / pattern, fps=10))
    np.testing.assert_allclose([stamp_s for stamp_s, _ in frames], np.arange(12) / 10)
    np.testing.assert_allclose(shades(frames), [shade(i) for i in range(12)])  # 10 comes after 9
    np.testing.assert_allclose(shades(video.camera_frames(str(pictures / pattern), fps=10)), shades(frames))


def test_a_picture_that_is_broken_loses_no_other(pictures):
    (pictures / "frame_4.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="walk: 1 pictures cannot be read, and are left out: frame_4.png"):
        frames = list(video.video_frames(pictures, fps=10))
    np.testing.assert_allclose([stamp_s for stamp_s, _ in frames], np.delete(np.arange(12) / 10, 4))


def test_pictures_that_make_no_film_are_named(pictures, tmp_path):
    with pytest.raises(ValueError, match="walk: pictures do not say how many there are in a second; wanted --fps"):
        list(video.video_frames(pictures))
    cv2.imwrite(str(pictures / "frame_5.png"), np.zeros((9, 7, 3), np.uint8))
    with pytest.raises(ValueError, match="frame_5.png is 7 x 9 pixels, and those before it 192 x 144; wanted pictures"):
        list(video.video_frames(pictures, fps=10))
    (tmp_path / "empty").mkdir()
    for source, message in ((tmp_path / "empty", "no picture at .*empty"),
                            (tmp_path / "no_%d.png", "no video at .*no_%d.png")):
        with pytest.raises(FileNotFoundError, match=message):
            list(video.video_frames(source, fps=10))


def fake_cv2(opened, gstreamer):
    def capture(*arguments):
        opened.append(arguments)
        return SimpleNamespace(read=lambda: (True, np.zeros((4, 4, 3), np.uint8)), release=lambda: None)

    return SimpleNamespace(VideoCapture=capture, CAP_FFMPEG="ffmpeg", CAP_GSTREAMER="gstreamer",
                           CAP_PROP_OPEN_TIMEOUT_MSEC="open", CAP_PROP_READ_TIMEOUT_MSEC="read",
                           getBuildInformation=lambda: f"    FFMPEG: YES\n    GStreamer:  {gstreamer}\n")


PIPELINE = "nvarguscamerasrc ! video/x-raw(memory:NVMM),width=1280 ! nvvidconv ! appsink"


@pytest.mark.parametrize("source, arguments", [
    (0, (0,)), ("2", (2,)), ("/dev/video2", ("/dev/video2",)), (PIPELINE, (PIPELINE, "gstreamer")),
    ("rtsp://u:p@10.0.0.1/a", ("rtsp://u:p@10.0.0.1/a", "ffmpeg", ["open", 5000, "read", 5000]))])
def test_a_camera_is_opened_by_what_it_is(monkeypatch, source, arguments):
    opened = []
    monkeypatch.setitem(sys.modules, "cv2", fake_cv2(opened, "YES (1.22.0)"))
    next(video.camera_frames(source))
    assert opened == [arguments]


def test_a_pipeline_without_gstreamer_says_so():
    with pytest.raises(ValueError, match="is a GStreamer pipeline, and this OpenCV was built without GStreamer"):
        next(video.camera_frames(PIPELINE))


def test_a_camera_that_comes_back_with_another_picture_is_an_error(monkeypatch):
    sizes = iter([(4, 6), (8, 6)])

    def capture(*_):
        image, left = np.zeros((*next(sizes), 3), np.uint8), iter([True, False])
        return SimpleNamespace(read=lambda: (next(left), image), release=lambda: None)

    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=capture))
    monkeypatch.setattr(video, "RETRY_S", 0)
    frames = video.camera_frames(1)
    next(frames)
    with pytest.raises(ValueError, match="camera 1 came back with pictures of 6 x 8 pixels; they were 6 x 4"):
        next(frames)


def test_a_drop_is_warned_of_where_nobody_counts_it(monkeypatch):
    def capture(*_):
        left = iter([True, False])
        return SimpleNamespace(read=lambda: (next(left), np.zeros((4, 4, 3), np.uint8)), release=lambda: None)

    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=capture))
    monkeypatch.setattr(video, "RETRY_S", 0)
    frames = video.camera_frames("1")
    next(frames)
    for count in (1, 2):
        with pytest.warns(UserWarning, match=rf"camera 1 was away for 0\.\d s, time {count}"):
            next(frames)


@pytest.mark.parametrize("arguments, message", [
    (["--video", "0"], "0 is a camera, which has no end: wanted a file, .* or --camera 0"),
    (["--video", "/dev/video0"], "/dev/video0 is a camera"),
    (["--camera", "rtsp://127.0.0.1/a", "--fps", "9"], "--fps is for clips and videos"),
    (["--camera", PIPELINE], "built without GStreamer")])
def test_the_command_answers_what_cannot_be_meant(capsys, arguments, message):
    assert main(["stream", *arguments]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error) and "Traceback" not in error


def test_the_command_streams_pictures_as_a_camera_to_their_end(pictures, capsys):
    assert main(["stream", "--camera", str(pictures), "--fps", "10"]) == 0
    assert "nobody" in capsys.readouterr().out


def test_the_poses_before_a_camera_was_lost_are_written(monkeypatch, tmp_path, capsys):
    clip = load_clip("balance_cam1")
    left = iter([True] * 6 + [False] * 99)
    image = np.zeros((1920, 1088, 3), np.uint8)
    capture = SimpleNamespace(read=lambda: (next(left), image), release=lambda: None)
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=lambda *_: capture))
    monkeypatch.setattr(video, "RETRY_S", 0)
    monkeypatch.setattr(stream, "camera_frames", functools.partial(video.camera_frames, give_up_s=0))
    detector = functools.partial(lambda keypoints_px, _: keypoints_px, clip.keypoints_px[0])
    detector.layout = clip.layout
    monkeypatch.setattr(stream, "open_detector", lambda *_, **__: nullcontext(detector))
    assert main(["stream", "--camera", "0", "--out", str(tmp_path / "poses.npz")]) == 0
    assert "camera 0 gives no pictures any more" in capsys.readouterr().err
    with np.load(tmp_path / "poses.npz") as poses:
        assert len(poses["joints_m"]) == 6
