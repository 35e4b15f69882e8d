"""edgepose compile: a trained lifter becomes engine files for this machine, each with its error in mm and its latency.

checkpoint -> zoo module -> plan of ours (native, cuda), ONNX, TorchScript, TensorRT plan -> .epose file -> loaded and
compared with torch float32 on the shipped evaluation windows -> kept under its final name only if it is within its
error budget -> timed -> report.json.

Precisions: fp32; fp16 and w8, weights stored in half precision and in eight bits and widened as they are read; int8,
the products in eight bits, in the way found on calibration windows (searches.py). int8 that is no faster than fp16 is
refused too. With TensorRT (the folder tensorrt) fp16 and int8 compute in half precision and eight bits, in batches of a
fixed size.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports below: the command says what is not installed
    import sys
    from pathlib import Path

    # Python puts the folder of a script on its path: the folder tensorrt/ would be taken for the library.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    from edgepose import cli
    sys.exit(cli.main(["compile", *sys.argv[1:]]))

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import edgepose
from edgepose import enginefile, gpu, timing, zoo
from edgepose.build_engines import quantise, triton_repository
from edgepose.build_engines.budgets import BUDGETS, errors_mm, mpjpe_mm, over_budget, tail_mm
from edgepose.build_engines.build import build, build_with_tensorrt, find_scales, reference_poses, tensorrt_header
from edgepose.build_engines.lifters import NamedModule, load_lifter
from edgepose.build_engines.report import Row, plainly, print_rows, wide_console, write_report
from edgepose.build_engines.tensorrt import boards
from edgepose.build_engines.tensorrt.builder import Builder, add_tactic_sources, write_layers
from edgepose.build_engines.variants import (EIGHT_BITS, TENSORRT_VARIANTS, VARIANTS, Variant, remove, remove_older,
                                             variants_of, write_graph)
from edgepose.build_engines.windows import calibration_windows
from edgepose.checks import checked_number, installing, need_library
from edgepose.enginefile import EngineError
from edgepose.zoo.detectors import is_detector

OF_TENSORRT = ("batch", "allow_rung", "tactic_sources", "for_board")  # options


@dataclass(frozen=True)
class TensorRTOptions:
    """Options of the TensorRT engines. batches: an engine for each. allow_rung, tactic_sources: see Builder."""

    batches: Sequence[int] = (1,)
    allow_rung: bool = False
    tactic_sources: Sequence[str] | None = None


def check(lifter: NamedModule, variant: Variant, path: Path, threads: int) -> tuple[edgepose.Engine, Row]:
    """Loads an engine and compares it with torch on the evaluation windows; latencies are still to be filled in."""
    x, target, reference = reference_poses(lifter)
    start = time.perf_counter()
    engine = edgepose.load(path, threads=threads, trust=True)
    load_ms = (time.perf_counter() - start) * 1e3
    poses = engine.run(x)
    errors = errors_mm(poses, reference)
    _, tensors = enginefile.read(path)
    trained, over = lifter.is_trained, over_budget(poses, reference, engine.precision,
                                                   target if lifter.is_trained else None)
    return engine, Row(
        lifter.name, variant.backend, engine.precision, variant.batch, threads, engine.frames,
        None, None, None, None, *errors, tail_mm(poses, reference),
        zoo.macs(lifter.module), zoo.parameters(lifter.module), sum(t.nbytes for t in tensors.values()), load_ms,
        mpjpe_mm(poses, target) if trained else None, mpjpe_mm(reference, target) if trained else None,
        BUDGETS[engine.precision].mean_mm, not over, "", over and f"over {over}", lifter.changed_options,
        engine.header.get("quantisation", {}))


def compile_lifter(lifter: NamedModule, backends: list[str], precisions: list[str], out: Path, threads: int,
                   console: Console, scales_file: Path | None = None, keep_slower: bool = False,
                   for_tensorrt: TensorRTOptions = TensorRTOptions()) -> list[Row]:
    """Writes every engine of `backends` x `precisions` that exists and is within its budget; a row for each.

    scales_file: scales for w8 and int8, else they are found and written beside the engines. keep_slower: keeps int8
    that is no faster than fp16. Raises OSError if the disk does not take a file, EngineError if a GPU engine does not
    build; what was not finished is not left behind.
    """
    rows, engines, say = [], {}, plainly(console)
    variants = variants_of(backends, precisions, for_tensorrt.batches, getattr(lifter.module, "has_state", False))
    if not variants:
        raise ValueError(f"none of {', '.join(backends)} comes in {', '.join(precisions)}")
    # These are built to be timed, and not kept.
    yardsticks = {yardstick for variant in variants if (yardstick := variant.yardstick())} - set(variants)
    enginefile.remove_leftovers(out, ".*.unchecked.epose", ".*.part")
    builder = Builder(out, for_tensorrt.tactic_sources, say)
    scales = None
    if any(variant.precision in EIGHT_BITS for variant in variants):
        scales = find_scales(lifter, scales_file, variants, say)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console,
                  transient=True) as progress:
        task = progress.add_task("", total=None)
        for variant in [*variants, *sorted(yardsticks)]:
            path, layers = out / variant.file_name(lifter), None
            progress.update(task, description=f"building {path.name}")
            candidate = path.with_name(f".{path.name}.unchecked.epose")
            try:
                if variant.backend in TENSORRT_VARIANTS:
                    *contents, layers = build_with_tensorrt(lifter, variant, scales, builder, for_tensorrt.allow_rung)
                else:
                    contents = build(lifter, variant.backend, variant.precision, scales)
                enginefile.write(candidate, *contents)
                progress.update(task, description=f"comparing {path.name} with torch")
                engine, row = check(lifter, variant, candidate, threads)
                if variant in yardsticks:
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
    row_of = {Variant(row.runtime, row.precision, row.batch): row for row in rows}
    if not keep_slower:
        _refuse_slower(lifter, row_of, out)
    rows = [row for variant, row in row_of.items() if variant not in yardsticks]
    if any(row.is_kept and row.precision in EIGHT_BITS for row in rows):  # else those of engines that are there stay
        quantise.write_scales(out / f"{lifter.file_stem}_scales.json", scales)
    write_report(out, rows, say)
    return rows


def compile_for_board(lifter: NamedModule, board: str, precisions: list[str], batches: Sequence[int],
                      out: Path, console: Console, scales_file: Path | None = None) -> None:
    """Writes TensorRT engines that are still to be built, on a board with `edgepose rebuild FILE`. board: of
    boards.BOARDS.

    Raises ValueError if there is none in `precisions`, or `board` is a rung of another one; EngineError if a graph is
    over its error budget.
    """
    variants = [Variant("tensorrt", p, batch) for p in dict.fromkeys(precisions) if p in TENSORRT_VARIANTS["tensorrt"]
                for batch in dict.fromkeys(batches)]
    if not variants:
        raise ValueError(f"TensorRT does not come in {', '.join(precisions)}; it comes in "
                         f"{', '.join(TENSORRT_VARIANTS['tensorrt'])}")
    for variant in variants:
        boards.rung_for_board(variant.precision, board)
    scales = find_scales(lifter, scales_file, variants,
                         plainly(console)) if any(variant.precision == "int8" for variant in variants) else None
    windows, (x, _, reference) = calibration_windows(lifter.module), reference_poses(lifter)
    for variant in variants:
        path = out / variant.file_name(lifter)
        found = boards.write_for_board(lifter, tensorrt_header(lifter, variant.precision, scales),
                                       variant.batch, board, scales, windows, (x, reference), path)
        plainly(console)(f"{path}: {found}. On the board: edgepose rebuild {path.name}")


def why_not_here(backend: str) -> str:
    """Why this machine builds no engines of a backend, since it could not check them; empty if it does."""
    if backend == "cuda":
        reason = gpu.cuda_missing()
        return reason and f"cuda engines cannot be built here: {reason}"
    reason = gpu.tensorrt_missing() if backend in TENSORRT_VARIANTS else ""
    libraries, extra = (("TensorRT, PyCUDA and Torch-TensorRT", "torch-tensorrt") if backend == "torch-tensorrt"
                        else ("TensorRT and PyCUDA", "gpu"))
    return (reason and f"TensorRT engines cannot be built here: {reason}. They need a GPU, {libraries}: "
            f"{installing(extra)}")


def _refuse_slower(lifter: NamedModule, row_of: dict[Variant, Row], out: Path) -> None:
    for variant, row in row_of.items():
        yardstick = row_of.get(variant.yardstick())
        if row.file and yardstick and row.median_ms >= yardstick.median_ms:
            row.refusal = f"no faster than {yardstick.precision} ({yardstick.median_ms:.3f} ms); --keep-slower keeps it"
            row.is_kept, row.file = False, ""
            remove(out / variant.file_name(lifter))


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
    parser.add_argument("--model", required=True, metavar="MODEL",
                        help=f"a checkpoint (.safetensors), or one of {', '.join(zoo.MODELS)}")
    parser.add_argument("--frames", type=int,
                        help="window length, of a model named by its name (default: its usual one)")
    parser.add_argument("--precision", nargs="+", choices=list(BUDGETS), default=["fp32", "fp16"],
                        help="default: fp32 fp16; w8: weights in eight bits, widened as they are read; int8: "
                             "products in eight bits, where the error allows it")
    parser.add_argument("--scales", type=Path, metavar="FILE.json",
                        help="for w8 and int8: the scales of an earlier build")
    parser.add_argument("--keep-slower", action="store_true", help="keep int8 also where it is no faster than fp16")
    parser.add_argument("--backend", nargs="+", choices=[*VARIANTS, *TENSORRT_VARIANTS],
                        help="what the engines run on (default: all that this machine builds; torch-tensorrt where it "
                             "is named)")
    parser.add_argument("--batch", type=int, nargs="+", metavar="N",
                        help="people of a call of a TensorRT engine, an engine for each (default 1)")
    parser.add_argument("--for-board", choices=boards.BOARDS,
                        help="write TensorRT engines that a board then builds (edgepose rebuild); needs no GPU here. "
                             "legacy: for TensorRT 8.6 and 10; strong: for 10 and later; or the rung itself, where its "
                             "best one does not build")
    parser.add_argument("--allow-rung", action="store_true",
                        help="where TensorRT does not build a precision in the best way, take the next")
    parser.add_argument("--out", type=Path, default=Path("engines"), metavar="DIR", help="default: engines/")
    parser.add_argument("--threads", type=int, metavar="N", help="for the latencies (default 1)")
    parser.add_argument("--triton", type=_folder, metavar="DIR",
                        help="put the ONNX and TensorRT engines into a Triton model repository too")
    parser.add_argument("--published", metavar="FILE.pth",
                        help="weights by the authors of --model strided27-dense or strided351-dense")
    parser.add_argument("--format", choices=("engine", "onnx"), default="engine",
                        help="onnx: plain .onnx files too, for other tools")
    parser.add_argument("--untrained", action="store_true",
                        help="seeded random weights: for timing a model nobody has trained")
    add_tactic_sources(parser)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together."""
    if not set(arguments.precision) & set(EIGHT_BITS) and (arguments.scales or arguments.keep_slower):
        raise ValueError("--scales and --keep-slower are for eight bits: --precision w8 int8")
    if arguments.format == "onnx" and (set(arguments.backend or ["onnx"]) != {"onnx"} or arguments.for_board):
        raise ValueError("--format onnx goes with --backend onnx alone")
    if arguments.untrained and arguments.triton:
        raise ValueError("--triton serves the newest version: --untrained would put random weights there")
    unused = [option for option in ("allow_rung", "tactic_sources", "keep_slower", "threads", "triton")
              if getattr(arguments, option)]
    if arguments.for_board and (set(arguments.backend or ["tensorrt"]) != {"tensorrt"} or unused):
        raise ValueError("--for-board writes TensorRT engines and builds none: leave out other backends, --allow-rung "
                         "(name the rung: --for-board strong-fp32-qdq), --tactic-sources, --keep-slower, --threads and "
                         "--triton")


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose compile`; 0, or 1 if an engine was refused."""
    if is_detector(arguments.model):
        raise ValueError(f"{arguments.model} is a detector: edgepose compile-detector {arguments.model}")
    _check_options(arguments)
    batches = [checked_number("--batch", batch, 1, whole=True) for batch in arguments.batch or [1]]
    if arguments.for_board:
        compile_for_board(load_lifter(arguments.model, arguments.frames, arguments.untrained, arguments.published),
                          arguments.for_board, arguments.precision, batches, arguments.out, wide_console(),
                          arguments.scales)
        return 0
    backends = (arguments.backend or ["onnx"] * (arguments.format == "onnx")
                or [backend for backend in (*VARIANTS, "tensorrt") if not why_not_here(backend)])
    for option in OF_TENSORRT:
        if getattr(arguments, option) and not set(backends) & set(TENSORRT_VARIANTS):
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
        for variant in variants_of(backends, arguments.precision, batches):
            triton_repository.check_model(arguments.triton, variant.backend, variant.file_name(lifter))
    rows = compile_lifter(lifter, backends, arguments.precision, arguments.out, threads, console,
                          arguments.scales, arguments.keep_slower,
                          TensorRTOptions(batches, arguments.allow_rung, arguments.tactic_sources))
    print_rows(rows, arguments.out, console)
    for row in (row for row in rows if row.file and arguments.format == "onnx"):
        write_graph(arguments.out / row.file, plainly(console))
    if arguments.triton:
        triton_repository.publish(arguments.triton, [arguments.out / row.file for row in rows if row.file],
                                  plainly(console))
    return 0 if all(row.is_kept for row in rows) else 1
