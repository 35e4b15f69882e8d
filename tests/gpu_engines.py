"""A lifter of one product as a static graph, and engine files of it for the fake GPU."""

import numpy as np
from fake_gpu import FakeGpu, install
from fake_tensorrt import FakeTensorRT
from onnx import TensorProto, helper, numpy_helper

from edgepose import enginefile
from edgepose.build_engines.tensorrt import builder

FRAMES, JOINTS = 1, 17
WEIGHTS = np.random.default_rng(0).normal(0, 0.2, (FRAMES * JOINTS * 2, JOINTS * 3)).astype(np.float32)
HEADER = {"model": "tiny", "frames": FRAMES, "skeleton": "h36m17", "weights_sha256": "0" * 64, "is_trained": False,
          "built_with": {"edgepose": "0.1.0"}}


def a_gpu(monkeypatch, version="10.3", without=(), extension="careful", **about):
    """(gpu, trt) in place of pycuda, tensorrt and edgepose._cuda. extension: "careful", "careless" or None."""
    gpu = FakeGpu(**about)
    trt = FakeTensorRT(version, gpu, without)
    install(monkeypatch, gpu, trt, extension and gpu.extension(extension == "careful"))
    return gpu, trt


def graph(batch=1, opset=17, is_quantised=False, joints=JOINTS):
    """keypoints_norm (batch, 1, J, 2) -> pose_m (batch, 17, 3): a product, with x in eight bits if `is_quantised`, then
    a Softmax."""
    constants = {"w": WEIGHTS, "flat": np.array([batch, -1]), "pose": np.array([batch, JOINTS, 3]),
                 "scale": np.array(1 / 127, np.float32), "zero": np.array(0, np.int8), "first": np.array([0])}
    nodes = [helper.make_node("Reshape", ["keypoints_norm", "flat"], ["row"], "row"),
             helper.make_node("QuantizeLinear", ["row", "scale", "zero"], ["whole"], "whole"),
             helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["x"], "x"),
             helper.make_node("MatMul", ["x" if is_quantised else "row", "w"], ["y"], "product"),
             helper.make_node("Softmax", ["y"], ["p"], "softmax"),
             helper.make_node("Shape", ["p"], ["rows"], "rows"),
             helper.make_node("Add", ["y", "p"], ["sum"], "sum"),
             helper.make_node("Reshape", ["sum", "pose"], ["pose_m"], "pose")]
    model = helper.make_model(
        helper.make_graph(
            [node for node in nodes if is_quantised or node.name not in ("whole", "x")], "tiny",
            [helper.make_tensor_value_info("keypoints_norm", TensorProto.FLOAT, [batch, FRAMES, joints, 2])],
            [helper.make_tensor_value_info("pose_m", TensorProto.FLOAT, [batch, JOINTS, 3])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()]),
        opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def poses(x):
    """The graph's answer to x, in float64."""
    y = x.reshape(len(x), len(WEIGHTS)).astype(np.float64) @ WEIGHTS
    p = np.exp(y - y.max(1, keepdims=True))
    return (y + p / p.sum(1, keepdims=True)).reshape(len(x), JOINTS, 3)


def windows(people, seed=0):
    return np.random.default_rng(seed).uniform(-0.6, 0.6, (people, FRAMES, JOINTS, 2)).astype(np.float32)


def a_source(precision="fp16", rung=None, batch=1, kept=(), **options):
    rung = rung or ("strong-fp16" if precision == "fp16" else "strong-fp16-qdq")
    return builder.TensorRTGraph(graph(batch, is_quantised=precision == "int8", **options), precision,
                          rung, batch, tuple(kept))


def write_engine(path, source=None, **header):
    """Build the source for the installed GPU and write it; returns the path."""
    source = source or a_source()
    of_plan, tensors = builder.engine_parts(source, builder.Builder(path.parent).build(source))
    enginefile.write(path, {**HEADER, **of_plan, **header}, tensors)
    return path
