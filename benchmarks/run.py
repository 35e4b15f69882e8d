"""edgepose bench: latency, error, memory and start of each runtime, side by side in one process, interleaved.

Every row is a lifter in a runtime: our native engine, the whole Stream.push on it ("stream"), that of C++
("stream-cpp"), push_many of 20 people ("people", whatever the batch: compare it with "native" at batch 20), and what
one would use instead. onnxruntime and openvino run with the threads of the row, OpenVINO held to float32; "-default" is
the library as it comes (OpenVINO then computes in bfloat16 where the processor can: see its error). ncnn and executorch
run with the threads of the row, a person a call; a lifter that their converters cannot express is left out, with the
reason.

int8 here is every product in eight bits but the first and the last, whatever it costs in accuracy (`edgepose compile`
takes as many in more bits as its budget asks for): natively a scale for each row of x; in the other runtimes one for
all, the same in each; "onnxruntime-dynamic" finds its own.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports below: the command says what is not installed
    import sys

    from edgepose import cli
    sys.exit(cli.main(["bench", *sys.argv[1:]]))

import argparse
import contextlib
import functools
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import edgepose
from edgepose import _native, enginefile, timing, zoo
from edgepose.benchmarks import peers, streams
from edgepose.build_engines import export, quantise
from edgepose.build_engines.budgets import BUDGETS, errors_mm
from edgepose.build_engines.build import build
from edgepose.build_engines.lifters import NamedModule, load_lifter
from edgepose.build_engines.lower import executed_macs, lower
from edgepose.build_engines.report import wide_console
from edgepose.build_engines.windows import calibration_windows, evaluation_windows
from edgepose.checks import PICTURES, check_output
from edgepose.zoo import checkpoints

OURS = ("native", "stream", "stream-cpp", "people")
PEOPLE = 20  # in the row "people"
STREAM_HZ = 50.0  # frames a second that streams are pushed
PRECISIONS = {**dict.fromkeys(OURS, ("fp32", "fp16", "w8", "int8")), "torch": ("fp32",), "torchscript": ("fp32",),
              "onnxruntime": ("fp32", "fp16", "int8"), "onnxruntime-dynamic": ("int8",),
              "onnxruntime-default": ("fp32",),
              "openvino": ("fp32", "int8"), "openvino-default": ("fp32",), **dict.fromkeys(peers.RUNTIMES, ("fp32",))}
# Speed-ups are quoted against these.
PEERS = ("torch", "torchscript", "onnxruntime", "onnxruntime-dynamic", "openvino", *peers.RUNTIMES)
# The precision of the peers a row is compared with.
CLASS = {"fp32": "fp32", "fp16": "fp32", "w8": "int8", "int8": "int8"}
ROUND_MS = 40.0  # time of one candidate in one round
PACED_CALLS = 20
OVER = "!"  # marks an error over the budget of `edgepose compile`


@dataclass(frozen=True)
class Candidate:
    """One lifter in one runtime.

    lift: (B, T, J, 2) -> (B, J, 3), for the error. frame: what is timed, the same call but for streams. file: what it
    was loaded from. people: how many a call is for, where that is not the batch.
    """

    runtime: str
    precision: str
    lift: Callable[[np.ndarray], np.ndarray]
    frame: Callable[[np.ndarray], object]
    file: Path
    weight_bytes: int
    people: int | None = None


def make_candidate(lifter: NamedModule, runtime: str, precision: str, threads: int, folder: Path) -> Candidate:
    """The lifter in a runtime. Raises ImportError if the runtime is not installed, peers.NotConverted if it cannot have
    the lifter."""
    scales = eight_bit_scales(lifter.module) if CLASS[precision] == "int8" else None
    if runtime in OURS:
        file = folder / f"{lifter.name}_{precision}.epose"
        if not file.exists():
            enginefile.write(file, *build(lifter, "native", precision, scales))
        engine = edgepose.load(file, threads=threads)
        frame = {"native": lambda: _stepping(engine) if engine.state else engine.run,
                 "stream": lambda: _streaming(engine),
                 "people": lambda: _streaming(engine, PEOPLE),
                 "stream-cpp": lambda: _streaming_in_cpp(engine, threads)}[runtime]()
        return Candidate(runtime, precision, engine.run, frame, file,
                         sum(t.nbytes for t in enginefile.read(file)[1].values()),
                         PEOPLE if runtime == "people" else None)
    if getattr(lifter.module, "has_state", False) and runtime != "torch":
        raise peers.NotConverted("it remembers frames")
    if runtime in ("torch", "torchscript"):
        file = folder / f"{lifter.name}.{runtime}"
        if runtime == "torch":
            module = lifter.module
            checkpoints.save_checkpoint(file, module, {"model": lifter.name, "frames": module.frames,
                                                       "skeleton": module.skeleton.name, "options": lifter.options})
        else:
            file.write_bytes(export.to_torchscript(lifter.module))
            module = torch.jit.load(str(file))

        def pose(x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return module(torch.from_numpy(x)).numpy()
        return Candidate(runtime, precision, pose, pose, file, 4 * zoo.parameters(lifter.module))
    if runtime in peers.RUNTIMES:
        suffix, write, open_file = peers.RUNTIMES[runtime]
        file = folder / f"{lifter.name}{suffix}"
        if not file.exists():
            write(lifter.module, file)
        pose = open_file(file, threads)
        return Candidate(runtime, precision, pose, pose, file, 4 * zoo.parameters(lifter.module))
    file = folder / f"{lifter.name}_{precision}{'-dynamic' * (runtime == 'onnxruntime-dynamic')}.onnx"
    if not file.exists():
        if runtime == "onnxruntime-dynamic":
            _quantise_dynamically(lifter.module, file)
        else:
            file.write_bytes(export.to_onnx(lifter.module) if precision == "fp32" else
                             build(lifter, "onnx", precision, scales)[1]["payload"].tobytes())
    pose = (_onnxruntime(file, threads, runtime) if runtime.startswith("onnxruntime")
            else _openvino(file, threads, runtime))
    return Candidate(runtime, precision, pose, pose, file,
                     zoo.parameters(lifter.module) * {"fp32": 4, "fp16": 2, "w8": 1, "int8": 1}[precision])


@functools.cache
def eight_bit_scales(module: torch.nn.Module) -> dict:
    """Scales that put every product but the first and the last in eight bits, weights to the nearest."""
    plan, tensors = lower(module, "fp32")
    calibration = quantise.Calibration(plan, tensors, calibration_windows(module))
    names = [name for _, name, _ in quantise.products(plan)]
    return {"w8": {name: {} for name in names}, "rows": {name: {"x_bits": 8} for name in names},
            **calibration.scales(quantise.Recipe("percentile"))}


def _quantise_dynamically(module: torch.nn.Module, file: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = file.with_suffix(".fp32.onnx")
    whole.write_bytes(export.to_onnx(module))
    with _silenced():
        quantize_dynamic(whole, file, per_channel=True, weight_type=QuantType.QInt8)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Drops what ONNX Runtime's quantiser logs and prints: advice, and dumps of what it could not follow."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(before)


def _stepping(engine: edgepose.Engine) -> Callable[[np.ndarray], object]:
    """The newest frame of each window as the next of a person whom the engine remembers."""
    states: list[np.ndarray] = []

    def frame(x: np.ndarray) -> object:
        while len(states) < len(x):
            states.append(np.zeros(engine.state, np.float32))
        return engine.step(np.ascontiguousarray(x[:, -1:]), states[:len(x)])
    return frame


def _streaming(engine: edgepose.Engine, people: int | None = None) -> Callable[[np.ndarray], object]:
    """Stream.push of the newest frame of each window, one person a window, STREAM_HZ times a second; people: as many,
    whatever the batch."""
    streams: list[edgepose.Stream] = []
    timestamp_s = 0.0

    def frame(x: np.ndarray) -> object:
        nonlocal timestamp_s
        count = people or len(x)
        while len(streams) < count:
            streams.append(edgepose.Stream(engine, engine.skeleton.name, (1000, 1000), rate_hz=STREAM_HZ))
        timestamp_s += 1 / STREAM_HZ
        keypoints_px = (x[np.arange(count) % len(x), -1, :, :2] + 1) * 500
        if count == 1:
            return streams[0].push(keypoints_px[0], timestamp_s)
        return edgepose.push_many(streams[:count], list(keypoints_px), timestamp_s)
    return frame


def _streaming_in_cpp(engine: edgepose.Engine, threads: int) -> Callable[[np.ndarray], object]:
    """The same with the Stream of C++, each person by itself; about 1 us of it is the way from Python and back."""
    streams: list[_native.Stream] = []
    timestamp_s = 0.0

    def frame(x: np.ndarray) -> object:
        nonlocal timestamp_s
        while len(streams) < len(x):
            streams.append(_native.Stream(str(engine.path), engine.skeleton.name, 1000, 1000, STREAM_HZ, threads))
        timestamp_s += 1 / STREAM_HZ
        return [stream.push(keypoints_px, timestamp_s)
                for stream, keypoints_px in zip(streams, (x[:, -1, :, :2] + 1) * 500)]
    return frame


def _onnxruntime(file: Path, threads: int, runtime: str) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if runtime == "onnxruntime":
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"keypoints_norm": x})[0]


def _openvino(file: Path, threads: int, runtime: str) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    options = {"PERFORMANCE_HINT": "LATENCY"}
    if runtime == "openvino":
        options |= {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(file), "CPU", options).create_infer_request()
    return lambda x: request.infer([x])[0]


@functools.cache
def cold_start(runtime: str, file: Path, shape: tuple[int, int, int], threads: int) -> dict[str, float]:
    """load_ms and rss_mb of a fresh process that imports the runtime, loads the file and makes one pose. shape:
    (T, J, C)."""
    command = [sys.executable, str(Path(__file__).with_name("cold.py")), runtime, *map(str, (file, *shape, threads))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise edgepose.EngineError(f"{runtime} did not start: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_group(lifter: NamedModule, candidates: list[Candidate], batch: int, threads: int, rounds: int,
                  pace_hz: float | None, after_round: Callable[[], object]) -> list[dict]:
    """A row for each candidate, all at one batch size and thread count."""
    windows, _ = evaluation_windows(lifter.module)
    x = np.ascontiguousarray(windows[np.arange(batch) % len(windows)])
    with torch.inference_mode():
        reference = lifter.module(torch.from_numpy(windows)).numpy()
    calls_of = {f"{c.runtime} {c.precision}": lambda c=c: c.frame(x) for c in candidates}
    trial = timing.interleaved(calls_of, rounds=1, calls=2)
    slowest_ms = max(float(result.times_ms.min()) for result in trial.values())
    calls = PACED_CALLS if pace_hz else max(3, min(50, int(ROUND_MS / slowest_ms)))
    timings = timing.interleaved(calls_of, rounds, calls, pace_hz, after_round)
    rows = []
    for candidate, result in zip(candidates, timings.values()):
        mean_mm, largest_mm = errors_mm(candidate.lift(windows), reference)
        quantiles = timing.percentiles(result.times_ms)
        row = {"model": lifter.name, "runtime": candidate.runtime, "precision": candidate.precision, "batch": batch,
               "threads": threads, "frames": lifter.module.frames, **quantiles,
               "poses_per_s": (candidate.people or batch) * 1e3 / quantiles["median_ms"],
               "mean_error_mm": mean_mm, "max_error_mm": largest_mm,
               "macs": zoo.macs(lifter.module) * batch, "parameters": zoo.parameters(lifter.module),
               "weight_bytes": candidate.weight_bytes,
               **cold_start(candidate.runtime, candidate.file, windows.shape[1:], threads)}
        if pace_hz:
            row["cpu_ms_per_frame"] = result.cpu_ms_per_call
        rows.append(row)
    return rows


def roofline_ms(lifter: NamedModule, row: dict) -> float:
    """The least time this machine could take for a row: its weights read once, or its products at the measured peak,
    whichever is longer; both measured now, with the row's threads."""
    plan, _ = lower(lifter.module, "fp32")
    in_eight_bits = {number for number, _, _ in quantise.products(plan)} if row["precision"] == "int8" else set()
    eight = executed_macs(plan, in_eight_bits)
    seconds = 2 * row["batch"] * ((executed_macs(plan) - eight) / timing.peak_flops(row["threads"])
                                  + eight / timing.peak_flops(row["threads"], whole_numbers=True))
    return max(seconds, row["weight_bytes"] / timing.read_bandwidth(row["weight_bytes"], row["threads"])) * 1e3


def print_rows(rows: list[dict], limits_ms: list[float | None], console: Console) -> None:
    """A table for each model, batch and thread count; "x peer" is the speed relative to the best peer of the same class
    in it."""
    groups: dict[tuple, list[tuple[dict, float | None]]] = {}
    for row, limit_ms in zip(rows, limits_ms):
        groups.setdefault((row["model"], row["frames"], row["batch"], row["threads"]), []).append((row, limit_ms))
    for (model, frames, batch, threads), group in groups.items():
        table = Table(title=f"{model}, {frames} frame(s), batch {batch}, {threads} thread(s)", title_justify="left")
        peers = {of: min((row["median_ms"] for row, _ in group if row["runtime"] in PEERS and row["precision"] == of),
                         default=None)
                 for of in CLASS.values()}
        columns = ["runtime", "", "p50 ms", "p90", "p99", "poses/s", "x peer", "error mm\nmean / max", "start ms",
                   "RSS MB"]
        columns += ["CPU ms\na frame"] if "cpu_ms_per_frame" in group[0][0] else []
        columns += ["of the\nlimit"] if group[0][1] else []
        for heading in columns:
            table.add_column(heading, justify="left" if heading in ("runtime", "") else "right", no_wrap=True)
        for row, limit_ms in group:
            peer = peers[CLASS[row["precision"]]]
            cells = [row["runtime"], row["precision"], f"{row['median_ms']:.3f}", f"{row['p90_ms']:.3f}",
                     f"{row['p99_ms']:.3f}",
                     f"{row['poses_per_s']:.0f}", f"{peer / row['median_ms']:.2f}" if peer
                     and row["runtime"] != "people" else "-",
                     f"{row['mean_error_mm']:.4f} / {row['max_error_mm']:.4f}{OVER if _is_over_budget(row) else ' '}",
                     f"{row['load_ms']:.0f}", f"{row['rss_mb']:.0f}"]
            cells += [f"{row['cpu_ms_per_frame']:.2f}"] if "cpu_ms_per_frame" in row else []
            cells += [f"{limit_ms / row['median_ms']:.0%}"] if limit_ms else []
            table.add_row(*cells)
        console.print(table)


def _is_over_budget(row: dict) -> bool:
    return not row["mean_error_mm"] <= BUDGETS[row["precision"]].mean_mm


def plot(rows: list[dict], file: Path) -> None:
    """Median and p99 of each row as bars, one panel a model."""
    from matplotlib.figure import Figure

    models = sorted({row["model"] for row in rows})
    figure = Figure(figsize=(9, 0.6 + 0.35 * len(rows)), layout="constrained")
    panels = figure.subplots(len(models), squeeze=False)[:, 0]
    for panel, model in zip(panels, models):
        shown = [row for row in rows if row["model"] == model]
        labels = [f"{r['runtime']} {r['precision']}, batch {r['batch']}, {r['threads']} thr" for r in shown]
        colours = ["#2a6fbb" if r["runtime"] in OURS else "#8a94a3" for r in shown]
        panel.barh(labels, [r["p99_ms"] for r in shown], color="#d9dee6")
        panel.barh(labels, [r["median_ms"] for r in shown], height=0.5, color=colours)
        panel.invert_yaxis()
        panel.set(title=f"{model}: median (narrow bar) and p99 (wide), edgepose in blue", xlabel="ms a call",
                  xscale="log")
    figure.savefig(file, dpi=150)


@contextlib.contextmanager
def neighbour() -> Iterator[None]:
    """One process that does nothing but use a processor, as a busy machine has."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose bench`."""
    parser.add_argument("--models", nargs="+", default=["ampose", "ampose-l"], metavar="MODEL",
                        help="checkpoints or zoo names; one without shipped weights gets seeded random "
                             "ones (default: ampose ampose-l)")
    parser.add_argument("--frames", type=int, help="window length of the zoo names (default: each model's usual one)")
    parser.add_argument("--runtimes", nargs="+", choices=list(PRECISIONS), metavar="RUNTIME",
                        help=f"of {', '.join(PRECISIONS)} (default: all that are installed)")
    parser.add_argument("--precisions", nargs="+", choices=list(CLASS), default=["fp32", "fp16"],
                        help="default: fp32 fp16")
    parser.add_argument("--batch", nargs="+", type=int, default=[1], metavar="B", help="people in one call (default 1)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N",
                        help="threads a call works on (default 1)")
    parser.add_argument("--rounds", type=int, default=20, help="interleaved rounds (default 20)")
    parser.add_argument("--pace", type=float, metavar="HZ",
                        help="frames arrive at this rate, and processor time is counted")
    parser.add_argument("--neighbour", action="store_true", help="with one spinning process beside the benchmark")
    parser.add_argument("--roofline", action="store_true",
                        help="measure this machine's peak and bandwidth, and each row's share of them")
    parser.add_argument("--stream", action="store_true",
                        help="instead: the time of a frame against the reach, of the models that remember frames and "
                             "of those that take windows (streams.py); with --frames, --precisions, --threads, "
                             "--rounds and --json")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose bench`."""
    console = wide_console()
    if min(*arguments.batch, *arguments.threads, arguments.rounds) < 1 or (arguments.pace is not None
                                                                           and not arguments.pace > 0):
        raise ValueError("--batch, --threads, --rounds and --pace need to be above zero")
    check_output(arguments.json, (".json",))
    check_output(arguments.plot, PICTURES)
    if arguments.stream:
        rows = streams.run(arguments, console)
        return _write(arguments, {"rows": rows}, console)
    runtimes = list(dict.fromkeys(arguments.runtimes or PRECISIONS))
    if not any(precision in PRECISIONS[runtime] for runtime in runtimes for precision in arguments.precisions):
        raise ValueError(f"none of {', '.join(runtimes)} has {', '.join(arguments.precisions)}")
    lifters = [trained_or_seeded(model, arguments.frames) for model in dict.fromkeys(arguments.models)]
    with neighbour() if arguments.neighbour else contextlib.nullcontext():
        rows = _run(lifters, arguments, console)
    named = {lifter.name: lifter for lifter in lifters}
    limits_ms = [roofline_ms(named[row["model"]], row) if arguments.roofline else None for row in rows]
    print_rows(rows, limits_ms, console)
    console.print("x peer: speed relative to the fastest of " + ", ".join(PEERS) + " at fp32, for w8 and int8 at int8. "
                  f"stream: the whole Stream.push, stream-cpp: that of C++, people: push_many of {PEOPLE}, a call. "
                  "start ms, RSS: a fresh process until its first pose."
                  + (f" {OVER}: over the error budget of `edgepose compile`"
                     if any(map(_is_over_budget, rows)) else ""))
    for lifter in lifters:
        if not lifter.is_trained:
            console.print(f"{lifter.name}: seeded random weights (none ship); errors are to "
                          "torch with the same weights")
    if arguments.plot:
        plot(rows, arguments.plot)
        console.print(f"picture: {arguments.plot}")
    return _write(arguments, {"rows": rows, **({"roofline_ms": limits_ms} if arguments.roofline else {})}, console)


def _write(arguments: argparse.Namespace, figures: dict, console: Console) -> int:
    """Writes the figures where that is asked for, with where they come from."""
    if arguments.json:
        report = {"machine": timing.machine(), "command": timing.command(), "commit": timing.commit(),
                  "rounds": arguments.rounds, **figures}
        enginefile.write_atomically(arguments.json, (json.dumps(report, indent=1) + "\n").encode())
        console.print(f"rows: {arguments.json}")
    return 0


def trained_or_seeded(model: str, frames: int | None = None) -> NamedModule:
    """The lifter named `model`; one of the zoo whose weights do not ship, with seeded random ones."""
    try:
        return load_lifter(model, frames if model in zoo.MODELS else None)
    except FileNotFoundError:
        if model not in zoo.MODELS:
            raise
        return load_lifter(model, frames, untrained=True)


def _run(lifters: list[NamedModule], arguments: argparse.Namespace, console: Console) -> list[dict]:
    rows: list[dict] = []
    left_out: list[str] = []  # each told once
    groups = [(lifter, batch, threads) for lifter in lifters for threads in arguments.threads
              for batch in arguments.batch]
    with tempfile.TemporaryDirectory() as folder, Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(groups) * arguments.rounds)
        for lifter, batch, threads in groups:
            progress.update(task, description=f"{lifter.name}, batch {batch}, {threads} threads")
            torch.set_num_threads(threads)
            candidates = []
            for runtime in dict.fromkeys(arguments.runtimes or PRECISIONS):
                for precision in (p for p in PRECISIONS[runtime] if p in arguments.precisions):
                    try:
                        candidates.append(make_candidate(lifter, runtime, precision, threads, Path(folder)))
                    except (ImportError, peers.NotConverted) as error:
                        if arguments.runtimes:
                            raise
                        why = ("is not installed" if isinstance(error, ImportError)
                               else f"cannot run {lifter.name}: {error}")
                        if (reason := f"{runtime} {why}: left out") not in left_out:
                            left_out.append(reason)
                            console.print(reason)
            rows += measure_group(lifter, candidates, batch, threads, arguments.rounds, arguments.pace,
                                  lambda: progress.advance(task))
    return rows
