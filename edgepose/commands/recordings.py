"""The recordings of an archive: what files, folders and globs name, and where their poses go."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import openpose
from ..files.reading import SUFFIXES

WILDCARDS = "*?["  # a path with one of these is a glob


@dataclass(frozen=True)
class Job:
    """A recording, absolute, and the file its poses go to, absolute; name: its place in the archive.

    recording: a file of keypoints, or a folder with OpenPose's file of each frame.
    """

    recording: Path
    output: Path
    name: str


def find_recordings(inputs: Sequence[str], output: Path) -> list[Job]:
    """The recordings that files, folders and globs ("archive/**/*.npz") name, each once, also where links lead to it by
    several names.

    They are sorted within each of `inputs`, what lies there itself before what is reached by a link.
    A recording keeps its place below the folder, or below the part of the glob before its first wildcard. What lies in
    `output` is no input where `output` lies in a folder that is searched.
    Raises ValueError if one of `inputs` names no recording, two would be written to one file, or one over a recording.
    """
    output = Path(os.path.abspath(output))
    jobs: dict[Path, Job] = {}
    for pattern in inputs:
        base, found = _search(os.path.expanduser(pattern))
        is_inside = output != base and output.is_relative_to(base)
        found = [path for path in found if not (is_inside and path.is_relative_to(output))]
        if not found:
            raise ValueError(f"--input {pattern}: no file of keypoints ({', '.join(SUFFIXES)}) is there"
                             + (f", but for those in {output}" if is_inside else ""))
        real = {path: path.resolve() for path in found}
        for path in sorted(found, key=lambda path: real[path] != base.resolve() / path.relative_to(base)):
            name = path.relative_to(base if path != base else base.parent)
            result = output / (name if name.suffix == ".npz" else f"{name.with_suffix('')}.npz")
            jobs.setdefault(real[path], Job(path, result, str(name)))
    first: dict[Path, Job] = {}
    for job in jobs.values():
        other = first.setdefault(job.output, job)
        if other is not job:
            raise ValueError(f"{other.recording} and {job.recording} would both be written to {job.output}: "
                             "search a folder that both lie in, or lift them to two --output folders")
        if job.output.resolve() in jobs:
            raise ValueError(f"{job.output} is a recording, and would be written over with "
                             "poses: wanted another --output")
    return list(jobs.values())


def _search(pattern: str) -> tuple[Path, list[Path]]:
    """(the folder that names are relative to, the recordings), absolute. Raises ValueError if there is no such file or
    folder."""
    path = Path(os.path.abspath(pattern))
    if path.is_dir():
        return path, sorted(recordings_below(path))
    if path.exists() or not any(wildcard in pattern for wildcard in WILDCARDS):
        if not path.exists():
            raise ValueError(f"--input {pattern}: there is no such file or folder")
        if path.suffix not in SUFFIXES:
            raise ValueError(f"--input {pattern}: wanted files of keypoints ({', '.join(SUFFIXES)}), a folder or a "
                             "glob of them")
        return path.parent, [path]
    parts = path.parts
    plain = next(i for i, part in enumerate(parts) if any(wildcard in part for wildcard in WILDCARDS))
    found = {Path(file) for file in glob.glob(str(path), recursive=True)}
    parents = {file.parent for file in found if file.suffix == ".json"}
    frames = {frame for parent in parents for frame in openpose.frame_files(parent)}
    folders = {file.parent for file in found & frames} | {file for file in found if openpose.frame_files(file)}
    files = {file for file in found - frames if file.suffix in SUFFIXES and not file.is_dir()}
    return Path(*parts[:plain]), sorted(folders | files)


def recordings_below(top: Path) -> Iterator[Path]:
    """The files of keypoints in a folder and those in it, and the folders that OpenPose wrote, but for hidden ones. A
    link to a folder is followed unless it leads back into `top`.

    A file beside an .npz file of the same name is taken for notes on it.
    """
    inside, seen = top.resolve(), {top.resolve()}
    for folder, folders, names in os.walk(top, followlinks=True):
        files = [Path(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
        frames = set(openpose.frame_files(Path(folder)) if any(file.suffix == ".json" for file in files) else ())
        if frames:
            yield Path(folder)
        yield from (file for file in files if file not in frames
                    and (file.suffix == ".npz" or f"{file.stem}.npz" not in names))
        real = {name: Path(folder, name).resolve() for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, path in real.items() if path not in seen
                      and not (Path(folder, name).is_symlink() and path.is_relative_to(inside))]
        seen.update(real[name] for name in folders)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, or of the frames in a folder."""
    digest = hashlib.sha256()
    if path.is_dir():
        for frame in openpose.frame_files(path):
            digest.update(f"{frame.name} {digest_of(frame)}\n".encode())
        return digest.hexdigest()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """The bytes of a recording, 0 if it cannot be read, which is found when it is lifted."""
    try:
        return sum(file.stat().st_size for file in (openpose.frame_files(path) if path.is_dir() else [path]))
    except OSError:
        return 0
