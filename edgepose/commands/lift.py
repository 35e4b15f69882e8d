"""edgepose lift: a large archive of recorded keypoints, lifted by many processes; what is finished is not done
again."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..adapters import Adapter, adapter_of
from ..camera import checked_image_size
from ..checks import WRITERS, check_output, checked_number, listed, need_library, read_json
from ..clip import FASTEST_HZ, SLOWEST_HZ, Clip, by_identity, read_people
from ..engine import Engine, load
from ..enginefile import EngineError, part_of, write_atomically
from ..files.writing import SUFFIXES, write_motions
from ..filters import SMOOTH
from ..kinematics import with_constant_bones
from ..machine import cores
from ..npz import read_npz
from ..stream import Pose, Stream
from ..workers import Lost, Processes, RayActors, Workers, hand_out
from .knowledge import add_knowledge, knowledge_of
from .layouts import add_layout, layout_name
from .outputs import OUTPUTS, motions_of, places_of
from .recordings import Job, digest_of, find_recordings, recordings_below, size_of

MOST_LISTED = 20  # failed recordings in a message
PROGRESS_S = 5.0  # time between two lines of progress
POSES_AT_ONCE = 1024  # so many poses are objects; a recording's others are rows of arrays


@dataclass(frozen=True)
class Options:
    """The settings for every recording of an archive. layout, image_size, fps: None takes those of its file. trust: see
    load(). formats: suffixes of the files of poses to write beside each .npz file. known: (name, value) pairs of what
    is known of camera and person, as Stream takes them."""

    engine: str
    delay_frames: int
    is_smoothed: bool = False
    layout: str | Adapter | None = None
    image_size: tuple[float, float] | None = None
    fps: float | None = None
    trust: bool = False
    formats: tuple[str, ...] = ()
    known: tuple[tuple[str, Any], ...] = ()
    constant_bones: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result of a job. failed: the reason why a recording has no poses; stops: no other recording would have any
    either."""

    frames: int = 0
    poses: int = 0
    failed: str | None = None
    stops: bool = False


def lift_people(engine: Engine, people: Sequence[Clip], options: Options) -> dict[str, np.ndarray]:
    """The poses that a Stream of its own gives for each person of a recording, person by person and in the order of
    time. people: by a file's ids, or in the places of a detector's list, where they are followed from frame to frame.

    Arrays: person (N,), the file's id, or the number by which they were first seen; frame (N,), the recording's
    nearest in time; timestamps_s (N,); joints_m (N, J, 3) float32, metres from the root, camera axes; confidence (N,
    J); is_seen (N, J); was_reset (N,): see Pose. With a camera also root_m and root_error_m, (N, 3), NaN where the
    place is not known. With constant bones those of all poses of a person.
    Raises ValueError, numbering frame and person, for what a Stream does not take.
    """
    joints = len(engine.skeleton)
    people = by_identity(people)
    known = dict(options.known)
    tables = [_table([], 0, people[0], joints, has_place="camera" in known)]
    for person, clip in enumerate(people):
        stream = Stream(engine, clip.layout, clip.image_size, delay_frames=options.delay_frames,
                        smoothing=SMOOTH if options.is_smoothed else None, **known)
        for frames in clip.recordings:
            poses = stream.lift((clip.seen_in(i), clip.time_of(i)) for i in frames)
            try:
                while some := list(islice(poses, POSES_AT_ONCE)):
                    tables.append(_table(some, person, clip, joints, frames, "camera" in known))
            except (TypeError, ValueError) as error:
                raise type(error)(f"person {person}, {error}" if len(people) > 1 else str(error)) from None
    arrays = {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}
    if options.constant_bones:
        for person in np.unique(arrays["person"]):
            is_theirs = arrays["person"] == person
            arrays["joints_m"][is_theirs] = with_constant_bones(arrays["joints_m"][is_theirs], engine.skeleton)
    return arrays


def _table(poses: list[Pose], person: int, clip: Clip, joints: int, frames: np.ndarray | None = None,
           has_place: bool = False) -> dict[str, np.ndarray]:
    times_s = np.array([pose.timestamp_s for pose in poses], np.float64)
    places = {name: places_of(poses, name) for name in ("root_m", "root_error_m") if has_place}
    return {"person": np.full(len(poses), person if clip.person_id is None else clip.person_id, np.int64),
            "frame": clip.first_frame + clip.frames_at(times_s, frames),
            "timestamps_s": times_s,
            "joints_m": np.array([pose.joints_m for pose in poses], np.float32).reshape(-1, joints, 3),
            "confidence": np.array([pose.confidence for pose in poses], np.float32).reshape(-1, joints),
            "is_seen": np.array([pose.is_seen for pose in poses], bool).reshape(-1, joints),
            "was_reset": np.array([pose.was_reset for pose in poses], bool), **places}


def made_with(engine: Engine, options: Options) -> dict[str, Any]:
    """The version, engine and options that a result depends on: with others it is another result."""
    smoothing = ({name: getattr(SMOOTH, name) for name in ("min_cutoff_hz", "beta", "d_cutoff_hz")}
                 if options.is_smoothed else None)
    return {"edgepose": version("edgepose"),
            "engine": {"model": engine.model, "frames": engine.frames, "precision": engine.precision,
                       "backend": engine.backend,
                       "weights_sha256": engine.header["weights_sha256"], "file_sha256": digest_of(engine.path)},
            "options": {"layout": layout_name(options.layout),
                        "image_size": options.image_size and list(options.image_size), "fps": options.fps,
                        "delay_frames": options.delay_frames, "smoothing": smoothing,
                        "formats": list(options.formats) or None,
                        "known": {name: list(value) if isinstance(value, tuple) else value
                                  for name, value in options.known} or None,
                        "constant_bones": options.constant_bones or None}}


def _made_by(job: Job, settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "recording": {"name": job.recording.name, "sha256": digest_of(job.recording)}}


class Lifting:
    """The work of one worker on each job; its engine, of one thread, is loaded with the first."""

    def __init__(self, options: Options, settings: dict[str, Any]) -> None:
        self._options, self._settings = options, settings
        self._engine: Engine | None = None

    def __call__(self, job: Job) -> Outcome:
        try:
            if self._engine is None:
                self._engine = load(self._options.engine, trust=self._options.trust)
                if made_with(self._engine, self._options) != self._settings:
                    raise EngineError(f"{self._engine.path}, or edgepose, is another one "
                                      "here than where the work began")
        except (EngineError, OSError) as error:
            return Outcome(failed=str(error), stops=True)
        try:
            people = read_people(job.recording, self._options.layout, self._options.image_size, self._options.fps)
            made_by = _made_by(job, self._settings)
            arrays = lift_people(self._engine, people, self._options)
        except (ValueError, TypeError, OSError) as error:
            return Outcome(failed=str(error) if str(job.recording) in str(error) else f"{job.recording}: {error}")
        except MemoryError:
            return Outcome(failed=f"{job.recording}: does not fit into memory")
        clip, file = people[0], io.BytesIO()
        np.savez(file, **arrays, joint_names=self._engine.skeleton.joints, layout=adapter_of(clip.layout).layout.name,
                 image_size=clip.image_size, fps=clip.fps,
                 isa=self._engine.isa or "", made_by=json.dumps(made_by, sort_keys=True))
        try:
            # The .npz file comes last: it says that all of them are there.
            for suffix in self._options.formats if len(arrays["frame"]) else ():
                job.output.parent.mkdir(parents=True, exist_ok=True)
                write_motions(job.output.with_suffix(suffix), motions_of(arrays, self._engine.skeleton))
            write_atomically(job.output, file.getbuffer())
        except OSError as error:
            return Outcome(failed=str(error), stops=True)
        except ValueError as error:
            return Outcome(failed=f"{job.recording}: {error}")
        return Outcome(len(people) * len(clip.keypoints_px), len(arrays["frame"]))


def unfinished(jobs: Iterable[Job], settings: dict[str, Any], redo: bool = False) -> list[Job]:
    """The jobs without a result that was made of the same recording in the same way.

    redo: also those whose result was made otherwise, or is none. Without it they raise ValueError, which says how they
    differ.
    """
    todo, others = [], []
    for job in jobs:
        difference = _difference(job, settings)
        if difference:
            others.append(f"{job.output} {difference}")
        if difference != "":
            todo.append(job)
    if others and not redo:
        more = f", and {len(others) - 1} more results differ" if len(others) > 1 else ""
        raise ValueError(f"{others[0]}{more}: --redo lifts again, another --output keeps what is there")
    return todo


def others_of(output: Path, jobs: Iterable[Job], settings: dict[str, Any]) -> list[str]:
    """The results in a folder that are of none of the jobs' recordings, and made otherwise: how each differs."""
    known = {path for job in jobs for path in (job.output, job.recording)}
    found = [path for path in sorted(recordings_below(Path(os.path.abspath(output))))
             if path.suffix == ".npz" and path not in known]
    return [f"{path} {difference}" for path in found if (was := _made_by_of(path))
            and (difference := _otherwise(was, settings))]


def _made_by_of(result: Path) -> dict[str, Any] | None:
    """The version, engine, options and recording in a result; None if edgepose lift did not write it, or it is
    damaged."""
    try:
        was = read_json(str(read_npz(result, ("made_by",))["made_by"]))
        return (was if isinstance(was["engine"], dict) and isinstance(was["options"], dict)
                and "edgepose" in was else None)
    except (ValueError, TypeError, KeyError):  # no .npz file, or none of ours
        return None


def _otherwise(was: dict[str, Any], settings: dict[str, Any]) -> str:
    """The first difference but for the recording, "" if there is none."""
    items = [(part, key, value, was[part].get(key)) for part in ("engine", "options")
             for key, value in settings[part].items()]
    for part, key, now, before in (*items, ("", "edgepose", settings["edgepose"], was["edgepose"])):
        if before != now:
            return f"is made with {part} {key} {before!r}, not {now!r}".replace("  ", " ")
    return ""


def _difference(job: Job, settings: dict[str, Any]) -> str | None:
    """The difference between the result that is there and a new one: "" for none, None if there is no result to
    compare."""
    if not job.output.exists():
        return None
    was = _made_by_of(job.output)
    if was is None:
        return "is no result of edgepose lift, or damaged"
    try:
        return (_otherwise(was, settings)
                or ("" if _made_by(job, settings) == was else "is made of other keypoints than the recording has now"))
    except OSError:
        return None  # the recording cannot be read, which is reported when it is lifted


class Progress:
    """Counts outcomes, and says every PROGRESS_S seconds how far they are, by the size of the recordings."""

    def __init__(self, sizes: dict[Job, int]) -> None:
        self._sizes, self._all_bytes, self._bytes = sizes, sum(sizes.values()), 0
        self.lifted, self.frames, self.poses, self.empty = 0, 0, 0, 0
        self.failed: list[str] = []
        self.stale: list[Path] = []  # results that a recording has from before, and could not be made anew
        self._start_s = self._printed_s = time.monotonic()

    def count(self, job: Job, outcome: Outcome) -> None:
        self._bytes += self._sizes[job]
        if outcome.failed:
            self.failed.append(outcome.failed)
            if job.output.exists():
                self.stale.append(job.output)
        else:
            self.lifted += 1
            self.frames += outcome.frames
            self.poses += outcome.poses
            self.empty += not outcome.poses
        now_s = time.monotonic()
        if now_s - self._printed_s >= PROGRESS_S:
            self._printed_s = now_s
            left_s = (now_s - self._start_s) * (self._all_bytes / max(self._bytes, 1) - 1)
            print(f"  {self}; about " + (f"{left_s / 60:.0f} min" if left_s > 120 else f"{left_s:.0f} s") + " left",
                  flush=True)

    def __str__(self) -> str:
        rate = self.frames / max(time.monotonic() - self._start_s, 1e-9)
        return (f"{self.lifted} of {len(self._sizes)} lifted, {self.frames} frames -> "
                f"{self.poses} poses, {rate:.0f} frames/s"
                + f"; {self.empty} without a pose" * bool(self.empty)
                + f"; {len(self.failed)} failed" * bool(self.failed))


def lift_archive(jobs: Sequence[Job], workers: Workers) -> Progress:
    """Lifts what is to be lifted, the largest recording first, and says how it goes.

    Raises OSError if results cannot be written, EngineError if the engine cannot run, KeyboardInterrupt; each says how
    many are done.
    """
    sizes = {job: size_of(job.recording) for job in jobs}
    progress = Progress(sizes)
    try:
        with closing(hand_out(sorted(jobs, key=lambda job: (-sizes[job], job.name)), workers)) as answers:
            for job, outcome in answers:
                if isinstance(outcome, Lost):
                    outcome = Outcome(failed=f"{job.recording}: its worker {outcome.reason}")
                    part_of(job.output).unlink(missing_ok=True)
                if outcome.stops:
                    raise OSError(f"{outcome.failed}. Stopped: {progress}. The same command goes on from there")
                progress.count(job, outcome)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{progress}. The same command goes on from there") from None
    return progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose lift`."""
    parser.add_argument("--input", nargs="+", required=True, metavar="GLOB",
                        help="recordings: files of keypoints (.npz, .json, .npy, .csv; docs/files.md), folders, quoted "
                             "globs ('archive/**/*.npz')")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR_OR_FILE",
                        help="a folder for the poses, in the tree of the input; of one recording also a file: "
                             f"{', '.join(OUTPUTS)} (docs/files.md)")
    parser.add_argument("--format", nargs="+", default=[], choices=[suffix[1:] for suffix in SUFFIXES],
                        help="files of other programs to write beside each .npz file")
    parser.add_argument("--engine", default="ampose", help="an engine file, or one that ships (default: ampose)")
    parser.add_argument("--trust", action="store_true", help="load an engine that is a program, as those for ONNX "
                                                             "Runtime or TensorRT are: you trust who made it")
    add_layout(parser)
    parser.add_argument("--image-size", nargs=2, type=float, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--fps", type=float)
    parser.add_argument("--delay", type=int, metavar="FRAMES",
                        help="later frames to look at (default: all that the engine can use)")
    parser.add_argument("--smooth", action="store_true", help="a One Euro filter on the joints")
    add_knowledge(parser)
    parser.add_argument("--processes", type=int, metavar="N",
                        help="workers (default: the processors of this process; with --ray of the cluster)")
    parser.add_argument("--ray", nargs="?", const="local", metavar="ADDRESS",
                        help="workers of Ray: of one it starts here, or of a cluster")
    parser.add_argument("--redo", action="store_true",
                        help="lift again what is there, but was made with another engine or other options")


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose lift`; 1 if a recording could not be lifted."""
    for option, value, limits in (("--fps", arguments.fps, (SLOWEST_HZ, FASTEST_HZ)),
                                  ("--processes", arguments.processes, (1,))):
        if value is not None:
            checked_number(option, value, *limits)
    image_size = arguments.image_size and checked_image_size(tuple(arguments.image_size))
    engine = load(arguments.engine, trust=arguments.trust)
    delay_frames = arguments.delay if arguments.delay is not None else 0 if engine.is_causal else engine.frames // 2
    Stream(engine, "coco17", (1, 1), delay_frames=delay_frames)  # refuses a delay that the engine does not have
    options = Options(os.path.abspath(engine.path), delay_frames, arguments.smooth, arguments.layout, image_size,
                      arguments.fps, arguments.trust, tuple(f".{name}" for name in arguments.format),
                      tuple(knowledge_of(arguments).items()), arguments.constant_bones)
    for module in {module for suffix in options.formats for module in WRITERS.get(suffix, ())}:
        need_library(module, "--format")
    jobs = find_recordings(arguments.input, arguments.output)
    if arguments.output.suffix in OUTPUTS:
        return _lift_to_file(engine, jobs, options, arguments.output)
    settings = made_with(engine, options)
    todo = unfinished(jobs, settings, arguments.redo)
    others = others_of(arguments.output, jobs, settings)
    if others and not arguments.redo:
        raise ValueError(f"{listed(others, '; ', 1)}; no recording of --input belongs to it: remove it, take another "
                         "--output, or --redo the rest")
    if todo:
        _check_folder(arguments.output)
    print(f"{len(jobs)} recording{'s' * (len(jobs) != 1)}, {len(jobs) - len(todo)} finished before; {engine} -> "
          f"{arguments.output}", flush=True)
    failed, stale = _lift(todo, options, settings, arguments) if todo else ([], [])
    for title, lines in ((f"{len(failed)} of {len(jobs)} recordings could not be lifted:", failed),
                         ("old results of these, made with other settings, are still there:", stale),
                         ("results in this folder that were made with other settings, of recordings that "
                          "--input does not name:", others)):
        if lines:
            print(title, listed(sorted(lines), "\n  ", MOST_LISTED), sep="\n  ", file=sys.stderr)
    return 1 if failed else 0


def _lift_to_file(engine: Engine, jobs: Sequence[Job], options: Options, output: Path) -> int:
    """Lifts one recording to a file. Raises ValueError for several recordings, and what read_people raises."""
    if len(jobs) != 1:
        raise ValueError(f"--output {output} is a file, and --input names {len(jobs)} recordings: wanted a folder, "
                         "with --format for other files than .npz")
    check_output(output, OUTPUTS)
    people = read_people(jobs[0].recording, options.layout, options.image_size, options.fps)
    arrays = lift_people(engine, people, options)
    if output.suffix == ".npz":
        np.savez(output, **arrays, joint_names=engine.skeleton.joints)
    files = [output] if output.suffix == ".npz" else write_motions(output, motions_of(arrays, engine.skeleton))
    print(f"{jobs[0].recording}: {len(arrays['frame'])} poses by {engine} -> {listed(files)}")
    return 0


def _lift(todo: Sequence[Job], options: Options, settings: dict[str, Any],
          arguments: argparse.Namespace) -> tuple[list[str], list[Path]]:
    """Lifts, and says how it goes; what failed, and the results that are stale by it: see Progress."""
    work = partial(Lifting, options, settings)
    size = arguments.processes or (cores() if arguments.ray in (None, "local") else None)
    workers: Workers = Processes(work, size) if arguments.ray is None else RayActors(work, size, arguments.ray)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        progress = lift_archive(todo, workers)
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"  {progress}")
    return progress.failed, progress.stale


def _check_folder(folder: Path) -> None:
    """Raises OSError, naming it, if nothing can be written to a folder; makes it where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, f"cannot write to {folder}: {error.strerror}") from error
