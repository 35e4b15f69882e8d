"""Lifters of every architecture, wide enough for eight bits, and their TensorRT graphs, run on a CPU."""

import functools

import models
import numpy as np
import onnxruntime

from edgepose import zoo
from edgepose.build_engines import quantise
from edgepose.build_engines.lower import lower
from edgepose.build_engines.quantise import Calibration, Recipe
from edgepose.build_engines.tensorrt.graph import RUNGS, float32_steps, tensorrt_graph

ALL_RUNGS = {rung.name: rung for rungs in RUNGS.values() for rung in rungs}
FAMILIES = {
    "ampose": {"depth": 1}, "ampose-refined": {"depth": 1}, "posegate": {"depth": 1}, "martinez": {}, "dln": {},
    "strided27": {"depth": 1, "is_causal": True}, "strided27-dense": {"depth": 1, "norm": "sample"},
    "strided81": {"depth": 1}}


@functools.cache
def family(name):
    """(model, a few windows, its eight-bit scales with columns equalised and one step left in half precision)."""
    heads = {} if name in ("martinez", "dln") else {"heads": 4}
    model = models.randomised(zoo.build(name, channels=64, **heads, **FAMILIES[name]))
    windows = models.keypoints(model, 6, seed=1)
    calibration = Calibration(*lower(model, "fp32"), windows)
    half_steps = [label for _, label, _ in quantise.products(calibration.plan)
                  if label not in float32_steps(calibration.plan)][:1]
    recipe = Recipe("max", equalise=0.5, corrects_bias=True, kept=tuple(half_steps))
    return model, windows, calibration.scales(recipe)


@functools.cache
def graph_of(name, rung, batch):
    model, windows, scales = family(name)
    is_rounded = ALL_RUNGS[rung].precision == "int8"
    return tensorrt_graph(model, ALL_RUNGS[rung], batch, scales if is_rounded else None, windows)


def shapes_of(name, batch):
    model = family(name)[0]
    return (batch, model.frames, len(model.skeleton), 2), (batch, len(model.skeleton), 3)


def run(payload, x):
    options = onnxruntime.SessionOptions()
    # Else it saturates in 16 bits on many processors.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    batch = session.get_inputs()[0].shape[0]
    return np.concatenate([session.run(None, {"keypoints_norm": x[at:at + batch]})[0]
                           for at in range(0, len(x), batch)])


def distances_mm(a, b):
    return 1e3 * np.linalg.norm(a - b, axis=-1)
