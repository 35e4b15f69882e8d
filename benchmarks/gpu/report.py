"""The report of the GPU benchmark: its machine, its rows, its aims, and the end of each stage of suite.sh.

Needs the standard library alone, so that a failure is written down also where edgepose does not import:

    python report.py REPORT.json --stage NAME OUTCOME SECONDS SAID
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

AIMED_AT = ("ampose", "strided27")  # on an H200, at batch 1
AIMED_PRECISIONS = ("fp16", "int8")
TIMES_TENSORRT = 2.0  # the least speed-up over TensorRT FP16
TIMES_READING = 3.0  # the most time, in times of reading the weights once


def read(path: Path) -> dict:
    """The report at `path`; a new one of this machine if there is none. Raises ValueError, naming the file, if it is
    something else."""
    if not path.exists():
        return new()
    try:
        report = json.loads(path.read_text())
        if {"machine", "runs", "rows", "aims", "stages"} <= report.keys():
            return report
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"{path} is no report of the GPU benchmark")


def new() -> dict:
    """A report of this machine without rows."""
    return {"machine": machine(), "runs": [], "rows": [], "aims": aims([]), "stages": []}


def write(path: Path, report: dict) -> None:
    """Writes a report; a reader sees the old one or the new one, never a part of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(report, indent=1) + "\n")
    beside.replace(path)


def with_run(report: dict, run: dict, rows: list[dict]) -> dict:
    """A report with the rows of one more run of the benchmark, and what it was run with. A row that was measured
    replaces what was there of its kind; one that was not replaces none that was."""
    by_key = {_kind(row): row for row in report["rows"]}
    for row in rows:
        if is_measured(row) or not is_measured(by_key.get(_kind(row), {})):
            by_key[_kind(row)] = {**row, "run": len(report["runs"])}
    # The sort is stable: runtimes keep their order.
    together = sorted(by_key.values(), key=lambda row: (row["model"], row["batch"]))
    return {**report, "runs": [*report["runs"], run], "rows": together, "aims": aims(together)}


def is_measured(row: dict) -> bool:
    """True for a row with figures, False for one with the reason why it has none."""
    return "median_ms" in row


def _kind(row: dict) -> tuple:
    return row["model"], row["runtime"], row["precision"], row["batch"]


def aims(rows: list[dict]) -> list[dict]:
    """The aims of the CUDA engine at batch 1, each with the measured ratio and if that meets it; None where a row is
    missing."""
    found = {_kind(row): row for row in rows if is_measured(row)}
    answers = []
    for model in AIMED_AT:
        for precision in AIMED_PRECISIONS:
            ours, theirs = (found.get((model, runtime, precision, 1)) for runtime in ("cuda", "tensorrt"))
            name = f"{model} {precision}, batch 1"
            if ours and theirs:
                ratio = theirs["median_ms"] / ours["median_ms"]
                seen = {"ratio": ratio, "is_met": ratio >= TIMES_TENSORRT}
            else:
                seen = {"ratio": None, "is_met": None,
                        "why": f"not measured: {'TensorRT' if ours else 'the CUDA engine'}"}
            answers.append({"aim": f"{name}: at least {TIMES_TENSORRT:g} x as fast as TensorRT "
                                   "(medians, numpy to numpy)", **seen})
            if ours:
                ratio = ours["device_ms"] / ours["read_ms"]
                seen = {"ratio": ratio, "is_met": ratio <= TIMES_READING,
                        "ratio_of_median": ours["median_ms"] / ours["read_ms"]}
            else:
                seen = {"ratio": None, "is_met": None, "why": "not measured: the CUDA engine"}
            answers.append({"aim": f"{name}: device time at most {TIMES_READING:g} x that of reading the weights once",
                            **seen})
    return answers


def in_words(aim: dict) -> str:
    """An aim and whether it is met, in a line."""
    if aim["is_met"] is None:
        return f"{aim['aim']}: {aim['why']}"
    return f"{aim['aim']}: {aim['ratio']:.2f} x, {'met' if aim['is_met'] else 'NOT met'}"


def machine() -> dict:
    """The GPU, its driver and CUDA as their own tools tell of them, and the computer around it; None where a tool is
    not there."""
    gpu = _said("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
    name, capability, driver = [*(gpu or "").partition("\n")[0].split(", "), None, None, None][:3]
    release = re.search(r"release ([\d.]+)", _said("nvcc", "--version") or "")
    processor = re.search(r"model name\s*: (.*)", _text("/proc/cpuinfo"))
    return {"gpu": name or _text("/proc/device-tree/model").strip("\0") or None, "compute_capability": capability,
            "driver": driver or _text("/etc/nv_tegra_release").partition("\n")[0] or None,
            "cuda": release and release[1],
            "processor": processor[1] if processor else platform.machine(), "architecture": platform.machine(),
            "cores": os.cpu_count(), "system": platform.system()}


def _said(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def main(arguments: list[str]) -> int:
    """Adds a stage to the report of the command line."""
    if len(arguments) != 6 or arguments[1] != "--stage":
        print(__doc__, file=sys.stderr)
        return 2
    path, (name, outcome, seconds, output) = Path(arguments[0]), arguments[2:]
    report = read(path)
    report["stages"] = [stage for stage in report["stages"] if stage["stage"] != name]
    report["stages"].append({"stage": name, "outcome": outcome, "seconds": int(seconds), "said": output})
    write(path, report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
