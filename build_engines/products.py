"""What `edgepose compile` can make of a lifter: an engine file for each backend, precision and, for TensorRT, batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepose.build_engines.lifters import NamedModule

PRODUCTS = {"native": ("fp32", "fp16", "w8", "int8"), "cuda": ("fp32", "fp16", "w8", "int8"), "onnx": ("fp32", "fp16", "int8"), "torchscript": ("fp32",)}
TENSORRT_PRODUCTS = {"tensorrt": ("fp16", "int8"), "torch-tensorrt": ("fp32", "fp16")}  # of one batch size, for one machine
YARDSTICK = {"int8": "fp16"}  # a precision that costs accuracy must be faster than this one


@dataclass(frozen=True, order=True)
class Product:
    """One engine file to build. batch: the people of a call, with TensorRT; elsewhere any number goes."""

    backend: str
    precision: str
    batch: int = 1

    def file_name(self, lifter: NamedModule) -> str:
        """What the engine is kept as."""
        return f"{lifter.file_stem}_{self.backend}_{self.precision}{f'_b{self.batch}' * (self.batch > 1)}.epose"

    def yardstick(self) -> Product | None:
        """The product that this one must be faster than, if there is one."""
        precision = YARDSTICK.get(self.precision)
        return precision and replace(self, precision=precision)


def products_of(backends: Sequence[str], precisions: Sequence[str], batches: Sequence[int]) -> list[Product]:
    """Every product of `backends` x `precisions` that exists, in that order."""
    return [Product(b, p, batch) for b in dict.fromkeys(backends) for p in dict.fromkeys(precisions) if p in (PRODUCTS | TENSORRT_PRODUCTS)[b]
            for batch in (dict.fromkeys(batches) if b in TENSORRT_PRODUCTS else [1])]
