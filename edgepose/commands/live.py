"""An engine at a camera's pace: what `edgepose doctor --live` measures."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np

from ..clip import load_clip
from ..people import People
from ..stream import Lifter

CLIP = "balance_cam1"


@dataclass(frozen=True, eq=False)
class Live:
    """Times and counts of an engine at a camera's pace.

    push_ms, wake_ms: (F,), the time of each push, and by how much the process was woken too late for it. not_lifted:
    poses that were predicted or missing, of `people` in F frames. late: pushes over the deadline.
    """

    push_ms: np.ndarray
    wake_ms: np.ndarray
    people: int
    not_lifted: int
    late: int


def run_live(engine: Lifter, people: int, rate_hz: float, seconds: float, deadline_ms: float) -> Live:
    """Pushes the shipped clip, to and fro, with `people` beside each other, at a rate and for some seconds."""
    clip = load_clip(CLIP)
    keypoints = np.concatenate([clip.keypoints_px, clip.keypoints_px[-2:0:-1]])
    width, height = clip.image_size
    everybody = np.stack([keypoints + [width * i, 0, 0] for i in range(people)], axis=1).astype(np.float32)
    crowd = People(engine, clip.layout, (width * people, height), most_people=people, deadline_ms=deadline_ms)
    frames = max(1, round(seconds * rate_hz))
    push_ms, wake_ms = np.empty(frames), np.empty(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are counted
        crowd.push(everybody[0], 0.0)  # the first call makes the engine's working memory
        before = crowd.notices
        start_s = time.perf_counter()
        for i in range(frames):
            due_s = start_s + i / rate_hz
            time.sleep(max(0.0, due_s - time.perf_counter()))
            begun_s = time.perf_counter()
            crowd.push(everybody[(i + 1) % len(everybody)], (i + 1) / rate_hz)
            push_ms[i], wake_ms[i] = 1e3 * (time.perf_counter() - begun_s), 1e3 * (begun_s - due_s)
    after = crowd.notices
    return Live(push_ms, wake_ms, people, after["not_lifted"] - before["not_lifted"],
                after["late_push"] - before["late_push"])


def lines_of(live: Live, deadline_ms: float) -> list[str]:
    """The figures in words."""
    push, wake = (np.percentile(times_ms, (50, 99, 100)) for times_ms in (live.push_ms, live.wake_ms))
    frames = len(live.push_ms)
    return [f"push: median {push[0]:.2f} ms, p99 {push[1]:.2f} ms, most {push[2]:.2f} ms; woken late by: median "
            f"{wake[0]:.2f} ms, p99 {wake[1]:.2f} ms, most {wake[2]:.2f} ms",
            f"of {frames * live.people} poses {live.not_lifted} were not lifted in time, of {frames} pushes "
            f"{live.late} took longer than {deadline_ms:g} ms"]


def keeps_up(live: Live, deadline_ms: float) -> bool:
    """True if 99 of 100 pushes and poses were in time."""
    frames = len(live.push_ms)
    return bool(np.percentile(live.push_ms, 99) <= deadline_ms) and live.not_lifted <= 0.01 * frames * live.people
