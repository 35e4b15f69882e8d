"""The report of a build: report.json, and the table that is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edgepose import enginefile, timing
from edgepose.build_engines.quantise import counted
from edgepose.checks import read_json

TABLE_COLUMNS = 128


@dataclass
class Row:
    """One engine in report.json: the keys of a benchmark row that apply, then the build's own."""

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
    tail_error_mm: float  # 99.9 % of the joints are nearer
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
    options: dict[str, Any] = field(default_factory=dict)  # those that the model's name does not say
    schemes: dict[str, str] = field(default_factory=dict)  # each eight-bit product's: quantise.schemes


def write_report(out: Path, rows: list[Row], say: Callable[[str], None] = print) -> None:
    """Writes the rows to report.json, beside those of engines that these are not about; a report that cannot be read is
    set aside."""
    report = {"machine": timing.machine(), "command": timing.command(),
              "rows": _rows_of_others(out / "report.json", rows, say) + [asdict(row) for row in rows]}
    enginefile.write_atomically(out / "report.json", (json.dumps(report, indent=1) + "\n").encode())


def _rows_of_others(report: Path, rows: list[Row], say: Callable[[str], None]) -> list[dict]:
    """The rows of an earlier report whose engines have no new row."""
    def about(row: dict) -> tuple:
        return (*(row[key] for key in ("model", "frames", "runtime", "precision", "batch")),
                str(row.get("options", {})))

    try:
        earlier = read_json(report.read_bytes())["rows"]
        return [row for row in earlier if about(row) not in {about(asdict(new)) for new in rows}]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        names = (report.with_suffix(f".damaged{number or ''}.json") for number in count())
        aside = next(name for name in names if not name.exists())
        report.rename(aside)
        say(f"{report} is damaged ({type(error).__name__}: {error}); it is now {aside.name}")
        return []


def wide_console() -> Console:
    """A console at least as wide as our tables, also where the output is no terminal."""
    console = Console()
    return Console(width=max(console.width, TABLE_COLUMNS))


def plainly(console: Console) -> Callable[[str], None]:
    """Prints lines as they are: paths and commands in them can be copied."""
    return lambda text: console.print(text, soft_wrap=True, markup=False, highlight=False)


def print_rows(rows: list[Row], out: Path, console: Console) -> None:
    """The rows as a table; latencies are of a call, of `batch` people."""
    options = "".join(f", {option}={value}" for option, value in rows[0].options.items())
    table = Table(
        title=f"{rows[0].model}, {rows[0].frames} frame{'s' * (rows[0].frames > 1)}{options}: engines in {out}/")
    for heading in ("engine", "error to torch, mm\nmean / p99.9 / max", "MPJPE mm\n(torch)",
                    "latency ms\np50 / p99", "size MB", ""):
        table.add_column(heading, justify="left" if heading in ("engine", "") else "right",
                         no_wrap=heading != "engine", overflow="fold")
    for row in rows:
        latency = f"{row.median_ms:.3f} / {row.p99_ms:.3f}" if row.median_ms else "-"
        accuracy = f"{row.mpjpe_mm:.2f} ({row.torch_mpjpe_mm:.2f})" if row.mpjpe_mm is not None else "untrained"
        verdict = "ok" if row.is_kept else f"[red]refused: {row.refusal}[/red]"
        variant = f"{row.runtime} {row.precision}" + f", batch {row.batch}" * (row.batch > 1)
        errors = f"{row.mean_error_mm:.4f} / {row.tail_error_mm:.2f} / {row.max_error_mm:.2f}"
        table.add_row(row.file or variant, errors, accuracy,
                      latency, f"{row.weight_bytes / 1e6:.2f}", verdict)
    console.print(table)
    for row in rows:
        if row.schemes:
            console.print(f"{row.runtime} {row.precision}: {counted(row.schemes)}; each product's in report.json")
    kept = [row for row in rows if row.file]
    if kept:
        best = min(kept, key=lambda row: (row.batch, row.median_ms))
        console.print(f"fastest on this machine: {out / best.file}")
