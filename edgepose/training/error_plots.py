"""Pictures of a model's errors and of its attention: for `edgepose evaluate`. Needs matplotlib (the `plot` extra)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import zoo
from ..columns import outputs_of
from ..show.drawing import MIDLINE, colour_of
from ..skeleton import Skeleton
from ..stream import Lifter
from .losses import ERROR_QUANTILE
from .mocap import WINDOW_HZ
from .models import TorchLifter, lift

PCK_MM = 150.0
AXIS_END_MM = 300.0  # right end of the distribution plot
RELIABILITY_GROUPS = 10
FAINTEST = 0.45  # the opacity of the last of several sets of windows; the first is opaque


def joint_errors_mm(predicted_m: np.ndarray, target_m: np.ndarray) -> np.ndarray:
    """The distance of each joint from its target after moving both roots to the origin: (N, J, 3) m, (N, J, 3) m ->
    (N, J) mm.

    Its mean is MPJPE."""
    predicted, target = (poses.astype(np.float64) - poses[:, :1] for poses in (predicted_m, target_m))
    return 1000 * np.linalg.norm(predicted - target, axis=-1)


def share_under(errors_mm: np.ndarray, thresholds_mm: np.ndarray) -> np.ndarray:
    """The percentage of errors below each threshold; PCK, where that is 150 mm."""
    return 100 * np.searchsorted(np.sort(errors_mm, axis=None), thresholds_mm, side="left") / errors_mm.size


def with_delay(keypoints_norm: np.ndarray, delay_frames: int) -> np.ndarray:
    """Whole windows (N, T, J, 2) as `Window` has them with this delay: the last frame that has come stands for the
    later ones."""
    newest = keypoints_norm.shape[1] // 2 + delay_frames
    return np.take(keypoints_norm, np.minimum(np.arange(keypoints_norm.shape[1]), newest), axis=1)


def delays(frames: int) -> list[int]:
    """A handful of values of delay_frames from 0 to (T-1)/2, each twice the one before."""
    longest = frames // 2
    return sorted({0, longest, *(2 ** i for i in range(longest.bit_length()) if 2 ** i <= 0.75 * longest)})


def error_by_delay(model: Lifter, keypoints_norm: np.ndarray, target_m: np.ndarray) -> dict[int, float]:
    """{delay_frames: MPJPE in mm} of a model that answers for the middle frame; the longest delay is the whole
    window."""
    return {delay: float(joint_errors_mm(lift(model, with_delay(keypoints_norm, delay)), target_m).mean())
            for delay in delays(model.frames)}


def predicted_errors_mm(model: Lifter, keypoints_norm: np.ndarray) -> np.ndarray:
    """The errors that a model predicts for its joints but the root: (N, T, J, C) -> (N, J - 1) mm."""
    return 1000 * lift(model, keypoints_norm, with_error=True)[:, 1:, 3]


def reliability(predicted_mm: np.ndarray, errors_mm: np.ndarray) -> np.ndarray:
    """The mean predicted error of RELIABILITY_GROUPS groups of joints, from those said to be best to the worst, and the
    error that ERROR_QUANTILE of each group lie within: two arrays of one size -> (groups, 2) mm. Equal where the model
    is right."""
    order = np.argsort(predicted_mm, axis=None)
    return np.array([(predicted_mm.flat[group].mean(), np.quantile(errors_mm.flat[group], ERROR_QUANTILE))
                     for group in np.array_split(order, RELIABILITY_GROUPS)])


def attention_maps(model: Lifter, name: str, keypoints_norm: np.ndarray) -> np.ndarray:
    """Each layer's heads' weights from joint (row) to joint (column), the mean over windows: (N, T, J, 2) -> (layers,
    H, J, J).

    Raises ValueError, naming those that do, if the model does not tell its weights, as no engine file does.
    """
    if not isinstance(model, TorchLifter) or not hasattr(model.module, "attention_weights"):
        telling = [known for known, entry in zoo.MODELS.items() if hasattr(entry.build, "attention_weights")]
        raise ValueError(f"{name} has no attention maps; checkpoints of {', '.join(telling)} do")
    with torch.no_grad():
        return model.module.attention_weights(torch.from_numpy(keypoints_norm)).mean(1).numpy()


def plot_errors(model: Lifter, name: str, windows: Mapping[str, tuple[np.ndarray, np.ndarray]], file: Path) -> None:
    """Error per joint, its distribution, for models of many frames the error against the delay, and for those that
    predict their error its reliability, in one picture.

    windows: {what they are: (keypoints_norm (N, T, J, 2 or C), target_m (N, J, 3))}, drawn fainter from one to the
    next.
    """
    from matplotlib.figure import Figure

    errors = {kind: joint_errors_mm(lift(model, keypoints), target) for kind, (keypoints, target) in windows.items()}
    has_delay = model.frames > 1 and not getattr(model, "is_causal", False)
    has_error = "error" in outputs_of(model)
    rows = 1 + has_delay + has_error
    figure = Figure(figsize=(12, 6 if rows == 1 else 3.75 * rows), layout="constrained")
    causal = ", causal" * getattr(model, "is_causal", False)
    figure.suptitle(f"{Path(name).stem}, {model.frames} frame{'s' * (model.frames > 1)}{causal}: error after moving "
                    "both pelvises to the origin")
    grid = figure.add_gridspec(rows, 2, width_ratios=(1.1, 1))
    _bars(figure.add_subplot(grid[:, 0]), model.skeleton, errors)
    _distribution(figure.add_subplot(grid[0, 1]), errors)
    if has_delay:
        _by_delay(figure.add_subplot(grid[1, 1]),
                  {kind: error_by_delay(model, keypoints, target) for kind, (keypoints, target) in windows.items()})
    if has_error:
        _reliability(figure.add_subplot(grid[-1, 1]),
                     {kind: reliability(predicted_errors_mm(model, keypoints), errors[kind][:, 1:])
                      for kind, (keypoints, _) in windows.items()})
    figure.savefig(file, dpi=130)


def plot_attention(model: Lifter, name: str, keypoints_norm: np.ndarray, file: Path) -> None:
    """A map a head, a row a layer: brighter is stronger. Raises ValueError as attention_maps."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    maps = attention_maps(model, name, keypoints_norm)
    layers, heads, joints, _ = maps.shape
    figure = Figure(figsize=(1.2 + 2.1 * heads, 1.4 + 2.2 * layers), layout="constrained")
    figure.suptitle(f"{Path(name).stem}: attention of each joint (row) to each joint (column), mean over "
                    f"{len(keypoints_norm)} windows", fontsize=14)
    grid = figure.subplots(layers, heads, sharex=True, sharey=True, squeeze=False)
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            # The power makes differences between weak weights visible.
            picture = axes.imshow(maps[layer, head], norm=PowerNorm(0.5, 0, maps.max()), cmap="viridis")
            axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(range(joints), _labels(model.skeleton), fontsize=6)
                for label, joint in zip(axis.get_ticklabels(), model.skeleton.joints):
                    label.set_color(colour_of(joint))
            axes.tick_params(axis="x", rotation=90)
    figure.colorbar(picture, ax=grid, label="weight (a row adds up to 1)", fraction=0.02, pad=0.01)
    figure.savefig(file, dpi=130)


def _labels(skeleton: Skeleton) -> list[str]:
    return [joint.replace("_", " ") for joint in skeleton.joints]


def _by_strength(errors: Mapping[str, Any]) -> Iterator[tuple[float, tuple[str, Any]]]:
    return zip(np.linspace(1, FAINTEST, len(errors)), errors.items())


def _bars(axes, skeleton: Skeleton, errors: Mapping[str, np.ndarray]) -> None:
    thick = 0.8 / len(errors)
    for i, (strength, (kind, of_kind)) in enumerate(_by_strength(errors)):
        rows = np.arange(len(skeleton)) + (i + 0.5) * thick - 0.4
        axes.barh(rows, of_kind.mean(0), thick, color=[colour_of(joint) for joint in skeleton.joints], alpha=strength)
        for row, error in zip(rows, of_kind.mean(0)):
            axes.annotate(f"{error:.0f}", (error, row), (2, 0), textcoords="offset points", va="center", fontsize=7)
        axes.barh(0, 0, color=MIDLINE, alpha=strength, label=f"{kind}: MPJPE {of_kind.mean():.1f} mm")
    axes.set_yticks(range(len(skeleton)), _labels(skeleton))
    axes.set(xlabel="mean error, mm", title="per joint", ylim=(len(skeleton) - 0.5, -0.5))
    axes.legend(loc="upper right", fontsize=9)


def _distribution(axes, errors: Mapping[str, np.ndarray]) -> None:
    thresholds_mm = np.linspace(0, AXIS_END_MM, 301)
    for strength, (kind, of_kind) in _by_strength(errors):
        pck = share_under(of_kind, np.array([PCK_MM]))[0]
        axes.plot(thresholds_mm, share_under(of_kind, thresholds_mm), color=MIDLINE, alpha=strength, linewidth=2,
                  label=f"{kind}: PCK@{PCK_MM:.0f} {pck:.1f} %")
        axes.plot(PCK_MM, pck, "o", color=MIDLINE, alpha=strength)
    axes.axvline(PCK_MM, color=MIDLINE, linestyle=":", linewidth=1)
    axes.set(xlabel="error, mm", ylabel="joints under it, %", title="distribution", xlim=(0, AXIS_END_MM),
             ylim=(0, 101))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)


def _by_delay(axes, errors: Mapping[str, Mapping[int, float]]) -> None:
    for strength, (kind, by_delay) in _by_strength(errors):
        axes.plot(list(by_delay), list(by_delay.values()), "o-", color=MIDLINE, alpha=strength, linewidth=2, label=kind)
        for delay, error in by_delay.items():
            axes.annotate(f"{error:.1f}", (delay, error), (4, 4), textcoords="offset points", fontsize=7)
    axes.set_xticks([delay for delay in by_delay if delay in (0, 1) or delay >= max(by_delay) / 16])
    axes.set(xlabel=f"delay, frames of {1000 / WINDOW_HZ:.0f} ms", ylabel="MPJPE, mm", title="error against delay")
    axes.margins(x=0.08, y=0.15)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)


def _reliability(axes, groups: Mapping[str, np.ndarray]) -> None:
    for strength, (kind, of_kind) in _by_strength(groups):
        axes.plot(*of_kind.T, "o-", color=MIDLINE, alpha=strength, linewidth=2, label=kind)
    end = max(of_kind.max() for of_kind in groups.values())
    axes.plot((0, end), (0, end), color=MIDLINE, linestyle=":", linewidth=1, label="as predicted")
    axes.set(xlabel="predicted error, mm", ylabel=f"{100 * ERROR_QUANTILE:.1f} % lie within, mm",
             title="predicted and true error, tenths of the joints")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
