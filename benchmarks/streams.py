"""edgepose bench --stream: the time of a frame against the reach, of models that remember frames and of the Strided
Transformer, which takes its whole window again for every frame.

"people" is the number of people in one call. "CPU ms" is the processor time of a call: on a busy machine it says more
than the clock. Weights that do not ship are seeded and random, which changes no time; int8 is every product in eight
bits but the first and the last.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import edgepose
from edgepose import enginefile, timing, zoo
from edgepose.build_engines import quantise
from edgepose.build_engines.build import build
from edgepose.build_engines.lifters import NamedModule, load_lifter
from edgepose.build_engines.lower import lower
from edgepose.build_engines.variants import EIGHT_BITS
from edgepose.zoo.strided_causal import DILATIONS

MODEL = "strided-causal"
PEER = "strided{}"  # the same reach by windows
PEOPLE = (1, 100)  # people in a call of MODEL; PEER is called for one
GAP_S = 1 / 50
ROUND_MS, MOST_CALLS = 40.0, 50  # the limits for one candidate in one round


def measure(reaches: list[int], precisions: list[str], threads: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each model, reach, precision and number of people, timed in interleaved rounds."""
    calls: dict[tuple, Callable[[], object]] = {}
    about: dict[tuple, dict[str, Any]] = {}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for reach in reaches:
            for name in (MODEL, PEER.format(reach)):
                lifter = _lifter(name, reach)
                for precision in precisions:
                    engine = _engine(lifter, precision, threads, Path(folder))
                    for people in PEOPLE if engine.state else (1,):
                        key = (name, reach, precision, people)
                        calls[key] = _call(engine, people)
                        about[key] = {"macs": zoo.macs(lifter.module), "state_bytes": 4 * engine.state}
        slowest = {key: float(result.times_ms.min())
                   for key, result in timing.interleaved(calls, rounds=1, calls=2).items()}
        for key, call in calls.items():  # as many calls of each as fill a round
            count = max(3, min(MOST_CALLS, int(ROUND_MS / slowest[key])))
            calls[key] = _repeated(call, count, about[key])
        for _ in range(rounds):
            for call in calls.values():
                call()
    rows = []
    for (name, reach, precision, people), row in about.items():
        times_ms, cpu_ms = np.array(row.pop("times_ms")), row.pop("cpu_ms")
        rows.append({"model": name, "frames": reach, "precision": precision, "people": people, "threads": threads,
                     **timing.percentiles(times_ms), "cpu_ms": float(np.median(cpu_ms)), **row})
    return rows


def _repeated(call: Callable[[], object], count: int, row: dict[str, Any]) -> Callable[[], None]:
    """A round of a candidate, which adds its times to the row."""
    row |= {"times_ms": [], "cpu_ms": []}

    def a_round() -> None:
        result = timing.interleaved({"": call}, rounds=1, calls=count)[""]
        row["times_ms"] += result.times_ms.tolist()
        row["cpu_ms"].append(result.cpu_ms_per_call)
    return a_round


def _lifter(name: str, reach: int) -> NamedModule:
    """The lifter with the weights that ship, or seeded random ones."""
    try:
        return load_lifter(name, reach)
    except FileNotFoundError:
        return load_lifter(name, reach, untrained=True)


def _engine(lifter: NamedModule, precision: str, threads: int, folder: Path) -> edgepose.Engine:
    scales = None
    if precision in EIGHT_BITS:
        names = [name for _, name, _ in quantise.products(lower(lifter.module, "fp32")[0])]
        scales = {"w8": {name: {} for name in names}, "rows": {name: {"x_bits": 8} for name in names}}
    file = folder / f"{lifter.name}_{lifter.module.frames}_{precision}.epose"
    enginefile.write(file, *build(lifter, "native", precision, scales))
    return edgepose.load(file, threads=threads)


def _call(engine: edgepose.Engine, people: int) -> Callable[[], object]:
    """One frame of everybody: a step, or the whole window."""
    frames = 1 if engine.state else engine.frames
    shape = (people, frames, len(engine.skeleton), len(engine.inputs))
    x = np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)
    out = np.empty((people, shape[2], len(engine.outputs)), np.float32)
    if not engine.state:
        return lambda: engine.run(x, out)
    x[..., engine.inputs.index("gap")] = GAP_S
    states = [np.zeros(engine.state, np.float32) for _ in range(people)]
    for _ in range(engine.frames):  # memories are full
        engine.step(x, states, out)
    return lambda: engine.step(x, states, out)


def print_rows(rows: list[dict[str, Any]], console: Console) -> None:
    """The table; "x window" is how many times as fast a frame of one person is as the window of the same reach, by
    processor time."""
    table = Table(title=f"a frame, {rows[0]['threads']} thread(s)", title_justify="left")
    for heading in ("model", "frames", "", "people", "p50 ms", "p99 ms", "CPU ms", "state KB", "million MACs",
                    "x window"):
        table.add_column(heading, justify="left" if heading in ("model", "") else "right", no_wrap=True)
    windows = {(row["frames"], row["precision"]): row["cpu_ms"] for row in rows if row["model"] != MODEL}
    for row in rows:
        faster = windows[row["frames"], row["precision"]] / row["cpu_ms"]
        is_one = row["model"] == MODEL and row["people"] == 1
        table.add_row(row["model"], str(row["frames"]), row["precision"], str(row["people"]), f"{row['median_ms']:.3f}",
                      f"{row['p99_ms']:.3f}", f"{row['cpu_ms']:.3f}", f"{row['state_bytes'] / 1000:.0f}",
                      f"{row['macs'] / 1e6:.1f}", f"{faster:.0f}" if is_one else "-")
    console.print(table)


def run(arguments: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measures and prints; the rows. arguments: of `edgepose bench`."""
    reaches = [arguments.frames] if arguments.frames else list(DILATIONS)
    rows = []
    for threads in arguments.threads:
        found = measure(reaches, arguments.precisions, threads, arguments.rounds)
        print_rows(found, console)
        rows += found
    return rows
