"""The contents of an engine file, header and tensors, for every variant of a lifter."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from edgepose.build_engines import export, quantise, searches
from edgepose.build_engines.budgets import BUDGETS, mpjpe_mm
from edgepose.build_engines.lifters import NamedModule, weights_sha256
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_onnx import plan_to_onnx, state_floats
from edgepose.build_engines.tensorrt import torch_tensorrt
from edgepose.build_engines.tensorrt.builder import Builder, TensorRTGraph, engine_parts, is_offered
from edgepose.build_engines.tensorrt.graph import RUNGS, Rung, tensorrt_graph
from edgepose.build_engines.variants import VARIANTS, Variant
from edgepose.build_engines.windows import calibration_windows, evaluation_windows
from edgepose.columns import inputs_of, outputs_of

OF_PLAN = ("native", "cuda")  # they run the plan itself
ONNX_OPSET = 17  # for ONNX engines: the first with LayerNorm as one node


def find_scales(lifter: NamedModule, file: Path | None, variants: Iterable[Variant],
                say: Callable[[str], None]) -> dict:
    """The scales of a lifter's variants in eight bits: those of `file`, else found on the calibration windows.

    Raises ValueError, naming the file, if it is of other weights, or has none for one of the variants.
    """
    weights = weights_sha256(lifter.module)
    parts = {part for variant in variants if (part := variant.scales())}
    if file:
        scales = quantise.read_scales(file)
        if scales.get("weights_sha256") != weights:
            raise ValueError(f"{file} holds the scales of {scales.get('model')} with other weights; "
                             "leave --scales out to find new ones")
        for variant in variants:
            if variant.scales() not in (None, *scales):
                raise ValueError(f"{file} holds no scales for {variant.backend} {variant.precision}; "
                                 "leave --scales out to find new ones")
        return scales
    calibration = quantise.Calibration(*lower(lifter.module, "fp32"), calibration_windows(lifter.module))
    scales = {"model": lifter.name, "weights_sha256": weights}
    if "w8" in parts:
        scales["w8"] = searches.search_w8(calibration, BUDGETS["w8"], say)
    if "rows" in parts:
        scales["rows"] = searches.search_rows(calibration, BUDGETS["int8"], say)
    return scales | (searches.search(calibration, BUDGETS["int8"], say) if "steps" in parts else {})


def build(lifter: NamedModule, backend: str, precision: str,
          scales: dict | None = None) -> tuple[dict, dict[str, np.ndarray]]:
    """(header, tensors) of one engine, ready for enginefile.write. scales: for w8 and int8, those of find_scales."""
    if precision not in VARIANTS[backend]:
        raise ValueError(f"the {backend} backend has no {precision}; it has {', '.join(VARIANTS[backend])}")
    module, header = lifter.module, _header(lifter, backend, precision, scales)
    if part := Variant(backend, precision).scales():
        plan, tensors = quantise.in_eight_bits(*lower(module, "fp32"), scales[part])
    else:
        plan, tensors = lower(module, precision)
    if backend in OF_PLAN:
        header["plan"] = plan
        return header, tensors
    if backend == "onnx":
        graph = plan_to_onnx(plan, tensors, None, ONNX_OPSET, stores_int8=True)
        payload = graph.SerializeToString()
        if plan.get("has_state"):
            header["state"] = state_floats(graph)
    else:
        payload = export.to_torchscript(module)
    return header, {"payload": np.frombuffer(payload, np.uint8)}


def build_with_tensorrt(lifter: NamedModule, variant: Variant, scales: dict | None, builder: Builder,
                        allow_rung: bool) -> tuple[dict, dict[str, np.ndarray], str]:
    """(header, tensors, layers) of an engine for the GPU of this machine: layers is what TensorRT made of it.

    Raises ImportError without its libraries, EngineError if it does not build.
    """
    module = lifter.module
    header = tensorrt_header(lifter, variant.precision, scales)
    if variant.backend == "torch-tensorrt":
        plan = torch_tensorrt.build(module, variant.precision, variant.batch)
        header |= {"batch": variant.batch, "rung": "torch-tensorrt", "machine": plan.machine}
        return header, {"payload": np.frombuffer(plan.payload, np.uint8)}, plan.layers
    windows = calibration_windows(module)

    def graph(rung: Rung) -> TensorRTGraph:
        return tensorrt_graph(module, rung, variant.batch, scales if variant.precision == "int8" else None, windows)

    offered = [rung for rung in RUNGS[variant.precision] if is_offered(rung.name)]
    built, plan = builder.build_first([(rung.name, lambda rung=rung: graph(rung)) for rung in offered], allow_rung)
    of_plan, tensors = engine_parts(built, plan)
    return header | of_plan, tensors, plan.layers


def _header(lifter: NamedModule, backend: str, precision: str, scales: dict | None) -> dict:
    module = lifter.module
    header = {"model": lifter.name, "frames": module.frames, "skeleton": module.skeleton.name, "precision": precision,
              "inputs": list(inputs_of(module)), "outputs": list(outputs_of(module)), "backend": backend,
              "weights_sha256": weights_sha256(module), "is_trained": lifter.is_trained,
              "built_with": {"edgepose": version("edgepose"), "torch": torch.__version__,
                             "python": platform.python_version()}}
    if getattr(module, "is_causal", False):
        header["is_causal"] = True
    if lifter.changed_options:
        header["options"] = lifter.changed_options
    if lifter.rate_hz is not None:
        header["rate_hz"] = lifter.rate_hz
    if part := Variant(backend, precision).scales():
        header["quantisation"] = quantise.schemes(lower(module, "fp32")[0], scales[part])
    return header


def tensorrt_header(lifter: NamedModule, precision: str, scales: dict | None) -> dict:
    """The header of a TensorRT engine file as far as the lifter goes; engine_parts has the rest."""
    header = _header(lifter, "tensorrt", precision, scales)
    if lifter.is_trained:  # what a rebuild without ONNX Runtime is held to
        _, target, reference = reference_poses(lifter)
        header["mpjpe_mm"] = mpjpe_mm(reference, target)
    return header


def reference_poses(lifter: NamedModule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(keypoints_norm, target_m, torch's answer) of the evaluation windows."""
    x, target = evaluation_windows(lifter.module)
    with torch.inference_mode():
        return x, target, lifter.module(torch.from_numpy(x)).numpy()
