"""docs/results.md: every model of the zoo, its size, its latency in each precision, and its errors on the same
validation windows.

    python -m edgepose.benchmarks.zoo_table --path MOCAP_DIR --weights DIR [DIR ...] --weakly FILE [FILE ...]
        --out docs/results.md --json benchmarks/results/zoo.json

A model is scored with the first checkpoint <name>.safetensors that lies in one of the --weights folders; one that has
none is timed with random weights. --weakly: checkpoints of training.weakly_supervised, with and without pairs; their
figures are those of their last validation. With --models the rows of all other models come from the --json file;
without --weakly those of the weakly supervised ones do.
Errors are of the native FP32 engine, which is torch's to 0.01 mm. Latencies are of a call for one person, all engines
of a model interleaved.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

import edgepose
from edgepose import enginefile, timing, zoo
from edgepose.benchmarks.run import eight_bit_scales
from edgepose.build_engines.build import build
from edgepose.build_engines.lifters import NamedModule, load_lifter
from edgepose.columns import inputs_of
from edgepose.zoo.checkpoints import check_metadata, load_checkpoint, read_tensors
from edgepose.metrics import mpjve
from edgepose.training.evaluate import METRICS, SEED, WINDOWS, on_validation
from edgepose.training.mocap import draw_windows, read_motion
from edgepose.training.models import lift
from edgepose.training.observation import observe_frames

PRECISIONS = ("fp32", "fp16", "w8", "int8")
KINDS = ("clean", "noisy")
SEQUENCES, MOMENTS = 24, 60  # validation motion for the velocity error: 1.2 s each at 50 Hz
LONGEST = max(max(entry.frames) for entry in zoo.MODELS.values())
ROUNDS, CALLS = 12, 20
VELOCITY = "MPJVE mm/frame"
TEXT = """# Results: every model of the zoo

Made by `{command}`.

{machine}. Trained on the same motion capture (18 subjects; 5 others are the validation set), scored on the same
{windows} validation windows of random cameras, once with perfect 2D, once with a detector's noise; MPJVE on
{sequences} sequences of {moments} frames. The target is the middle frame; long windows see the future of a recorded
clip. Latency: batch 1, one thread, median, native engine.

**What the budget means.** Each row had ten minutes of one processor core (`edgepose train --minutes 10`, the same
options and seed), where the papers take days of a GPU; the weights that ship for some of them had longer (their cards
say how long). In that time a small network makes far more steps than a large one (and on a shared machine a run may
get some fewer than another). So the table ranks what a small budget buys, not the architectures: a narrower form of a
model (`-s`) is often ahead of the full one, and windows of 243 and 351 frames have hardly begun to learn. The floors
under the table say how far each has come.

{accuracy}

Floors on the same windows: {floors}.
{weakly}
## Size and latency

A model that has no row above is timed with random weights, which take as long. W8 and INT8: every product but the
first and the last in eight bits, whatever that costs in accuracy (`edgepose compile` keeps some in FP16 until it is
within 1.0 mm of FP32).

{cost}
"""
WEAKLY = """
## Without 2D-3D pairs

`python -m edgepose.training.weakly_supervised --model NAME --path DIR --out DIR --steps N --seed N`: 2D keypoints of
one half of the training subjects, 3D poses of the other; `--paired`: the same generator, as long, with pairs. Of the
validation subjects, MPJPE after the best scale for each pose, since the picture does not say how large a person is;
the mean pose is that of the training poses.

{table}
"""


@dataclass
class Row:
    """One model: what it costs, and its figures where it has weights."""

    model: str
    frames: int
    parameters: int
    macs: int
    latency_ms: dict[str, float]
    steps: int | None
    command: str | None
    figures: dict[str, dict[str, float]] | None


def sequences(path: Path, noisy: bool) -> tuple[np.ndarray, np.ndarray]:
    """Seeded validation motion as a model sees it: keypoints_norm (S, MOMENTS + LONGEST - 1, 17, 2), joints_m of each
    frame."""
    generator = torch.Generator().manual_seed(SEED)
    motion = draw_windows(read_motion(path, "validation"), SEQUENCES, MOMENTS + LONGEST, generator)[:, :-1]
    return tuple(part.numpy() for part in observe_frames(motion, generator, noisy))


def velocity_error(engine: edgepose.Engine, keypoints: np.ndarray, joints: np.ndarray) -> float:
    """MPJVE over the same MOMENTS of each sequence, whatever the model's window: mm a frame."""
    first, answered = LONGEST // 2, zoo.target_frame(engine)
    errors = []
    for sequence, truth in zip(keypoints, joints):
        starts = first - answered + np.arange(MOMENTS)
        windows = np.ascontiguousarray(sequence[starts[:, None] + np.arange(engine.frames)])
        errors.append(mpjve(1000.0 * lift(engine, windows), 1000.0 * truth[first:first + MOMENTS]))
    return float(np.mean(errors))


def read_weakly(file: Path) -> dict[str, str | float]:
    """The run of a checkpoint by training.weakly_supervised, and its figures.

    Raises ValueError, with the path, if it is of another training.
    """
    _, metadata = read_tensors(file)
    check_metadata(file, metadata, {"model": str, "options": dict, "seed": int, "command": str, "figures": dict})
    words = metadata["command"].split()
    if words[:3] != ["python", "-m", "edgepose.training.weakly_supervised"]:
        raise ValueError(f"{file} was made by {metadata['command']!r}; --weakly is for checkpoints of "
                         "edgepose.training.weakly_supervised")
    options = ", ".join(f"{name} {value}" for name, value in metadata["options"].items())
    return {"model": metadata["model"], "options": options, "keypoints": "noisy" if "--noisy" in words else "clean",
            "pairs": "yes" if "--paired" in words else "no", "seed": metadata["seed"], **metadata["figures"]}


def find(name: str, folders: list[Path]) -> tuple[NamedModule, dict]:
    """The model with the weights that one of the folders has, and what its checkpoint says; {} for random weights."""
    for folder in folders:
        file = folder / f"{name}.safetensors"
        if file.is_file():
            module, metadata = load_checkpoint(file)
            return NamedModule(name, module, True, metadata["options"]), metadata
    return load_lifter(name, untrained=True), {}


def measure_model(name: str, path: Path, folders: list[Path],
                  moving: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[Row, dict]:
    """The model's row, and the floors' figures that were made along with it."""
    lifter, metadata = find(name, folders)
    frames = lifter.module.frames
    scales = eight_bit_scales(lifter.module)
    with tempfile.TemporaryDirectory() as folder:
        engines = {}
        for precision in PRECISIONS:
            file = Path(folder) / f"{precision}.epose"
            enginefile.write(file, *build(lifter, "native", precision, scales))
            engines[precision] = edgepose.load(file)
        x = np.zeros((1, frames, len(lifter.module.skeleton), len(inputs_of(lifter.module))), np.float32)
        out = engines["fp32"].run(x)
        timings = timing.interleaved({p: lambda e=e: e.run(x, out) for p, e in engines.items()}, ROUNDS, CALLS)
        latency_ms = {p: float(np.median(t.times_ms)) for p, t in timings.items()}
        figures, floors = None, {}
        if metadata:
            rows = on_validation(engines["fp32"], path)
            figures = {kind: rows[f"model, {kind}"] | {VELOCITY: velocity_error(engines["fp32"], *moving[kind])}
                       for kind in KINDS}
            floors = {row: value for row, value in rows.items() if not row.startswith("model")}
    steps = metadata.get("figures", {}).get("steps") if metadata else None
    return Row(name, frames, zoo.parameters(lifter.module), zoo.macs(lifter.module), latency_ms, steps,
               metadata.get("command"), figures), floors


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A table, the first column to the left."""
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(rows: list[Row], floors: dict[str, dict[str, float]], weakly: list[dict], command: str, machine: dict) -> str:
    """docs/results.md."""
    scored = sorted((row for row in rows if row.figures), key=lambda row: row.figures["noisy"]["MPJPE mm"])
    # Rows of an earlier run may lack a metric that is newer than they.
    metrics = [metric for metric in (*METRICS, VELOCITY)
               if all(metric in row.figures[kind] for row in scored for kind in KINDS)]
    accuracy = markdown(["model", "frames", "steps", *(f"{metric}, clean / noisy" for metric in metrics)], [
        [f"`{row.model}`", str(row.frames), f"{row.steps:,}" if row.steps else "see card",
         *(" / ".join(f"{row.figures[kind][metric]:.1f}" for kind in KINDS) for metric in metrics)] for row in scored])
    cost = markdown(["model", "frames", "parameters, M", "MACs, M", *(f"{p.upper()}, ms" for p in PRECISIONS)], [
        [f"`{row.model}`", str(row.frames), f"{row.parameters / 1e6:.2f}", f"{row.macs / 1e6:.1f}",
         *(f"{row.latency_ms[p]:.2f}" for p in PRECISIONS)] for row in rows])
    headings = ["generator", "options", "keypoints", "pairs", "steps", "seed", "MPJPE after scaling, mm",
                "mean pose, mm"]
    weak = markdown(headings, [
        [f"`{run['model']}`", *(str(run[key]) for key in ("options", "keypoints", "pairs")), f"{run['steps']:,}",
         str(run["seed"]), *(f"{run[key]:.1f}" for key in ("validation_scaled_mpjpe_mm", "mean_pose_scaled_mpjpe_mm"))]
        for run in weakly])
    text = "; ".join(f"{name}: MPJPE {figures['MPJPE mm']:.1f} mm, P-MPJPE {figures['P-MPJPE mm']:.1f} mm"
                     for name, figures in floors.items())
    where = f"{machine['processor']}, {machine['instruction_sets'][0]}, Python {machine['python']}"
    return TEXT.format(command=command, machine=where, windows=WINDOWS, sequences=SEQUENCES, moments=MOMENTS,
                       accuracy=accuracy, floors=text, weakly=weakly and WEAKLY.format(table=weak) or "", cost=cost)


def main(arguments: argparse.Namespace) -> None:
    """Writes the page and the rows."""
    moving = {kind: sequences(arguments.path, kind == "noisy") for kind in KINDS}
    weakly = [read_weakly(file) for file in arguments.weakly]
    rows, floors = [], {}
    with Progress() as progress:
        for name in progress.track(arguments.models, description="models"):
            row, found = measure_model(name, arguments.path, arguments.weights, moving)
            rows.append(row)
            floors = floors or (found if row.frames == 1 else {})
    if arguments.json and arguments.json.is_file():
        earlier = json.loads(arguments.json.read_text())
        new, floors, weakly = ({row.model: row for row in rows}, floors or earlier["floors"],
                               weakly or earlier.get("weakly", []))
        by_name = {row["model"]: Row(**row) for row in earlier["rows"]} | new
        rows = [by_name[name] for name in zoo.MODELS if name in by_name]
    machine = timing.machine()
    command = ("python -m edgepose.benchmarks.zoo_table --path DIR --weights DIR ... --weakly FILE ... "
               "--out docs/results.md --json benchmarks/results/zoo.json")
    enginefile.write_atomically(arguments.out, page(rows, floors, weakly, command, machine).encode())
    if arguments.json:
        report = {"machine": machine, "commit": timing.commit(), "command": command, "floors": floors, "weakly": weakly,
                  "rows": [asdict(row) for row in rows]}
        enginefile.write_atomically(arguments.json, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--path", type=Path, required=True, metavar="DIR", help="motion capture, one .npz a subject")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, metavar="DIR", help="folders of checkpoints")
    parser.add_argument("--weakly", type=Path, nargs="+", default=[], metavar="FILE",
                        help="checkpoints of training.weakly_supervised")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--models", nargs="+", choices=zoo.MODELS, default=list(zoo.MODELS), metavar="NAME")
    torch.set_num_threads(1)
    main(parser.parse_args())
