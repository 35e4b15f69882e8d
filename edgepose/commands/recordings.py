"""The recordings of an archive: what files, folders and globs name, and where their poses go."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WILDCARDS = "*?["  # a path with one of these is a glob


@dataclass(frozen=True)
class Job:
    """A recording, absolute, and the file its poses go to, absolute; name: its place in the archive and in the
    output."""

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
            raise ValueError(f"--input {pattern}: no .npz file is there"
                             + (f", but for those in {output}" if is_inside else ""))
        real = {path: path.resolve() for path in found}
        for path in sorted(found, key=lambda path: real[path] != base.resolve() / path.relative_to(base)):
            name = path.relative_to(base)
            jobs.setdefault(real[path], Job(path, output / name, str(name)))
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
        if path.suffix != ".npz":
            raise ValueError(f"--input {pattern}: wanted .npz files of keypoints, a folder or a glob of them")
        return path.parent, [path]
    parts = path.parts
    plain = next(i for i, part in enumerate(parts) if any(wildcard in part for wildcard in WILDCARDS))
    found = [Path(file) for file in glob.glob(str(path), recursive=True) if file.endswith(".npz")
             and not os.path.isdir(file)]
    return Path(*parts[:plain]), sorted(found)


def recordings_below(top: Path) -> Iterator[Path]:
    """The .npz files of a folder and those in it, but for hidden ones. A link to a folder is followed unless it leads
    back into `top`."""
    inside, seen = top.resolve(), {top.resolve()}
    for folder, folders, files in os.walk(top, followlinks=True):
        yield from (Path(folder, file) for file in files if file.endswith(".npz") and not file.startswith("."))
        real = {name: Path(folder, name).resolve() for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, path in real.items() if path not in seen
                      and not (Path(folder, name).is_symlink() and path.is_relative_to(inside))]
        seen.update(real[name] for name in folders)
