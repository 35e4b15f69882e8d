"""edgepose compile: a trained lifter becomes engine files for this machine, each with its error in mm and its latency.

checkpoint -> zoo module -> plan of ours (native, cuda), ONNX, TorchScript, TensorRT plan -> .epose file -> loaded and compared with torch
float32 on the shipped evaluation windows -> kept under its final name only if it is within its error budget -> timed -> report.json.

Precisions: fp32; fp16 and w8, weights stored in half precision and in eight bits and widened as they are read; int8, the products
in eight bits, in the way found on calibration windows (searches.py). int8 that is no faster than fp16 is refused too. With TensorRT
(the folder tensorrt) fp16 and int8 compute in half precision and eight bits, in batches of a fixed size.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports below: the command says what is not installed
    import sys
    from pathlib import Path

    here = Path(__file__).resolve().parent  # on the path because it is run as a file: its tensorrt/ would be taken for the library
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    from edgepose import cli
    sys.exit(cli.main(["compile", *sys.argv[1:]]))

import argparse
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import edgepose
from edgepose import enginefile, gpu, timing, zoo
from edgepose.build_engines import export, quantise, searches, triton_repository
from edgepose.build_engines.budgets import BUDGETS, errors_mm, mpjpe_mm, over_budget, tail_mm
from edgepose.build_engines.lifters import NamedModule, load_lifter, weights_sha256
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_onnx import plan_to_onnx
from edgepose.build_engines.products import EIGHT_BITS, PRODUCTS, TENSORRT_PRODUCTS, Product, products_of, remove, remove_older, write_graph
from edgepose.build_engines.report import Row, plainly, print_rows, wide_console, write_report
from edgepose.build_engines.tensorrt import boards, torch_tensorrt
from edgepose.build_engines.tensorrt.builder import Builder, Source, add_tactic_sources, engine_parts, is_offered, write_layers
from edgepose.build_engines.tensorrt.graph import RUNGS, Rung, tensorrt_graph
from edgepose.build_engines.windows import calibration_windows, evaluation_windows
from edgepose.checks import checked_number, installing, need_library
from edgepose.columns import inputs_of, outputs_of
from edgepose.enginefile import EngineError
from edgepose.zoo.detectors import is_detector

OF_PLAN = ("native", "cuda")  # they run the plan itself
ONNX_OPSET = 17  # for ONNX engines: the first with LayerNorm as one node
OF_TENSORRT = ("batch", "allow_rung", "tactic_sources", "for_board")  # options


@dataclass(frozen=True)
class TensorRTOptions:
    """Options of the TensorRT engines. batches: an engine for each. allow_rung, tactic_sources: see Builder."""

    batches: Sequence[int] = (1,)
    allow_rung: bool = False
    tactic_sources: Sequence[str] | None = None


def find_scales(lifter: NamedModule, given: Path | None, products: Iterable[Product], say: Callable[[str], None]) -> dict:
    """The scales of a lifter's products in eight bits: those of the file `given`, else found on the calibration windows.

    Raises ValueError, naming the file, if it is of other weights, or has none for one of the products.
    """
    weights = weights_sha256(lifter.module)
    parts = {part for product in products if (part := product.scales())}
    if given:
        scales = quantise.read_scales(given)
        if scales.get("weights_sha256") != weights:
            raise ValueError(f"{given} holds the scales of {scales.get('model')} with other weights; leave --scales out to find new ones")
        for product in products:
            if product.scales() not in (None, *scales):
                raise ValueError(f"{given} holds no scales for {product.backend} {product.precision}; leave --scales out to find new ones")
        return scales
    calibration = quantise.Calibration(*lower(lifter.module, "fp32"), calibration_windows(lifter.module))
    scales = {"model": lifter.name, "weights_sha256": weights}
    if "w8" in parts:
        scales["w8"] = searches.search_w8(calibration, BUDGETS["w8"], say)
    if "rows" in parts:
        scales["rows"] = searches.search_rows(calibration, BUDGETS["int8"], say)
    return scales | (searches.search(calibration, BUDGETS["int8"], say) if "steps" in parts else {})


def build(lifter: NamedModule, backend: str, precision: str, scales: dict | None = None) -> tuple[dict, dict[str, np.ndarray]]:
    """(header, tensors) of one product, ready for enginefile.write. scales: for w8 and int8, those of find_scales."""
    if precision not in PRODUCTS[backend]:
        raise ValueError(f"the {backend} backend has no {precision}; it has {', '.join(PRODUCTS[backend])}")
    module, header = lifter.module, _header(lifter, backend, precision, scales)
    if part := Product(backend, precision).scales():
        plan, tensors = quantise.in_eight_bits(*lower(module, "fp32"), scales[part])
    else:
        plan, tensors = lower(module, precision)
    if backend in OF_PLAN:
        header["plan"] = plan
        return header, tensors
    if backend == "onnx":
        payload = plan_to_onnx(plan, tensors, None, ONNX_OPSET, stores_int8=True).SerializeToString()
    else:
        payload = export.to_torchscript(module)
    return header, {"payload": np.frombuffer(payload, np.uint8)}


def build_with_tensorrt(lifter: NamedModule, product: Product, scales: dict | None, builder: Builder,
                        allow_rung: bool) -> tuple[dict, dict[str, np.ndarray], str]:
    """(header, tensors, layers) of a product of the GPU of this machine: layers is what TensorRT made of it.

    Raises ImportError without its libraries, EngineError if it does not build.
    """
    module = lifter.module
    header = tensorrt_header(lifter, product.precision, scales)
    if product.backend == "torch-tensorrt":
        plan = torch_tensorrt.build(module, product.precision, product.batch)
        header |= {"batch": product.batch, "rung": "torch-tensorrt", "machine": plan.machine}
        return header, {"payload": np.frombuffer(plan.payload, np.uint8)}, plan.layers
    windows = calibration_windows(module)

    def source(rung: Rung) -> Source:
        graph = tensorrt_graph(module, rung, product.batch, scales if product.precision == "int8" else None, windows)
        return Source(graph.onnx, product.precision, rung.name, product.batch, graph.keep_float32)

    offered = [rung for rung in RUNGS[product.precision] if is_offered(rung.name)]
    taken, plan = builder.build_first([(rung.name, lambda rung=rung: source(rung)) for rung in offered], allow_rung)
    of_plan, tensors = engine_parts(taken, plan)
    return header | of_plan, tensors, plan.layers


def _header(lifter: NamedModule, backend: str, precision: str, scales: dict | None) -> dict:
    module = lifter.module
    header = {"model": lifter.name, "frames": module.frames, "skeleton": module.skeleton.name, "precision": precision,
              "inputs": list(inputs_of(module)), "outputs": list(outputs_of(module)), "backend": backend, "weights_sha256": weights_sha256(module), "is_trained": lifter.is_trained,
              "built_with": {"edgepose": version("edgepose"), "torch": torch.__version__, "python": platform.python_version()}}
    if getattr(module, "is_causal", False):
        header["is_causal"] = True
    if lifter.changed_options:
        header["options"] = lifter.changed_options
    if lifter.rate_hz is not None:
        header["rate_hz"] = lifter.rate_hz
    if part := Product(backend, precision).scales():
        header["quantisation"] = quantise.schemes(lower(module, "fp32")[0], scales[part])
    return header


def tensorrt_header(lifter: NamedModule, precision: str, scales: dict | None) -> dict:
    """The header of a TensorRT engine file as far as the lifter goes; engine_parts has the rest."""
    header = _header(lifter, "tensorrt", precision, scales)
    if lifter.is_trained:  # what a rebuild without ONNX Runtime is held to
        _, target, reference = _reference(lifter)
        header["mpjpe_mm"] = mpjpe_mm(reference, target)
    return header


def _reference(lifter: NamedModule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(keypoints_norm, target_m, torch's answer) of the evaluation windows."""
    x, target = evaluation_windows(lifter.module)
    with torch.inference_mode():
        return x, target, lifter.module(torch.from_numpy(x)).numpy()


def check(lifter: NamedModule, product: Product, path: Path, threads: int) -> tuple[edgepose.Engine, Row]:
    """Loads a product and compares it with torch on the evaluation windows; latencies are still to be filled in."""
    x, target, reference = _reference(lifter)
    start = time.perf_counter()
    engine = edgepose.load(path, threads=threads, trust=True)
    load_ms = (time.perf_counter() - start) * 1e3
    poses = engine.run(x)
    errors = errors_mm(poses, reference)
    _, tensors = enginefile.read(path)
    trained, over = lifter.is_trained, over_budget(poses, reference, engine.precision, target if lifter.is_trained else None)
    return engine, Row(
        lifter.name, product.backend, engine.precision, product.batch, threads, engine.frames, None, None, None, None, *errors,
        tail_mm(poses, reference),
        zoo.macs(lifter.module), zoo.parameters(lifter.module), sum(t.nbytes for t in tensors.values()), load_ms,
        mpjpe_mm(poses, target) if trained else None, mpjpe_mm(reference, target) if trained else None,
        BUDGETS[engine.precision].mean_mm, not over, "", over and f"over {over}", lifter.changed_options,
        engine.header.get("quantisation", {}))


def compile_lifter(lifter: NamedModule, backends: list[str], precisions: list[str], out: Path, threads: int,
                   console: Console, scales_file: Path | None = None, keep_slower: bool = False,
                   for_tensorrt: TensorRTOptions = TensorRTOptions()) -> list[Row]:
    """Writes every product of `backends` x `precisions` that exists and is within its budget; a row for each.

    scales_file: scales for w8 and int8, else they are found and written beside the engines. keep_slower: keeps int8 that is no faster than
    fp16. Raises OSError if the disk does not take a file, EngineError if a GPU engine does not build; what was not finished is not left
    behind.
    """
    rows, engines, say = [], {}, plainly(console)
    products = products_of(backends, precisions, for_tensorrt.batches)
    if not products:
        raise ValueError(f"none of {', '.join(backends)} has a product in {', '.join(precisions)}")
    yardsticks = {yardstick for product in products if (yardstick := product.yardstick())} - set(products)  # built to be timed, not kept
    enginefile.remove_leftovers(out, ".*.unchecked.epose", ".*.part")
    builder = Builder(out, for_tensorrt.tactic_sources, say)
    scales = None
    if any(product.precision in EIGHT_BITS for product in products):
        scales = find_scales(lifter, scales_file, products, say)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        for product in [*products, *sorted(yardsticks)]:
            path, layers = out / product.file_name(lifter), None
            progress.update(task, description=f"building {path.name}")
            candidate = path.with_name(f".{path.name}.unchecked.epose")
            try:
                if product.backend in TENSORRT_PRODUCTS:
                    *contents, layers = build_with_tensorrt(lifter, product, scales, builder, for_tensorrt.allow_rung)
                else:
                    contents = build(lifter, product.backend, product.precision, scales)
                enginefile.write(candidate, *contents)
                progress.update(task, description=f"comparing {path.name} with torch")
                engine, row = check(lifter, product, candidate, threads)
                if product in yardsticks:
                    row.file = candidate.name
                elif row.is_kept:
                    row.file = path.name
                    _keep(candidate, path, layers)
                else:
                    remove_older(path, say)
                if row.file:
                    engines[row.file] = engine
            finally:
                candidate.unlink(missing_ok=True)
            rows.append(row)
        progress.update(task, description="timing")
        _time(engines, rows)
    made = {Product(row.runtime, row.precision, row.batch): row for row in rows}
    if not keep_slower:
        _refuse_slower(lifter, made, out)
    rows = [row for product, row in made.items() if product not in yardsticks]
    if any(row.is_kept and row.precision in EIGHT_BITS for row in rows):  # else those of engines that are there stay
        quantise.write_scales(out / f"{lifter.file_stem}_scales.json", scales)
    write_report(out, rows, say)
    return rows


def compile_for_board(lifter: NamedModule, asked: str, precisions: list[str], batches: Sequence[int], out: Path, console: Console,
                      scales_file: Path | None = None) -> None:
    """Writes TensorRT engines that are still to be built, on a board with `edgepose rebuild FILE`. asked: of boards.BOARDS.

    Raises ValueError if there is none in `precisions`, or `asked` is a rung of another one; EngineError if a graph is over its error budget.
    """
    products = [Product("tensorrt", p, batch) for p in dict.fromkeys(precisions) if p in TENSORRT_PRODUCTS["tensorrt"] for batch in dict.fromkeys(batches)]
    if not products:
        raise ValueError(f"TensorRT has no product in {', '.join(precisions)}; it has {', '.join(TENSORRT_PRODUCTS['tensorrt'])}")
    for product in products:
        boards.rung_for_board(product.precision, asked)
    scales = find_scales(lifter, scales_file, products, plainly(console)) if any(product.precision == "int8" for product in products) else None
    windows, (x, _, reference) = calibration_windows(lifter.module), _reference(lifter)
    for product in products:
        path = out / product.file_name(lifter)
        found = boards.write_for_board(lifter, tensorrt_header(lifter, product.precision, scales), product.batch, asked, scales, windows,
                                       (x, reference), path)
        plainly(console)(f"{path}: {found}. On the board: edgepose rebuild {path.name}")


def why_not_here(backend: str) -> str:
    """Why this machine builds no engines of a backend, since it could not check them; empty if it does."""
    if backend == "cuda":
        reason = gpu.cuda_missing()
        return reason and f"cuda engines cannot be built here: {reason}"
    reason = gpu.tensorrt_missing() if backend in TENSORRT_PRODUCTS else ""
    libraries, extra = ("TensorRT, PyCUDA and Torch-TensorRT", "torch-tensorrt") if backend == "torch-tensorrt" else ("TensorRT and PyCUDA", "gpu")
    return reason and f"TensorRT engines cannot be built here: {reason}. They need a GPU, {libraries}: {installing(extra)}"


def _refuse_slower(lifter: NamedModule, made: dict[Product, Row], out: Path) -> None:
    for product, row in made.items():
        yardstick = made.get(product.yardstick())
        if row.file and yardstick and row.median_ms >= yardstick.median_ms:
            row.refusal = f"no faster than {yardstick.precision} ({yardstick.median_ms:.3f} ms); --keep-slower keeps it"
            row.is_kept, row.file = False, ""
            remove(out / product.file_name(lifter))


def _keep(candidate: Path, path: Path, layers: str | None) -> None:
    """Gives an engine that was checked its final name; layers: what TensorRT made of it."""
    candidate.replace(path)
    if layers is not None:
        write_layers(path, layers)


def _time(engines: dict[str, edgepose.Engine], rows: list[Row]) -> None:
    calls = {}
    for name, engine in engines.items():
        people = engine.header.get("batch", 1)
        x = np.zeros((people, engine.frames, len(engine.skeleton), len(engine.inputs)), np.float32)
        calls[name] = lambda engine=engine, x=x, out=engine.run(x): engine.run(x, out)
    timings = timing.interleaved(calls, rounds=10, calls=30)
    for row in rows:
        if row.file:
            for key, value in timing.percentiles(timings[row.file].times_ms).items():
                setattr(row, key, value)
            row.poses_per_s = row.batch * 1e3 / row.median_ms


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name of a folder is missing")
    return Path(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose compile`."""
    parser.add_argument("--model", required=True, metavar="MODEL", help=f"a checkpoint (.safetensors), or one of {', '.join(zoo.MODELS)}")
    parser.add_argument("--frames", type=int, help="window length, of a model named by its name (default: its usual one)")
    parser.add_argument("--precision", nargs="+", choices=list(BUDGETS), default=["fp32", "fp16"], help="default: fp32 fp16; "
                        "w8: weights in eight bits, widened as they are read; int8: products in eight bits, where the error allows it")
    parser.add_argument("--scales", type=Path, metavar="FILE.json", help="for w8 and int8: the scales of an earlier build")
    parser.add_argument("--keep-slower", action="store_true", help="keep int8 also where it is no faster than fp16")
    parser.add_argument("--backend", nargs="+", choices=[*PRODUCTS, *TENSORRT_PRODUCTS], help="what the engines run on (default: all "
                        "that this machine builds; torch-tensorrt where it is named)")
    parser.add_argument("--batch", type=int, nargs="+", metavar="N", help="people of a call of a TensorRT engine, an engine for each (default 1)")
    parser.add_argument("--for-board", choices=boards.BOARDS, help="write TensorRT engines that a board then builds (edgepose rebuild); needs no GPU "
                        "here. legacy: for TensorRT 8.6 and 10; strong: for 10 and later; or the rung itself, where its best one does not build")
    parser.add_argument("--allow-rung", action="store_true", help="where TensorRT does not build a precision in the best way, take the next")
    parser.add_argument("--out", type=Path, default=Path("engines"), metavar="DIR", help="default: engines/")
    parser.add_argument("--threads", type=int, metavar="N", help="for the latencies (default 1)")
    parser.add_argument("--triton", type=_folder, metavar="DIR", help="put the ONNX and TensorRT engines into a Triton model repository too")
    parser.add_argument("--published", metavar="FILE.pth", help="weights by the authors of --model strided27-dense or strided351-dense")
    parser.add_argument("--format", choices=("engine", "onnx"), default="engine", help="onnx: plain .onnx files too, for other tools")
    parser.add_argument("--untrained", action="store_true", help="seeded random weights: for timing a model nobody has trained")
    add_tactic_sources(parser)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together."""
    if not set(arguments.precision) & set(EIGHT_BITS) and (arguments.scales or arguments.keep_slower):
        raise ValueError("--scales and --keep-slower are for eight bits: --precision w8 int8")
    if arguments.format == "onnx" and (set(arguments.backend or ["onnx"]) != {"onnx"} or arguments.for_board):
        raise ValueError("--format onnx goes with --backend onnx alone")
    if arguments.untrained and arguments.triton:
        raise ValueError("--triton serves the newest version: --untrained would put random weights there")
    unused = [option for option in ("allow_rung", "tactic_sources", "keep_slower", "triton") if getattr(arguments, option)]
    if arguments.for_board and (set(arguments.backend or ["tensorrt"]) != {"tensorrt"} or unused):
        raise ValueError("--for-board writes TensorRT engines and builds none: leave out other backends, --allow-rung (name the rung: "
                         "--for-board strong-fp32-qdq), --tactic-sources, --keep-slower and --triton")


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose compile`; 0, or 1 if a product was refused."""
    if is_detector(arguments.model):
        raise ValueError(f"{arguments.model} is a detector: edgepose compile-detector {arguments.model}")
    _check_options(arguments)
    batches = [checked_number("--batch", batch, 1, whole=True) for batch in arguments.batch or [1]]
    if arguments.for_board:
        compile_for_board(load_lifter(arguments.model, arguments.frames, arguments.untrained, arguments.published), arguments.for_board,
                          arguments.precision, batches, arguments.out, wide_console(), arguments.scales)
        return 0
    backends = arguments.backend or ["onnx"] * (arguments.format == "onnx") or [backend for backend in (*PRODUCTS, "tensorrt") if not why_not_here(backend)]
    for option in OF_TENSORRT:
        if getattr(arguments, option) and not set(backends) & set(TENSORRT_PRODUCTS):
            raise ValueError(f"--{option.replace('_', '-')} is for TensorRT engines: --backend tensorrt")
    for backend in backends:
        if reason := why_not_here(backend):
            raise EngineError(reason)
    if "torch-tensorrt" in backends:
        need_library("torch_tensorrt", "--backend torch-tensorrt")
    threads = 1 if arguments.threads is None else checked_number("--threads", arguments.threads, 1, whole=True)
    if arguments.triton:
        triton_repository.check_repository(arguments.triton, backends)
    console = wide_console()
    lifter = load_lifter(arguments.model, arguments.frames, arguments.untrained, arguments.published)
    if arguments.triton:
        for product in products_of(backends, arguments.precision, batches):
            triton_repository.check_model(arguments.triton, product.backend, product.file_name(lifter))
    rows = compile_lifter(lifter, backends, arguments.precision, arguments.out, threads, console, arguments.scales, arguments.keep_slower,
                          TensorRTOptions(batches, arguments.allow_rung, arguments.tactic_sources))
    print_rows(rows, arguments.out, console)
    for row in (row for row in rows if row.file and arguments.format == "onnx"):
        write_graph(arguments.out / row.file, plainly(console))
    if arguments.triton:
        triton_repository.publish(arguments.triton, [arguments.out / row.file for row in rows if row.file], plainly(console))
    return 0 if all(row.is_kept for row in rows) else 1
