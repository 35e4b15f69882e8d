"""The runtimes of the GPU benchmark: a model of a prepared folder (folder.py) -> a call from numpy to numpy.

torch computes in float32 without TF32, its default, or in half precision throughout (HalfModule: no autocast, which
costs casts at every layer); torch-compile is the same with mode="reduce-overhead", Inductor's kernels in a CUDA graph,
none of the model left out of it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import edgepose
from edgepose import enginefile, gpu
from edgepose.benchmarks.gpu.folder import FLAVOURS, Model
from edgepose.enginefile import EngineError

DEVICE = "cuda"  # as torch calls it
COMPILATIONS = 64
READS = 1000
DEVICE_MS = 100.0  # the device's own time is taken over so long
ZERO_COPY = "tensorrt-zero-copy"


@dataclass(frozen=True)
class Candidate:
    """lift: (B, T, J, 2) -> (B, J, 3), all of B at once. facts: what its row says besides the figures."""

    lift: Callable[[np.ndarray], np.ndarray]
    facts: dict[str, Any] = field(default_factory=dict)


def open_torch(model: Model, precision: str, batch: int, is_compiled: bool = False) -> Candidate:
    """torch eager or compiled. Raises what torch raises without a GPU."""
    import torch

    from edgepose.build_engines.tensorrt.torch_tensorrt import HalfModule
    from edgepose.zoo import checkpoints

    module, _ = checkpoints.load_checkpoint(model.checkpoint)
    module = (HalfModule(module) if precision == "fp16" else module).eval().requires_grad_(False).to(DEVICE)
    if is_compiled:
        # Limits the compilations, one for each model and batch; torch has had both names.
        for name in ("cache_size_limit", "recompile_limit"):
            if hasattr(torch._dynamo.config, name):
                setattr(torch._dynamo.config, name, COMPILATIONS)
        module = torch.compile(module, mode="reduce-overhead", dynamic=False, fullgraph=True)

    def lift(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(x).to(DEVICE)).cpu().numpy()
    return Candidate(lift)


def open_cuda(model: Model, precision: str, batch: int) -> Candidate:
    """Our engine. Raises EngineError without a GPU that it runs on."""
    if reason := gpu.cuda_missing():
        raise EngineError(reason)
    from edgepose import _cuda

    engine = edgepose.load(model.cuda(precision), trust=True)
    header, tensors = enginefile.read(engine.path)
    plan = _cuda.Plan(header["plan"], tensors)
    context = _cuda.Context(plan)
    windows, _ = model.reference()
    context.run(np.resize(windows, (batch, *windows.shape[1:])),
                np.empty((batch, len(engine.skeleton), len(engine.outputs)), np.float32))
    context.device_ms(1)
    device_ms = context.device_ms(max(3, int(DEVICE_MS / max(context.device_ms(1), 0.01))))
    return Candidate(engine.run, {"device_ms": device_ms, "read_ms": _cuda.read_ms(plan.constant_bytes, READS),
                                  "constant_bytes": plan.constant_bytes, "steps": plan.steps,
                                  "uses_tensor_cores": plan.uses_tensor_cores})


def open_tensorrt(model: Model, precision: str, batch: int, work: Path, tactic_sources: Sequence[str] | None,
                  zero_copy: bool = False) -> Candidate:
    """A TensorRT engine, built in the folder `work` if it is not there yet. Raises EngineError if TensorRT, PyCUDA or a
    GPU is missing, or it does not build or run; nothing is held to a budget."""
    if reason := gpu.tensorrt_missing():
        raise EngineError(reason)
    from edgepose.build_engines.tensorrt.builder import Builder, engine_parts, graph_of, is_offered

    prepared = [model.tensorrt(precision, batch, flavour) for flavour in FLAVOURS if is_offered(flavour)]
    path = next(filter(Path.exists, prepared), None)
    if path is None:
        raise EngineError(f"{model.folder} holds no graph of {model.name} in {precision} for "
                          f"batch {batch} and this TensorRT")
    built, messages = work / path.name, []
    header, tensors = enginefile.read(built if built.exists() else path)
    facts = {"rung": header["rung"]}
    if not built.exists():
        start = time.perf_counter()
        graph = graph_of(header, tensors)
        of_plan, tensors = engine_parts(graph, Builder(work, tactic_sources, messages.append).build(graph))
        enginefile.write(built, {**header, **of_plan}, tensors)
        facts["build_s"] = time.perf_counter() - start
    with warnings.catch_warnings(record=True) as records:  # for example: it runs without a CUDA graph
        warnings.simplefilter("always")
        engine = edgepose.load(built, zero_copy=zero_copy, trust=True)
    messages += [str(warning.message) for warning in records if warning.category is RuntimeWarning]
    return Candidate(engine.run, facts | ({"said": messages} if messages else {}))


@dataclass(frozen=True)
class Opener:
    """Opens candidates. work: a folder for the TensorRT engines that are built. tactic_sources: see Builder."""

    work: Path
    tactic_sources: Sequence[str] | None = None

    def open(self, model: Model, runtime: str, precision: str, batch: int) -> Candidate:
        """A model in a runtime of RUNTIMES, for calls of `batch` people."""
        if runtime == "cuda":
            return open_cuda(model, precision, batch)
        if runtime in ("tensorrt", ZERO_COPY):
            return open_tensorrt(model, precision, batch, self.work, self.tactic_sources,
                                 zero_copy=runtime == ZERO_COPY)
        return open_torch(model, precision, batch, is_compiled=runtime == "torch-compile")


RUNTIMES = {f"{runtime}-{precision}": (runtime, precision) for runtime, precisions in {
    "cuda": ("fp32", "fp16", "int8"), "tensorrt": ("fp16", "int8"), ZERO_COPY: ("fp16", "int8"),
    "torch": ("fp32", "fp16"), "torch-compile": ("fp32", "fp16")}.items() for precision in precisions}
