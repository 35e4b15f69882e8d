"""A static ONNX graph -> a TensorRT plan for the GPU of this machine. Needs the library tensorrt (8.6 to 11) and
PyCUDA, no torch.

What differs between versions is asked of the library with hasattr, never read off its version number. How precision
gets into a plan is its rung: on a "strong" one the graph says it all, on a "legacy" one builder flags do, within the
float32 that `keep_float32` asks for.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepose import enginefile
from edgepose.checks import listed, near
from edgepose.enginefile import EngineError
from edgepose.gpu import open_gpu, heard, listener
from edgepose.onnxfile import check_has_no_external_data

WORKSPACE_BYTES = 1 << 30  # our layers need megabytes; a Jetson has no more to give


class NotBuilt(EngineError):
    """TensorRT builds no plan of a graph. The message says why; a lower rung may do."""


@dataclass(frozen=True)
class TensorRTGraph:
    """A graph to build. onnx: "keypoints_norm" (batch, T, J, C) -> "pose_m" (batch, J, D), float32, static.

    rung: its name, whose first word is the flavour. keep_float32: the names of the nodes that must compute in float32
    on a legacy rung; a strong graph has it as casts.
    """

    onnx: bytes
    precision: str
    rung: str
    batch: int
    keep_float32: tuple[str, ...] = ()

    @property
    def is_strong(self) -> bool:
        """True if the types in the graph alone decide what computes in which precision."""
        return self.rung.startswith("strong")


@dataclass(frozen=True)
class TensorRTPlan:
    """A plan that TensorRT built. layers: the inspector's JSON of its layers. machine: where it runs (gpu.machine)."""

    payload: bytes
    layers: str
    machine: dict[str, str]


@dataclass(frozen=True)
class Builder:
    """Builds plans on this machine.

    folder: of the timing cache, which makes a second build quick and choose the same kernels. tactic_sources: names of
    TensorRT's enumeration, where cuBLAS or cuDNN are not installed; None: its own choice. say: prints a line.
    """

    folder: Path
    tactic_sources: Sequence[str] | None = None
    say: Callable[[str], None] = print

    def build(self, graph: TensorRTGraph) -> TensorRTPlan:
        """The plan of a graph. Raises ImportError without the libraries; NotBuilt if TensorRT does not take the graph,
        or builds nothing of it; EngineError if this TensorRT is not one that edgepose knows; ValueError for an unknown
        tactic source."""
        import tensorrt as trt

        gpu = open_gpu()
        with gpu.current(), _known(trt):
            cache = self.folder / f"{trt.__version__}-{re.sub(r'[^A-Za-z0-9]+', '-', gpu.name).strip('-')}.cache"
            return self._build(trt, graph, gpu.machine(trt), cache)

    def _build(self, trt: Any, graph: TensorRTGraph, machine: dict[str, str], cache: Path) -> TensorRTPlan:
        logger = listener(trt)
        builder = trt.Builder(logger)
        network = builder.create_network(_network_flags(trt, graph))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(graph.onnx):
            errors = [str(parser.get_error(number)) for number in range(parser.num_errors)]
            raise NotBuilt(f"TensorRT {trt.__version__} does not take the graph: {listed(errors, '; ') or heard(trt)}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        config.clear_flag(trt.BuilderFlag.TF32)  # what the graph keeps in float32 it keeps for its accuracy
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector then says which layers became one
        if self.tactic_sources is not None:
            config.set_tactic_sources(_tactic_sources(trt, self.tactic_sources))
        if not graph.is_strong:
            _set_precision(trt, network, config, graph)
        self._read_cache(trt, config, cache)
        heard(trt)
        payload = builder.build_serialized_network(network, config)
        if payload is None:
            raise NotBuilt(f"TensorRT {trt.__version__} builds no engine: {heard(trt)}")
        enginefile.write_atomically(cache, bytes(config.get_timing_cache().serialize()))
        return TensorRTPlan(bytes(payload), _layers(trt, payload), machine)

    def _read_cache(self, trt: Any, config: Any, cache: Path) -> None:
        earlier = cache.read_bytes() if cache.is_file() else b""
        try:
            timings = config.create_timing_cache(earlier)
            is_taken = timings is not None and config.set_timing_cache(timings, False)
        except (RuntimeError, TypeError):  # pybind11 raises them where TensorRT returns no object
            is_taken = False
        if not is_taken:
            if earlier:
                self.say(f"{cache} is damaged or of another machine ({heard(trt)}): the timings start anew")
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def build_first(self, graphs: Sequence[tuple[str, Callable[[], TensorRTGraph]]],
                    allow_lower: bool) -> tuple[TensorRTGraph, TensorRTPlan]:
        """The plan of the first (rung, what writes its graph) that builds.

        allow_lower: goes on to the next where one does not, and says so; else raises NotBuilt with the reason and the
        next rung's name.
        """
        for number, (rung, write) in enumerate(graphs):
            graph = write()
            try:
                return graph, self.build(graph)
            except NotBuilt as error:
                following = [name for name, _ in graphs[number + 1:]]
                if not following:
                    raise NotBuilt(f"rung {rung} does not build, and it is the last one: {error}") from error
                if not allow_lower:
                    raise NotBuilt(
                        f"rung {rung} does not build; --allow-rung goes on to {following[0]}: {error}") from error
                self.say(f"rung {rung} does not build, going on to {following[0]}: {error}")
        raise NotBuilt("this TensorRT has no rung for that precision")


def is_offered(rung: str) -> bool:
    """True if this machine's TensorRT has a rung of that name: strong from 10 on, legacy before 11.

    Raises ImportError without TensorRT.
    """
    import tensorrt as trt

    with _known(trt):
        owner, name = (trt.NetworkDefinitionCreationFlag,
                       "STRONGLY_TYPED") if rung.startswith("strong") else (trt.BuilderFlag, "FP16")
        return hasattr(owner, name)


def inspected(payload: bytes) -> TensorRTPlan:
    """A plan that was built here by other means. Raises NotBuilt if TensorRT does not take it."""
    import tensorrt as trt

    gpu = open_gpu()
    with gpu.current(), _known(trt):
        return TensorRTPlan(payload, _layers(trt, payload), gpu.machine(trt))


def engine_parts(graph: TensorRTGraph, plan: TensorRTPlan | None) -> tuple[dict, dict[str, np.ndarray]]:
    """A plan's part of an engine file: (header's entries, tensors). plan: None if it is still to be built."""
    header = {"backend": "tensorrt", "precision": graph.precision, "batch": graph.batch, "rung": graph.rung,
              "machine": plan.machine if plan else {}, "keep_float32": list(graph.keep_float32),
              "onnx_sha256": hashlib.sha256(graph.onnx).hexdigest()}
    payloads = {"onnx": graph.onnx, **({"payload": plan.payload} if plan else {})}
    return header, {name: np.frombuffer(payload, np.uint8) for name, payload in payloads.items()}


def graph_of(header: dict, tensors: dict[str, np.ndarray]) -> TensorRTGraph:
    """The graph that an engine file holds. Raises EngineError if it holds none, another than its header says, or one
    that reads other files."""
    if "onnx" not in tensors:
        raise EngineError("it holds no graph to build from; build it with edgepose compile --model "
                          f"{header['model']} --backend {header['rung']}")
    onnx, kept = tensors["onnx"].tobytes(), header.get("keep_float32")
    if not isinstance(kept, list) or not all(isinstance(name, str) for name in kept):
        raise EngineError(f"the header's 'keep_float32' is {kept!r}; it needs a list of names")
    if hashlib.sha256(onnx).hexdigest() != header.get("onnx_sha256"):
        raise EngineError(f"the header's 'onnx_sha256' is {header.get('onnx_sha256')!r}; the graph has another")
    try:
        check_has_no_external_data(onnx)
    except ValueError as error:
        raise EngineError(str(error)) from error
    return TensorRTGraph(onnx, header["precision"], header["rung"], header["batch"], tuple(kept))


def write_layers(path: Path, layers: str) -> None:
    """Writes what TensorRT made of the graph beside the engine file at `path`: NAME.layers.json."""
    enginefile.write_atomically(path.with_suffix(".layers.json"),
                                (json.dumps(json.loads(layers), indent=1) + "\n").encode())


@contextlib.contextmanager
def _known(trt: Any) -> Iterator[None]:
    """A context in which a name that the library lacks becomes an EngineError that says so."""
    try:
        yield
    except AttributeError as error:
        raise EngineError(f"TensorRT {getattr(trt, '__version__', '?')} is none that edgepose builds "
                          f"with (8.6 to 11): {error}") from error


def _layers(trt: Any, payload: Any) -> str:
    runtime = trt.Runtime(listener(trt))
    engine = runtime.deserialize_cuda_engine(payload)
    if engine is None:
        raise NotBuilt(f"TensorRT {trt.__version__} does not take the plan that was built: {heard(trt)}")
    return engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)


def _network_flags(trt: Any, graph: TensorRTGraph) -> int:
    flag = trt.NetworkDefinitionCreationFlag
    if graph.is_strong and not hasattr(flag, "STRONGLY_TYPED"):
        raise NotBuilt(f"TensorRT {trt.__version__} has no strongly typed networks, which rung {graph.rung} needs")
    wanted = ["EXPLICIT_BATCH", *(["STRONGLY_TYPED"] if graph.is_strong else [])]  # 11 has no EXPLICIT_BATCH: all are
    return sum(1 << int(getattr(flag, name)) for name in wanted if hasattr(flag, name))


def _set_precision(trt: Any, network: Any, config: Any, graph: TensorRTGraph) -> None:
    if graph.precision == "fp32":
        return
    if not hasattr(trt.BuilderFlag, "FP16"):
        raise NotBuilt(f"TensorRT {trt.__version__} has no builder flags for precision, which rung {graph.rung} needs")
    for name in ["FP16", *(["INT8"] if graph.precision == "int8" else []), "OBEY_PRECISION_CONSTRAINTS"]:
        config.set_flag(getattr(trt.BuilderFlag, name))
    layers: dict[str, list[Any]] = {}  # by the node's name; several of one node are called NAME, NAME_1, NAME_2
    for layer in map(network.get_layer, range(network.num_layers)):
        layers.setdefault(re.sub(r"_\d+$", "", layer.name), []).append(layer)
    for name in graph.keep_float32:
        if name not in layers:
            raise NotBuilt(f"the network has no layer {name!r}, which must compute in float32{near(name, layers)}")
        for layer in layers[name]:
            outputs = range(layer.num_outputs)
            # Shapes and indices are whole numbers.
            if all(layer.get_output(number).dtype in (trt.float32, trt.float16) for number in outputs):
                layer.precision = trt.float32
                for number in outputs:
                    layer.set_output_type(number, trt.float32)


def add_tactic_sources(parser: argparse.ArgumentParser) -> None:
    """The option `--tactic-sources` of the commands that build TensorRT engines."""
    parser.add_argument("--tactic-sources", nargs="+", metavar="NAME",
                        help="of TensorRT's kernels, where not all libraries are installed: edge_mask_convolutions "
                             "jit_convolutions do without cuBLAS and cuDNN (default: TensorRT's choice)")


def _tactic_sources(trt: Any, names: Sequence[str]) -> int:
    known = trt.TacticSource.__members__
    for name in names:
        if name.upper() not in known:
            raise ValueError(f"tactic source {name!r}; TensorRT {trt.__version__} has "
                             f"{', '.join(known).lower()}{near(name.upper(), known)}")
    return sum(1 << int(getattr(trt.TacticSource, name)) for name in {name.upper() for name in names})
