"""The variants of a lifter that `edgepose compile` can make: an engine file for each backend, precision and, for
TensorRT, batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgepose import enginefile
from edgepose.build_engines.lifters import NamedModule

VARIANTS = {"native": ("fp32", "fp16", "w8", "int8"), "cuda": ("fp32", "fp16", "w8", "int8"),
            "onnx": ("fp32", "fp16", "int8"), "torchscript": ("fp32",)}
# These are for one batch size and one machine.
TENSORRT_VARIANTS = {"tensorrt": ("fp16", "int8"), "torch-tensorrt": ("fp32", "fp16")}
WITH_STATE = ("native", "onnx")  # the backends of lifters that remember frames
YARDSTICK = {"int8": "fp16"}  # a precision that costs accuracy must be faster than this one
EIGHT_BITS = ("w8", "int8")


@dataclass(frozen=True, order=True)
class Variant:
    """One engine file to build. batch: the people of a call, with TensorRT; elsewhere any number goes."""

    backend: str
    precision: str
    batch: int = 1

    def file_name(self, lifter: NamedModule) -> str:
        """The name of its engine file."""
        return f"{lifter.file_stem}_{self.backend}_{self.precision}{f'_b{self.batch}' * (self.batch > 1)}.epose"

    def scales(self) -> str | None:
        """The part of the scales (quantise.PARTS) that it is made with, if it is in eight bits."""
        if self.precision not in EIGHT_BITS:
            return None
        return "w8" if self.precision == "w8" else "rows" if self.backend == "native" else "steps"

    def yardstick(self) -> Variant | None:
        """The variant that this one must be faster than, if there is one."""
        precision = YARDSTICK.get(self.precision)
        return precision and replace(self, precision=precision)


def variants_of(backends: Sequence[str], precisions: Sequence[str], batches: Sequence[int],
                has_state: bool = False) -> list[Variant]:
    """Every variant of `backends` x `precisions` that exists, in that order. has_state: of a lifter that remembers
    frames."""
    exist = {backend: every for backend, every in (VARIANTS | TENSORRT_VARIANTS).items()
             if not has_state or backend in WITH_STATE}
    return [Variant(b, p, batch) for b in dict.fromkeys(backends) for p in dict.fromkeys(precisions)
            if p in exist.get(b, ())
            for batch in (dict.fromkeys(batches) if b in TENSORRT_VARIANTS else [1])]


def write_graph(engine: Path, say: Callable[[str], None]) -> None:
    """The graph of an ONNX engine as a plain file beside it, "ampose_fp32.onnx" of "ampose_onnx_fp32.epose"."""
    header, tensors = enginefile.read(engine)
    path = engine.with_name(f"{engine.stem.removesuffix('_onnx_' + header['precision'])}_{header['precision']}.onnx")
    enginefile.write_atomically(path, tensors["payload"].tobytes())
    say(f"plain ONNX: {path}; {header['units']}")


def remove(engine: Path) -> None:
    """Removes an engine file, with what TensorRT made of it."""
    engine.unlink()
    engine.with_suffix(".layers.json").unlink(missing_ok=True)


def remove_older(engine: Path, say: Callable[[str], None]) -> None:
    """Removes an older engine of the same name as a refused one, which it would be taken for."""
    if engine.exists():
        remove(engine)
        say(f"removed {engine}: an older engine of that name")
