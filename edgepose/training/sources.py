"""Where supervised training has its windows from: motion capture through random cameras, or a labelled data set.

A source draws random windows to train on and gives the same ones each time to validate on: keypoints_norm (N, T, 17, C)
and the joints of every frame, (N, T, 17, 3) m from its own root, in camera axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from ..columns import PUBLISHED_INPUTS
from .datasets import DATASETS, common_rate_hz, draw_labelled, read_dataset
from .mocap import WINDOW_HZ, draw_windows, read_motion
from .observation import AS_CAPTURED, WILD, draw_observed, observe_frames
from .sequences import at_times, draw_times, miss_frames

Windows = tuple[torch.Tensor, torch.Tensor]
CUT_LATER, CUT_EARLIER = 0.5, 0.1  # part of the windows
SOURCES = ("mocap", *DATASETS)


class Source(Protocol):
    """credit: whose data it is, for the checkpoint. rate_hz: how many frames of its windows make a second. inputs: the
    columns of its windows. windows: how many different ones there are; 0: without end."""

    credit: str
    rate_hz: float
    inputs: Sequence[str]
    windows: int

    def draw(self, count: int, generator: torch.Generator) -> Windows: ...

    def validation(self, count: int, generator: torch.Generator) -> Windows: ...


def cut_short(keypoints: torch.Tensor, target: int, generator: torch.Generator) -> torch.Tensor:
    """Windows as a stream has them that answers before all later frames came, or soon after a clip began.

    keypoints: (B, T, J, C). Of CUT_LATER of the windows the frames after one from the target on are copies of that
    one, of CUT_EARLIER those before one up to the target.
    """
    count, frames = keypoints.shape[:2]

    def drawn(part: float, low: int, high: int, whole: int) -> torch.Tensor:
        ends = torch.randint(low, high + 1, (count, 1), generator=generator)
        return torch.where(torch.rand(count, 1, generator=generator) < part, ends, whole)

    last = drawn(CUT_LATER, target, frames - 1, frames - 1)
    first = drawn(CUT_EARLIER, 0, target, 0)
    order = torch.arange(frames).clamp(first, last)
    return keypoints[torch.arange(count)[:, None], order]


class MotionCapture:
    """Other people's poses and bodies (observation.WILD), seen by random cameras and a detector that errs; validation
    on other subjects, as captured."""

    credit = "CMU Graphics Lab Motion Capture Database, HDM05, UI-PRMD"
    rate_hz = WINDOW_HZ
    windows = 0

    def __init__(self, path: str | Path, frames: int, inputs: Sequence[str], target: int):
        self._training, self._validation = read_motion(path, "training"), read_motion(path, "validation")
        self._frames, self.inputs, self._target = frames, tuple(inputs), target

    def draw(self, count: int, generator: torch.Generator) -> Windows:
        if "gap" in self.inputs:
            return self._draw_sequences(count, generator)
        keypoints, joints = draw_observed(self._training, count, self._frames, generator, WILD, self.inputs)
        return cut_short(keypoints, self._target, generator), joints

    def _draw_sequences(self, count: int, generator: torch.Generator) -> Windows:
        times = draw_times(count, self._frames, generator)
        windows = draw_observed(self._training, count, int(times.max()) + 1, generator, WILD, self.inputs)
        keypoints, joints = at_times(*windows, times, self.inputs)
        return miss_frames(keypoints, self.inputs, generator), joints

    def validation(self, count: int, generator: torch.Generator) -> Windows:
        return observe_frames(draw_windows(self._validation, count, self._frames, generator),
                              generator, True, AS_CAPTURED, self.inputs)


class Labelled:
    """A data set's own detections and joints, half of them mirrored; validation on its test split, as in the papers."""

    inputs = PUBLISHED_INPUTS

    def __init__(self, name: str, path: str | Path, keypoints: str, frames: int, target: int):
        self.credit = f"{name}, {keypoints} 2D"
        self._training, self._test = (read_dataset(name, path, split, keypoints) for split in ("training", "test"))
        self.windows = sum(len(clip.centres) for clip in self._training)
        self._frames, self._target, self.rate_hz = frames, target, common_rate_hz(self._training)

    def draw(self, count: int, generator: torch.Generator) -> Windows:
        return draw_labelled(self._training, count, self._frames, generator, flip=True, target=self._target,
                             rate_hz=self.rate_hz)

    def validation(self, count: int, generator: torch.Generator) -> Windows:
        return draw_labelled(self._test, count, self._frames, generator, target=self._target, rate_hz=self.rate_hz)


def open_source(data: str, path: str | Path, keypoints: str, frames: int, target: int,
                inputs: Sequence[str] = PUBLISHED_INPUTS) -> Source:
    """The source `data`, one of SOURCES, that lies in `path`, for windows of `frames` frames that are answered at
    `target`.

    keypoints: which 2D of a labelled data set. inputs: the columns of the windows; a labelled data set has x and y
    alone.
    Raises ValueError for other columns of a labelled data set, and what read_motion and read_dataset raise.
    """
    if data != "mocap" and tuple(inputs) != PUBLISHED_INPUTS:
        raise ValueError(f"{data} has x and y alone; the model takes {' '.join(inputs)}: --option inputs=\"x y\"")
    return MotionCapture(path, frames, inputs,
                         target) if data == "mocap" else Labelled(data, path, keypoints, frames, target)
