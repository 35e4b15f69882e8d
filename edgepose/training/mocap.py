"""Motion capture clips: reading, the split into training and validation, and drawing windows from them.

Format: one `.npz` a subject, `positions` (F, 17, 3) float32 metres at 60 Hz, world axes with y up and the floor near
y = 0, `clip_starts`, `clip_names`, `clip_descriptions`, `joint_names`, `fps`. Source: CMU Graphics Lab Motion Capture
Database (mocap.cs.cmu.edu), whose joints are the body's: "nose" (joint 9) is the base of the skull and "head" a point
near the crown, as in Human3.6M. What a 2D detector reports for the same person is told in `landmarks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..skeleton import H36M17

VALIDATION_SUBJECTS = ("cmu_003", "cmu_007", "cmu_008", "cmu_086", "cmu_131")  # 007 and 008 may be one person
WINDOW_HZ = 50.0  # the rate of the models' windows, that of Human3.6M


@dataclass(frozen=True)
class Motion:
    """Clips of one split, end to end.

    positions_m: (F, 17, 3) float32, world axes, y up. clip_bounds: (clips + 1,) int64, clip i is the frames
    clip_bounds[i]:clip_bounds[i + 1]. clip_names: "subject/clip".
    """

    positions_m: torch.Tensor
    clip_bounds: torch.Tensor
    clip_names: tuple[str, ...]
    fps: float


def read_motion(directory: str | Path, split: str) -> Motion:
    """All clips of a split, "training" or "validation"; the split is by subject.

    Raises ValueError for another split, for no clips, or for a file with other joints or another frame rate.
    """
    if split not in ("training", "validation"):
        raise ValueError(f"unknown split {split!r}; there are training, validation")
    files = [f for f in sorted(Path(directory).glob("*.npz"))
             if (f.stem in VALIDATION_SUBJECTS) == (split == "validation")]
    if not files:
        raise ValueError(f"no clips for the {split} split in {directory}; it needs one .npz a subject")
    positions, bounds, names, rates = [], [0], [], set()
    for file in files:
        with np.load(file) as subject:
            frames = subject["positions"]
            if frames.shape[1:] != (len(H36M17), 3):
                raise ValueError(f"{file}: positions have shape {frames.shape}; needs (F, {len(H36M17)}, 3)")
            start = bounds[-1]
            bounds += [start + int(end) for end in (*subject["clip_starts"][1:], len(frames))]
            names += [f"{file.stem}/{name}" for name in subject["clip_names"]]
            positions.append(frames)
            rates.add(float(subject["fps"]))
    if len(rates) > 1:
        raise ValueError(f"the clips in {directory} have several frame rates: {sorted(rates)}")
    return Motion(torch.from_numpy(np.concatenate(positions)), torch.tensor(bounds), tuple(names), rates.pop())


def draw_windows(motion: Motion, count: int, frames: int, generator: torch.Generator) -> torch.Tensor:
    """`count` random windows of `frames` frames at 50 Hz: (count, frames, 17, 3) metres, world axes.

    A clip is drawn with probability proportional to the square root of its length, which evens out subjects (three of
    them own two thirds of the frames) without drowning the long ones; its place in the clip is uniform. A window does
    not leave its clip; one longer than the clip repeats the clip's first and last frame.
    """
    lengths = (motion.clip_bounds[1:] - motion.clip_bounds[:-1]).double()
    clip = torch.multinomial(lengths.sqrt(), count, replacement=True, generator=generator)
    last = lengths[clip] - 1
    reach = torch.minimum(last / 2, torch.tensor((frames // 2) * motion.fps / WINDOW_HZ, dtype=torch.double))
    centre = reach + (last - 2 * reach) * torch.rand(count, dtype=torch.double, generator=generator)
    return window_at(motion, clip, centre, frames)


def window_at(motion: Motion, clip: torch.Tensor, centre: torch.Tensor, frames: int) -> torch.Tensor:
    """The windows around given moments: (B, frames, 17, 3) metres, linearly interpolated at 50 Hz.

    clip: (B,) indices. centre: (B,) position of the middle frame, in frames of the clip, not necessarily whole.
    """
    first, last = motion.clip_bounds[clip], motion.clip_bounds[clip + 1] - 1
    steps = (torch.arange(frames, dtype=torch.double) - frames // 2) * motion.fps / WINDOW_HZ
    time = (centre[:, None] + steps)
    time = time.clamp(min=torch.zeros_like(time), max=(last - first)[:, None].double())
    before = time.floor()
    blend = (time - before).float()[..., None, None]
    index = first[:, None] + before.long()
    after = torch.minimum(index + 1, last[:, None])
    return motion.positions_m[index] * (1 - blend) + motion.positions_m[after] * blend
