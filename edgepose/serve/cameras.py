"""Feeds of the server's own: recorded clips that play to and fro, cameras and films through a detector."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..adapters import Adapter
from ..clip import Clip, by_identity, load_people
from ..pictures.detector import Detector
from ..pictures.video import camera_frames, is_live
from .messages import Frame, Opening
from .service import Service

OUT_OF_STEP = 37  # frames by which each clip is behind the one before it
CAMERA_OPTIONS = {"on_bad_time": "reset"}


@dataclass(frozen=True, eq=False)
class Crowd:
    """The people of several clips beside each other in one picture. keypoints_px: of each clip (F, N, K, 3)."""

    name: str
    layout: str
    image_size: tuple[float, float]
    fps: float
    keypoints_px: Sequence[np.ndarray]

    def frame(self, number: int) -> np.ndarray:
        """(N, K, 3) px of everybody; each clip plays to its end, then back to its beginning, and so on."""
        everybody = []
        for i, clip in enumerate(self.keypoints_px):
            at = (number + i * OUT_OF_STEP) % max(1, 2 * len(clip) - 2)
            everybody.append(clip[min(at, 2 * len(clip) - 2 - at)])
        return np.concatenate(everybody)


def crowd_of(names: Sequence[str]) -> Crowd:
    """The people of clips that ship, or of files of keypoints (docs/files.md). Raises ValueError if a clip cannot be
    read, or they have different layouts, or one of their own."""
    recordings = [by_identity(load_people(name)) for name in names]
    layouts = {clip.layout for people in recordings for clip in people}
    if len(layouts) > 1 or any(isinstance(layout, Adapter) for layout in layouts):
        raise ValueError(f"the clips {', '.join(names)} have the layouts {', '.join(map(str, layouts))}; wanted one "
                         "that ships, for all")
    left, pictures = 0.0, []
    for people in recordings:
        pictures.append(np.stack([_moved(clip, left) for clip in people], axis=1))
        left += people[0].image_size[0]
    height = max(people[0].image_size[1] for people in recordings)
    return Crowd(", ".join(names), layouts.pop(), (left, height), recordings[0][0].fps, pictures)


def _moved(clip: Clip, left_px: float) -> np.ndarray:
    """(F, K, 3): the clip's keypoints, moved to the right."""
    keypoints = clip.keypoints_px.astype(float)
    if keypoints.shape[-1] == 2:
        keypoints = np.concatenate([keypoints, np.ones((*keypoints.shape[:-1], 1))], axis=-1)
    keypoints[..., 0] += np.where(keypoints[..., 2] > 0, left_px, 0.0)
    return keypoints


async def play(service: Service, crowd: Crowd) -> None:
    """Sends a crowd's frames to the service at their pace, until it is cancelled."""
    one = await service.open(Opening(crowd.layout, crowd.image_size, crowd.name, "binary", False, {}))
    start_s, number = time.perf_counter(), 0
    try:
        while True:
            service.put(one, Frame(number % 2**32, number / crowd.fps, crowd.frame(number)))
            late = int((time.perf_counter() - start_s) * crowd.fps)
            number = max(number + 1, late)  # a machine that was held up shows the present
            await asyncio.sleep(max(0.0, start_s + number / crowd.fps - time.perf_counter()))
    finally:
        service.close(one)


async def look(service: Service, source: str, make_detector: Callable[[], Detector]) -> None:
    """Sends what a detector finds in a camera or a film to the service, until that ends. Raises what camera_frames and
    the detector raise."""
    loop, is_stopped = asyncio.get_running_loop(), threading.Event()
    try:
        await asyncio.to_thread(_look, service, source, make_detector, loop, is_stopped)
    finally:
        is_stopped.set()


def _look(service: Service, source: str, make_detector: Callable[[], Detector], loop: asyncio.AbstractEventLoop,
          is_stopped: threading.Event) -> None:
    one, start_s, is_camera = None, time.perf_counter(), is_live(source)
    with make_detector() as detector:
        try:
            for number, (timestamp_s, image) in enumerate(camera_frames(source)):
                if is_stopped.is_set():
                    return
                if one is None:
                    opening = Opening(detector.layout, (image.shape[1], image.shape[0]), source, "binary", False,
                                      CAMERA_OPTIONS)
                    one = asyncio.run_coroutine_threadsafe(service.open(opening), loop).result()
                if not is_camera:
                    time.sleep(max(0.0, start_s + timestamp_s - time.perf_counter()))
                found = detector(image)
                frame = Frame(number % 2**32, timestamp_s, [] if found is None else found[None])
                loop.call_soon_threadsafe(service.put, one, frame)
        finally:
            if one is not None and not loop.is_closed():
                loop.call_soon_threadsafe(service.close, one)
