"""A recorded clip of keypoints: our .npz files of them and other programs' (edgepose/files), the windows that ship, and
a clip through a `Stream`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .adapters import ADAPTERS, Adapter, adapter_of
from .camera import check_pixels, checked_image_size
from .checks import checked_number
from .files.reading import SUFFIXES, read_recording
from .files.recording import Recording
from .filters import OneEuro
from .npz import read_npz
from .people import identify
from .shipped import HERE, shipped_file
from .skeleton import H36M17
from .stream import Lifter, Pose, Stream

CLIPS = HERE / "clips"
WINDOW_FILES = {"evaluation": ("evaluation.npz", "evaluation351.npz"),  # many short windows, fewer long ones
                "calibration": ("calibration.npz", "calibration351.npz")}
ARRAYS = {*ADAPTERS, "keypoints", "layout", "fps", "image_size", "timestamps_s", "reference_m", "ids"}  # a file's
SLOWEST_HZ, FASTEST_HZ = 1, 1000  # a rate outside of these is in another unit
RATE_SHARE = 0.1  # a file's fps and its times may differ so much: times in whole milliseconds are 4 % off at 120 Hz
OUTSIDE_SHARE = 0.5  # with more of the keypoints outside of the picture, the size given is another picture's
LEFT_OUT = {"duplicate_person": "more detections of somebody who was found already",
            "across_people": "poses across two people", "most_people": "of more people than can be followed"}


@dataclass(frozen=True)
class Clip:
    """A recorded clip of one person.

    keypoints_px: (F, K, 2) or (F, K, 3) with confidence, 0 in all of a frame in which nobody was found. layout: a name
    in ADAPTERS, or an Adapter. image_size: (width, height), px.
    reference_m: (F, 17, 3) metres from the root, camera axes, where somebody measured them; else None.
    timestamps_s: (F,) of the frames where they are not fps apart; else None.
    first_frame: the recording's frame that the clip begins with. person_id: the file's own; None: the file has none, so
    that the clip is of whoever has this place in each frame's list.
    """

    name: str
    keypoints_px: np.ndarray
    layout: str | Adapter
    image_size: tuple[float, float]
    fps: float
    reference_m: np.ndarray | None = None
    timestamps_s: np.ndarray | None = None
    first_frame: int = 0
    person_id: int | None = None

    def time_of(self, frame: int) -> float:
        """The time at which a frame was taken, in seconds."""
        return frame / self.fps if self.timestamps_s is None else float(self.timestamps_s[frame])

    def frame_at(self, time_s: float) -> int:
        """The frame nearest to a time, the first of several."""
        return int(self.frames_at(np.array([time_s]))[0])

    def frames_at(self, times_s: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """The frames nearest to (N,) times. among: one of `recordings`; None: of all frames, and the first of
        several."""
        if self.timestamps_s is None:
            return np.clip(np.rint(times_s * self.fps), 0, len(self.keypoints_px) - 1).astype(np.int64)
        if among is None:
            found = np.stack([self.frames_at(times_s, frames) for frames in self.recordings])
            return found[np.abs(self.timestamps_s[found] - times_s).argmin(axis=0), np.arange(len(times_s))]
        known_s = self.timestamps_s[among]
        after = np.searchsorted(known_s, times_s)
        before, after = np.maximum(after - 1, 0), np.minimum(after, len(known_s) - 1)
        return among[np.where(np.abs(known_s[before] - times_s) <= np.abs(known_s[after] - times_s), before, after)]

    @cached_property
    def recordings(self) -> list[np.ndarray]:
        """The frames of each recording in the clip, as Stream with on_bad_time="reset" sees them: an earlier time than
        the last one's begins another, and the frame of a repeated one is left out."""
        if self.timestamps_s is None:
            return [np.arange(len(self.keypoints_px))]
        found = [[0]]
        for frame in range(1, len(self.timestamps_s)):
            step_s = self.timestamps_s[frame] - self.timestamps_s[found[-1][-1]]
            if step_s < 0:
                found.append([frame])
            elif step_s > 0:
                found[-1].append(frame)
        return [np.array(frames) for frames in found]

    def seen_in(self, frame: int) -> np.ndarray | None:
        """The keypoints of a frame, or None if nobody was found in it."""
        keypoints_px = self.keypoints_px[frame]
        return keypoints_px if keypoints_px.shape[-1] != 3 or keypoints_px[:, 2].any() else None


def load_clip(clip: str, layout: str | Adapter | None = None, image_size: tuple[float, float] | None = None,
              fps: float | None = None) -> Clip:
    """A shipped clip by its name, or a file of one person: see load_people, which it raises the errors of."""
    people = load_people(clip, layout, image_size, fps)
    if len(people) != 1:
        raise ValueError(f"{clip} has {len(people)} people; wanted one, (frames, K, 2 or 3). "
                         "edgepose stream and edgepose lift take them all")
    return people[0]


def load_people(clip: str, layout: str | Adapter | None = None, image_size: tuple[float, float] | None = None,
                fps: float | None = None) -> list[Clip]:
    """The people of a shipped clip by its name, or of a file: see read_people, which it raises the errors of."""
    path = Path(clip) if clip.endswith(SUFFIXES) or Path(clip).exists() else CLIPS / f"{clip}.npz"
    if not path.exists():
        shipped = sorted(file.stem for file in CLIPS.glob("*.npz") if file.name not in sum(WINDOW_FILES.values(), ()))
        raise ValueError(f"no clip {clip!r}: neither a file nor one of those that ship ({', '.join(shipped)})")
    return read_people(path, layout, image_size, fps)


def read_people(path: Path, layout: str | Adapter | None = None, image_size: tuple[float, float] | None = None,
                fps: float | None = None) -> list[Clip]:
    """The people of a file or folder of keypoints, each a clip of all its frames, or by a file's ids of those from
    the person's first to the last.

    Files of other programs: see docs/files.md. Of an .npz file of ours, the
    keypoints are `keypoints`, whose layout the string `layout` or the argument says, or an array named like
    a layout ("coco17"), of one person, (F, K, 2 or 3), or of several, (F, people, K, 2 or 3), in any order
    unless `ids`, (people,) or (F, people), says who they are: numbers from 0, and -1 for nobody. `image_size`, `fps`,
    `timestamps_s` (F,) and `reference_m`, (F, 17, 3) or (F, people, 17, 3), are taken from it where it has them. The
    arguments go before what the file says, fps before its times too.
    Raises ValueError, naming the file, what is missing or odd in it, and what there is.
    """
    recording = read_recording(path, layout and adapter_of(layout).layout)
    if recording is not None:
        return _people_of(path, recording, layout, image_size, fps)
    arrays = read_npz(path, ARRAYS)
    layout, keypoints = _keypoints(path, arrays, layout)
    if not keypoints.size and keypoints.ndim in (3, 4):
        raise ValueError(f"{path} has no {'people' if len(keypoints) and keypoints.ndim == 4 else 'frames'}: the "
                         f"keypoints have shape {keypoints.shape}")
    if keypoints.ndim not in (3, 4) or keypoints.shape[-1] not in (2, 3) or keypoints.dtype.kind not in "fiu":
        raise ValueError(f"{path}: the keypoints are {keypoints.dtype} of shape {keypoints.shape}; wanted "
                         "numbers, (frames, K, 2 or 3) or (frames, people, K, 2 or 3)")
    times_s = _times(path, arrays["timestamps_s"], len(keypoints)) if fps is None and "timestamps_s" in arrays else None
    image_size, fps = _size_and_rate(path, image_size, fps, arrays, times_s)
    reference = arrays.get("reference_m")
    is_of_several = keypoints.ndim == 4
    wanted = (*keypoints.shape[:-2], len(H36M17), 3)
    if reference is not None and (reference.shape != wanted or reference.dtype.kind != "f"
                                  or not np.isfinite(reference).all()):
        raise ValueError(f"{path}: reference_m is {reference.dtype} of shape {reference.shape}; wanted finite "
                         f"metres, {wanted}: a pose of {H36M17.name} for each frame")
    _check_pixels(path, keypoints, image_size)
    people = [Clip(path.stem, keypoints[:, person] if is_of_several else keypoints, layout, image_size, fps,
                   reference[:, person] if is_of_several and reference is not None else reference, times_s)
              for person in range(keypoints.shape[1] if is_of_several else 1)]
    if "ids" not in arrays:
        return people
    ids = _ids(path, arrays["ids"], (len(keypoints), len(people)))
    if not (ids >= 0).any():
        raise ValueError(f"{path}: ids says of nobody who they are; wanted numbers from 0")
    return [_of_person(people, ids, person) for person in np.unique(ids[ids >= 0]).tolist()]


def _ids(path: Path, value: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(F, people) whose each pose is. Raises ValueError, naming the file, if two of a frame have one id."""
    if value.dtype.kind not in "iu" or value.shape not in (shape, shape[1:]):
        raise ValueError(f"{path}: ids is {value.dtype} of shape {value.shape}; wanted whole numbers, {shape[1:]} or "
                         f"{shape}")
    ids = np.broadcast_to(value.astype(np.int64), shape)
    for frame, known in enumerate(ids):
        names, times = np.unique(known[known >= 0], return_counts=True)
        if (times > 1).any():
            raise ValueError(f"{path}: ids has {names[times > 1][0]} twice in frame {frame}; wanted an id of their own "
                             "for each person")
    return ids


def _people_of(path: Path, recording: Recording, layout: str | Adapter | None, image_size: tuple[float, float] | None,
               fps: float | None) -> list[Clip]:
    """The people of another program's file: see read_people."""
    if not recording.people:
        raise ValueError(f"{path}: nobody was found in any of its {recording.frames} frames")
    count = len(recording.people[0].keypoints)
    layout = layout or recording.layout
    if layout is None:
        raise ValueError(f"{path}: say the layout of its {count} keypoints: --layout, one of {', '.join(ADAPTERS)}, or "
                         "a file of your own")
    wanted = adapter_of(layout).layout
    if len(wanted) != count:
        raise ValueError(f"{path}: --layout says {wanted.name!r}, of {len(wanted)} keypoints; the file has {count}")
    says = {name: np.array(value) for name, value in (("image_size", recording.image_size), ("fps", recording.fps))
            if value is not None}
    times_s = recording.timestamps_s if fps is None else None
    times_s = None if times_s is None else _times(path, times_s, recording.frames)
    image_size, fps = _size_and_rate(path, image_size, fps, says, times_s)
    _check_pixels(path, np.concatenate([found.keypoints for found in recording.people]), image_size)
    tracks = recording.tracks(path)
    if times_s is None and any(track.first_frame for track in tracks):
        times_s = np.arange(recording.frames) / fps
    return [Clip(path.stem, track.keypoints_px, layout, image_size, fps, first_frame=track.first_frame,
                 timestamps_s=None if times_s is None else times_s[track.first_frame:][:len(track.keypoints_px)],
                 person_id=track.person_id) for track in tracks]


def _size_and_rate(path: Path, image_size: tuple[float, float] | None, fps: float | None, says: Mapping[str, Any],
                   times_s: np.ndarray | None) -> tuple[tuple[float, float], float]:
    """(image_size, fps) of the arguments, else as a file says them. Raises ValueError, naming it, if neither does."""
    has_rate = fps is not None or "fps" in says or times_s is not None and len(times_s) > 1
    has_size = image_size is not None or "image_size" in says
    missing = [option for option, is_there in (("--fps HZ", has_rate), ("--image-size WIDTH HEIGHT", has_size))
               if not is_there]
    if missing:
        raise ValueError(f"{path}: say {' and '.join(missing)}, which the file does not say")
    if fps is None:
        fps = _rate(path, says.get("fps"), times_s)
    if image_size is None:
        image_size = _positive(path, "image_size", says["image_size"], 2)
    return checked_image_size(image_size), checked_number(f"{path}: fps", fps, SLOWEST_HZ, FASTEST_HZ)


def by_identity(people: Sequence[Clip]) -> list[Clip]:
    """The people of a recording as a clip each, from first to last: as they are if the file has ids, else followed from
    frame to frame, because detectors that find several people promise no order.

    Warns of poses that are nobody's and left out.
    Raises ValueError, naming frame and person, for keypoints that a Stream does not take.
    """
    if len(people) < 2 or people[0].person_id is not None:
        return list(people)
    first = people[0]
    everybody = np.stack([clip.keypoints_px for clip in people], axis=1)
    ids, notices = identify(everybody, [first.time_of(frame) for frame in range(len(everybody))], first.layout,
                            first.image_size)
    if any(notices[kind] for kind in LEFT_OUT):
        warnings.warn(f"{first.name}: left out " + ", ".join(f"{notices[kind]} {text}" for kind, text in
                                                            LEFT_OUT.items() if notices[kind]), stacklevel=2)
    return [_of_person(people, ids, person) for person in range(ids.max(initial=-1) + 1)] or [first]


def _of_person(people: Sequence[Clip], ids: np.ndarray, person: int) -> Clip:
    """One person's clip of a recording in places. ids: (F, places)."""
    everybody = np.stack([clip.keypoints_px for clip in people], axis=1)
    frames, places = np.nonzero(ids == person)
    first, end = int(frames.min()), int(frames.max()) + 1
    keypoints_px = np.zeros((end - first, *everybody.shape[2:]), everybody.dtype)
    keypoints_px[frames - first] = everybody[frames, places]
    reference_m = None
    if people[0].reference_m is not None:
        reference_m = np.full((end - first, *people[0].reference_m.shape[1:]), np.nan)
        reference_m[frames - first] = np.stack([clip.reference_m for clip in people], axis=1)[frames, places]
    times_s = np.array([people[0].time_of(frame) for frame in range(first, end)])
    return replace(people[0], keypoints_px=keypoints_px, reference_m=reference_m, first_frame=first, person_id=person,
                   timestamps_s=times_s if first or people[0].timestamps_s is not None else None)


def _keypoints(path: Path, arrays: dict[str, Any],
               layout: str | Adapter | None) -> tuple[str | Adapter, np.ndarray]:
    """(their layout, the keypoints) of a file. layout: of the command's option, which goes before what the file says.

    Raises ValueError, naming it, if they are not there, or it is not clear which are meant. Warns if the file's own
    layout is not known and an array of a known one is taken.
    """
    by_layout = {name: arrays[name] for name in ADAPTERS if name in arrays}
    in_file = arrays["layout"].tolist() if "layout" in arrays else None
    known = in_file if isinstance(in_file, str) and in_file in ADAPTERS else None
    if known is not None:
        if "keypoints" in arrays:
            by_layout[known] = arrays["keypoints"]
        elif known not in by_layout and layout is None:
            raise ValueError(f"{path} says layout {in_file!r} and has the arrays {', '.join(arrays)}; "
                             "wanted `keypoints` of that layout")
    elif in_file is not None and layout is None and not by_layout:
        raise ValueError(f"{path}: layout is {in_file!r}; wanted one of {', '.join(ADAPTERS)}")
    if layout is not None and layout not in by_layout:
        return layout, _as_layout(path, arrays, by_layout, layout)
    if layout is None and known in by_layout:
        layout = known
    if layout is None and len(by_layout) > 1:
        raise ValueError(f"{path} has keypoints of the layouts {', '.join(by_layout)}: choose one with --layout")
    if not by_layout and "keypoints" in arrays:
        raise ValueError(f"{path}: say the layout of its `keypoints`: --layout, one of {', '.join(ADAPTERS)}")
    if not by_layout:
        raise ValueError(f"{path} has the arrays {', '.join(arrays)}; wanted one named "
                         f"{', '.join(ADAPTERS)}, or `keypoints`")
    layout = layout or next(iter(by_layout))
    if in_file is not None and known is None:
        warnings.warn(f"{path}: its layout {in_file!r} is not known; its array {layout!r} is taken", stacklevel=4)
    return layout, by_layout[layout]


def _as_layout(path: Path, arrays: dict[str, Any], by_layout: dict[str, np.ndarray],
               layout: str | Adapter) -> np.ndarray:
    """The keypoints that --layout means where no array has its name. Raises ValueError, naming the file, if there are
    none of as many joints."""
    wanted = adapter_of(layout).layout
    found = (arrays["keypoints"] if "keypoints" in arrays else next(iter(by_layout.values()))
             if len(by_layout) == 1 else None)
    if found is None:
        raise ValueError(f"{path} has the arrays {', '.join(arrays)}; wanted {wanted.name!r} or `keypoints`")
    count = len(wanted)
    if found.ndim >= 2 and found.shape[-2] != count:
        raise ValueError(f"{path}: --layout says {wanted.name!r}, of {count} keypoints; the file has {found.shape[-2]} "
                         f"of {' and '.join(by_layout) or 'no name'}")
    return found


def _positive(path: Path, key: str, value: np.ndarray, count: int) -> tuple[float, ...]:
    """As many numbers above 0 as wanted. Raises ValueError, naming the file and the key."""
    if value.dtype.kind not in "fiu" or value.size != count or not np.isfinite(value).all() or not (value > 0).all():
        raise ValueError(f"{path}: {key} is {value.tolist()!r}; wanted "
                         f"{'one number' if count == 1 else f'{count} numbers'} above 0")
    return tuple(value.ravel().astype(float).tolist())


def _rate(path: Path, fps: np.ndarray | None, times_s: np.ndarray | None) -> float:
    """The frames a second that a file says. Raises ValueError, naming it, if its times say otherwise: on the median and
    on the mean."""
    steps_s = np.diff(times_s) if times_s is not None and len(times_s) > 1 else None
    if steps_s is not None:
        steps_s = steps_s[steps_s > 0]  # the others are warned of
    rate = 1 / float(np.median(steps_s)) if fps is None else _positive(path, "fps", fps, 1)[0]
    if steps_s is not None and all(abs(rate * step_s - 1) > RATE_SHARE
                                   for step_s in (np.median(steps_s), np.mean(steps_s))):
        raise ValueError(f"{path}: fps is {rate:g}, but its timestamps_s are {np.median(steps_s):g} apart, "
                         f"{1 / np.median(steps_s):.4g} a second: wanted seconds, or one of the two")
    return rate


def _times(path: Path, value: np.ndarray, frames: int) -> np.ndarray:
    """The time of each frame. Raises ValueError, naming the file, if they are not that."""
    if value.dtype.kind not in "fiu" or value.shape != (frames,) or not np.isfinite(value).all():
        raise ValueError(f"{path}: timestamps_s is {value.dtype} of shape {value.shape}; wanted "
                         f"finite seconds, {(frames,)}")
    times_s = value.astype(float)
    bad = np.flatnonzero(np.diff(times_s) <= 0)
    if len(times_s) > 1 and len(bad) == len(times_s) - 1:
        raise ValueError(f"{path}: timestamps_s goes from {times_s[0]:g} to {times_s[1]:g} and never forward; wanted "
                         "increasing seconds")
    if len(bad):
        frame, more = int(bad[0]), f", and {len(bad) - 1} times more" * (len(bad) > 1)
        warnings.warn(f"{path}: timestamps_s goes from {times_s[frame]:.9g} to {times_s[frame + 1]:.9g} at frame "
                      f"{frame + 1}{more}: an earlier time begins another recording, the "
                      "frame of a repeated one is left out", stacklevel=4)
    return times_s


def _check_pixels(path: Path, keypoints: np.ndarray, image_size: tuple[float, float]) -> None:
    """Raises ValueError, naming the file, if the keypoints are no pixels of the picture."""
    is_found = keypoints[..., 2] > 0 if keypoints.shape[-1] == 3 else keypoints.any(axis=-1)
    found = keypoints[is_found][:, :2]
    check_pixels(found, f"{path}: the keypoints")
    outside = ((found < 0) | (found > image_size)).any(axis=1)
    if outside.sum() > OUTSIDE_SHARE * len(outside):
        width, height = image_size
        raise ValueError(f"{path}: {outside.mean():.0%} of the keypoints are outside of a picture of {width:g} x "
                         f"{height:g}; their median is "
                         f"({', '.join(f'{place:.0f}' for place in np.median(found, axis=0))}): wanted the size of "
                         "the picture they were found in")


def load_windows(frames: int, is_causal: bool = False, folder: Path | None = None,
                 use: str = "evaluation") -> tuple[np.ndarray, np.ndarray]:
    """The windows that ship for checking models: keypoints_norm (N, frames, 17, 2), target_m (N, 17, 3), float32.

    use: "evaluation", of people who are not in the training data, or "calibration", of people who are.

    The target belongs to the middle frame, or with is_causal to the last one. The files of WINDOW_FILES hold longer
    windows: what is wanted is taken from around their middle, from the first file that is long enough. A causal window
    that is longer still repeats its first frame, as at the start of a stream.
    Raises ValueError if none is long enough, and FileNotFoundError if they are not installed. folder: of other files.
    """
    after = 0 if is_causal else frames // 2
    before = frames - 1 - after
    for file in WINDOW_FILES[use]:
        with np.load(folder / file if folder else shipped_file(f"clips/{file}")) as arrays:
            keypoints, target = arrays["keypoints_norm"], arrays["target_m"]
        middle = keypoints.shape[1] // 2
        if before <= middle or (is_causal and file == WINDOW_FILES[use][-1]):
            part = keypoints[:, max(0, middle - before):middle + after + 1].astype(np.float32)
            missing = frames - part.shape[1]
            return (np.ascontiguousarray(np.pad(part, ((0, 0), (missing, 0), (0, 0), (0, 0)), "edge")),
                    target.astype(np.float32))
    raise ValueError(f"{file} has windows of {keypoints.shape[1]} frames; the middle {frames} are not in them")


def stream_clip(engine: Lifter, clip: Clip, delay_frames: int = 0, smoothing: OneEuro | None = None,
                show: Callable[[Pose], None] | None = None,
                **known: Any) -> tuple[list[Pose], np.ndarray]:
    """Every frame of a clip through one Stream: the poses it answered with, also at the end, and each push's time in
    ms.

    show: is given each pose as it comes, outside the measured time. known: of the person and the camera, as `Stream`
    takes it: lengths_m, camera, gravity.
    """
    stream = Stream(engine, clip.layout, clip.image_size, delay_frames=delay_frames, smoothing=smoothing,
                    on_bad_time="reset", **known)
    poses: list[Pose] = []
    times_ms = np.empty(len(clip.keypoints_px))
    for i in range(len(clip.keypoints_px)):
        start = time.perf_counter()
        try:
            pose = stream.push(clip.seen_in(i), clip.time_of(i))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{clip.name}, frame {i}: {error}") from None
        times_ms[i] = (time.perf_counter() - start) * 1e3
        if pose is not None:
            poses.append(pose)
            if show is not None:
                show(pose)
    for pose in stream.flush():
        poses.append(pose)
        if show is not None:
            show(pose)
    return poses, times_ms


def reference_of(poses: list[Pose], clip: Clip) -> np.ndarray:
    """(N, J, 3) m: for each pose the clip's reference at the nearest frame, in the pose's joints.

    Raises ValueError if the clip has no reference.
    """
    if clip.reference_m is None:
        raise ValueError(f"clip {clip.name} has no reference")
    frames = clip.frames_at(np.array([pose.timestamp_s for pose in poses]))
    return clip.reference_m[frames][:, [H36M17.index(joint) for joint in poses[0].skeleton.joints]]
