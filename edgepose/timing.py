"""Timing: rounds that interleave the candidates, and the figures reported. Only the probes need the native kernels."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SETTLE_S = 0.3  # by then the threads of the candidate before have stopped spinning


@dataclass
class Timing:
    """The calls of one candidate: each one's time, and the processor time (all threads) a call took on average."""

    times_ms: np.ndarray
    cpu_ms_per_call: float


def interleaved(candidates: Mapping[str, Callable[[], object]], rounds: int, calls: int, pace_hz: float | None = None,
                after_round: Callable[[], object] = lambda: None) -> dict[str, Timing]:
    """Times each candidate: every round runs each one `calls` times in a row, after one call that is not counted.

    pace_hz: calls start at that rate instead of back to back, as with a camera: caches go cold between two frames.
    The processor time then includes what a runtime's threads burn while they wait for the next frame.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    cpu_s = dict.fromkeys(candidates, 0.0)
    for _ in range(rounds):
        for name, call in candidates.items():
            if pace_hz is not None:
                time.sleep(SETTLE_S)
            call()
            cpu_start, due = time.process_time(), time.perf_counter()
            for _ in range(calls):
                if pace_hz is not None:
                    due += 1 / pace_hz
                    time.sleep(max(0.0, due - time.perf_counter()))
                start = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - start) * 1e3)
            if pace_hz is not None:
                time.sleep(max(0.0, due + 1 / pace_hz - time.perf_counter()))
            cpu_s[name] += time.process_time() - cpu_start
        after_round()
    return {name: Timing(np.array(values), cpu_s[name] * 1e3 / len(values)) for name, values in times.items()}


def percentiles(times_ms: np.ndarray) -> dict[str, float]:
    """median_ms, p90_ms, p99_ms."""
    return {f"{name}_ms": float(np.percentile(times_ms, q)) for name, q in (("median", 50), ("p90", 90), ("p99", 99))}


def machine() -> dict[str, object]:
    """The machine of a figure: processor, cores this process may use, instruction sets, Python."""
    from . import _native
    from .machine import cores, processor

    return {"processor": processor(), "architecture": platform.machine(), "cores": cores(),
            "instruction_sets": _native.isas(), "system": platform.system(), "python": platform.python_version()}


def command() -> list[str]:
    """The command line of this process, without the folder of its program."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def commit() -> str | None:
    """The git commit of the source tree this runs from, "+changes" if it has any; None for an installed package."""
    here = Path(__file__).resolve().parents[1]
    if not (here / "csrc").is_dir():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True,
                              check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=here).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + "+changes" * bool(changed)


def peak_flops(threads: int, seconds: float = 0.3, whole_numbers: bool = False) -> float:
    """Float32 operations a second of `threads` threads that do nothing but multiply and add registers, or int8
    operations; the best of several tries, since the machine may be shared."""
    from . import _native

    probe, iterations = _native.probe_dots if whole_numbers else _native.probe_flops, 200_000

    def spin() -> int:
        return probe(iterations)
    return _best_rate(spin, threads, seconds)


def read_bandwidth(size: int, threads: int, seconds: float = 0.3) -> float:
    """Bytes a second at which `threads` threads read a block of `size` bytes again and again, a part each."""
    from . import _native

    block = np.ones(max(size // 4 // threads, 1024), np.float32)
    blocks = [block.copy() for _ in range(threads)]
    take = iter(range(1 << 62))

    def read() -> int:
        mine = blocks[next(take) % threads]
        return _native.probe_read(mine, max(1, (1 << 24) // mine.nbytes))
    return _best_rate(read, threads, seconds)


def _best_rate(work: Callable[[], int], threads: int, seconds: float) -> float:
    best, end = 0.0, time.perf_counter() + seconds
    with ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() < end:
            start = time.perf_counter()
            done = sum(pool.map(lambda _: work(), range(threads)))
            best = max(best, done / (time.perf_counter() - start))
    return best
