"""One file per way to run an engine. Each has a class Backend(header, tensors, threads, isa) with run(x, out) and
nothing else; it imports its library in its constructor, and raises ImportError if that is not installed, BuildNeeded if
the file is for another machine. tensorrt takes zero_copy too.
"""

from __future__ import annotations

from importlib import import_module

# Backends whose engine files may come from anybody: data, checked before it is used. The others' can do what a program
# can.
STRANGERS = ("native",)
BACKENDS = {"native": "edgepose itself", "cuda": "edgepose._cuda, which is built where nvcc is found",
            "onnx": "onnxruntime", "torchscript": "torch", "tensorrt": "tensorrt and pycuda"}


def backend(name: str):
    """The Backend class of `name`. Raises KeyError for an unknown one."""
    if name not in BACKENDS:
        raise KeyError(name)
    return import_module(f"{__name__}.{name}").Backend
