"""Sequences as a stream brings them: at other rates, with missing frames, and with frames in which nobody was detected.

For models with the column `gap`, which remember frames instead of taking a window. Their windows of T frames begin with
an empty memory and are drawn from longer ones at mocap.WINDOW_HZ, of which the frames in between are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .mocap import WINDOW_HZ

# Frames of 50 Hz from one to the next, and the part of the batches that have them: 50, 25, 17 and 10 Hz.
STRIDES = {1: 0.55, 2: 0.2, 3: 0.1, 5: 0.15}
DROPPING = 0.3  # part of the sequences that lose frames, each with a chance of up to
DROPPED = 0.3
PAUSING, PAUSE_FRAMES = 0.15, 25  # part of the sequences with a pause, of up to so many frames of 50 Hz
SKIPPING, SKIPPED = 0.25, 10  # part of the sequences whose detector runs only every 2nd to 10th frame
MISSING, MISSED = 0.2, 12  # part of the sequences in which nobody is detected for up to so many frames


def draw_times(count: int, frames: int, generator: torch.Generator) -> torch.Tensor:
    """The frames of 50 Hz that `count` sequences consist of, ascending from 0: (count, frames) int64."""
    def part(share: float) -> torch.Tensor:
        return torch.rand(count, 1, generator=generator) < share

    stride = list(STRIDES)[int(torch.multinomial(torch.tensor(list(STRIDES.values())), 1, generator=generator))]
    steps = torch.full((count, frames), stride)
    chance = DROPPED * torch.rand(count, 1, generator=generator) * part(DROPPING)
    steps = steps + stride * (torch.rand(count, frames, generator=generator) < chance)
    at = torch.randint(1, frames + 1, (count, 1), generator=generator)
    pause = torch.randint(1, PAUSE_FRAMES + 1, (count, 1), generator=generator)
    steps = steps + pause * part(PAUSING) * (torch.arange(frames) == at)
    steps[:, 0] = 0
    return steps.cumsum(1)


def at_times(keypoints: torch.Tensor, joints_m: torch.Tensor, times: torch.Tensor,
             inputs: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """The frames `times`, (B, T), of longer windows, (B, F, J, C) and (B, F, J, 3); the column `gap` says how far they
    are apart."""
    rows = torch.arange(len(times))[:, None]
    keypoints, joints_m = keypoints[rows, times], joints_m[rows, times]
    keypoints[..., inputs.index("gap")] = (times.diff(dim=1, prepend=times[:, :1]) / WINDOW_HZ)[..., None]
    return keypoints, joints_m


def miss_frames(keypoints: torch.Tensor, inputs: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """Sequences in some of whose frames nobody was detected: (B, T, J, C) -> the same.

    Such a frame repeats the last one before it in which somebody was, with confidence 0 and no depth, as at run time.
    The first frame is always detected.
    """
    count, frames = keypoints.shape[:2]
    time = torch.arange(frames)

    def part(share: float) -> torch.Tensor:
        return torch.rand(count, 1, generator=generator) < share

    every = torch.randint(2, SKIPPED + 1, (count, 1), generator=generator)
    first = torch.randint(1, frames + 1, (count, 1), generator=generator)
    length = torch.randint(1, MISSED + 1, (count, 1), generator=generator)
    missed = (part(SKIPPING) & (time % every != 0)) | (part(MISSING) & (time >= first) & (time < first + length))
    missed[:, 0] = False
    last = torch.where(missed, 0, time).cummax(1).values
    repeated = keypoints[torch.arange(count)[:, None], last]
    for name in inputs:
        if name in ("confidence", "depth", "depth_known"):
            repeated[..., inputs.index(name)] *= ~missed[..., None]
    repeated[..., inputs.index("gap")] = keypoints[..., inputs.index("gap")]
    return repeated
