"""Two runtimes of phones, converted to and run: ncnn, and ExecuTorch with XNNPACK. FP32, a person a call: neither file
takes batches.

ncnn gets the native plan written in torch, constants folded: pnnx does not know the models' own unbind and slices with
a step. Biases stay additions of their own there, which costs `ampose` 6 % and the others nothing that could be
measured.
"""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgepose
from edgepose import enginefile
from edgepose.build_engines import export
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import PlanModule
from edgepose.checks import MOST_SAID, need_library
from edgepose.columns import inputs_of

# ncnn's options for half precision.
NCNN_IS_HALF = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")


class NotConverted(edgepose.EngineError):
    """A runtime's converter cannot express a model."""


def write_ncnn(module: nn.Module, file: Path) -> None:
    """<name>.param, ncnn's layers as text, and <name>.bin beside it.

    Raises ImportError without pnnx, NotConverted if pnnx fails or leaves layers that ncnn does not have.
    """
    need_library("pnnx", "converting to ncnn")
    import pnnx

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "lifter.pt").write_bytes(export.to_torchscript(PlanModule(*lower(module, "fp32")).eval()))
        shape = f"inputshape=[1,{module.frames},{len(module.skeleton)},{len(inputs_of(module))}]f32"
        done = subprocess.run([pnnx.EXEC_PATH, "lifter.pt", shape, "fp16=0"], cwd=folder, capture_output=True,
                              text=True)
        param = Path(folder, "lifter.ncnn.param")
        if done.returncode or not param.is_file():
            raise NotConverted("pnnx gave up: "
                               f"{(done.stderr.strip() or 'without a word').splitlines()[-1][:MOST_SAID]}")
        if unknown := unknown_layers(param.read_text()):
            raise NotConverted(f"pnnx found no layer of ncnn for {', '.join(unknown)}")
        enginefile.write_atomically(file.with_suffix(".bin"), Path(folder, "lifter.ncnn.bin").read_bytes())
        enginefile.write_atomically(file, param.read_bytes())


def unknown_layers(param: str) -> list[str]:
    """The operators of torch ("Tensor.slice") that pnnx has left in a network's text, each once."""
    return sorted(set(re.findall(r"^(\w+(?:\.|::)[\w.:]+)\s", param, re.MULTILINE)))


def open_ncnn(file: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """(B, T, J, C) -> (B, J, D), in FP32. Raises ImportError without ncnn."""
    need_library("ncnn", "this runtime")
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = threads
    for option in NCNN_IS_HALF:
        setattr(network.opt, option, False)
    if network.load_param(str(file)) or network.load_model(str(file.with_suffix(".bin"))):
        raise edgepose.EngineError(f"{file}: ncnn does not load it")

    def pose(person: np.ndarray) -> np.ndarray:  # (T, J, C) -> (J, D)
        with network.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(person).clone())  # memory of its own: layers work in place
            # (1, J, D) where pnnx kept the batch.
            return np.array(extractor.extract("out0")[1]).reshape(person.shape[1], -1)
    return lambda x: np.stack([pose(person) for person in x])


def write_executorch(module: nn.Module, file: Path) -> None:
    """A .pte file, all that XNNPACK takes given to it. Raises ImportError without ExecuTorch, NotConverted if its
    exporter fails."""
    need_library("executorch", "this runtime")
    with _quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            exported = torch.export.export(module,
                                           (torch.zeros(1, module.frames, len(module.skeleton),
                                                        len(inputs_of(module))),))
            program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:  # every pass of the exporter has its own class of errors
            raise NotConverted("ExecuTorch's exporter: "
                               f"{(str(error) or repr(error)).splitlines()[0][:MOST_SAID]}") from error
    enginefile.write_atomically(file, program.buffer)


def open_executorch(file: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """(B, T, J, C) -> (B, J, D). The process has one pool of threads: a file opened with another number than those
    before it stops them. Raises ImportError without ExecuTorch."""
    need_library("executorch", "this runtime")
    with _quiet():
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

    # A file keeps the pool that it finds when it is loaded, so the number of threads is set before.
    if portable_lib._threadpool_get_thread_count() != threads:
        portable_lib._unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(file).load_method("forward")

    def pose(person: np.ndarray) -> np.ndarray:
        return method.execute([torch.from_numpy(person[None])])[0].numpy()
    return lambda x: np.concatenate([pose(person) for person in x])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the warnings of ExecuTorch's imports and exporter, which are about their own parts."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# Name: the suffix of its file, the writer, the opener.
RUNTIMES = {"ncnn": (".param", write_ncnn, open_ncnn), "executorch": (".pte", write_executorch, open_executorch)}
