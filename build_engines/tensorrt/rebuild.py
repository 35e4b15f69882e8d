"""edgepose rebuild: a TensorRT engine once more, on this machine, from the graph it holds. Needs no torch.

Build on this machine -> load -> compare with the graph in ONNX Runtime on the shipped evaluation windows -> into the
file's place, which keeps what it held where any of this fails. Without ONNX Runtime the mean error to the reference
must be what it was for the model.
"""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

import edgepose
from edgepose import enginefile
from edgepose.build_engines.budgets import BUDGETS, errors_mm, over_budget
from edgepose.build_engines.tensorrt.builder import Builder, add_tactic_sources, engine_parts, graph_of, write_layers
from edgepose.build_engines.windows import evaluation_windows
from edgepose.columns import joints_of
from edgepose.enginefile import EngineError
from edgepose.metrics import mpjpe


def rebuild(path: Path, tactic_sources: list[str] | None = None) -> str:
    """Builds the engine at `path` again and puts it in its place; what was found of it, in words.

    Raises EngineError if the file holds no graph, TensorRT builds nothing of it, or the new engine is over its budget;
    ImportError without TensorRT or PyCUDA. The file is then as it was.
    """
    header, tensors = enginefile.read(path)
    if header["backend"] != "tensorrt":
        raise EngineError(f"{path} runs on the {header['backend']} backend; only tensorrt engines are "
                          "for one machine and built again")
    candidate = path.with_name(f".{path.name}.unchecked.epose")
    try:
        graph = graph_of(header, tensors)
        plan = Builder(path.absolute().parent, tactic_sources).build(graph)
        of_plan, tensors = engine_parts(graph, plan)
        built_with = {**header["built_with"], "edgepose": version("edgepose"), "python": platform.python_version()}
        enginefile.write(candidate, {**header, **of_plan, "built_with": built_with}, tensors)
        found = _compared(candidate, graph.onnx)
        candidate.replace(path)
    except EngineError as error:
        raise EngineError(f"{path} is as it was: {str(error).replace(str(candidate), 'the new engine')}") from error
    finally:
        candidate.unlink(missing_ok=True)
    write_layers(path, plan.layers)
    return found


def _compared(path: Path, onnx: bytes) -> str:
    """The loss of a new engine against its graph, in words. Raises EngineError if it is over its budget."""
    engine = edgepose.load(path, trust=True)
    x, target = evaluation_windows(engine)
    poses = engine.run(x)
    budget = BUDGETS[engine.precision].mean_mm
    reference = in_onnxruntime(onnx, x, engine.header["batch"])
    if reference is not None:
        mean, largest = errors_mm(poses, reference)
        over, found = (over_budget(poses, reference, engine.precision),
                       f"{mean:.4f} mm mean, {largest:.4f} mm at most from its graph in ONNX Runtime")
    elif "mpjpe_mm" in engine.header:
        before, now = engine.header["mpjpe_mm"], float(mpjpe(joints_of(poses) * 1e3, target * 1e3))
        over = "" if abs(now - before) <= budget else f"{budget} mm"
        found = (f"MPJPE {now:.2f} mm on the evaluation windows, {before:.2f} of the model (no ONNX Runtime to compare "
                 "joints)")
    else:
        over = "" if np.isfinite(poses).all() else f"{budget} mm"
        found = "finite poses; compared with nothing, since there is no ONNX Runtime here and the model is untrained"
    if over:
        raise EngineError(f"over {over}: {found}")
    return found


def in_onnxruntime(onnx: bytes, x: np.ndarray, batch: int) -> np.ndarray | None:
    """The graph's poses (N, J, D) of x (N, T, J, C), in batches of its size; None without ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # ONNX Runtime's own int8 products saturate where the CPU has no VNNI.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    padded = np.concatenate([x, np.zeros((-len(x) % batch, *x.shape[1:]), np.float32)])
    parts = [session.run(None, {name: padded[first:first + batch]})[0] for first in range(0, len(padded), batch)]
    return np.concatenate(parts)[:len(x)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose rebuild`."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.epose", help="TensorRT engines to build again")
    add_tactic_sources(parser)


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose rebuild`."""
    for path in arguments.files:
        found = rebuild(path, arguments.tactic_sources)
        print(f"{path}: built again for this machine; {found}", flush=True)
    return 0
