"""One file per way to run an engine. Each has a class Backend(header, tensors, threads, isa) with run(x, out) and
nothing else; it imports its library in its constructor, and raises ImportError if that is not installed, BuildNeeded if the file is
for another machine. tensorrt takes zero_copy too."""

from __future__ import annotations

from importlib import import_module

from ..skeleton import MODEL_SKELETONS

STRANGERS = ("native",)  # whose engine files may come from anybody: data, checked before it is used. The others' may do what a program may
BACKENDS = {"native": "edgepose itself", "cuda": "edgepose._cuda, which is built where nvcc is found", "onnx": "onnxruntime", "torchscript": "torch",
            "tensorrt": "tensorrt and pycuda"}


def backend(name: str):
    """The Backend class of `name`. Raises KeyError for an unknown one."""
    if name not in BACKENDS:
        raise KeyError(name)
    return import_module(f"{__name__}.{name}").Backend


def check_plan(header: dict) -> None:
    """Raises ValueError if a header's plan is for other frames or joints than the header says."""
    planned, said = (header["plan"]["frames"], header["plan"]["joints"]), (header["frames"], len(MODEL_SKELETONS[header["skeleton"]]))
    if planned != said:
        raise ValueError("the plan is for %d frames of %d joints, the header says %d of %d" % (*planned, *said))
