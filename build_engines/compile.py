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
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import nn

import edgepose
from edgepose import enginefile, zoo
from edgepose.benchmarks import measure
from edgepose.build_engines import checkpoints, detectors, export, quantise, triton_repository
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import PlanModule
from edgepose.build_engines.windows import calibration_windows, evaluation_windows
from edgepose.checks import checked_number, near
from edgepose.metrics import mpjpe
from edgepose.zoo import published as published_weights

BUDGET_MM = {"fp32": 0.01, "fp16": 0.5, "w8": 1.0, "int8": 1.0}  # mean distance to torch float32 that a product may have
PRODUCTS = {"native": ("fp32", "fp16", "w8", "int8"), "onnx": ("fp32", "fp16", "int8"), "torchscript": ("fp32",)}
YARDSTICK = {"int8": "fp16"}  # a precision that costs accuracy must be faster than this one
EIGHT_BITS = ("w8", "int8")
UNTRAINED_SEED = 0
TABLE_COLUMNS = 128


@dataclass
class Row:
    """One product in report.json: the keys of a benchmark row that apply, then the build's own."""

    model: str
    runtime: str
    precision: str
    batch: int
    threads: int
    frames: int
    median_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    poses_per_s: float | None
    mean_error_mm: float
    max_error_mm: float
    macs: int
    parameters: int
    weight_bytes: int
    load_ms: float
    mpjpe_mm: float | None
    torch_mpjpe_mm: float | None
    budget_mm: float
    is_kept: bool
    file: str
    refusal: str = ""


@dataclass(frozen=True)
class NamedModule:
    """A zoo module to compile: what zoo.build was given for it, whether its weights are more than random, and what its checkpoint
    is called where that is not as the model is."""

    name: str
    module: nn.Module
    is_trained: bool
    options: dict[str, Any] = field(default_factory=dict)
    checkpoint: str = ""

    @property
    def file_stem(self) -> str:
        """What the engine files' names begin with: two checkpoints of a model do not write over each other's engines."""
        return self.checkpoint or checkpoints.checkpoint_name(self.name, self.module.frames)


def load_lifter(model: str, frames: int | None = None, untrained: bool = False, published: str | None = None) -> NamedModule:
    """The lifter named `model`: a checkpoint file, or a zoo name whose weights ship with edgepose.

    untrained: a zoo name with seeded random weights instead, for timing. published: a .pth file by the model's authors.
    frames: the window length, which a checkpoint must have.
    Raises ValueError or FileNotFoundError, saying what there is and how to train what is not.
    """
    if published and untrained:
        raise ValueError("--published and --untrained exclude each other")
    if untrained:
        torch.manual_seed(UNTRAINED_SEED)
        return NamedModule(model, zoo.build(model, frames).eval(), False)
    if published:
        state = published_weights.read_state(published)
        try:
            module = published_weights.strided_transformer(state)
        except ValueError as error:
            raise ValueError(f"{published}: {error}") from None
        if zoo.MODELS.get(model) != zoo.Entry(type(module), {"attention": "dense"}, (module.frames,)):
            raise ValueError(f"{published} is a Strided Transformer of {module.frames} frames: --model strided{module.frames}-dense, not {model}")
        zoo.frames_of(model, frames)
        return NamedModule(model, module, True, {"norm": "sample"})
    path = checkpoints.find_checkpoint(model, frames)
    module, metadata = checkpoints.load_checkpoint(path, frames)
    return NamedModule(metadata["model"], module.eval(), True, metadata["options"], path.stem)


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 of a module's state: which training a product came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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
    error_mm = np.linalg.norm(poses - reference, axis=-1) * 1e3
    errors = (float(error_mm.mean()), float(error_mm.max()))
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
    report = {"machine": measure.machine(), "command": sys.argv,
              "rows": _rows_of_others(out / "report.json", rows) + [asdict(row) for row in rows]}
    enginefile.write_atomically(out / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    return rows


def _remove_older(path: Path, console: Console) -> None:
    """An engine of the name of one that was refused would be taken for it."""
    if path.exists():
        path.unlink()
        console.print(f"removed {path}: an older engine of that name")


def _rows_of_others(report: Path, rows: list[Row]) -> list[dict]:
    """What an earlier report says of engines that these rows are not about."""
    def about(row: dict) -> tuple:
        return tuple(row[key] for key in ("model", "frames", "runtime", "precision"))

    try:
        earlier = json.loads(report.read_text())["rows"]
        return [row for row in earlier if about(row) not in {about(asdict(new)) for new in rows}]
    except (OSError, ValueError, KeyError, TypeError):
        return []


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


def wide_console() -> Console:
    """A console at least as wide as our tables, also where the output is no terminal."""
    console = Console()
    return Console(width=max(console.width, TABLE_COLUMNS))


def print_rows(rows: list[Row], out: Path, console: Console) -> None:
    """The rows as a table."""
    table = Table(title=f"{rows[0].model}, {rows[0].frames} frame{'s' * (rows[0].frames > 1)}: engines in {out}/")
    for heading in ("engine", "error to torch\nmean / max mm", "MPJPE mm\n(torch)", "latency ms\np50 / p99", "size MB", ""):
        table.add_column(heading, justify="left" if heading in ("engine", "") else "right", no_wrap=True)
    for row in rows:
        latency = f"{row.median_ms:.3f} / {row.p99_ms:.3f}" if row.median_ms else "-"
        accuracy = f"{row.mpjpe_mm:.2f} ({row.torch_mpjpe_mm:.2f})" if row.mpjpe_mm is not None else "untrained"
        verdict = "ok" if row.is_kept else f"[red]refused: {row.refusal}[/red]"
        table.add_row(row.file or f"{row.runtime} {row.precision}", f"{row.mean_error_mm:.4f} / {row.max_error_mm:.4f}", accuracy,
                      latency, f"{row.weight_bytes / 1e6:.2f}", verdict)
    console.print(table)
    kept = [row for row in rows if row.file]
    if kept:
        best = min(kept, key=lambda row: row.median_ms)
        console.print(f"fastest on this machine: {out / best.file}")


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
    parser.add_argument("--triton", type=Path, metavar="DIR", help="put a lifter's ONNX and TensorRT engines into a Triton model repository too")
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
        for option in ("frames", "backend", "threads", "scales", "keep_slower", "triton"):
            if getattr(arguments, option) not in (None, False):
                raise ValueError(f"--{option.replace('_', '-')} is for lifters; a detector becomes ONNX files for single pictures")
        return detectors.compile_detector(arguments.model, arguments.out, arguments.precision, arguments.size and tuple(arguments.size),
                                          arguments.published, arguments.untrained)
    if arguments.size:
        raise ValueError("--size is for detectors; a lifter has none")
    if not set(arguments.precision) & set(EIGHT_BITS) and (arguments.scales or arguments.keep_slower):
        raise ValueError("--scales and --keep-slower are for eight bits: --precision w8 int8")
    threads = 1 if arguments.threads is None else checked_number("--threads", arguments.threads, 1, whole=True)
    if arguments.triton:
        triton_repository.check_repository(arguments.triton, arguments.backend or list(PRODUCTS))
    console = wide_console()
    lifter = load_lifter(arguments.model, arguments.frames, arguments.untrained, arguments.published)
    rows = compile_lifter(lifter, arguments.backend or list(PRODUCTS), arguments.precision, arguments.out, threads, console,
                          arguments.scales, arguments.keep_slower)
    print_rows(rows, arguments.out, console)
    if arguments.triton:
        triton_repository.publish(arguments.triton, [arguments.out / row.file for row in rows if row.file], console.print)
    return 0 if all(row.is_kept for row in rows) else 1
