"""edgepose compile: a trained lifter becomes engine files for this machine, each with its error in mm and its latency.

checkpoint -> zoo module -> native plan, ONNX, TorchScript -> .epose file -> loaded and compared with torch float32 on the
shipped evaluation windows -> kept under its final name only if it is within its error budget -> timed -> report.json.

Precisions: fp32; fp16 and w8, weights stored in half precision and in eight bits and widened as they are read; int8, the products
in eight bits, with scales found on calibration windows (quantise.py). int8 that is no faster than fp16 is refused too.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports below: the command says what is not installed
    import sys

    from edgepose import cli
    sys.exit(cli.main(["compile", *sys.argv[1:]]))

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import edgepose
from edgepose import enginefile, zoo
from edgepose.benchmarks import measure
from edgepose.build_engines import detectors, export, quantise
from edgepose.build_engines.budgets import BUDGET_MM, errors_mm
from edgepose.build_engines.lifters import NamedModule, load_lifter, weights_sha256
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import PlanModule
from edgepose.build_engines.report import Row, print_rows, wide_console, write_report
from edgepose.build_engines.windows import calibration_windows, evaluation_windows
from edgepose.checks import checked_number, near
from edgepose.metrics import mpjpe

PRODUCTS = {"native": ("fp32", "fp16", "w8", "int8"), "onnx": ("fp32", "fp16", "int8"), "torchscript": ("fp32",)}
YARDSTICK = {"int8": "fp16"}  # a precision that costs accuracy must be faster than this one
EIGHT_BITS = ("w8", "int8")


def find_scales(lifter: NamedModule, given: Path | None, say: Callable[[str], None]) -> dict:
    """How a lifter goes into eight bits: the scales of the file `given`, else found on the calibration windows.

    Raises ValueError, naming the file, if it is of other weights.
    """
    weights = weights_sha256(lifter.module)
    if given:
        scales = quantise.read_scales(given)
        if scales.get("weights_sha256") != weights:
            raise ValueError(f"{given} holds the scales of {scales.get('model')} with other weights; leave --scales out to find new ones")
        return scales
    calibration = quantise.Calibration(*lower(lifter.module, "fp32"), calibration_windows(lifter.module))
    return {"model": lifter.name, "weights_sha256": weights, "w8_kept": quantise.search_w8(calibration, BUDGET_MM["w8"], say),
            **quantise.search(calibration, BUDGET_MM["int8"], say)}


def build(lifter: NamedModule, backend: str, precision: str, scales: dict | None = None) -> tuple[dict, dict[str, np.ndarray]]:
    """(header, tensors) of one product, ready for enginefile.write. scales: for w8 and int8, those of find_scales."""
    if precision not in PRODUCTS[backend]:
        raise ValueError(f"the {backend} backend has no {precision}; it has {', '.join(PRODUCTS[backend])}")
    module = lifter.module
    header = {"model": lifter.name, "frames": module.frames, "skeleton": module.skeleton.name, "precision": precision,
              "backend": backend, "weights_sha256": weights_sha256(module), "is_trained": lifter.is_trained,
              "built_with": {"edgepose": version("edgepose"), "torch": torch.__version__, "python": platform.python_version()}}
    if getattr(module, "is_causal", False):
        header["is_causal"] = True
    if precision == "int8":
        header["quantisation"] = scales["recipe"]
        plan, tensors = quantise.in_eight_bits(*lower(module, "fp32"), scales)
    elif precision == "w8":
        plan, tensors = quantise.weights_only(*lower(module, "fp32"), scales["w8_kept"])
    elif backend == "native":
        plan, tensors = lower(module, precision)
    if backend == "native":
        header["plan"] = plan
        return header, tensors
    if backend == "onnx":
        payload = export.to_onnx(PlanModule(plan, tensors).eval() if precision == "int8" else module, precision)
    else:
        payload = export.to_torchscript(module)
    return header, {"payload": np.frombuffer(payload, np.uint8)}


def check(lifter: NamedModule, path: Path, threads: int) -> tuple[edgepose.Engine, Row]:
    """Loads a product and compares it with torch on the evaluation windows; latencies are still to be filled in."""
    x, target = evaluation_windows(lifter.module)
    with torch.inference_mode():
        reference = lifter.module(torch.from_numpy(x)).numpy()
    start = time.perf_counter()
    engine = edgepose.load(path, threads=threads)
    load_ms = (time.perf_counter() - start) * 1e3
    poses = engine.run(x)
    errors = errors_mm(poses, reference)
    _, tensors = enginefile.read(path)
    budget = BUDGET_MM[engine.precision]
    trained, is_kept = lifter.is_trained, bool(errors[0] <= budget)  # NaN is over every budget
    return engine, Row(
        lifter.name, engine.backend, engine.precision, 1, threads, engine.frames, None, None, None, None, *errors,
        zoo.macs(lifter.module), zoo.parameters(lifter.module), sum(t.nbytes for t in tensors.values()), load_ms,
        float(mpjpe(poses * 1e3, target * 1e3)) if trained else None,
        float(mpjpe(reference * 1e3, target * 1e3)) if trained else None,
        budget, is_kept, "", "" if is_kept else f"over {budget} mm mean")


def compile_lifter(lifter: NamedModule, backends: list[str], precisions: list[str], out: Path, threads: int,
                   console: Console, scales_file: Path | None = None, keep_slower: bool = False) -> list[Row]:
    """Writes every product of `backends` x `precisions` that exists and is within its budget; a row for each.

    scales_file: scales for w8 and int8, else they are found and written beside the engines. keep_slower: keeps int8 that is no faster than
    fp16. Raises OSError if the disk does not take a file; what was not finished is not left behind.
    """
    rows: list[Row] = []
    engines: dict[str, edgepose.Engine] = {}
    products = [(b, p) for b in dict.fromkeys(backends) for p in dict.fromkeys(precisions) if p in PRODUCTS[b]]
    if not products:
        raise ValueError(f"none of {', '.join(backends)} has a product in {', '.join(precisions)}")
    yardsticks = {(b, YARDSTICK[p]) for b, p in products if p in YARDSTICK} - set(products)  # built to be timed, not kept
    scales = None
    if any(precision in EIGHT_BITS for _, precision in products):
        scales = find_scales(lifter, scales_file, console.print)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        for backend, precision in [*products, *sorted(yardsticks)]:
            path = out / f"{lifter.file_stem}_{backend}_{precision}.epose"
            progress.update(task, description=f"building {path.name}")
            candidate = path.with_name(f".{path.name}.unchecked.epose")
            try:
                enginefile.write(candidate, *build(lifter, backend, precision, scales))
                progress.update(task, description=f"comparing {path.name} with torch")
                engine, row = check(lifter, candidate, threads)
                if (backend, precision) in yardsticks:
                    row.file = candidate.name
                elif row.is_kept:
                    candidate.replace(path)
                    row.file = path.name
                else:
                    _remove_older(path, console)
                if row.file:
                    engines[row.file] = engine
            finally:
                candidate.unlink(missing_ok=True)
            rows.append(row)
        progress.update(task, description="timing")
        _time(engines, rows)
    medians = {(row.runtime, row.precision): row.median_ms for row in rows}
    rows = [row for row in rows if (row.runtime, row.precision) not in yardsticks]
    for row in rows:
        yardstick = YARDSTICK.get(row.precision)
        if row.file and yardstick and not keep_slower and row.median_ms >= medians[row.runtime, yardstick]:
            row.refusal = f"no faster than {yardstick} ({medians[row.runtime, yardstick]:.3f} ms); --keep-slower keeps it"
            row.is_kept, row.file = False, ""
            (out / f"{lifter.file_stem}_{row.runtime}_{row.precision}.epose").unlink()
    if any(row.is_kept and row.precision in EIGHT_BITS for row in rows):  # else those of engines that are there stay
        enginefile.write_atomically(out / f"{lifter.file_stem}_scales.json", (json.dumps(scales) + "\n").encode())
    write_report(out, rows)
    return rows


def _remove_older(path: Path, console: Console) -> None:
    """An engine of the name of one that was refused would be taken for it."""
    if path.exists():
        path.unlink()
        console.print(f"removed {path}: an older engine of that name")


def _time(engines: dict[str, edgepose.Engine], rows: list[Row]) -> None:
    calls = {}
    for name, engine in engines.items():
        x = np.zeros((1, engine.frames, len(engine.skeleton), 2), np.float32)
        out = np.empty((1, len(engine.skeleton), 3), np.float32)
        calls[name] = lambda engine=engine, x=x, out=out: engine.run(x, out)
    timings = measure.interleaved(calls, rounds=10, calls=30)
    for row in rows:
        if row.file:
            for key, value in measure.percentiles(timings[row.file].times_ms).items():
                setattr(row, key, value)
            row.poses_per_s = 1e3 / row.median_ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose compile`."""
    parser.add_argument("--model", required=True, help=f"a checkpoint (.safetensors), or one of {', '.join([*zoo.MODELS, *zoo.DETECTORS])}")
    parser.add_argument("--frames", type=int, help="window length, of a lifter named by its name (default: its usual one)")
    parser.add_argument("--precision", nargs="+", choices=list(BUDGET_MM), default=["fp32", "fp16"], help="default: fp32 fp16; "
                        "w8: weights in eight bits, widened as they are read; int8: products in eight bits, where the error allows it")
    parser.add_argument("--scales", type=Path, metavar="FILE.json", help="for w8 and int8: the scales of an earlier build")
    parser.add_argument("--keep-slower", action="store_true", help="keep int8 also where it is no faster than fp16")
    parser.add_argument("--backend", nargs="+", choices=list(PRODUCTS), help="of a lifter's engines (default: all)")
    parser.add_argument("--out", type=Path, default=Path("engines"), metavar="DIR", help="default: engines/")
    parser.add_argument("--threads", type=int, metavar="N", help="for a lifter's latencies (default 1)")
    parser.add_argument("--published", metavar="FILE.pth", help="weights by the model's authors, of --model strided27-dense, "
                        "strided351-dense, hrnet-w32 or hrnet-w48")
    parser.add_argument("--untrained", action="store_true", help="seeded random weights: for timing a model nobody has trained")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="a detector's crops (default: the checkpoint's)")


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose compile`; 0, or 1 if a product was refused. A detector becomes ONNX files, a lifter engine files."""
    if not (arguments.model.endswith(".safetensors") or Path(arguments.model).is_file() or arguments.model in [*zoo.MODELS, *zoo.DETECTORS]):
        raise ValueError(f"model {arguments.model!r} is neither a .safetensors checkpoint, nor a lifter ({', '.join(zoo.MODELS)}), nor a "
                         f"detector ({', '.join(zoo.DETECTORS)}){near(arguments.model, [*zoo.MODELS, *zoo.DETECTORS])}")
    if detectors.is_detector(arguments.model):
        for option in ("frames", "backend", "threads", "scales", "keep_slower"):
            if getattr(arguments, option) not in (None, False):
                raise ValueError(f"--{option.replace('_', '-')} is for lifters; a detector becomes ONNX files for single pictures")
        return detectors.compile_detector(arguments.model, arguments.out, arguments.precision, arguments.size and tuple(arguments.size),
                                          arguments.published, arguments.untrained)
    if arguments.size:
        raise ValueError("--size is for detectors; a lifter has none")
    if not set(arguments.precision) & set(EIGHT_BITS) and (arguments.scales or arguments.keep_slower):
        raise ValueError("--scales and --keep-slower are for eight bits: --precision w8 int8")
    threads = 1 if arguments.threads is None else checked_number("--threads", arguments.threads, 1, whole=True)
    console = wide_console()
    lifter = load_lifter(arguments.model, arguments.frames, arguments.untrained, arguments.published)
    rows = compile_lifter(lifter, arguments.backend or list(PRODUCTS), arguments.precision, arguments.out, threads, console,
                          arguments.scales, arguments.keep_slower)
    print_rows(rows, arguments.out, console)
    return 0 if all(row.is_kept for row in rows) else 1
