"""edgepose compile-detector: a trained detector becomes the ONNX files that edgepose.pictures.detector runs, each
compared with torch on random crops."""

from __future__ import annotations

import argparse
import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from edgepose import zoo
from edgepose.build_engines import export
from edgepose.enginefile import write_atomically
from edgepose.zoo.detectors import check_size, load_detector
from edgepose.zoo.hrnet import conv_macs

CHECKED_CROPS = 4
BUDGET = {"fp32": 1e-4, "fp16": 2e-2}  # largest difference of two heatmaps' pixels, over the largest pixel


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
        _halve_weights(graph.graph)
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


def _halve_weights(graph: onnx.GraphProto) -> None:
    """Stores the matrices in half precision, each widened by a Cast where it is used."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2:
            name = tensor.name
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)


def export_detector(module: torch.nn.Module, size: tuple[int, int], path: str | Path, precision: str = "fp32") -> float:
    """Writes a detector's ONNX file and returns its error: the largest difference of a heatmap's pixel to torch's on
    random crops, over the largest pixel.

    size: height and width of the crops. Raises ValueError if they are no multiples of 32, or if the error is over its
    BUDGET; the file is not written then.
    """
    import onnxruntime

    check_size(size)
    payload = detector_onnx(module, size, precision)
    session = onnxruntime.InferenceSession(payload, providers=["CPUExecutionProvider"])
    crops = torch.randn(CHECKED_CROPS, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = module.eval()(crops).numpy()
    heatmaps = np.concatenate([session.run(None, {"crop": crop[None]})[0] for crop in crops.numpy()])
    error = float(np.abs(heatmaps - wanted).max() / np.abs(wanted).max())
    if not error <= BUDGET[precision]:  # NaN is over every budget
        raise ValueError(f"{path} is refused: its heatmaps differ from torch's by {error:.2g} of the largest pixel; "
                         f"the budget of {precision} is {BUDGET[precision]:g}")
    write_atomically(Path(path), payload)
    return error


def compile_detector(model: str, out: Path, precisions: list[str], size: tuple[int, int] | None = None,
                     published: str | None = None, untrained: bool = False) -> None:
    """Writes OUT/<name>_<height>x<width>.onnx and ..._fp16.onnx (<name>-untrained with random weights); prints the size
    and the error of each.

    Raises what load_detector and export_detector raise.
    """
    module, metadata = load_detector(model, published, untrained)
    size = size or tuple(metadata["size"])
    check_size(size)
    weights = "untrained: seeded random weights" if untrained else f"{zoo.parameters(module) / 1e6:.1f} M parameters"
    print(f"{metadata['model']}, {size[0]}x{size[1]}: {weights}, {conv_macs(module, size) / 1e9:.2f}e9 multiply-adds "
          "a crop")
    for precision in dict.fromkeys(precisions):
        stem = metadata["model"] + "-untrained" * untrained  # not to be taken for, nor written over, real weights
        path = out / f"{stem}_{size[0]}x{size[1]}{'_fp16' * (precision == 'fp16')}.onnx"
        error = export_detector(module, size, path, precision)
        print(f"  {path}  {path.stat().st_size / 1e6:.2f} MB, largest difference to torch {error:.1e} of the largest "
              "heatmap pixel")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose compile-detector`."""
    parser.add_argument("model", metavar="MODEL",
                        help=f"a checkpoint (.safetensors), or one of {', '.join(zoo.DETECTORS)}")
    parser.add_argument("--published", metavar="FILE.pth", help="weights by the authors of MODEL")
    parser.add_argument("--untrained", action="store_true", help="seeded random weights, for timing")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"),
                        help="of the crops (default: the checkpoint's)")
    parser.add_argument("--precision", nargs="+", choices=list(BUDGET), default=list(BUDGET),
                        help=f"of the stored weights (default: {' '.join(BUDGET)})")
    parser.add_argument("--out", type=Path, default=Path("engines"), metavar="DIR", help="default: engines/")


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose compile-detector`."""
    compile_detector(arguments.model, arguments.out, arguments.precision,
                     arguments.size and tuple(arguments.size), arguments.published, arguments.untrained)
    return 0
