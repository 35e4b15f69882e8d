"""The pictures of a film or a camera, each with its time. Needs OpenCV: pip install 'edgepose[video]'.

A source is a camera's number, a device ("/dev/video2"), an address ("rtsp://...", "http://..."), a GStreamer pipeline
("nvarguscamerasrc ! ... ! appsink"), a video file, a folder of pictures, or a pattern of them ("walk/%06d.png",
"walk/*.png").
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..checks import checked_number, need_library

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
PASSWORD = re.compile(r"(?<=://)[^/@]*@")
NUMBERED = re.compile(r"%0?\d*d")  # OpenCV's and FFmpeg's place of a picture's number
TIMEOUT_MS = 5000  # for an address to answer, and to send the next picture
GIVE_UP_S = 60.0  # a camera that is away for longer has ended
RETRY_S = 0.5  # between two tries to find a camera again
UNKNOWN_RATE_HZ = 25.0  # where a file does not say its rate


def _opencv() -> ModuleType:
    need_library("cv2", "reading pictures")
    import cv2

    return cv2


def is_live(source: str | int | Path) -> bool:
    """True for what has no end by itself: a camera by its number or device, an address or a pipeline."""
    text = str(source)
    return text.isdigit() or text.startswith("/dev/") or " ! " in text or ADDRESS.match(text) is not None


def check_video(source: str | Path) -> None:
    """Raises FileNotFoundError if there is no file, or no picture in a folder or of a pattern, and ValueError for a
    camera by its number or device."""
    text = str(source)
    if text.isdigit() or text.startswith("/dev/"):
        raise ValueError(f"{text} is a camera, which has no end: wanted a file, a folder or pattern of pictures or an "
                         f"address, or --camera {text}")
    if not is_live(source) and not Path(source).is_file() and not _pictures_of(source):
        raise FileNotFoundError(f"no {'picture' if Path(source).is_dir() else 'video'} at {source}")


def video_frames(source: str | Path, fps: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """(timestamp_s, image) of every frame of a film to its end; image: (height, width, 3) uint8, RGB.

    The times are the film's; with fps, or where the film's do not increase, frames are evenly apart. Pictures of a
    folder or pattern come in the order of the numbers in their names, and have no times: they need fps.
    Raises FileNotFoundError if there is no film, ValueError if it has no picture that can be read, is a camera, or fps
    is missing or not above 0, and ImportError without OpenCV.
    """
    if fps is not None:
        checked_number("fps", fps, above=0)
    cv2 = _opencv()
    check_video(source)
    if not is_live(source) and not Path(source).is_file():
        yield from _picture_frames(cv2, source, fps)
        return
    capture = _opened(cv2, source)
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        period_s = 1 / (fps or (rate if rate > 0 else UNKNOWN_RATE_HZ))
        last_s = -period_s
        is_read, image = capture.read()
        if not is_read:
            raise ValueError(f"{_shown(source)} has no picture that OpenCV can read")
        while is_read:
            # The time of the frame just read; some formats answer 0 throughout.
            stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            last_s = last_s + period_s if fps or stamp_s <= last_s else stamp_s
            yield last_s, image[..., ::-1]
            is_read, image = capture.read()
    finally:
        capture.release()


def camera_frames(source: int | str | Path, *, fps: float | None = None, give_up_s: float = GIVE_UP_S,
                  on_drop: Callable[[float, int], None] | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """(timestamp_s, image) of what a camera sees from now on, in seconds since the first frame.

    A camera that stops giving pictures is opened again until it gives some: the times go on by the clock.
    give_up_s: for how long at most. on_drop: is told of each time, how many seconds were lost and the how many-th it
    was; None warns. Of a file, or pictures, the frames come as fast as they are read, with their own times, to the end;
    fps: see video_frames.
    Raises ValueError if the camera cannot be opened or is away for longer, and ImportError without OpenCV.
    """
    if isinstance(source, int) and source < 0:
        raise ValueError(f"camera is {source}; wanted 0 or more")
    if not is_live(source):
        yield from video_frames(source, fps)
        return
    cv2 = _opencv()
    start_s = read_s = shape = None
    drops, was_dropped = 0, False
    while True:
        capture = _opened(cv2, source)
        try:
            is_read, image = capture.read()
            while is_read:
                now_s = time.monotonic()
                if start_s is None:
                    start_s, shape = now_s, image.shape
                if image.shape != shape:
                    raise ValueError(f"camera {_shown(source)} came back with pictures of {image.shape[1]} x "
                                     f"{image.shape[0]} pixels; they were {shape[1]} x {shape[0]}")
                if was_dropped:
                    _say(source, now_s - read_s, drops, on_drop)
                was_dropped, read_s = False, now_s
                yield now_s - start_s, image[..., ::-1]
                is_read, image = capture.read()
        finally:
            capture.release()
        if read_s is None:
            raise ValueError(f"camera {_shown(source)} gives no pictures")
        if time.monotonic() - read_s >= give_up_s:
            raise ValueError(f"camera {_shown(source)} gives no pictures any more")
        drops += not was_dropped
        was_dropped = True
        time.sleep(RETRY_S)


def _say(source: int | str | Path, lost_s: float, drops: int, on_drop: Callable[[float, int], None] | None) -> None:
    if on_drop is not None:
        on_drop(lost_s, drops)
    else:
        warnings.warn(f"camera {_shown(source)} was away for {lost_s:.1f} s, time {drops}", stacklevel=3)


def _shown(source: int | str | Path) -> str:
    """A source as it is said in messages: without the name and password that an address may have."""
    return PASSWORD.sub("", str(source))


def _opened(cv2: ModuleType, source: int | str | Path) -> Any:
    """OpenCV's capture of a file or a live source. Raises ValueError if this OpenCV has no GStreamer and needs it."""
    text = str(source)
    if text.isdigit():
        return cv2.VideoCapture(int(text))
    if " ! " in text:
        if not any(" YES" in line for line in cv2.getBuildInformation().splitlines() if "GStreamer:" in line):
            raise ValueError(f"{text!r} is a GStreamer pipeline, and this OpenCV was built without GStreamer: the "
                             "system's on a Jetson has it (docs/jetson.md)")
        return cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
    if ADDRESS.match(text):
        return cv2.VideoCapture(text, cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS,
                                                       cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS])
    return cv2.VideoCapture(text)


def _pictures_of(source: str | Path) -> list[Path]:
    """The picture files of a folder or a pattern, in the order of the numbers in their names."""
    path = Path(source)
    names = path.iterdir() if path.is_dir() else map(Path, glob(NUMBERED.sub("*", str(source))))
    found = [file for file in names if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    return sorted(found, key=lambda file: [(int(part) if part.isdigit() else -1, part)
                                           for part in re.split(r"(\d+)", file.name)])


def _picture_frames(cv2: ModuleType, source: str | Path, fps: float | None) -> Iterator[tuple[float, np.ndarray]]:
    """The pictures of a folder or pattern; one that cannot be read is left out, and warned of."""
    if fps is None:
        raise ValueError(f"{source}: pictures do not say how many there are in a second; wanted --fps HZ")
    shape, broken = None, []
    for i, file in enumerate(_pictures_of(source)):
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            broken.append(file.name)
            continue
        if shape is not None and image.shape != shape:
            raise ValueError(f"{file} is {image.shape[1]} x {image.shape[0]} pixels, and those before it {shape[1]} x "
                             f"{shape[0]}; wanted pictures of one size")
        shape = image.shape
        yield i / fps, image[..., ::-1]
    if shape is None:
        raise ValueError(f"{source} has no picture that OpenCV can read")
    if broken:
        warnings.warn(f"{source}: {len(broken)} pictures cannot be read, and are left out: {', '.join(broken[:3])}",
                      stacklevel=3)
