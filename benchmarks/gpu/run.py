"""The GPU benchmark: each model in our CUDA engine, in TensorRT and in torch, from numpy in to numpy out.

    python -m edgepose.benchmarks.gpu.run --json FILE.json                      # where everything is installed
    python -m edgepose.benchmarks.gpu.run --prepare DIR                         # where torch and ONNX are; needs no GPU
    python -m edgepose.benchmarks.gpu.run --measure DIR --json FILE.json        # on the GPU
    python -m edgepose.benchmarks.gpu.run --measure DIR --append FILE.json --runtimes tensorrt-fp16 tensorrt-int8
                                                                                # another Python, without torch

A runtime that was not measured is a row with the reason. Exit status 1 where --runtimes asked for it by name.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import edgepose
from edgepose import cli, timing
from edgepose.benchmarks.gpu import folder as gpu_folder, report as gpu_report
from edgepose.benchmarks.gpu.runtimes import RUNTIMES, ZERO_COPY, Candidate, Opener
from edgepose.build_engines.budgets import errors_mm
from edgepose.build_engines.tensorrt.builder import add_tactic_sources
from edgepose.checks import check_output, checked_number, first_line

DEFAULT = [name for name, (runtime, _) in RUNTIMES.items() if runtime != ZERO_COPY]
ROUND_MS = 20.0  # time of one candidate in one round
LIBRARIES = ("numpy", "torch", "triton", "tensorrt", "pycuda")


def whole(candidate: Candidate, windows: np.ndarray, batch: int) -> np.ndarray:
    """The poses (N, J, 3) of N windows in calls of `batch`, the last filled up."""
    padded = np.resize(windows, (-(-len(windows) // batch) * batch, *windows.shape[1:]))
    return np.concatenate([np.array(candidate.lift(padded[first:first + batch]))
                           for first in range(0, len(padded), batch)])[:len(windows)]


def measure_group(model: gpu_folder.Model, batch: int, names: Sequence[str], opener: Opener, rounds: int,
                  end_s: float) -> list[dict]:
    """A row for each runtime, all interleaved. end_s: of time.monotonic(), after which none is begun."""
    windows, reference = model.reference()
    rows, opened = {}, {}
    for name in names:
        runtime, precision = RUNTIMES[name]
        rows[name] = {"model": model.name, "runtime": runtime, "precision": precision, "batch": batch,
                      "frames": model.frames, "is_trained": model.is_trained}
        if time.monotonic() > end_s:
            rows[name]["why"] = "cut: the time was up"
            continue
        try:
            candidate = opener.open(model, runtime, precision, batch)
            mean, largest = errors_mm(whole(candidate, windows, batch), reference)
        except Exception as error:  # whatever a library raises that is missing, or does not take this GPU
            rows[name]["why"] = first_line(error)
            continue
        opened[name] = candidate
        rows[name] |= {"mean_error_mm": mean, "max_error_mm": largest, **candidate.facts}
    if opened:
        x = np.ascontiguousarray(np.resize(windows, (batch, *windows.shape[1:])))
        calls_of = {name: lambda candidate=candidate: candidate.lift(x) for name, candidate in opened.items()}
        trial = timing.interleaved(calls_of, rounds=1, calls=2)
        calls = max(3, min(100, int(ROUND_MS / max(float(result.times_ms.min()) for result in trial.values()))))
        for name, result in timing.interleaved(calls_of, rounds, calls).items():
            figures = timing.percentiles(result.times_ms)
            rows[name] |= {**figures, "calls": len(result.times_ms), "poses_per_s": batch * 1e3 / figures["median_ms"]}
    return list(rows.values())


def in_words(row: dict) -> str:
    """A row in a line."""
    name = f"{row['model']:<12} batch {row['batch']:>3}  {row['runtime']}-{row['precision']:<6}"
    if not gpu_report.is_measured(row):
        return f"{name} not measured: {row['why']}"
    device = (f", {row['device_ms']:.4f} on the device, {row['read_ms']:.4f} to read its weights"
              if "device_ms" in row else "")
    return (f"{name} {row['median_ms']:.4f} / {row['p99_ms']:.4f} ms (median / p99{device}), error "
            f"{row['mean_error_mm']:.3f} / {row['max_error_mm']:.3f} mm (mean / max)")


def about_run(commit: str | None, rounds: int) -> dict:
    """The machine, libraries and settings of a run. Call it at the end: it names the libraries that were imported."""
    run = {"command": timing.command(), "commit": commit or timing.commit(), "rounds": rounds,
           "python": platform.python_version()}
    for name in LIBRARIES:
        if sys.modules.get(name):
            try:
                run[name] = version(name)
            except PackageNotFoundError:
                run[name] = getattr(sys.modules[name], "__version__", "?")
    torch, extension = sys.modules.get("torch"), sys.modules.get("edgepose._cuda")
    if torch:
        run["torch_cuda"] = torch.version.cuda
    if extension:
        run["devices"] = extension.devices()
    return run


def run_once(folder: Path) -> int:
    """Each cuda engine of the folder once, for two people: for compute-sanitizer, which makes everything slow. 1 if a
    pose is not finite."""
    broken = 0
    for model in gpu_folder.read(folder):
        windows, reference = model.reference()
        for path in sorted(folder.glob(f"{model.name}_cuda_*.epose")):
            poses = edgepose.load(path, trust=True).run(np.ascontiguousarray(windows[:2]))
            broken += not np.isfinite(poses).all()
            print(f"{path.name}: {errors_mm(poses, reference[:2])[0]:.3f} mm from torch")
    return min(broken, 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--models", nargs="+", default=["ampose", "strided27"], metavar="MODEL",
                        help="checkpoints or zoo names; one without shipped weights gets seeded random ones "
                             "(default: ampose strided27)")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 256], metavar="B",
                        help="people in one call (default 1 16 256)")
    parser.add_argument("--flavours", nargs="+", choices=gpu_folder.FLAVOURS, default=gpu_folder.FLAVOURS,
                        help="of the graphs that --prepare writes for TensorRT (default: both)")
    parser.add_argument("--runtimes", nargs="+", choices=list(RUNTIMES), metavar="RUNTIME",
                        help=f"of {', '.join(RUNTIMES)} (default: all but {ZERO_COPY}, for GPUs that "
                             "have no memory of their own)")
    parser.add_argument("--rounds", type=int, default=20, help="interleaved rounds (default 20)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing later than this")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--prepare", type=Path, metavar="DIR", help="write what is to be measured, and measure nothing")
    folder.add_argument("--measure", type=Path, metavar="DIR", help="measure what --prepare wrote: all of its models")
    folder.add_argument("--once", type=Path, metavar="DIR",
                        help="run each of its cuda engines once, for compute-sanitizer")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", type=Path, metavar="FILE", help="a new report")
    output.add_argument("--append", type=Path, metavar="FILE", help="a report to add the rows to")
    add_tactic_sources(parser)
    parser.add_argument("--commit", help="what is measured (default: the commit of the source tree, where this is one)")


def main(arguments: argparse.Namespace) -> int:
    """Runs the command; 1 if a runtime of --runtimes was not measured."""
    start_s = time.monotonic()
    for option in ("batches", "rounds"):
        for value in np.atleast_1d(getattr(arguments, option)).tolist():
            checked_number(f"--{option}", value, 1, whole=True)
    path = arguments.json or arguments.append
    check_output(path, (".json",))
    if arguments.once:
        return run_once(arguments.once)
    names = list(dict.fromkeys(arguments.runtimes or DEFAULT))
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.measure:
            models = gpu_folder.read(arguments.measure)
        else:
            folder = arguments.prepare or Path(temporary, "prepared")
            models = gpu_folder.prepare(folder, arguments.models, arguments.batches, [RUNTIMES[name] for name in names],
                                        arguments.flavours)
        if arguments.prepare:
            print(f"{arguments.prepare}: {', '.join(model.name for model in models)}")
            return 0
        before, rows = gpu_report.read(path) if arguments.append else gpu_report.new(), []
        opener = Opener(Path(temporary), arguments.tactic_sources)
        for batch in dict.fromkeys(arguments.batches):  # the first batch of every model first: time may be short
            for model in models:
                group = measure_group(model, batch, names, opener, arguments.rounds, start_s + arguments.seconds)
                print(*map(in_words, group), sep="\n", flush=True)
                rows += group
                report = gpu_report.with_run(before, about_run(arguments.commit, arguments.rounds), rows)
                if path:  # each time: this process may be ended
                    gpu_report.write(path, report)
    print(*map(gpu_report.in_words, report["aims"]), sep="\n")
    if path:
        print(f"rows: {path}")
    return int(bool(arguments.runtimes) and not all(map(gpu_report.is_measured, rows)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m edgepose.benchmarks.gpu.run",
                                     description=__doc__.partition("\n")[0])
    add_arguments(parser)
    arguments = parser.parse_args()
    sys.exit(cli.reporting("edgepose.benchmarks.gpu.run", lambda: main(arguments)))
