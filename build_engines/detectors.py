"""Detectors of zoo.DETECTORS: their checkpoints, the authors' weights, and the ONNX file that edgepose.detector runs."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
import onnx
import torch

from edgepose import zoo
from edgepose.enginefile import write_atomically
from edgepose.zoo.hrnet import conv_macs
from edgepose.zoo.published import read_state

from . import export
from edgepose.zoo.checkpoints import SHIPPED, check_fits, check_metadata, read_tensors, write_tensors

FORMAT = "edgepose detector 1"
REQUIRED = {"model": str, "size": list}
SIZES = {"hrnet-w8": (128, 96)}  # height and width where no checkpoint says them
SIZE = (256, 192)
MULTIPLE = 32  # of height and width: the branch of lowest resolution has a 32nd
CHECKED_CROPS = 4
BUDGET = {"fp32": 1e-4, "fp16": 2e-2}  # largest difference of two heatmaps' pixels, over the largest pixel
STEP_COUNTER = "num_batches_tracked"  # of a BatchNorm; unused, and old files lack it


def save_detector(path: str | Path, module: torch.nn.Module, metadata: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """Writes a detector's state with its floating-point tensors as `dtype`.

    metadata: anything JSON can hold; `model`, a name of zoo.DETECTORS, and `size`, height and width of the crops, are needed.
    Raises ValueError if one of them is missing.
    """
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise ValueError(f"a detector's metadata needs {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
    state = {name: tensor.to(dtype) for name, tensor in module.state_dict().items() if not name.endswith(STEP_COUNTER)}
    write_tensors(path, state, {"format": FORMAT, **metadata})


def load_detector(name_or_file: str, published: str | Path | None = None, untrained: bool = False
                  ) -> tuple[torch.nn.Module, dict[str, Any]]:
    """(module in evaluation mode, metadata) of a detector.

    name_or_file: a file by save_detector, or a name of zoo.DETECTORS, whose weights are those that ship, those of `published`, a
    .pth file by the authors' code (bare or under "state_dict", names with or without "module."), or with `untrained` random.
    Raises ValueError or FileNotFoundError, saying what there is.
    """
    if published and untrained:
        raise ValueError("--published and --untrained exclude each other")
    path = Path(name_or_file)
    if name_or_file in zoo.DETECTORS:
        if untrained or published:
            torch.manual_seed(0)
            module = zoo.build_detector(name_or_file)
            if published:
                state = read_state(published)
                _load_state(module, {name.removeprefix("module."): tensor for name, tensor in state.items()}, published)
            return module.eval(), {"model": name_or_file, "size": SIZES.get(name_or_file, SIZE)}
        path = SHIPPED / f"{name_or_file}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"no weights ship for {name_or_file}. Give the authors' with --published FILE.pth, or train some: "
                                    f"python -m edgepose.training.heatmaps --model {name_or_file} --path DIR --out runs")
    elif published or untrained:
        kind = "weights by the authors" if published else "random weights"
        raise ValueError(f"{kind} are for {', '.join(zoo.DETECTORS)} by their names, not for {name_or_file}")
    state, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of a detector: its format is {metadata.get('format')!r}, not {FORMAT!r}")
    check_metadata(path, metadata, REQUIRED)
    try:
        module = zoo.build_detector(metadata["model"])
        _check_size(metadata["size"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _load_state(module, state, path)
    return module.eval(), {**metadata, "size": tuple(metadata["size"])}


def _load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    wanted = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(STEP_COUNTER)}
    given = {name: tensor for name, tensor in state.items() if not name.endswith(STEP_COUNTER)}
    check_fits(path, "the detector", wanted, given)
    module.load_state_dict(given, strict=False)


def detector_onnx(module: torch.nn.Module, size: tuple[int, int], precision: str = "fp32") -> bytes:
    """An ONNX graph, (1, 3, height, width) -> (1, 17, height / 4, width / 4), BatchNorms folded into the convolutions.

    precision fp16: the weights are stored in half precision and widened when the graph is loaded.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (torch.zeros(1, 3, *size),), buffer, dynamo=False, opset_version=export.OPSET,
                          input_names=["crop"], output_names=["heatmaps"])
    graph = onnx.load_from_string(buffer.getvalue())
    if precision == "fp16":
        export._halve_weights(graph.graph)
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


def _check_size(size: Sequence[int]) -> None:
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 and side % MULTIPLE == 0 for side in size):
        raise ValueError(f"the crops are {'x'.join(map(str, size))}; wanted height and width in multiples of {MULTIPLE}")


def export_detector(module: torch.nn.Module, size: tuple[int, int], path: str | Path, precision: str = "fp32") -> float:
    """Writes a detector's ONNX file and returns its error: the largest difference of a heatmap's pixel to torch's on random
    crops, over the largest pixel.

    size: height and width of the crops. Raises ValueError if they are no multiples of 32, or if the error is over its BUDGET; the
    file is not written then.
    """
    import onnxruntime

    _check_size(size)
    payload = detector_onnx(module, size, precision)
    session = onnxruntime.InferenceSession(payload, providers=["CPUExecutionProvider"])
    crops = torch.randn(CHECKED_CROPS, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = module.eval()(crops).numpy()
    given = np.concatenate([session.run(None, {"crop": crop[None]})[0] for crop in crops.numpy()])
    error = float(np.abs(given - wanted).max() / np.abs(wanted).max())
    if not error <= BUDGET[precision]:  # NaN is over every budget
        raise ValueError(f"{path} is refused: its heatmaps differ from torch's by {error:.2g} of the largest pixel; "
                         f"the budget of {precision} is {BUDGET[precision]:g}")
    write_atomically(Path(path), payload)
    return error


def is_detector(model: str) -> bool:
    """Whether `model` is a name of zoo.DETECTORS or a file by save_detector."""
    if model in zoo.DETECTORS:
        return True
    try:
        return read_tensors(model)[1].get("format") == FORMAT
    except (FileNotFoundError, ValueError):
        return False


def compile_detector(model: str, out: Path, precisions: list[str], size: tuple[int, int] | None = None, published: str | None = None,
                     untrained: bool = False) -> int:
    """Writes OUT/<name>_<height>x<width>.onnx (and ..._fp16.onnx; <name>-untrained with random weights) and says how large each is and how far from torch.

    Raises what load_detector and export_detector raise.
    """
    module, metadata = load_detector(model, published, untrained)
    size = size or tuple(metadata["size"])
    _check_size(size)
    weights = "untrained: seeded random weights" if untrained else f"{zoo.parameters(module) / 1e6:.1f} M parameters"
    print(f"{metadata['model']}, {size[0]}x{size[1]}: {weights}, {conv_macs(module, size) / 1e9:.2f}e9 multiply-adds a crop")
    unknown = [precision for precision in precisions if precision not in BUDGET]
    if unknown:
        raise ValueError(f"a detector has no {', '.join(unknown)}; it has {', '.join(BUDGET)}")
    for precision in dict.fromkeys(precisions):
        stem = metadata["model"] + "-untrained" * untrained  # not to be taken for, nor written over, real weights
        path = Path(out) / f"{stem}_{size[0]}x{size[1]}{'_fp16' * (precision == 'fp16')}.onnx"
        error = export_detector(module, size, path, precision)
        print(f"  {path}  {path.stat().st_size / 1e6:.2f} MB, largest difference to torch {error:.1e} of the largest heatmap pixel")
    return 0
