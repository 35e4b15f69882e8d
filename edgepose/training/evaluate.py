"""How good a model is: on the validation subjects, on real detections, and beside two floors.

The validation windows are seen through seeded cameras, once by a perfect detector ("clean") and once by the simulated
one ("noisy"). The floors are the mean pose and a linear regression, both fitted to training windows through cameras of
the same kind: a model that is not far better has learnt nothing. The real clips go through `Stream`, as at run time;
their reference is triangulated from the same kind of detections and good to about 3 cm, so no figure below that means
anything.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ..build_engines.checkpoints import find_checkpoint, load_checkpoint
from ..engine import load
from ..enginefile import write_atomically
from ..metrics import auc, mpjpe, p_mpjpe, pck
from ..recording import CLIPS, PICTURES, Clip, check_output, load_clip, load_windows, reference_of, stream_clip
from ..skeleton import H36M17
from ..stream import Lifter
from .clips import CAMERAS
from .mocap import draw_windows, read_motion
from .noise import observe

WINDOWS = 4096
FLOOR_WINDOWS = 20_000
SEED = 1
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "MPJPE mm": mpjpe, "P-MPJPE mm": p_mpjpe, "PCK@150 %": pck, "AUC %": auc}


class TorchLifter:
    """A module of the zoo as `Stream` wants it, and an engine looks the same to this file."""

    def __init__(self, module: torch.nn.Module):
        self.module, self.frames, self.skeleton = module.eval(), module.frames, module.skeleton
        self.is_causal: bool = getattr(module, "is_causal", False)

    def run(self, keypoints_norm: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(B, T, J, 2) float32 -> (B, J, 3) float32, metres from the root."""
        with torch.no_grad():
            poses = self.module(torch.from_numpy(np.ascontiguousarray(keypoints_norm, np.float32))).numpy()
        if out is None:
            return poses
        out[...] = poses
        return out


def open_model(name_or_file: str, frames: int = 1) -> tuple[Lifter, dict[str, Any]]:
    """(lifter, what its file says of it): an engine file, a checkpoint, or weights that ship, by their zoo name.

    Raises what edgepose.load, find_checkpoint and load_checkpoint raise.
    """
    if name_or_file.endswith(".epose"):
        engine = load(name_or_file)
        return engine, {key: value for key, value in engine.header.items() if key != "plan"}
    module, metadata = load_checkpoint(find_checkpoint(name_or_file, frames))
    return TorchLifter(module), metadata


def score(predicted_m: np.ndarray, target_m: np.ndarray) -> dict[str, float]:
    """All of METRICS: (N, J, 3) m, (N, J, 3) m."""
    return {name: metric(1000.0 * predicted_m, 1000.0 * target_m) for name, metric in METRICS.items()}


def lift(model: Lifter, keypoints_norm: np.ndarray, batch: int = 256) -> np.ndarray:
    """The poses of many windows: (N, T, J, 2) -> (N, J, 3) m."""
    chunks = (keypoints_norm[i:i + batch] for i in range(0, len(keypoints_norm), batch))
    return np.concatenate([np.array(model.run(chunk)) for chunk in chunks])


def seeded_windows(data: str | Path, split: str, count: int, frames: int, noisy: bool,
                   is_causal: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(keypoints_norm (N, frames, 17, 2), target_m (N, 17, 3) of the middle frame, or with is_causal of the last), the same in
    every call."""
    generator = torch.Generator().manual_seed(SEED)
    length = 2 * frames - 1 if is_causal else frames  # whose middle is the last of its first half
    keypoints, target = observe(draw_windows(read_motion(data, split), count, length, generator), generator, noisy)
    return keypoints[:, :frames].contiguous().numpy(), target.numpy()


def floors(keypoints_norm: np.ndarray, target_m: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The mean pose and the least-squares linear map of these windows, as functions (N, T, J, 2) -> (N, J, 3) m."""
    def flat(keypoints: np.ndarray) -> np.ndarray:
        return np.concatenate([keypoints.reshape(len(keypoints), -1), np.ones((len(keypoints), 1))], 1)

    mean = target_m.mean(0)
    weights = np.linalg.lstsq(flat(keypoints_norm), target_m.reshape(len(target_m), -1), rcond=None)[0]
    return {"mean pose": lambda keypoints: np.repeat(mean[None], len(keypoints), 0),
            "linear regression": lambda keypoints: (flat(keypoints) @ weights).reshape(len(keypoints), -1, 3)}


def on_validation(model: Lifter, data: str | Path) -> dict[str, dict[str, float]]:
    """The model and the floors on the validation subjects: {row: {metric: value}}."""
    rows, is_causal = {}, getattr(model, "is_causal", False)
    for noisy in (False, True):
        kind = "noisy" if noisy else "clean"
        keypoints, target = seeded_windows(data, "validation", WINDOWS, model.frames, noisy, is_causal)
        rows[f"model, {kind}"] = score(lift(model, keypoints), target)
        for name, floor in floors(*seeded_windows(data, "training", FLOOR_WINDOWS, model.frames, noisy, is_causal)).items():
            rows[f"{name}, {kind}"] = score(floor(keypoints), target)
    return rows


def on_clip(model: Lifter, clip: Clip) -> dict[str, float]:
    """The model in a `Stream` on real detections, frame by frame as at run time, without smoothing or delay."""
    poses, _ = stream_clip(model, clip)
    return score(np.stack([pose.joints_m for pose in poses]), reference_of(poses, clip))


def evaluate(model: Lifter, data: str | Path | None = None,
             clips: str | Path | None = None) -> dict[str, dict[str, float]]:
    """Every figure there is: {row: {metric: value}}.

    data: motion capture, one .npz a subject; without it only what ships is used and there are no floors.
    clips: a folder with the real clips; None takes those that ship.
    """
    rows = on_validation(model, data) if data else {}
    keypoints, target = load_windows(model.frames, getattr(model, "is_causal", False))
    rows["shipped windows, noisy"] = score(lift(model, keypoints), target)
    for camera in CAMERAS:
        rows[f"real detections, {camera}"] = on_clip(model, load_clip(str(Path(clips or CLIPS) / f"balance_{camera}.npz")))
    return rows


def draw(model: Lifter, args: argparse.Namespace) -> None:
    """The pictures that were asked for, of the validation set where it is given, else of the windows that ship."""
    from .error_plots import plot_attention, plot_errors

    is_causal = getattr(model, "is_causal", False)
    if args.plot_attention:
        plot_attention(model, args.model, load_windows(model.frames, is_causal)[0], args.plot_attention)
        print(f"attention maps: {args.plot_attention}")
    if args.plot:
        windows = {"shipped windows, noisy": load_windows(model.frames, is_causal)} if not args.data else {
            kind: seeded_windows(args.data, "validation", WINDOWS, model.frames, kind == "noisy", is_causal)
            for kind in ("clean", "noisy")}
        plot_errors(model, args.model, windows, args.plot)
        print(f"picture of the errors: {args.plot}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose evaluate`."""
    parser.add_argument("--model", required=True, metavar="NAME_OR_FILE", help="shipped weights, a checkpoint, or an engine file")
    parser.add_argument("--frames", type=int, default=1, help="window length, for shipped weights (default 1)")
    parser.add_argument("--data", metavar="DIR", help="motion capture, one .npz a subject: adds the validation set")
    parser.add_argument("--clips", metavar="DIR", help="real clips other than those that ship")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture: error per joint, its distribution, and against the delay "
                        "(matplotlib)")
    parser.add_argument("--plot-attention", type=Path, metavar="FILE", help="a picture: the attention maps of a posegate model (matplotlib)")


def main(args: argparse.Namespace) -> int:
    """Runs `edgepose evaluate`: prints a table."""
    check_output(args.plot, PICTURES)
    check_output(args.plot_attention, PICTURES)
    model, metadata = open_model(args.model, args.frames)
    draw(model, args)
    rows = evaluate(model, args.data, args.clips)
    table = Table(title=f"{args.model}, {len(H36M17)} joints, {model.frames} frame(s)",
                  caption="The reference of the real detections is good to about 3 cm.")
    table.add_column("")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for row, figures in rows.items():
        table.add_row(row, *(f"{value:.1f}" for value in figures.values()))
    Console().print(table)
    if args.json:
        write_atomically(Path(args.json), (json.dumps({"model": metadata, "figures": rows}, indent=1) + "\n").encode())
    return 0
