"""A Triton Inference Server model repository, for those who serve many cameras: edgepose compile --triton DIR.

    DIR/ampose_fp16/config.pbtxt    tensors, batching, where it runs
    DIR/ampose_fp16/1/model.onnx    a compile that changes the model adds version 2, 3, ...; the newest is served

The configuration is a message of protobuf/model_config.proto in triton-inference-server/common.

An ONNX engine takes any number of people, so Triton gathers the windows of many requests into one batch. A TensorRT
plan has one batch size: Triton batches only what has a first axis that can vary, so it gets max_batch_size 0 and the
whole shape, and a request must fill the batch. (The file is not called triton.py: torch imports a library of that
name.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepose import enginefile
from edgepose.build_engines.plan_onnx import NEXT_STATE, STATE

# Backend: its platform and file in Triton.
SERVED = {"onnx": ("onnxruntime_onnx", "model.onnx"), "tensorrt": ("tensorrt_plan", "model.plan")}
MAX_BATCH = 64
PREFERRED_BATCHES = [8, 16, 32, 64]  # sent at once; a smaller batch waits for more
MOST_SEQUENCES = 1024  # people whom the server remembers at once
QUEUE_DELAY_US = 1000  # for so long: a thirtieth of a frame at 30 Hz
CONFIG = "config.pbtxt"
YOURS = "# Yours to change, down to the next comment: kept when the model is compiled again. KIND_GPU runs on a GPU.\n"
ONE_LINE = 100  # characters
INT8 = ("# int8 on an x86 server without VNNI: add optimization { graph { level: 2 } }, or its sums saturate and poses "
        "are wrong.\n")
OURS = "# Written by edgepose compile --triton, anew each time.\n"


class Name(str):
    """A value of an enumeration: the text format writes it without quotes."""


@dataclass(frozen=True)
class ServedModel:
    """An engine as Triton takes it. settings: its operator's part of the configuration; tensors: what a client relies
    on; parameters: what it is."""

    name: str
    file: str
    payload: bytes
    settings: str
    tensors: str
    parameters: str


def check_repository(repository: Path, backends: Iterable[str]) -> None:
    """Before any work is done: raises ValueError if nothing of `backends` can be served, or no model be written to
    `repository`."""
    if not set(backends) & set(SERVED):
        raise ValueError(
            f"--triton serves {' and '.join(SERVED)} engines, not {', '.join(backends)}: add --backend onnx")
    there = next(path for path in (repository, *repository.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--triton {repository}: {there} is a file; wanted a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--triton {repository}: {there} is not writeable")


def check_model(repository: Path, backend: str, engine_file: str) -> None:
    """Before any work is done: raises ValueError if what lies in the place of an engine's model cannot take another
    version."""
    if backend not in SERVED:
        return
    folder = repository / served_name(backend, engine_file)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--triton {repository}: {folder} is a file; wanted a folder")
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--triton {repository}: {folder} is not writeable")
    _split_config(folder / CONFIG)


def publish(repository: Path, engine_files: Iterable[Path], say: Callable[[str], None]) -> list[Path]:
    """Adds those of the engines that Triton can serve to a model repository; the folders of their versions.

    All are read and held against what is there before any is written. Raises what served_model, config_text and
    add_version raise.
    """
    models = [model for model in map(served_model, engine_files) if model]
    configs = [config_text(repository, model) for model in models]
    folders = []
    for model, config in zip(models, configs):
        folder, is_new = add_version(repository, model, config)
        say(f"for Triton: {folder / model.file}{'' if is_new else ' (as it was)'}")
        folders.append(folder)
    if not folders:
        say(f"nothing for Triton: no engine of {' or '.join(SERVED)} was kept")
    return folders


def served_model(engine_file: Path) -> ServedModel | None:
    """An engine file's part of a Triton model; None for a backend that only edgepose runs, and for the plans of
    Torch-TensorRT, which name their tensors otherwise. Its name is the file's, without "_onnx".

    Raises EngineError if the file cannot be read, ValueError if it has no payload.
    """
    header, tensors = enginefile.read(engine_file)
    backend = header["backend"]
    if backend not in SERVED or header.get("rung") == "torch-tensorrt":
        return None
    if "payload" not in tensors:
        raise ValueError(f"{engine_file}: no tensor 'payload', only {', '.join(tensors) or 'none'}")
    name = served_name(backend, engine_file.name)
    platform, file = SERVED[backend]
    shapes = {key: (tensor, list(shape[1:]))
              for key, tensor, shape in zip(("input", "output"), ("keypoints_norm", "pose_m"),
                                            enginefile.shapes(header, 1))}
    settings: dict[str, Any] = {"version_policy": {"latest": {"num_versions": 1}}}
    described: dict[str, Any] = {"name": name, "platform": platform}
    if backend == "tensorrt":
        shapes = {key: (tensor, [header["batch"], *dims]) for key, (tensor, dims) in shapes.items()}
        described["max_batch_size"] = 0
        settings["instance_group"] = [{"count": 1, "kind": Name("KIND_GPU")}]
    else:
        settings["max_batch_size"] = MAX_BATCH
        batches = {"preferred_batch_size": PREFERRED_BATCHES, "max_queue_delay_microseconds": QUEUE_DELAY_US}
        if "state" in header:
            described["sequence_batching"] = _of_sequences(header["state"], batches)
        else:
            settings["dynamic_batching"] = batches
        settings["instance_group"] = [{"count": 1, "kind": Name("KIND_CPU")}]
        settings["parameters"] = _parameters({"intra_op_thread_count": 1})
    for key, (tensor, dims) in shapes.items():
        described[key] = [{"name": tensor, "data_type": Name("TYPE_FP32"), "dims": dims}]
    said = {key: header[key] for key in ("model", "precision", "frames", "skeleton", "units", "weights_sha256")}
    said |= {key: str(header.get(key, False)).lower() for key in ("is_causal", "is_trained")}
    advice = INT8 if (backend, header["precision"]) == ("onnx", "int8") else ""
    return ServedModel(name, file, tensors["payload"].tobytes(), YOURS + advice + text_format(settings),
                       text_format(described), text_format({"parameters": _parameters(said)}))


def _of_sequences(floats: int, batches: Mapping[str, Any]) -> dict[str, Any]:
    """Triton's batching of a model with a state: a sequence is a person, whose state the server keeps, zeros at
    first."""
    of = {"data_type": Name("TYPE_FP32"), "dims": [floats]}
    start = [{**of, "zero_data": Name("true"), "name": "nothing"}]
    return {"oldest": {"max_candidate_sequences": MOST_SEQUENCES, **batches},
            "state": [{"input_name": STATE, "output_name": NEXT_STATE, **of, "initial_state": start}]}


def served_name(backend: str, engine_file: str) -> str:
    """The model's name in Triton."""
    stem = Path(engine_file).stem
    return "_".join(stem.rsplit("_onnx_", 1)) if backend == "onnx" else stem


def _parameters(values: Mapping[str, Any]) -> list[dict]:
    return [{"key": key, "value": {"string_value": str(value)}} for key, value in values.items()]


def config_text(repository: Path, model: ServedModel) -> bytes:
    """The model's config.pbtxt: what its operator has changed in an earlier one is kept.

    Raises ValueError, naming the file, if an earlier one is not by edgepose, or is of a model with other tensors.
    """
    path = repository / model.name / CONFIG
    settings = model.settings
    if earlier := _split_config(path):
        settings, described = earlier
        if not described.startswith(model.tensors):
            theirs, ours = (" ".join(text.partition("parameters")[0].split()) for text in (described, model.tensors))
            raise ValueError(f"{path} is of another model: {theirs}; this one is {ours}. Move {path.parent} "
                             "away, or take another --triton DIR")
    return (settings + OURS + model.tensors + model.parameters).encode("utf-8", "surrogateescape")


def _split_config(path: Path) -> tuple[str, str] | None:
    """(the operator's part, ours) of a config.pbtxt; None if there is none. Raises ValueError if it is not by
    edgepose."""
    if not path.exists():
        return None
    settings, mark, described = path.read_text("utf-8", "surrogateescape").partition(OURS)
    if not mark:
        raise ValueError(f"{path} was not written by edgepose: it has no line {OURS.strip()!r}. Move "
                         "it away, or take another --triton DIR")
    return settings, described


def add_version(repository: Path, model: ServedModel, config: bytes) -> tuple[Path, bool]:
    """(its folder, whether it is new): a version of the model after those that are there, unless the newest is the same
    to the byte.

    A server that polls sees the whole version or none of it: it is written under a name that Triton takes for no
    version (it would any that begins with a digit), then the configuration is exchanged, then the version gets its
    number. Raises OSError, with the path, if the disk does not take it; what was there is then as it was.
    """
    folder = repository / model.name
    folder.mkdir(parents=True, exist_ok=True)
    newest = max((int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()), default=0)
    is_new = not _holds(folder / str(newest) / model.file, model.payload)
    version = folder / str(newest + is_new)
    staged = folder / f".{version.name}.{os.getpid()}.part"
    try:
        if is_new:
            enginefile.write_atomically(staged / model.file, model.payload)
        if not _holds(folder / CONFIG, config):  # a server loads a model anew where this file's time has changed
            enginefile.write_atomically(folder / CONFIG, config)
        if is_new:
            staged.rename(version)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        with contextlib.suppress(OSError):  # a folder that holds something stays
            folder.rmdir()
    return version, is_new


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def text_format(message: Mapping[str, Any], indent: str = "") -> str:
    """Protobuf's text format of a message: a list is a repeated field, a dict a message inside, on one line if it is
    short.

    Source: protobuf.dev, "Text Format Language Specification".
    """
    lines = []
    for key, value in message.items():
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], Mapping):
            for one in values:
                body = text_format(one, indent + "  ")
                flat = " ".join(line.lstrip() for line in body.splitlines())
                lines.append(f"{indent}{key} {{ {flat} }}\n" if len(flat) <= ONE_LINE
                             else f"{indent}{key} {{\n{body}{indent}}}\n")
        else:
            scalars = [str(one) if isinstance(one, (Name, int)) else _quoted(one) for one in values]
            lines.append(
                f"{indent}{key}: {'[' + ', '.join(scalars) + ']' if isinstance(value, list) else scalars[0]}\n")
    return "".join(lines)


def _quoted(text: str) -> str:
    plain = set(range(32, 127)) - set(b'"\\')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'
