"""Where supervised training has its windows from: motion capture through random cameras, or a labelled data set.

A source draws random windows to train on and gives the same ones each time to validate on: keypoints_norm (N, T, 17, 2) and the
joints of every frame, (N, T, 17, 3) m from its own root, in camera axes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from .bodies import vary_bodies
from .datasets import DATASETS, draw_labelled, read_dataset
from .mocap import draw_windows, read_motion
from .noise import observe_frames

Windows = tuple[torch.Tensor, torch.Tensor]
SOURCES = ("mocap", *DATASETS)


class Source(Protocol):
    """credit: whose data it is, for the checkpoint."""

    credit: str

    def draw(self, count: int, generator: torch.Generator) -> Windows: ...

    def validation(self, count: int, generator: torch.Generator) -> Windows: ...


class MotionCapture:
    """Bodies varied, seen by random cameras and a detector that errs; validation on other subjects, as captured."""

    credit = "CMU Graphics Lab Motion Capture Database"

    def __init__(self, path: str | Path, frames: int):
        self._training, self._validation = read_motion(path, "training"), read_motion(path, "validation")
        self._frames = frames

    def draw(self, count: int, generator: torch.Generator) -> Windows:
        return observe_frames(vary_bodies(draw_windows(self._training, count, self._frames, generator), generator), generator)

    def validation(self, count: int, generator: torch.Generator) -> Windows:
        return observe_frames(draw_windows(self._validation, count, self._frames, generator), generator)


class Labelled:
    """A data set's own detections and joints, half of them mirrored; validation on its test split, as in the papers."""

    def __init__(self, name: str, path: str | Path, keypoints: str, frames: int, target: int):
        self.credit = f"{name}, {keypoints} 2D"
        self._training, self._test = (read_dataset(name, path, split, keypoints) for split in ("training", "test"))
        self._frames, self._target = frames, target

    def draw(self, count: int, generator: torch.Generator) -> Windows:
        return draw_labelled(self._training, count, self._frames, generator, flip=True, target=self._target)

    def validation(self, count: int, generator: torch.Generator) -> Windows:
        return draw_labelled(self._test, count, self._frames, generator, target=self._target)


def open_source(data: str, path: str | Path, keypoints: str, frames: int, target: int) -> Source:
    """The source `data`, one of SOURCES, that lies in `path`, for windows of `frames` frames that are answered at `target`.

    keypoints: which 2D of a labelled data set. Raises what read_motion and read_dataset raise.
    """
    return MotionCapture(path, frames) if data == "mocap" else Labelled(data, path, keypoints, frames, target)
