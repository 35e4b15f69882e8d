"""The frames of a video file or a camera, each with its time. Needs OpenCV: pip install 'edgepose[video]'."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from ..checks import checked_number, need_library


def _opencv() -> ModuleType:
    need_library("cv2", "reading pictures")
    import cv2

    return cv2


def check_video(path: str | Path) -> None:
    """Raises FileNotFoundError if there is no file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no video at {path}")


def video_frames(path: str | Path, fps: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """(timestamp_s, image) of every frame of a file; image: (height, width, 3) uint8, RGB.

    The times are the file's; with fps, or where the file's do not increase, frames are evenly apart.
    Raises FileNotFoundError if there is no file, ValueError if it has no picture that can be read or fps is not above
    0, and ImportError without OpenCV.
    """
    if fps is not None:
        checked_number("fps", fps, above=0)
    cv2 = _opencv()
    check_video(path)
    capture = cv2.VideoCapture(str(path))
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        period_s = 1 / (fps or (rate if rate > 0 else 25.0))  # 25: the file says nothing
        last_s = -period_s
        is_read, image = capture.read()
        if not is_read:
            raise ValueError(f"{path} has no picture that OpenCV can read")
        while is_read:
            # The time of the frame just read; some formats answer 0 throughout.
            stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            last_s = last_s + period_s if fps or stamp_s <= last_s else stamp_s
            yield last_s, image[..., ::-1]
            is_read, image = capture.read()
    finally:
        capture.release()


def camera_frames(camera: int) -> Iterator[tuple[float, np.ndarray]]:
    """(timestamp_s, image) of what a camera sees from now on, in seconds since the first frame.

    Raises ValueError if the camera cannot be opened or ends, and ImportError without OpenCV.
    """
    if camera < 0:
        raise ValueError(f"camera is {camera}; wanted 0 or more")
    cv2 = _opencv()
    capture = cv2.VideoCapture(camera)
    try:
        start_s = None
        while True:
            is_read, image = capture.read()
            if not is_read:
                raise ValueError(f"camera {camera} gives no pictures" + (" any more" if start_s else ""))
            now_s = time.monotonic()
            start_s = start_s or now_s
            yield now_s - start_s, image[..., ::-1]
    finally:
        capture.release()
