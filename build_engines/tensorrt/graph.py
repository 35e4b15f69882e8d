"""A lifter as the ONNX graph that TensorRT builds an engine from: static shapes, precision in the graph.

plan (lower.py) -> in eight bits (quantise.py) -> ONNX in float32 (plan_onnx.py) -> casts, or the list of what stays
(half_graph.py).

Two flavours. "strong", for strongly typed networks (TensorRT 10 and later): the types are in the graph, the weights of
eight bits are stored so. "legacy" (TensorRT 8.6, and the last resort on 10): float32 throughout, with the nodes that
the builder must hold to float32.

In float32 stay the products that read keypoints, the head and what follows it, LayerNorm and what is added up before
it, softmax, and what FP16 has no numbers for. In eight bits are the products that the scales name, but not those.
Nothing else is quantised, not even the skip branch of an addition: what follows here is a LayerNorm, which reads FP16
anyway, and the scales were found without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from torch import nn

from edgepose.build_engines import quantise
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import MATRIX_PRODUCTS
from edgepose.build_engines.plan_onnx import plan_to_onnx
from edgepose.build_engines.tensorrt.builder import TensorRTGraph
from edgepose.build_engines.tensorrt.half_graph import MOVES, ROUNDS, float32_nodes, in_half, magnitudes
from edgepose.build_engines.windows import calibration_windows
from edgepose.checks import checked_number

FLAVOURS = {"legacy": 17, "strong": 19}  # opset: the newest of TensorRT 8.6; the first whose scales may be FP16


@dataclass(frozen=True)
class Rung:
    """One way to give a precision to TensorRT. is_half: the graph has FP16 inside (strong alone; legacy has flags)."""

    name: str
    precision: str
    flavour: str
    is_half: bool


RUNGS = {precision: tuple(Rung(name, precision, name.partition("-")[0], is_half) for name, is_half in rungs)
         for precision, rungs in {
    "fp32": (("strong-fp32", False), ("legacy-fp32", False)),
    "fp16": (("strong-fp16", True), ("legacy-fp16", False)),
    # Some boards refuse FP16 scales.
    "int8": (("strong-fp16-qdq", True), ("strong-fp32-qdq", False), ("legacy-qdq", False)),
}.items()}  # the best first


def tensorrt_graph(module: nn.Module, rung: Rung, batch: int, scales: dict | None = None,
                   windows: np.ndarray | None = None) -> TensorRTGraph:
    """The graph of a zoo model in evaluation mode, for `batch` people.

    scales: those of build.find_scales, for int8 and only there. windows: keypoints_norm (N, T, J, C) that show how
    large the numbers inside become; None for the calibration windows.
    Raises ValueError if the module is in training mode, scales lack or are of another model, or batch is not 1 or more.
    """
    if module.training:
        raise ValueError("the module is in training mode; module.eval() first")
    if (scales is not None) != (rung.precision == "int8"):
        raise ValueError(f"{rung.name} {'needs scales' if scales is None else 'takes no scales'}: they are for int8")
    checked_number("batch", batch, 1, whole=True)
    plan, tensors = lower(module, "fp32")
    steps = float32_steps(plan)
    if scales is not None:
        quantised = {name: step for name, step in scales["steps"].items() if name not in steps}
        plan, rounded = quantise.in_eight_bits(plan, tensors, quantised)
        # Half precision comes from the graph's casts, not from the stored tensors.
        tensors = rounded | {name: tensors[name] for name, tensor in rounded.items() if tensor.dtype == np.float16}

    def written(people: int) -> onnx.ModelProto:
        return plan_to_onnx(plan, tensors, people, FLAVOURS[rung.flavour], stores_int8=rung.flavour == "strong")

    graph, kept = written(batch), ()
    if rung.is_half or (rung.flavour == "legacy" and rung.precision != "fp32"):
        kept = float32_nodes(graph, steps,
                             magnitudes(written(1), calibration_windows(module) if windows is None else windows))
    if rung.is_half:
        graph, kept = in_half(graph, kept), ()
    onnx.checker.check_model(graph, full_check=True)
    listed = tuple(node.name for node in graph.graph.node if node.name in kept
                   and node.op_type not in (*MOVES, *ROUNDS))
    return TensorRTGraph(graph.SerializeToString(), rung.precision, rung.name, batch, listed)


def float32_steps(plan: dict) -> set[str]:
    """The labels of the products that read keypoints, and of the heads: those whose sum is the answer, and what follows
    them."""
    steps, kept = plan["steps"], quantise.products_of_keypoints(plan)
    waiting = [len(steps) - 1]
    while waiting:
        number = waiting.pop()
        step = steps[number]
        kept.add(number)
        if step["op"] in MATRIX_PRODUCTS:
            waiting += [step["residual"]] if "residual" in step else []
        elif step["op"] in ("reshape", "concat"):
            waiting += [step[key] for key in ("x", "other") if key in step]
    return {quantise.label(number, steps[number]) for number in kept}
