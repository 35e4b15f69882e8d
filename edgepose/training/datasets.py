"""The labelled data sets, all in one form: DATASETS by name, clips of 2D keypoints with the joints they belong to, and
windows drawn from them for training.

A window is made of frames that follow each other as they were recorded, whatever the frame rate: the papers'
convention. Training takes every second frame, or third, of clips that were recorded faster than others of their set
(`common_rate_hz`). Motion capture without cameras is another thing, and lies in `mocap`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from ..camera import check_pixels, checked_image_size, flip_left_right, normalize_screen
from ..skeleton import H36M17

DATASETS = {  # name -> its module, which has read(path, split, keypoints) and KEYPOINTS, the kinds of 2D there are
    "h36m": "h36m",
    "mpi-inf-3dhp": "mpi_inf_3dhp",
    "humaneva": "humaneva",
}
SPLITS = ("training", "test")


@dataclass(frozen=True, eq=False)
class LabelledClip:
    """One person doing one thing in front of one camera.

    source: the file and the place in it, for error messages. camera: its name, or the scene where that is what counts.
    image_size: (width, height) px.
    keypoints_px: (F, 17, 2), or (F, 17, 3) with confidence. joints_m: (F, 17, 3), camera axes. Both are of H36M17.
    valid: (F,) bool, the frames that count: the others stand only beside them in a window.
    measured: (17,) bool, the joints the data set has; the others are made of them, so that a model can be fed, and no
    figure counts them.
    Raises ValueError, naming the source, if a shape is another, a value that counts is not finite, or the 2D is not in
    pixels.
    """

    source: str
    subject: str
    action: str
    camera: str
    split: str
    image_size: tuple[int, int]
    fps: float
    keypoints_px: np.ndarray
    joints_m: np.ndarray
    valid: np.ndarray
    measured: np.ndarray

    def __post_init__(self) -> None:
        frames, joints = len(self.joints_m), len(H36M17)
        wanted = {"keypoints_px": ((frames, joints, 2), (frames, joints, 3)), "joints_m": ((frames, joints, 3),),
                  "valid": ((frames,),), "measured": ((joints,),)}
        for name, shapes in wanted.items():
            shape = getattr(self, name).shape
            if shape not in shapes or not frames:
                raise ValueError(f"{self.source}: {name} has shape {shape}; wanted "
                                 f"{' or '.join(map(str, shapes))}, not empty")
        for name, values in (("2D", self.keypoints_px), ("3D", self.joints_m[self.valid])):
            if not np.isfinite(values).all():
                raise ValueError(f"{self.source}: the {name} is NaN or infinite in a frame that counts, or beside one")
        check_pixels(self.keypoints_px[..., :2], f"{self.source}: the keypoints")
        checked_image_size(self.image_size)
        if self.split not in SPLITS or not self.fps > 0:
            raise ValueError(f"{self.source}: split {self.split!r} at {self.fps} Hz; wanted "
                             f"{' or '.join(SPLITS)}, above 0 Hz")

    @cached_property
    def centres(self) -> np.ndarray:
        """The frames that count, by their numbers."""
        return np.flatnonzero(self.valid)

    def around(self, frame: int | np.ndarray, frames: int, target: int | None = None, step: int = 1) -> np.ndarray:
        """The numbers of the frames of a window that has `frame` at its place `target`, the middle for None: (frames,),
        or (N, frames) for frames (N, 1). step: from one frame of the window to the next."""
        target = frames // 2 if target is None else target
        return np.clip(frame + step * (np.arange(frames) - target), 0, len(self.valid) - 1)

    def windows(self, numbers: np.ndarray, frames: int, target: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The windows around N of the clip's frames: keypoints_norm (N, frames, 17, 2) and joints_m (N, frames, 17, 3),
        float32, each frame's joints from its own root. Where the clip ends, its first or last frame is repeated.
        """
        index = self.around(np.asarray(numbers)[:, None], frames, target)
        keypoints = normalize_screen(self.keypoints_px[index][..., :2], self.image_size)
        joints = self.joints_m[index]
        return keypoints.astype(np.float32), (joints - joints[:, :, H36M17.root, None]).astype(np.float32)


def read_dataset(name: str, path: str | Path, split: str, keypoints: str = "gt",
                 actions: Sequence[str] | None = None) -> list[LabelledClip]:
    """The clips of a split, "training" or "test", of one of DATASETS, which lies in the folder `path`.

    keypoints: where the 2D comes from: "gt", the ground truth, or one of the set's own (its module's KEYPOINTS).
    actions: only these; None takes all.
    Raises ValueError for an unknown name, split, kind of 2D or action, listing what there is, and for a file that is
    missing or has something else than wanted, naming the file and the key.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(DATASETS)}")
    module = import_module(f".{DATASETS[name]}", __package__)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of {name}; there are {', '.join(SPLITS)}")
    if keypoints not in module.KEYPOINTS:
        raise ValueError(f"{name} has no keypoints {keypoints!r}; there are {', '.join(module.KEYPOINTS)}")
    if not Path(path).is_dir():
        raise ValueError(f"{path} is no folder; wanted the one where {name} lies")
    clips = module.read(Path(path), split, keypoints)
    there = list(dict.fromkeys(clip.action for clip in clips))
    for action in actions or ():
        if action not in there:
            raise ValueError(f"{name} has no action {action!r} in its {split} split; there are {', '.join(there)}")
    return [clip for clip in clips if not actions or clip.action in actions]


def common_rate_hz(clips: Sequence[LabelledClip]) -> float:
    """The frame rate of the slowest clip, of which all others' must be a multiple, to 2 percent.

    Raises ValueError, naming a clip whose rate is none, or if there are no clips.
    """
    if not clips:
        raise ValueError("no clips, and so no frame rate")
    rate_hz = min(clip.fps for clip in clips)
    for clip in clips:
        if abs(clip.fps / rate_hz / round(clip.fps / rate_hz) - 1) > 0.02:
            raise ValueError(f"{clip.source}: {clip.fps:g} Hz is no multiple of the set's slowest rate, {rate_hz:g} Hz")
    return rate_hz


def draw_labelled(clips: Sequence[LabelledClip], count: int, frames: int, generator: torch.Generator,
                  flip: bool = False, target: int | None = None,
                  rate_hz: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` random windows: keypoints_norm (count, frames, 17, 2), and joints_m (count, frames, 17, 3) in camera
    axes, each frame from its own root. Every frame that counts is equally likely to stand at the place `target` of one.

    target: None for the middle. flip: mirror half of the windows, left and right exchanged, in 2D and 3D alike.
    rate_hz: of the windows, as common_rate_hz says; None takes every frame.
    Raises ValueError if there are no clips, or if a joint beside the middle frame is not finite.
    """
    if not clips:
        raise ValueError("no clips to draw windows from")
    ends = torch.tensor([len(clip.centres) for clip in clips]).cumsum(0)
    drawn = torch.randint(int(ends[-1]), (count,), generator=generator)
    keypoints = np.empty((count, frames, len(H36M17), 2), np.float32)
    joints = np.empty((count, frames, len(H36M17), 3), np.float32)
    of_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, (frame, which) in enumerate(zip(drawn.tolist(), torch.searchsorted(ends, drawn, right=True).tolist())):
        clip = clips[which]
        centre = clip.centres[frame - int(ends[which])]  # counted from the clip's last one
        index = clip.around(centre, frames, target, 1 if rate_hz is None else round(clip.fps / rate_hz))
        keypoints[i], joints[i] = clip.keypoints_px[index, :, :2], clip.joints_m[index]
        of_size[clip.image_size].append(i)
        if not np.isfinite(joints[i]).all():
            raise ValueError(f"{clip.source}: the 3D around frame {centre} is NaN or infinite; "
                             "training needs whole windows")
    joints -= joints[:, :, H36M17.root, None]
    for image_size, rows in of_size.items():
        keypoints[rows] = normalize_screen(keypoints[rows], image_size)
    if flip:
        mirrored = (torch.rand(count, generator=generator) < 0.5).numpy()
        keypoints[mirrored] = flip_left_right(keypoints[mirrored], H36M17)
        joints[mirrored] = flip_left_right(joints[mirrored], H36M17)
    return torch.from_numpy(keypoints), torch.from_numpy(joints)


def assemble(points: np.ndarray, names: Sequence[str], sources: Mapping[str, str | tuple[str, ...]]) -> np.ndarray:
    """The joints of H36M17 from a data set's own: (F, len(names), D) -> (F, 17, D).

    sources: for a joint that the set calls otherwise its name there, or several, whose mean it is.
    """
    def joint(name: str) -> np.ndarray:
        parts = sources.get(name, name)
        return points[:, [names.index(part) for part in ((parts,) if isinstance(parts, str) else parts)]].mean(1)

    return np.stack([joint(name) for name in H36M17.joints], 1)


def to_camera(points: np.ndarray, orientation: Sequence[float], position: Sequence[float]) -> np.ndarray:
    """World to camera axes: (..., 3) -> (..., 3), the same unit.

    orientation: the unit quaternion (w, x, y, z) that turns the camera's axes into the world's. position: the camera's.
    """
    w, x, y, z = orientation
    rotation = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                         [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                         [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])
    return (points - np.asarray(position)) @ rotation  # multiplied from the right: the inverse rotation
