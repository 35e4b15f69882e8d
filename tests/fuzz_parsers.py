"""Fuzzes what reads files from outside in Python: with atheris, or by chance without it.

    pip install atheris
    python tests/fuzz_parsers.py READER [SECONDS]          READER: a name of READERS

Whatever the bytes are, a reader may answer or raise ValueError (EngineError for engines); another exception ends the
run, and its input is left as crash-... in the current folder. Readers of raw bytes start from small good files; those
of arrays start from good arrays, some of which the bytes exchange. tests/test_fuzz_parsers.py runs all for a moment.
Left out are Matlab's files: scipy's and HDF5's readers of them, in C, crash by themselves on damaged ones.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

if __name__ == "__main__":
    import atheris
# Before all else that imports edgepose: what is not instrumented does not lead the fuzzer.
with atheris.instrument_imports(include=["edgepose"]) if __name__ == "__main__" else contextlib.nullcontext():
    import edgepose
    from edgepose import EngineError, checks, clip, enginefile, onnxfile, zoo
    from edgepose.adapters import COCO17
    from edgepose.build_engines import quantise, report
    from edgepose.build_engines.lower import lower
    from edgepose.build_engines.plan_onnx import plan_to_onnx
    from edgepose.commands import lift
    from edgepose.training import cmu, h36m, humaneva, mocap, real_clips
    from edgepose.training.npz import load_npz
    from edgepose.zoo import checkpoints, published

from fuzz_engine import at, leaves
from models import engine_header, tiny_lifter, write_engine
from tiny_datasets import h36m_tables, write_humaneva
from tiny_mocap import write_subject
from tiny_real_clips import write_folder

SHAPES = ((), (0,), (1,), (2,), (4,), (5,), (17,), (3, 3), (5, 3), (5, 17), (5, 17, 2), (5, 17, 3), (5, 16, 2),
          (0, 17, 3), (1, 17, 3), (5, 2, 17, 3), (5, 0, 17, 3), (2, 5, 17, 3), (5, 33, 3), (5, 32, 3), (1, 1, 1, 1, 1))
TYPES = ("<f4", "<f8", ">f8", "<f2", "<i4", "<i8", "u1", "?", "<U9", "S3", "<c8", "M8[s]", "O")
VALUES = (0, 1, -1, 2, 30, 960, 0.5, 1e-300, 1e30, -1e300, np.nan, np.inf, -np.inf, 2**31, -2**31, 2**62, "coco17",
          "BODY_25", None)
OTHERS = (None, 3, "x", [], [0], {}, {"x": 1}, np.zeros(2))  # in the place of a table, or of an array in one
BAD = (ValueError, EngineError)
Read = Callable[[bytes, Path], object]


@dataclass(frozen=True)
class Reader:
    """A reader of data, with a folder for its files, that may raise BAD alone. seeds: data that is read well."""

    read: Read
    seeds: Callable[[], list[bytes]]


def array(kind: int, shape: int, value: int) -> np.ndarray:
    """An array of one of TYPES and SHAPES, filled with one of VALUES, or with zeros if its type has no such value."""
    dtype, extents = np.dtype(TYPES[kind % len(TYPES)]), SHAPES[shape % len(SHAPES)]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.full(extents, VALUES[value % len(VALUES)]).astype(dtype)
        except (TypeError, ValueError, OverflowError):
            return np.zeros(extents, dtype)


def exchanged(good: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Good tables with others in the place of some: four bytes say which one, and its type, shape and value."""
    tables = copy.deepcopy(good)
    for i in range(0, len(data) - 3, 4):
        paths = list(leaves(tables))
        if not paths:
            break
        path, (kind, shape, value) = paths[data[i] % len(paths)], data[i + 1:i + 4]
        parent = at(tables, path[:-1])
        if kind >= 250:
            del parent[path[-1]]
        elif kind >= 230:
            parent[path[-1]] = copy.deepcopy(OTHERS[shape % len(OTHERS)])
        else:
            parent[path[-1]] = array(kind, shape, value)
    return tables


def write_npz(path: Path, tables: dict[str, Any]) -> Path:
    """Arrays and numbers as they are, tables and lists as objects."""
    np.savez(path, **{name: np.array(table, object) if isinstance(table, (dict, list)) else table
                      for name, table in tables.items()})
    return path


def bytes_of(write: Callable[[Path], object], name: str = "file") -> bytes:
    """The bytes that a function writes to the path of that name it is called with."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name))
        return next(Path(folder).iterdir()).read_bytes()


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def file_reader(name: str, read: Callable[[Path], object]) -> Read:
    """A reader of the data as a file of this name."""
    return lambda data, folder: read(put(folder / name, data))


def tables_reader(tables: Callable[[], dict[str, Any]], write: Callable[[Path, dict[str, Any]], object],
                  read: Callable[[Path], object]) -> Reader:
    """A reader of a folder into which tables are written, some of them exchanged by the data."""
    good = functools.cache(tables)

    def run_on(data: bytes, folder: Path) -> None:
        write(folder, exchanged(good(), data))
        read(folder)
    return Reader(run_on, lambda: [b""])


def one_file(name: str) -> Callable[[Path, dict[str, Any]], object]:
    return lambda folder, tables: write_npz(folder / name, tables)


def some_files(folder: Path, tables: dict[str, Any]) -> None:
    """A file for each of the tables, by their names."""
    for name, arrays in tables.items():
        if isinstance(arrays, dict):
            write_npz(folder / name, arrays)


def tables_of(write: Callable[[Path], object], *names: str) -> dict[str, Any]:
    """The arrays of some of the files that a function writes into a folder, by their names."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        files = {name: dict(np.load(Path(folder, name), allow_pickle=True)) for name in names}
    return {name: {key: value.item() if value.dtype == object and not value.shape else value
                   for key, value in arrays.items()} for name, arrays in files.items()}


# The reader of each kind of file, and its seeds.

CLIP = {"coco17": (np.random.default_rng(0).uniform(0.1, 0.9, (5, 17, 3)) * (1920, 1080, 1)).astype(np.float32),
        "fps": np.float32(30), "image_size": np.array([1920, 1080]), "timestamps_s": np.arange(5) / 30,
        "layout": np.array("coco17"), "reference_m": np.zeros((5, 17, 3), np.float32)}
VIDEOPOSE3D = {"positions_2d": {"a.mp4": {"custom": [np.full((5, 17, 2), 400.0)]}},
               "metadata": {"layout_name": "coco", "video_metadata": {"a.mp4": {"w": 1920, "h": 1080}}}}
DETECTRON2 = {"keypoints": [[[], np.full((1, 4, 17), 400.0)]] * 3, "boxes": [[]], "metadata": {"w": 1920, "h": 1080}}
CHECKPOINT = {"format": checkpoints.FORMAT, "model": "martinez-s", "frames": 1, "skeleton": "h36m17", "options": {}}


@functools.cache
def tiny() -> tuple[dict[str, Any], dict[str, np.ndarray], edgepose.Engine]:
    """A lifter's plan and tensors, and its engine."""
    with tempfile.TemporaryDirectory() as folder:
        return *lower(tiny_lifter(), "fp32"), edgepose.load(write_engine(Path(folder, "tiny.epose"), tiny_lifter()))


@functools.cache
def weights() -> dict[str, np.ndarray]:
    """The tensors of a martinez-s."""
    return {name: tensor.numpy() for name, tensor in zoo.build("martinez-s", 1).state_dict().items()}


def read_clip(folder: Path) -> None:
    people = clip.read_people(folder / "clip.npz")
    lift.lift_people(tiny()[2], people, lift.Options("tiny", 0))
    clip.stream_clip(tiny()[2], people[0])


def read_any_npz(path: Path) -> None:
    lift._made_by_of(path)
    for read in (clip.read_people, lambda path: load_npz(path, "positions_3d")):
        with contextlib.suppress(*BAD):
            read(path)


def read_detections(path: Path) -> None:
    """Another program's file, as a command with all options reads it."""
    clip.read_people(path, None if path.suffix == ".json" else "coco17", (1920, 1080), 30.0)


def detections() -> list[bytes]:
    """A person as OpenPose, COCO and MMPose write them."""
    person = [[400.0 + 9 * i, 300.0 + 20 * i, 0.9] for i in range(17)]
    flat = sum(person, [])
    instance = {"keypoints": [row[:2] for row in person], "keypoint_scores": [row[2] for row in person], "track_id": 1}
    return [json.dumps(value).encode() for value in (
        [{"people": [{"pose_keypoints_2d": flat, "person_id": [-1]}], "canvas_width": 1920, "canvas_height": 1080}],
        [{"image_id": f"{i}.jpg", "category_id": 1, "keypoints": flat, "score": 1, "idx": [i]} for i in range(2)],
        {"meta_info": {"dataset_name": "coco"}, "instance_info": [{"frame_id": 1, "instances": [instance]}]})]


def table() -> list[bytes]:
    """Two frames as tables of text, with and without a heading."""
    heading = ",".join(["frame", "person", "time_s", *(f"{joint}_{axis}" for joint in COCO17.joints for axis in "xy")])
    row = ",".join(["500"] * 34)
    return [f"{heading}\n0,1,0.5,{row}\n2,1,0.7,{row}\n".encode(), f"{row}\n{row}\n".encode()]


def read_header(data: bytes, folder: Path) -> None:
    """Any header under a seal that fits, and if it is taken a run."""
    text, tensors = data.decode("utf-8", "replace"), tiny()[1]
    sealed = save(tensors, {"edgepose": text, "sha256": enginefile.checksum(text, tensors)})
    engine = edgepose.load(put(folder / "any.epose", sealed))
    repr(engine)
    if engine.frames < 99:
        engine.run(np.zeros((2, engine.frames, len(engine.skeleton), len(engine.inputs)), np.float32))


def header() -> bytes:
    return json.dumps({"format": 2, "units": "", **engine_header(tiny_lifter()), "plan": tiny()[0]}).encode()


def read_checkpoint(data: bytes, folder: Path) -> None:
    """The metadata of a checkpoint, as one JSON text, over the tensors of a martinez-s."""
    try:
        metadata = {str(key): json.dumps(value) for key, value in dict(json.loads(data)).items()}
        content = save(weights(), metadata)
    except (ValueError, TypeError, RecursionError):
        return
    checkpoints.load_checkpoint(put(folder / "any.safetensors", content))


def read_report(path: Path) -> None:
    report.write_report(path.parent, [], lambda _: None)
    for file in path.parent.glob("report*.json"):
        file.unlink()


def read_acclaim(data: bytes, folder: Path) -> None:
    """The skeleton, a zero byte, and the motion."""
    skeleton, _, motion = data.partition(b"\0")
    cmu.parts(cmu.joints_of_amc(put(folder / "1_1.amc", motion), put(folder / "1.asf", skeleton)), 120)


def acclaim() -> bytes:
    bones = "".join(f"begin\nname {name}\ndirection 0 1 0\nlength 2\naxis 0 0 90 XYZ\ndof rx ry rz\nend\n"
                    for name in cmu.BONES.values())
    skeleton = (":units\nlength 0.45\nangle deg\n:root\norder TX TY TZ RX RY RZ\naxis XYZ\nposition 0 0 0\n"
                f"orientation 0 0 0\n:bonedata\n{bones}:hierarchy\nbegin\nroot {' '.join(cmu.BONES.values())}\nend\n")
    frame = "root 1 2 3 0 0 90\n" + "".join(f"{name} 10 20 30\n" for name in cmu.BONES.values())
    return f"{skeleton}\0:FULLY-SPECIFIED\n:DEGREES\n1\n{frame}2\n{frame}".encode()


def bvh() -> bytes:
    more = ("Spine1", "LeftShoulder", "RightShoulder", "LeftHand", "RightHand")
    names = [name for name in (*more, *cmu.JOINTS.values()) if not name.endswith(" end")]
    site = "End Site\n{\nOFFSET 0 1 0\n}\n"
    joints = "".join(f"JOINT {name}\n{{\nOFFSET 0 1 0\nCHANNELS 1 Zrotation\n{site * (name == 'Head')}}}\n"
                     for name in names)
    values = " ".join("0" * (6 + len(names)))
    return ("HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation "
            f"Xrotation\n{joints}}}\nMOTION\nFrames: 2\nFrame Time: 0.0083333\n{values}\n{values}\n").encode()


def h36m_files() -> dict[str, Any]:
    positions_3d, positions_2d = h36m_tables(takes=("Walking",))
    return {"data_3d_h36m.npz": {"positions_3d": positions_3d}, "data_2d_h36m_gt.npz": {"positions_2d": positions_2d}}


def humaneva_files() -> dict[str, Any]:
    return tables_of(write_humaneva, "data_3d_humaneva15.npz", "data_2d_humaneva15_gt.npz")


def real_reader(name: str) -> Reader:
    """A reader of one of the files of tiny_real_clips."""
    return tables_reader(lambda: tables_of(write_folder, name)[name], one_file("a_cam1.npz"),
                         real_clips.read_real_clips)


READERS = {
    "clip": tables_reader(lambda: CLIP, one_file("clip.npz"), read_clip),
    "npz": Reader(file_reader("clip.npz", read_any_npz), lambda: [
        bytes_of(lambda path: save_npz(path, **CLIP)) for save_npz in (np.savez, np.savez_compressed)]),
    "npy": Reader(file_reader("any.npy", read_detections),
                  lambda: [bytes_of(lambda path: np.save(path, CLIP["coco17"]), "a.npy")]),
    "table": Reader(file_reader("any.csv", read_detections), table),
    "detections": Reader(file_reader("any.json", read_detections), detections),
    "videopose3d": tables_reader(lambda: VIDEOPOSE3D, one_file("a.npz"),
                                 lambda folder: clip.read_people(folder / "a.npz", None, None, 30)),
    "detectron2": tables_reader(lambda: DETECTRON2, one_file("a.npz"),
                                lambda folder: clip.read_people(folder / "a.npz", None, None, 30)),
    "engine": Reader(file_reader("any.epose", edgepose.load),
                     lambda: [bytes_of(lambda path: write_engine(path, tiny_lifter()))]),
    "header": Reader(read_header, lambda: [header()]),
    "onnx": Reader(lambda data, _: onnxfile.check_has_no_external_data(data),
                   lambda: [plan_to_onnx(*tiny()[:2], None, 17, stores_int8=True).SerializeToString()]),
    "json": Reader(lambda data, _: checks.read_json(data), lambda: [b'{"a": [1, 2.5e3, null, "\\ud83d\\ude00"]}']),
    "scales": Reader(file_reader("scales.json", quantise.read_scales),
                     lambda: [b'{"w8_kept": ["a"], "steps": {"a": {"x_scale": [1, 2], "bias": 0}}}']),
    "report": Reader(file_reader("report.json", read_report), lambda: [
        b'{"rows": [{"model": "a", "frames": 1, "runtime": "b", "precision": "c", "batch": 1}]}']),
    "checkpoint": Reader(read_checkpoint, lambda: [json.dumps(CHECKPOINT).encode()]),
    "pth": Reader(file_reader("any.pth", published.read_state),
                  lambda: [bytes_of(lambda path: torch.save({"a": torch.zeros(2)}, path))]),
    "bvh": Reader(file_reader("1_1.bvh", lambda path: cmu.parts(*cmu.joints_of_bvh(path))), lambda: [bvh()]),
    "acclaim": Reader(read_acclaim, lambda: [acclaim()]),
    "mocap": tables_reader(lambda: tables_of(lambda folder: write_subject(folder, "a_1", (3, 2)), "a_1.npz")["a_1.npz"],
                           one_file("a_1.npz"), lambda folder: mocap.read_motion(folder, "training")),
    "real": real_reader("pose2sim_balance_mediapipe_cam2.npz"),
    "real_people": real_reader("pose2sim_multi_mediapipe_cam1.npz"),
    "h36m": tables_reader(h36m_files, some_files, lambda folder: h36m.read(folder, "test", "gt")),
    "humaneva": tables_reader(humaneva_files, some_files, lambda folder: humaneva.read(folder, "test", "gt")),
}


def run(reader: Reader, data: bytes, folder: Path) -> bool:
    """True if the data is read, False if it is refused. Raises what the reader must not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(data, folder)
        except BAD:
            return False
    return True


def by_chance(reader: Reader, count: int, seed: int) -> Iterator[bytes]:
    """Inputs like the seeds: bytes exchanged, removed, repeated, added or cut off."""
    rng, seeds = random.Random(seed), reader.seeds()
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            place, length = rng.randint(0, len(data)), rng.choice((1, 1, 4, 30))
            new = rng.choice((rng.randbytes(length), bytes(data[place:place + length]), b"", b"9" * length))
            data[place:place + length * rng.randint(0, 1)] = new
        yield bytes(data if rng.random() < 0.9 else data[:rng.randint(0, len(data))])


def main(name: str, seconds: int) -> None:
    """Fuzzes one reader for a while."""
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as corpus:
        for i, seed in enumerate(reader.seeds()):
            put(Path(corpus, str(i)), seed)
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=65536", "-timeout=30",
                       "-rss_limit_mb=4096", corpus], lambda data: run(reader, data, Path(folder)))
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 600)
