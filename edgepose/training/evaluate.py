"""The error of a model: on the papers' data sets, on the validation subjects of the motion capture, on real detections,
and beside two floors.

The validation windows are seen through seeded cameras, once by a perfect detector ("clean") and once by the simulated
one ("noisy"). The floors are the mean pose and a linear regression, both fitted to training windows through cameras of
the same kind: a model that is not far better has learnt nothing. The real clips go through `Stream`, as at run time;
their reference is triangulated from the same kind of detections and good to some 30 mm, so no figure below that means
anything. Other real clips are scored by `real_scores`. The papers' data sets and tables stand in `datasets` and
`protocols`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from ..checks import PICTURES, check_output
from ..clip import CLIPS, Clip, load_clip, load_windows, reference_of, stream_clip
from ..columns import PUBLISHED_INPUTS, inputs_of, outputs_of
from ..enginefile import write_atomically
from ..metrics import auc, mpjpe, n_mpjpe, p_mpjpe, pck
from ..skeleton import H36M17
from ..stream import Lifter
from ..zoo import target_frame
from .clips import CAMERAS
from .datasets import DATASETS, read_dataset
from .losses import ERROR_QUANTILE
from .mocap import draw_windows, only_source, read_motion, sources_of
from .models import lift, open_model
from .observation import AS_CAPTURED, knowing, observe_frames
from .protocols import AVERAGE, PROTOCOLS, Flipped, Table as Figures, flip_cost, papers_table
from .real_scores import answers_of_folder, score_all

WINDOWS = 4096  # from each source
FLOOR_WINDOWS = 20_000
SEED = 1
WIDTH = 132  # characters: a table of 15 actions needs them
KINDS = {"clean": False, "noisy": True}  # kinds of windows: does the detector err?
# Sources of validation subjects, whose figures stand apart.
MAIN_SOURCE, SOURCE_NAMES = "cmu", {"hdm05": "HDM05", "uiprmd": "UI-PRMD"}
REAL = "real"  # --data: real clips with a reference
AS_TOLD = {"length": "told the person's lengths", "depth": "told a depth camera's depths",
           "elevation": "told lens and gravity"}
CLOSE_MM = 50.0
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "MPJPE mm": mpjpe, "N-MPJPE mm": n_mpjpe, "P-MPJPE mm": p_mpjpe, "PCK@150 %": pck, "AUC %": auc}


def score(predicted_m: np.ndarray, target_m: np.ndarray) -> dict[str, float]:
    """All of METRICS: (N, J, 3) m, (N, J, 3) m."""
    return {name: metric(1000.0 * predicted_m, 1000.0 * target_m) for name, metric in METRICS.items()}


def seeded_windows(data: str | Path, split: str, count: int, frames: int, noisy: bool, source: str | None = None,
                   inputs: Sequence[str] = PUBLISHED_INPUTS,
                   known: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """(keypoints_norm (N, frames, 17, C), joints_m (N, frames, 17, 3)), the same in every call.

    source: of one only; None: of all. inputs: the columns; known: those beside x and y that have values.
    """
    generator, motion = torch.Generator().manual_seed(SEED), read_motion(data, split)
    windows = draw_windows(motion if source is None else only_source(motion, source), count, frames, generator)
    keypoints, joints = observe_frames(windows, generator, noisy, knowing(AS_CAPTURED, *known), inputs)
    return keypoints.numpy(), joints.numpy()


def floors(keypoints_norm: np.ndarray, target_m: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The mean pose and the least-squares linear map of single frames, as functions (N, J, 2) -> (N, J, 3) m."""
    def flat(keypoints: np.ndarray) -> np.ndarray:
        return np.concatenate([keypoints.reshape(len(keypoints), -1), np.ones((len(keypoints), 1))], 1)

    mean = target_m.mean(0)
    weights = np.linalg.lstsq(flat(keypoints_norm), target_m.reshape(len(target_m), -1), rcond=None)[0]
    return {"mean pose": lambda keypoints: np.repeat(mean[None], len(keypoints), 0),
            "linear regression": lambda keypoints: (flat(keypoints) @ weights).reshape(len(keypoints), -1, 3)}


def on_validation(model: Lifter, data: str | Path) -> dict[str, dict[str, float]]:
    """The model and the floors on the validation subjects, each source by itself: {row: {metric: value}}.

    Rows without a source are MAIN_SOURCE's. The floors are fitted to all training subjects and see the frame that is
    answered for. A model that takes more than keypoints has a row for each thing more.
    """
    answered = target_frame(model)
    fitted = {kind: floors(seen[:, 0], truth[:, 0]) for kind, noisy in KINDS.items()
              for seen, truth in [seeded_windows(data, "training", FLOOR_WINDOWS, 1, noisy)]}
    rows = {}
    for source in sorted(sources_of(read_motion(data, "validation")), key=lambda source: source != MAIN_SOURCE):
        whose = "" if source == MAIN_SOURCE else f", {SOURCE_NAMES.get(source, source)}"
        for kind, noisy in KINDS.items():
            inputs = inputs_of(model)
            keypoints, joints = seeded_windows(data, "validation", WINDOWS, model.frames, noisy, source, inputs)
            target = joints[:, answered]
            rows[f"model, {kind}{whose}"] = score(lift(model, keypoints), target)
            for name in (name for name in AS_TOLD if name in inputs):
                told, _ = seeded_windows(data, "validation", WINDOWS, model.frames, noisy, source, inputs, (name,))
                rows[f"model, {kind}{whose}, {AS_TOLD[name]}"] = score(lift(model, told), target)
            for name, floor in fitted[kind].items():
                rows[f"{name}, {kind}{whose}"] = score(floor(keypoints[:, answered, :, :2]), target)
    return rows


def _errors_on_validation(model: Lifter, data: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(predicted error, true distance) in mm of the validation subjects' joints, noisy 2D, all sources alike: (N, J)
    each."""
    predicted_mm, off_mm = [], []
    for source in sources_of(read_motion(data, "validation")):
        keypoints, joints = seeded_windows(data, "validation", WINDOWS, model.frames, True, source, inputs_of(model))
        answers = lift(model, keypoints, with_error=True)
        predicted_mm.append(1000 * answers[..., 3])
        off_mm.append(1000 * np.linalg.norm(answers[..., :3] - joints[:, target_frame(model)], axis=-1))
    return np.concatenate(predicted_mm), np.concatenate(off_mm)


def calibrated_error(model: Lifter, data: str | Path) -> float:
    """The factor for a model's predicted errors, so that ERROR_QUANTILE of the validation joints lie within them.

    The root, which is always right, does not count.
    """
    predicted, off = (_without_root(part, model) for part in _errors_on_validation(model, data))
    return float(np.quantile(off / np.maximum(predicted, 1e-6), ERROR_QUANTILE))


def error_coverage(model: Lifter, data: str | Path) -> dict[str, float]:
    """Parts of the validation joints but the root, in percent, that lie within the error that the model predicts: of
    all, and of those said to be off by less than CLOSE_MM. One standard deviation of a normal distribution holds
    68.3."""
    predicted, off = (_without_root(part, model) for part in _errors_on_validation(model, data))
    close = predicted < CLOSE_MM
    return {"all": 100.0 * float(np.mean(off <= predicted)),
            f"said to be under {CLOSE_MM:g} mm": 100.0 * float(np.mean(off[close] <= predicted[close]))
            if close.any() else float("nan")}


def _without_root(joints: np.ndarray, model: Lifter) -> np.ndarray:
    return np.delete(joints, model.skeleton.root, axis=1)


def on_clip(model: Lifter, clip: Clip) -> dict[str, float]:
    """The model in a `Stream` on real detections, frame by frame as at run time, without smoothing or delay."""
    poses, _ = stream_clip(model, clip)
    return score(np.stack([pose.joints_m for pose in poses]), reference_of(poses, clip))


def clip_files(folder: str | Path) -> list[Path]:
    """The real clips of a folder, one a camera of CAMERAS."""
    return [Path(folder) / f"balance_{camera}.npz" for camera in CAMERAS]


def evaluate(model: Lifter, data: str | Path | None = None,
             clips: str | Path | None = None) -> dict[str, dict[str, float]]:
    """Every figure there is: {row: {metric: value}}.

    data: motion capture, one .npz a subject; without it only what ships is used and there are no floors.
    clips: a folder with the real clips; None takes those that ship.
    """
    rows = on_validation(model, data) if data else {}
    keypoints, target = load_windows(model.frames, getattr(model, "is_causal", False))
    rows["shipped windows, noisy"] = score(lift(model, keypoints), target)
    for camera, file in zip(CAMERAS, clip_files(clips or CLIPS)):
        rows[f"real detections, {camera}"] = on_clip(model, load_clip(str(file)))
    return rows


def on_dataset(model: Lifter, name: str, path: str | Path, keypoints: str = "gt", actions: Sequence[str] | None = None,
               flip: bool = False) -> tuple[Figures, dict[str, float]]:
    """(the papers' table of a data set's test, what flip averaging costs).

    flip: adds a row with flip averaging to each; the cost is then a call's median time in ms without and with it, and
    their ratio. Raises what read_dataset and papers_table raise.
    """
    clips = read_dataset(name, path, "test", keypoints, actions)
    table = papers_table(model, name, clips)
    if not flip:
        return table, {}
    flipped = papers_table(model, name, clips, flip=True)
    table = {label: row for metric in table
             for label, row in ((metric, table[metric]), (f"{metric} flip", flipped[metric]))}
    return table, cost_of_flip(model)


def cost_of_flip(model: Lifter) -> dict[str, float]:
    """A call's median time for one window in ms, without and with flip averaging, and their ratio."""
    plain_ms, flip_ms = flip_cost(
        model, np.zeros((1, model.frames, len(model.skeleton), len(inputs_of(model))), np.float32))
    return {"plain_ms": plain_ms, "flip_ms": flip_ms, "ratio": flip_ms / plain_ms}


def draw(model: Lifter, args: argparse.Namespace) -> None:
    """The pictures that were asked for, of the motion capture's validation set (MAIN_SOURCE's) where it is given, else
    of the windows that ship."""
    from .error_plots import plot_attention, plot_errors

    shipped = load_windows(model.frames, getattr(model, "is_causal", False))
    if args.plot_attention:
        plot_attention(model, args.model, shipped[0], args.plot_attention)
        print(f"attention maps: {args.plot_attention}")
    if args.plot and args.data != REAL:
        windows = {"shipped windows, noisy": shipped}
        if args.data == "mocap":
            windows = {}
            for kind, noisy in KINDS.items():
                keypoints, joints = seeded_windows(args.path, "validation", WINDOWS, model.frames, noisy, MAIN_SOURCE,
                                                   inputs_of(model))
                windows[kind] = keypoints, joints[:, target_frame(model)]
        plot_errors(model, args.model, windows, args.plot)
        print(f"picture of the errors: {args.plot}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose evaluate`."""
    parser.add_argument("--model", required=True, metavar="NAME_OR_FILE",
                        help="shipped weights, a checkpoint, or an engine file")
    parser.add_argument("--frames", type=int,
                        help="window length, for shipped weights (default: the model's usual one)")
    parser.add_argument("--trust", action="store_true",
                        help="load an engine that is a program, as those for ONNX Runtime or TensorRT are: you trust "
                             "who made it")
    parser.add_argument("--data", choices=("mocap", REAL, *DATASETS), metavar="NAME",
                        help=f"a data set: mocap adds its validation subjects; {REAL} is a folder of real clips with a "
                             f"reference; {', '.join(DATASETS)} print their papers' table instead (default: only what "
                             "ships)")
    parser.add_argument("--path", metavar="DIR", help="where the data set lies")
    parser.add_argument("--keypoints", metavar="KIND",
                        help="where a papers' data set has its 2D from: gt, cpn (h36m) or detectron (humaneva) "
                             "(default: gt)")
    parser.add_argument("--actions", nargs="+", metavar="ACTION", help="only these of a papers' data set")
    parser.add_argument("--delay", nargs="+", type=int, metavar="FRAMES",
                        help=f"for {REAL}: later frames to wait for (default: none, and all that the model can use)")
    parser.add_argument("--flip", action="store_true",
                        help="flip averaging beside the plain figures, and what it costs")
    parser.add_argument("--clips", metavar="DIR",
                        help="a folder with the real clips balance_cam1.npz, balance_cam2.npz and balance_cam3.npz, "
                             "where not those that ship")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--plot", type=Path, metavar="FILE",
                        help="a picture: error per joint, its distribution, and against the delay (matplotlib)")
    parser.add_argument("--plot-attention", type=Path, metavar="FILE",
                        help="a picture: the attention maps of a posegate model (matplotlib)")


def _check(args: argparse.Namespace) -> None:
    if bool(args.data) != bool(args.path):
        raise ValueError("--data NAME and --path DIR go together: " + (f"where does {args.data} lie?" if args.data else
                         f"which data set lies in {args.path}: mocap, {REAL}, {', '.join(DATASETS)}?"))
    for_papers = [option for option in ("keypoints", "actions") if getattr(args, option)]
    if for_papers and args.data not in DATASETS:
        raise ValueError(
            f"--{for_papers[0]} is for the papers' data sets; give --data {', '.join(DATASETS)} and --path DIR")
    for option, why in (("clips", "its papers' table has no real clips"),
                        ("plot", "the picture is of --data mocap or of what ships")):
        if getattr(args, option) and args.data in DATASETS:
            raise ValueError(f"--{option} is not for {args.data}: {why}")
    for option in ("clips", "flip"):
        if getattr(args, option) and args.data == REAL:
            raise ValueError(f"--{option} is not for {REAL}, which scores the clips of --path DIR as "
                             "`Stream` answers them: leave it out")
    if args.delay and args.data != REAL:
        raise ValueError(f"--delay is for --data {REAL}")
    absent = [file for file in clip_files(args.clips) if not file.is_file()] if args.clips else []
    if absent:
        raise ValueError(f"--clips {args.clips}: wanted {', '.join(file.name for file in clip_files(args.clips))} "
                         f"in it; there is no {absent[0]}")


def main(args: argparse.Namespace) -> int:
    """Runs `edgepose evaluate`: prints a table."""
    _check(args)
    check_output(args.plot, PICTURES)
    check_output(args.plot_attention, PICTURES)
    check_output(args.json, (".json",))
    model, metadata = open_model(args.model, args.frames, args.trust)
    draw(model, args)
    said: dict[str, Any] = {"model": metadata}
    more: list[Figures] = []
    if args.data == REAL:
        where, caption, (rows, *more) = _on_real(model, args, said)
    elif args.data in DATASETS:
        keypoints = args.keypoints or "gt"
        rows, cost = on_dataset(model, args.data, args.path, keypoints, args.actions, args.flip)
        said |= {"data": args.data, "keypoints": keypoints, "figures": rows} | ({"flip": cost} if cost else {})
        where = f"{args.data}, {keypoints} 2D"
        caption = _said_of_flip(rows, cost, list(PROTOCOLS[args.data].rows)) if cost else ""
        absent = [column for column in PROTOCOLS[args.data].columns.values() if column not in next(iter(rows.values()))]
        if absent and not args.actions:
            caption = f"NOT the papers' average: the data has no {', '.join(absent)}. {caption}"
    else:
        rows = evaluate(model, args.path, args.clips)
        where, caption = f"{len(H36M17)} joints", "The reference of the real detections is good to some 30 mm."
        if args.flip:
            flipped = {f"{row}, flip": figures
                       for row, figures in evaluate(Flipped(model), args.path, args.clips).items()
                       if row not in rows or figures != rows[row]}
            cost = cost_of_flip(model)
            rows, said["flip"] = rows | flipped, cost
            caption += (f" Flip averaging takes {cost['ratio']:.2f} x the time of a call "
                        f"({cost['plain_ms']:.2f} -> {cost['flip_ms']:.2f} ms).")
        said["figures"] = rows
        if args.path and "error" in outputs_of(model):
            said["error_coverage"] = coverage = error_coverage(model, args.path)
            caption += " Within the error it predicts: " + ", ".join(f"{part:.1f} % of {joints}"
                                                                     for joints, part in coverage.items()) + "."
    console = Console()
    console.width = max(console.width, WIDTH)
    for part in (f"{args.model}, {where}, {model.frames} frame(s)", *map(_table, (rows, *more)),
                 *([caption] if caption else [])):
        console.print(part, markup=False, highlight=False)
    if args.json:
        write_atomically(args.json, (json.dumps(said, indent=1) + "\n").encode())
    return 0


def _table(rows: Figures) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for column in next(iter(rows.values())):
        table.add_column(column, justify="right", no_wrap=True)
    for row, figures in rows.items():
        table.add_row(row, *(f"{value:.1f}" if isinstance(value, float) else str(value) for value in figures.values()))
    return table


def _on_real(model: Lifter, args: argparse.Namespace, said: dict[str, Any]) -> tuple[str, str, list[Figures]]:
    """(what was scored, a caption, the tables) of a folder of real clips, which are drawn where that is asked for."""
    from .real_plots import plot_real

    answers, left_out = answers_of_folder(model, args.path, args.delay)
    scores = score_all(answers, left_out)
    said |= {"data": REAL, **scores.as_json()}
    if args.plot:
        plot_real(answers, args.model, args.plot)
        print(f"picture of the poses: {args.plot}")
    caption = ("The references are triangulated from detections and good to some 30 mm; a group's figure is the mean "
               "of its clips.")
    if scores.left_out:
        caption += f" Left out: {'; '.join(f'{name} ({why})' for name, why in scores.left_out.items())}."
    return "real clips, 12 limb joints from the middle of the hips", caption, scores.tables()


def _said_of_flip(rows: Figures, cost: dict[str, float], metrics: Sequence[str]) -> str:
    gains = ", ".join(f"{metric} {rows[f'{metric} flip'][AVERAGE] - rows[metric][AVERAGE]:+.1f}" for metric in metrics)
    return (f"Flip averaging: {gains} for {cost['ratio']:.2f} x the time of a call "
            f"({cost['plain_ms']:.2f} -> {cost['flip_ms']:.2f} ms, one window).")
