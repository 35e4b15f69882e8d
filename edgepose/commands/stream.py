"""edgepose stream: a recorded clip of keypoints, a video or a camera, lifted frame by frame."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..adapters import ADAPTERS, Adapter, adapter_of
from ..camera import checked_image_size
from ..checks import PICTURES, check_output, checked_number, need_library
from ..clip import Clip, by_identity, load_people, reference_of, stream_clip
from ..engine import load
from ..files.writing import write_motions
from ..filters import SMOOTH, OneEuro
from ..metrics import mpjpe, p_mpjpe
from ..people import People
from ..pictures.detector import DETECTORS, SHIPPED_DETECTOR, Detector, open_detector
from ..pictures.video import camera_frames, check_video, is_live, video_frames
from ..show.drawing import FILMS, plot_poses, save_film
from ..show.live import Viewer
from ..stream import Lifter, Pose, Stream
from .knowledge import add_knowledge, knowledge_of
from .layouts import add_layout
from .outputs import OUTPUTS, motion_of, places_of, write_people

SMALL_PX = 480  # most rows of a film's background


def film_people(path: str | Path, detector: Detector, layout: str | Adapter | None = None, fps: float | None = None,
                everybody: bool = False) -> tuple[list[Clip], np.ndarray]:
    """(people, each frame's time in the detector in ms) of a video file: the keypoints that a detector finds in it, a
    clip for each place in its lists.

    layout: another adapter of the same keypoints than the detector's; fps: for files whose time stamps are wrong.
    everybody: all people that the detector finds; else one.
    Raises ValueError if the layout does not have as many keypoints as the detector gives, and what video_frames raises.
    """
    layout = layout or detector.layout
    wanted = adapter_of(layout).layout
    if len(wanted) != len(ADAPTERS[detector.layout].layout):
        raise ValueError(f"layout {wanted.name!r} has {len(wanted)} keypoints; the detector gives {detector.layout!r}")
    found, stamps, times_ms = [], [], []
    for timestamp_s, image in video_frames(path, fps):
        start = time.perf_counter()
        found.append(detector.people(image) if everybody else _one(detector(image)))
        times_ms.append((time.perf_counter() - start) * 1e3)
        stamps.append(timestamp_s)
    stamps_s = np.array(stamps)
    rate = fps or (1 / np.median(np.diff(stamps_s)) if len(stamps_s) > 1 else 1.0)
    keypoints_px = np.zeros((len(found), max(1, *map(len, found)) if found else 1, len(wanted), 3))
    for frame, people in enumerate(found):
        for place, person in enumerate(people):
            keypoints_px[frame, place] = person
    return [Clip(Path(path).stem, keypoints_px[:, place], layout, (image.shape[1], image.shape[0]), float(rate),
                 timestamps_s=stamps_s) for place in range(keypoints_px.shape[1])], np.array(times_ms)


def _one(person: np.ndarray | None) -> Sequence[np.ndarray]:
    return [] if person is None else [person]


def small_frames(path: str | Path, fps: float | None = None) -> list[np.ndarray]:
    """The pictures of a video, thinned to SMALL_PX rows at most, so that all of them fit into memory."""
    return [image[::thinning, ::thinning].copy() for _, image in video_frames(path, fps)
            for thinning in [-(-len(image) // SMALL_PX)]]


def watch(engine: Lifter, camera: int | str, detector: Detector, delay_frames: int = 0,
          smoothing: OneEuro | None = None, keep: bool = False,
          live: Callable[[tuple[float, float]], Viewer] | None = None, fps: float | None = None,
          everybody: bool = False, **known: Any) -> list[tuple[int, Pose]]:
    """Lifts what a camera sees, says each second what it is, and returns when interrupted or the camera is lost: (id,
    pose) of all poses if `keep`, else of the last frame's.

    live: makes the viewer that shows the poses, of the image size. everybody: all people that the detector finds; else
    one, whose id is 0. known: see Stream. Raises what camera_frames and `live` raise.
    """
    poses: list[tuple[int, Pose]] = []
    followed, viewer, told_s, frames = None, None, 0.0, 0
    with suppress(KeyboardInterrupt), ExitStack() as open_until_the_end:
        for timestamp_s, image in _until_lost(camera_frames(camera, fps=fps, on_drop=_say_drop)):
            if followed is None:
                image_size = (image.shape[1], image.shape[0])
                followed = (People if everybody else Stream)(engine, detector.layout, image_size, smoothing=smoothing,
                                                             delay_frames=delay_frames, on_bad_time="reset", **known)
                viewer = open_until_the_end.enter_context(live(image_size)) if live else None
            if everybody:
                new = followed.push(detector.people(image), timestamp_s)
            else:
                pose = followed.push(detector(image), timestamp_s)
                new = [] if pose is None else [(0, pose)]
            if viewer is not None and new:
                viewer.push(new[0][1])
            if new and not keep:
                poses.clear()
            poses += new
            frames += 1
            if timestamp_s - told_s >= 1:
                said = ", ".join(f"{person}: {pose}" if everybody else str(pose) for person, pose in new) or "nobody"
                print(f"  {timestamp_s:7.1f} s  {frames / (timestamp_s - told_s):5.1f} frames/s  {said}", flush=True)
                told_s, frames = timestamp_s, 0
    if keep and followed:
        poses += followed.flush() if everybody else [(0, pose) for pose in followed.flush()]
    return poses


def _until_lost(frames: Iterator[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
    """The frames of a camera that may be lost: that ends them, and is said. One that gives none at all is an error."""
    has_begun = False
    try:
        for frame in frames:
            has_begun = True
            yield frame
    except ValueError as error:
        if not has_begun:
            raise
        print(f"  {error}", file=sys.stderr, flush=True)


def _say_drop(lost_s: float, drops: int) -> None:
    print(f"  the camera was away for {lost_s:.1f} s, time {drops}", flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose stream`."""
    parser.add_argument("--engine", default="ampose", help="an engine file, or one that ships (default: ampose)")
    parser.add_argument("--trust", action="store_true", help="load an engine that is a program, as those for ONNX "
                                                             "Runtime or TensorRT are: you trust who made it")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--clip", default="balance_cam1", metavar="CLIP",
                        help="a file of keypoints (docs/files.md), or one that ships (default: balance_cam1)")
    source.add_argument("--video", metavar="FILE", help="a video, a folder or pattern of pictures (walk/%%06d.png) or "
                                                        "an address, through a detector")
    source.add_argument("--camera", metavar="N", help="a camera, through a detector, until Ctrl-C: its number, its "
                                                      "device, an address (rtsp://...) or a GStreamer pipeline")
    parser.add_argument("--detector", metavar="NAME_OR_FILE",
                        help=f"for pictures: {DETECTORS} (default: shipped, a demonstration)")
    parser.add_argument("--people", action="store_true",
                        help="for pictures: follow everybody the detector finds, not one person")
    parser.add_argument("--flip-test", action="store_true",
                        help="the detector's mean with the mirrored picture, at twice its time")
    add_layout(parser)
    parser.add_argument("--image-size", nargs=2, type=float, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--fps", type=float)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--delay", type=int, default=0, metavar="FRAMES", help="later frames to wait for (default 0)")
    parser.add_argument("--smooth", action="store_true", help="a One Euro filter on the joints")
    add_knowledge(parser)
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help=f"write the poses: {', '.join(OUTPUTS)} (docs/files.md)")
    parser.add_argument("--plot", type=Path, metavar="FILE",
                        help="a picture: 2D keypoints beside the 3D pose (matplotlib)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="the same as a film: .gif, or .mp4 (PyAV)")
    parser.add_argument("--live", nargs="?", const="", metavar="FILE.rrd",
                        help="show the poses in the rerun viewer, or write them for it")


def _people_of(arguments: argparse.Namespace) -> list[Clip]:
    """The people of what the arguments name; a video has one, or with --people all."""
    if arguments.video is None:
        if arguments.flip_test or arguments.detector or arguments.people:
            raise ValueError("--detector, --people and --flip-test are for --video and --camera; a clip has its "
                             "keypoints, of everybody in it")
        return by_identity(load_people(arguments.clip, arguments.layout,
                                       arguments.image_size and tuple(arguments.image_size), arguments.fps))
    if arguments.image_size:
        raise ValueError("--image-size is for clips of keypoints; a video has its own")
    need_library("cv2", "reading pictures")
    check_video(arguments.video)
    with _detector_of(arguments) as detector:
        people, times_ms = film_people(arguments.video, detector, arguments.layout, arguments.fps, arguments.people)
    found = sum(any(clip.seen_in(i) is not None for clip in people) for i in range(len(times_ms)))
    print(f"{arguments.video}: somebody in {found} of {len(times_ms)} frames by {arguments.detector or 'shipped'}, "
          f"p50 {np.percentile(times_ms, 50):.1f} ms, p99 {np.percentile(times_ms, 99):.1f} ms")
    return by_identity(people)


def _detector_of(arguments: argparse.Namespace) -> Detector:
    detector = open_detector(arguments.detector or "shipped", threads=arguments.threads, flip_test=arguments.flip_test)
    if arguments.detector is None:
        print(f"no --detector given: {SHIPPED_DETECTOR}, which ships, is a demonstration that has seen rendered people "
              "only and confuses left and right")
    return detector


def write_poses(poses: list[Pose], path: Path, frames: np.ndarray) -> None:
    """An .npz file of joints_m, timestamp_s, confidence, is_seen and joint_names, of placed poses also root_m and
    root_error_m, or a file of another program by its suffix. frames (N,): the recording's of each pose."""
    if path.suffix != ".npz":
        write_motions(path, [motion_of(poses, frames)])
        print(f"  poses         {path}")
        return
    has_place = any(pose.root_m is not None for pose in poses)
    places = {name: places_of(poses, name) for name in ("root_m", "root_error_m") if has_place}
    np.savez(path, joints_m=np.stack([pose.joints_m for pose in poses]),
             timestamp_s=[pose.timestamp_s for pose in poses],
             confidence=np.stack([pose.confidence for pose in poses]),
             is_seen=np.stack([pose.is_seen for pose in poses]), joint_names=poses[0].skeleton.joints, **places)
    print(f"  poses         {path}")


def _watch(arguments: argparse.Namespace, engine: Lifter, smoothing: OneEuro | None,
           live: Callable[[tuple[float, float]], Viewer] | None, known: dict[str, Any]) -> int:
    wanted = ("layout", "image_size", "plot", "save") + ("fps",) * is_live(arguments.camera)
    options = [option for option in wanted if getattr(arguments, option) is not None]
    if options:
        raise ValueError(f"--{options[0].replace('_', '-')} is for clips and videos, not for a camera")
    need_library("cv2", "reading pictures")
    with _detector_of(arguments) as detector:
        poses = watch(engine, arguments.camera, detector, arguments.delay, smoothing, arguments.out is not None, live,
                      arguments.fps, arguments.people, **known)
    if arguments.out and poses and not arguments.people:
        write_poses([pose for _, pose in poses], arguments.out, np.arange(len(poses)))
    elif arguments.out and poses:
        moments = sorted({pose.timestamp_s for _, pose in poses})
        of = {person: [pose for one, pose in poses if one == person] for person, _ in poses}
        write_people([replace(motion_of(some, np.searchsorted(moments, [pose.timestamp_s for pose in some])),
                              person=person) for person, some in of.items()], arguments.out)
    return 0


def _stream_several(arguments: argparse.Namespace, engine: Lifter, smoothing: OneEuro | None,
                    people: Sequence[Clip], known: dict[str, Any]) -> int:
    options = [option for option in ("plot", "save", "live") if getattr(arguments, option) is not None]
    if options:
        raise ValueError(f"--{options[0]} shows one person; {people[0].name} has {len(people)}")
    motions = []
    for clip in people:
        poses, _ = stream_clip(engine, clip, arguments.delay, smoothing, **known)
        print(f"{clip.name}, person {clip.person_id}: frames {clip.first_frame} to "
              f"{clip.first_frame + len(clip.keypoints_px) - 1} at {clip.fps:g} Hz -> {len(poses)} poses by {engine}; "
              f"resets: {max(sum(pose.was_reset for pose in poses) - 1, 0)}")
        if poses:
            frames = clip.first_frame + clip.frames_at(np.array([pose.timestamp_s for pose in poses]))
            motions.append(replace(motion_of(poses, frames), person=clip.person_id))
    if not motions:
        raise ValueError(f"clip {people[0].name}: no frame gave a pose of anybody")
    if arguments.out:
        write_people(motions, arguments.out)
    return 0


def _reason_for_none(clip: Clip) -> str:
    """The likely reason for a clip of which no frame gives a pose."""
    detected = sum(clip.seen_in(frame) is not None for frame in range(len(clip.keypoints_px)))
    if not detected:
        return "nobody was detected"
    return (f"someone was detected in {detected} of them, but never with a hip or both shoulders in the picture "
            "and sure enough to place the body by")


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose stream`."""
    check_output(arguments.out, OUTPUTS)
    check_output(arguments.plot, PICTURES)
    check_output(arguments.save, FILMS)
    live_file = Path(arguments.live) if arguments.live else None
    check_output(live_file, (".rrd",))
    if arguments.live is not None:
        need_library("rerun", "--live")
    if arguments.fps is not None:
        checked_number("--fps", arguments.fps, above=0)
    if arguments.image_size:
        checked_image_size(tuple(arguments.image_size))
    engine = load(arguments.engine, threads=arguments.threads, trust=arguments.trust)
    smoothing, known = SMOOTH if arguments.smooth else None, knowledge_of(arguments)
    known["constant_bones"] = arguments.constant_bones
    # A delay that the engine does not have is refused here, not after a film has been through the detector.
    Stream(engine, "coco17", (1, 1), delay_frames=arguments.delay)
    live = None if arguments.live is None else lambda image_size: Viewer(image_size, live_file)
    if arguments.camera is not None:
        return _watch(arguments, engine, smoothing, live, known)
    people = _people_of(arguments)
    if len(people) > 1:
        return _stream_several(arguments, engine, smoothing, people, known)
    clip = people[0]
    with live(clip.image_size) if live else nullcontext() as viewer:
        poses, times_ms = stream_clip(engine, clip, arguments.delay, smoothing, viewer and viewer.push, **known)
    if not poses:
        raise ValueError(f"clip {clip.name}: no frame of {len(clip.keypoints_px)} gave a "
                         f"pose: {_reason_for_none(clip)}")
    print(f"{clip.name}: {len(clip.keypoints_px)} frames at {clip.fps:g} Hz -> {len(poses)} poses by {engine}")
    print(f"  Stream.push   p50 {np.percentile(times_ms, 50):.3f} ms, p99 {np.percentile(times_ms, 99):.3f} ms "
          f"(a frame every {1e3 / clip.fps:.1f} ms)")
    print(f"  joints        {np.mean([pose.is_seen.mean() for pose in poses]):.1%} seen by the "
          f"detector, the others held in place; resets: {sum(pose.was_reset for pose in poses) - 1}")
    roots_m = np.array([pose.root_m for pose in poses if pose.root_m is not None])
    if len(roots_m):
        error_m = np.median([pose.root_error_m[2] for pose in poses if pose.root_m is not None])
        print(f"  place         {roots_m[:, 2].min():.2f} to {roots_m[:, 2].max():.2f} m in front of the camera, "
              f"good to {error_m:.2f} m")
    joints_m = np.stack([pose.joints_m for pose in poses])
    if clip.reference_m is not None:
        errors = [metric(1e3 * joints_m, 1e3 * reference_of(poses, clip)) for metric in (mpjpe, p_mpjpe)]
        print("  error         MPJPE {:.1f} mm, P-MPJPE {:.1f} mm to the triangulated reference (itself good to "
              "some 30 mm)".format(*errors))
    if arguments.out:
        write_poses(poses, arguments.out, clip.frames_at(np.array([pose.timestamp_s for pose in poses])))
    if live_file:
        print(f"  recording     {live_file} (open it: rerun {live_file})")
    if arguments.plot:
        plot_poses(clip, poses, arguments.plot)
        print(f"  picture       {arguments.plot}")
    if arguments.save:
        has_pictures = arguments.video is not None and not is_live(arguments.video)  # an address is not read twice
        backgrounds = small_frames(arguments.video, arguments.fps) if has_pictures else None
        frames = save_film(clip, poses, arguments.save, backgrounds)
        print(f"  film          {arguments.save}, {frames} frames")
    return 0
