"""edgepose compile --for-board: a lifter's graph for a machine that builds the TensorRT engine itself, without torch.

The file is an engine file without a plan: on the board `edgepose rebuild FILE` puts one in. Here the graph is compared
with torch in ONNX Runtime; no GPU is needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepose import enginefile
from edgepose.build_engines.budgets import errors_mm, over_budget
from edgepose.build_engines.lifters import NamedModule
from edgepose.build_engines.tensorrt.builder import TensorRTGraph, engine_parts
from edgepose.build_engines.tensorrt.graph import RUNGS, Rung, tensorrt_graph
from edgepose.build_engines.tensorrt.rebuild import in_onnxruntime
from edgepose.enginefile import EngineError

FLAVOURS = ("legacy", "strong")  # TensorRT 8.6 (JetPack 6.0); TensorRT 10 and later
BOARDS = (*FLAVOURS, *(rung.name for precision in ("fp16", "int8") for rung in RUNGS[precision]))  # or the rung itself


def write_for_board(lifter: NamedModule, header: dict, batch: int, board: str, scales: dict | None, windows: np.ndarray,
                    reference: tuple[np.ndarray, np.ndarray], path: Path) -> str:
    """Writes the engine file without a plan; what its graph loses, in words.

    board: of BOARDS. header: as of an engine of the tensorrt backend. windows: for calibration. reference:
    (keypoints_norm, torch's poses) to compare.
    Raises EngineError if the graph is over its budget; nothing is written then.
    """
    precision = header["precision"]
    graph = graph_for_board(lifter, precision, batch, board, scales, windows)
    x, poses = reference
    found_poses = in_onnxruntime(graph.onnx, x, batch)
    mean, largest = errors_mm(found_poses, poses)
    found = f"{mean:.4f} mm mean, {largest:.4f} mm at most from torch, in ONNX Runtime"
    if over := over_budget(found_poses, poses, precision):
        raise EngineError(f"{path.name} is over {over}: {found}")
    write_unbuilt(path, header, graph)
    return found


def rung_for_board(precision: str, board: str) -> Rung:
    """A flavour's best rung of a precision, or the rung of that name. board: of BOARDS. Raises ValueError if it is of
    another precision."""
    for rung in RUNGS[precision]:
        if board in (rung.flavour, rung.name):
            return rung
    raise ValueError(f"{precision} has no rung {board}, only {', '.join(rung.name for rung in RUNGS[precision])}; "
                     "--precision chooses another")


def graph_for_board(lifter: NamedModule, precision: str, batch: int, board: str, scales: dict | None,
                    windows: np.ndarray) -> TensorRTGraph:
    """A lifter's graph of the rung that is asked for. scales: for int8. windows: for calibration."""
    rung = rung_for_board(precision, board)
    return tensorrt_graph(lifter.module, rung, batch, scales if precision == "int8" else None, windows)


def write_unbuilt(path: Path, header: dict, graph: TensorRTGraph) -> None:
    """Writes an engine file that holds a graph and no plan of it yet."""
    of_plan, tensors = engine_parts(graph, None)
    enginefile.write(path, header | of_plan, tensors)
