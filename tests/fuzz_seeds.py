"""Write the corpus that csrc/fuzz/fuzz_engine_file.cpp starts from: tiny engines, one for each op and
some that other libraries run, in the fuzzer's three parts and as files.

    python fuzz_seeds.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from edgepose import enginefile
from edgepose.build_engines import quantise
from edgepose.build_engines.lower import PlanBuilder


def weights(*shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def answer(builder, x):
    """Bring x to (J, 3)."""
    if (x.rows, x.columns) == (builder.joints, 3):
        return x
    if x.rows == builder.joints:
        return builder.linear(x, weights(x.columns, 3), weights(3))
    x = builder.linear(x, weights(x.columns, builder.joints * 3), weights(builder.joints * 3))
    return answer(builder, builder.reshape(x, builder.joints * x.rows))



def add(b, x):
    return b.add_constant(x, weights(x.rows, x.columns))


def multiply(b, x):
    return b.multiply(x, x, "sigmoid")


def linear(b, x):
    y = b.linear(x, weights(x.columns, 5), weights(5), "gelu")
    return b.linear(x, weights(x.columns, 5), weights(5), "relu", residual=y)


def conv(b, x):
    y = b.pick(b.linear(x, weights(x.columns, 2), weights(2)), 1, 3, 3)
    y = b.conv(x, weights(3, x.columns, 2), weights(2), 0, 3, residual=y)
    return b.linear(b.reshape(y, 1), weights(6, b.joints * 3), weights(b.joints * 3))


def attention(b, x, gate=None, **pattern):
    return b.attention(b.linear(x, weights(x.columns, 12), weights(12)), 2, gate=gate, **pattern)


def gated(b, x):
    return attention(b, x, b.linear(b.reshape(x, 1), weights(x.rows * x.columns, 4), weights(4), "sigmoid"))


def graph_conv(b, x):
    adjacency = np.stack([np.eye(b.joints), np.eye(b.joints, k=1)])
    return b.graph_conv(x, weights(2, x.columns, 3), weights(b.joints, 3), adjacency, "relu")


def of_frames(make):
    """A builder that works on tokens of frames; its last row is the answer."""
    def build(b):
        y = make(b, b.frame_tokens())
        y = b.pick(y, y.rows - 1, 1, 1)
        return b.reshape(b.linear(y, weights(y.columns, b.joints * 3), weights(b.joints * 3))
                         if y.columns != b.joints * 3 else y, b.joints)
    return build


def memory(b):
    """A frame at a time, with taps and a ring of those before."""
    frame = b.frame_tokens()
    places = b.clock(frame, 1, 4)
    x = b.linear(frame, weights(frame.columns, 4), weights(4), residual=b.linear(b.hats(frame, 1, 4), weights(4, 4),
                                                                                weights(4)))
    x = b.ring_attention(b.linear(x, weights(4, 12), weights(12)), places, weights(2, 5), 2, 3)
    y = b.taps(x, places, 3)
    return b.reshape(b.linear(y, weights(12, b.joints * 3), weights(b.joints * 3)), b.joints)


def of_joints(make):
    return lambda b: answer(b, make(b, b.joint_tokens()))


SEEDS = {  # name -> (frames, precision, builder)
    "tokens": (1, "fp32", of_joints(lambda b, x: x)), "tokens9": (9, "fp16", of_joints(lambda b, x: x)),
    "frames": (3, "fp32", of_frames(lambda b, x: b.pick(x, 1, 1, 1))),
    "pick": (9, "fp16", of_frames(lambda b, x: b.pick(x, 0, 2, 4))),
    "reshape": (3, "fp32", of_joints(lambda b, x: b.reshape(b.reshape(x, 3), 17))),
    "concat": (1, "fp32", of_joints(lambda b, x: b.concat(x, x))),
    "add": (1, "fp32", of_joints(add)), "multiply": (1, "fp32", of_joints(multiply)),
    "normalize": (1, "fp32", of_joints(lambda b, x: b.normalize(x, 1e-5))), "linear": (1, "fp16", of_joints(linear)),
    "conv": (9, "fp16", of_frames(conv)), "attention": (1, "fp32", of_joints(attention)),
    "strided": (9, "fp16", of_frames(lambda b, x: attention(b, x, span=3))),
    "causal": (9, "fp32", of_frames(lambda b, x: attention(b, x, span=3, is_causal=True))),
    "gated": (1, "fp32", of_joints(gated)), "graph_conv": (1, "fp16", of_joints(graph_conv)),
    "linear_w8": (1, "w8", of_joints(linear)), "conv_i8": (9, "int8", of_frames(conv)),
    "linear_i8": (1, "int8", of_joints(linear)), "graph_conv_w8": (1, "w8", of_joints(graph_conv)),
    "graph_conv_i8": (1, "int8", of_joints(graph_conv)), "linear_i16": (1, "int16", of_joints(linear)),
    "memory": (9, "fp32", memory), "conv_i16": (9, "int16", of_frames(conv)),
    "graph_conv_i16": (1, "int16", of_joints(graph_conv))}


EIGHT_BITS = {"w8": {}, "int8": {"x_bits": 8}, "int16": {"x_bits": 16}}  # a product's, for quantise.in_eight_bits


def engine(name):
    """(header's text, tensors) of a seed."""
    frames, precision, make = SEEDS[name]
    builder = PlanBuilder(frames, 17, "fp32" if precision in EIGHT_BITS else precision, has_state=make is memory)
    make(builder)
    plan, tensors = builder.plan(), builder.tensors
    if precision in EIGHT_BITS:
        steps = {quantise.label(number, step): EIGHT_BITS[precision]
                 for number, step in enumerate(plan["steps"]) if "weight" in step}
        plan, tensors = quantise.in_eight_bits(plan, tensors, steps)
    return json.dumps({**header(name, frames, precision, "native"), "is_causal": name == "causal",
                       "plan": plan}), tensors


def header(name, frames, precision, backend):
    return {"format": enginefile.FORMAT, "model": name, "frames": frames, "skeleton": "h36m17",
            "precision": precision, "backend": backend, "units": "", "weights_sha256": "", "built_with": {}}


PAYLOADS = {"onnx": {"inputs": ["x", "y", "confidence"], "outputs": ["x", "y", "z", "error"]},
            "tensorrt": {"batch": 1, "machine": {}, "rung": "strong-fp16"}}


def payload(backend):
    """(header's text, tensors) of an engine that another library runs."""
    return (json.dumps({**header(backend, 1, "fp16", backend), **PAYLOADS[backend]}),
            {"payload": np.arange(9, dtype=np.uint8)})


def in_parts(text, tensors):
    """The parts from which csrc/fuzz/fuzz_engine_file.cpp makes a file."""
    data = save(tensors)
    length = int.from_bytes(data[:8], "little")
    return text.encode() + b"\n" + data[8:8 + length].strip() + b"\n" + data[8 + length:]


def write_seeds(folder):
    """The paths of the seeds: each engine in parts and as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in (*SEEDS, *PAYLOADS):
        text, tensors = engine(name) if name in SEEDS else payload(name)
        whole = save(tensors, {"edgepose": text, "sha256": enginefile.checksum(text, tensors)})
        for path, data in ((folder / f"{name}.parts", in_parts(text, tensors)), (folder / f"{name}.epose", whole)):
            path.write_bytes(data)
            paths.append(path)
    return paths


if __name__ == "__main__":
    print(len(write_seeds(Path(sys.argv[1]))), "seeds")
