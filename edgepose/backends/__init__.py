"""One file per way to run an engine. Each has a class Backend(header, tensors, threads, isa) with run(x, out) and
nothing else; it imports its library in its constructor, and raises ImportError if that is not installed, StaleEngine if the file is
for another machine. tensorrt takes zero_copy too."""

from __future__ import annotations

from importlib import import_module

from ..columns import PUBLISHED_INPUTS, PUBLISHED_OUTPUTS
from ..skeleton import MODEL_SKELETONS

BACKENDS = {"native": "edgepose itself", "cuda": "edgepose._cuda, which is built where nvcc is found", "onnx": "onnxruntime", "torchscript": "torch",
            "tensorrt": "tensorrt and pycuda"}


def backend(name: str):
    """The Backend class of `name`. Raises KeyError for an unknown one."""
    if name not in BACKENDS:
        raise KeyError(name)
    return import_module(f"{__name__}.{name}").Backend


def check_plan(header: dict) -> None:
    """Raises ValueError if a header's plan is for other frames, joints or columns than the header says."""
    planned, said = (header["plan"]["frames"], header["plan"]["joints"]), (header["frames"], len(MODEL_SKELETONS[header["skeleton"]]))
    if planned != said:
        raise ValueError("the plan is for %d frames of %d joints, the header says %d of %d" % (*planned, *said))
    for key, published in (("inputs", PUBLISHED_INPUTS), ("outputs", PUBLISHED_OUTPUTS)):
        planned, said = (list(part.get(key, published)) for part in (header["plan"], header))
        if planned != said:
            raise ValueError(f"the plan's {key} are {', '.join(planned)}, the header's {', '.join(said)}")


def shapes(header: dict, people: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of x (B, T, J, C) and out (B, J, D) for `people`."""
    joints = len(MODEL_SKELETONS[header["skeleton"]])
    inputs, outputs = len(header.get("inputs", PUBLISHED_INPUTS)), len(header.get("outputs", PUBLISHED_OUTPUTS))
    return (people, header["frames"], joints, inputs), (people, joints, outputs)
