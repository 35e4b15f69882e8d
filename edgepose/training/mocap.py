"""Motion capture clips: reading, the split into training and validation, and drawing windows from them.

Format: one `.npz` a subject, `positions` (F, 17, 3) float32 metres at 60 Hz, world axes with y up and the floor near
y = 0, `clip_starts`, `clip_names`, `clip_descriptions`, `joint_names`, `fps`. A file is named <source>_<subject>.
Sources: CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu), HDM05 (Müller et al. 2007), UI-PRMD (Vakanski et
al. 2018). Their joints are the body's: "nose" (joint 9) is the base of the skull and "head" a point near the crown, as
in Human3.6M. What a 2D detector reports for the same person stands in `landmarks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..skeleton import H36M17
from .npz import load_npz

# 007 and 008 may be one person.
VALIDATION_SUBJECTS = ("cmu_003", "cmu_007", "cmu_008", "cmu_086", "cmu_131", "hdm05_tr", "uiprmd_08")
# Parts of the windows by source: UI-PRMD has nearly half of the frames, all of ten exercises on one spot.
SOURCE_SHARES = {"cmu": 0.65, "hdm05": 0.2, "uiprmd": 0.15}
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

    Raises ValueError for another split, for no clips, or for a file that is damaged, lacks a key, or has other joints,
    units, clips or another frame rate, naming the file and the key.
    """
    if split not in ("training", "validation"):
        raise ValueError(f"unknown split {split!r}; there are training, validation")
    files = [f for f in sorted(Path(directory).glob("*.npz"))
             if (f.stem in VALIDATION_SUBJECTS) == (split == "validation")]
    if not files:
        raise ValueError(f"no clips for the {split} split in {directory}; it needs one .npz a subject")
    positions, bounds, names, rates = [], [0], [], set()
    for file in files:
        frames, starts, clip_names, fps = _checked_subject(file)
        start = bounds[-1]
        bounds += [start + end for end in (*starts[1:], len(frames))]
        names += [f"{file.stem}/{name}" for name in clip_names]
        positions.append(frames)
        rates.add(fps)
    if len(rates) > 1:
        raise ValueError(f"the clips in {directory} have several frame rates: {sorted(rates)}")
    return Motion(torch.from_numpy(np.concatenate(positions)), torch.tensor(bounds), tuple(names), rates.pop())


def _checked_subject(file: Path) -> tuple[np.ndarray, list[int], list[str], float]:
    """(positions_m, clip_starts, clip_names, fps) of a subject. Raises ValueError, naming the file and the key."""
    positions, starts, names, fps, joints = load_npz(file, "positions", "clip_starts", "clip_names",
                                                     "fps", "joint_names")

    def need(holds: bool, key: str, wanted: str) -> None:
        if not holds:
            raise ValueError(f"{file}: {key} is not as wanted: {wanted}")

    for key, array in (("clip_starts", starts), ("clip_names", names), ("joint_names", joints)):
        need(isinstance(array, np.ndarray) and array.ndim == 1
             and array.dtype.kind in ("iu" if key == "clip_starts" else "U"), key,
             f"a list of {'whole numbers' if key == 'clip_starts' else 'text'}; it is "
             f"{getattr(array, 'dtype', type(array).__name__)}")
    need(isinstance(fps, np.ndarray) and fps.size == 1 and fps.dtype.kind in "fiu", "fps", "one number above 0")
    numbers = isinstance(positions, np.ndarray) and positions.dtype.kind == "f"
    need(numbers and positions.ndim == 3 and positions.shape[1:] == (len(H36M17), 3) and len(positions) > 0,
         "positions", f"shape (F, {len(H36M17)}, 3), F above 0, floating point; it has "
         f"{getattr(positions, 'shape', type(positions).__name__)}")
    need(bool(np.isfinite(positions).all()), "positions", "no NaN and no infinity")
    need(len(joints) == len(H36M17), "joint_names", f"the {len(H36M17)} joints of Human3.6M")
    left, right = (next((i for i, name in enumerate(joints) if str(name).lower() in names), -1)
                   for names in (("lhip", "left_hip"), ("rhip", "right_hip")))
    need((left, right) in ((4, 1), (-1, -1)), "joint_names",
         "Human3.6M's order: the right hip is joint 1, the left one 4")
    size = np.linalg.norm(positions[:, H36M17.index("head")] - positions[:, H36M17.root], axis=-1).mean()
    need(0.2 < size < 2, "positions", f"metres; pelvis and head are {size:.3g} apart")
    starts = starts.tolist()
    need(starts and starts[0] == 0 and all(a < b for a, b in zip(starts, (*starts[1:], len(positions)))), "clip_starts",
         "whole numbers that begin with 0, ascend, and stay below the frames")
    need(len(names) == len(starts), "clip_names", f"one a clip: {len(starts)}, not {len(names)}")
    need(0 < float(fps.item()) < 1e4, "fps", "one number above 0")
    return positions.astype(np.float32, copy=False), starts, [str(name) for name in names], float(fps.item())


def source_of(clip_name: str) -> str:
    """The source of a clip, "cmu" for "cmu_001/01_02": what its file's name begins with."""
    return clip_name.partition("/")[0].partition("_")[0]


def sources_of(motion: Motion) -> list[str]:
    """The sources of the clips, in the order of their names."""
    return sorted(set(map(source_of, motion.clip_names)))


def only_source(motion: Motion, source: str) -> Motion:
    """The clips of one source. Raises ValueError, naming those that there are, if it has none."""
    clips = [i for i, name in enumerate(motion.clip_names) if source_of(name) == source]
    if not clips:
        raise ValueError(f"there are no clips of {source!r}; there are {', '.join(sources_of(motion))}")
    parts = [motion.positions_m[motion.clip_bounds[i]:motion.clip_bounds[i + 1]] for i in clips]
    bounds = torch.tensor([0, *map(len, parts)]).cumsum(0)
    return Motion(torch.cat(parts), bounds, tuple(motion.clip_names[i] for i in clips), motion.fps)


def clip_weights(motion: Motion) -> torch.Tensor:
    """Weights by which clips are drawn, (clips,) float64 of any scale.

    Within a source by the square root of its length, which evens out subjects (three of CMU's own half of its frames)
    without drowning the long ones; each source has its part of SOURCE_SHARES, one that is not there as much as the
    least of them.
    """
    weights = (motion.clip_bounds[1:] - motion.clip_bounds[:-1]).double().sqrt()
    sources = [source_of(name) for name in motion.clip_names]
    for source in set(sources):
        own = torch.tensor([name == source for name in sources])
        weights[own] *= SOURCE_SHARES.get(source, min(SOURCE_SHARES.values())) / weights[own].sum()
    return weights


def draw_windows(motion: Motion, count: int, frames: int, generator: torch.Generator,
                 speeds: tuple[float, float] = (1.0, 1.0)) -> torch.Tensor:
    """`count` random windows of `frames` frames at 50 Hz: (count, frames, 17, 3) metres, world axes.

    Clips are drawn by clip_weights; the place in the clip is uniform. speeds: the motion is played so many times as
    fast, uniform in its logarithm. A window does not leave its clip; one longer than the clip repeats the clip's first
    and last frame.
    """
    lengths = (motion.clip_bounds[1:] - motion.clip_bounds[:-1]).double()
    clip = torch.multinomial(clip_weights(motion), count, replacement=True, generator=generator)
    last = lengths[clip] - 1
    low, high = map(math.log, speeds)
    speed = torch.ones(count, dtype=torch.double)
    if frames > 1 and low < high:
        speed = torch.exp(low + (high - low) * torch.rand(count, dtype=torch.double, generator=generator))
    reach = torch.minimum(last / 2, (frames // 2) * motion.fps / WINDOW_HZ * speed)
    centre = reach + (last - 2 * reach) * torch.rand(count, dtype=torch.double, generator=generator)
    return window_at(motion, clip, centre, frames, speed)


def window_at(motion: Motion, clip: torch.Tensor, centre: torch.Tensor, frames: int,
              speed: torch.Tensor | None = None) -> torch.Tensor:
    """The windows around given moments: (B, frames, 17, 3) metres, linearly interpolated at 50 Hz.

    clip: (B,) indices. centre: (B,) position of the middle frame, in frames of the clip, not necessarily whole. speed:
    (B,) how many times as fast the motion is played; None: as captured.
    """
    first, last = motion.clip_bounds[clip], motion.clip_bounds[clip + 1] - 1
    steps = (torch.arange(frames, dtype=torch.double) - frames // 2) * motion.fps / WINDOW_HZ
    time = centre[:, None] + (steps if speed is None else speed[:, None] * steps)
    time = time.clamp(min=torch.zeros_like(time), max=(last - first)[:, None].double())
    before = time.floor()
    blend = (time - before).float()[..., None, None]
    index = first[:, None] + before.long()
    after = torch.minimum(index + 1, last[:, None])
    return motion.positions_m[index] * (1 - blend) + motion.positions_m[after] * blend
