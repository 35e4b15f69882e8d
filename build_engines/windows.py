"""The windows that ship, as a model wants them: to check its engines, and to calibrate them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepose.clip import Clip, load_clip, load_windows, stream_clip
from edgepose.columns import inputs_of, with_all_columns
from edgepose.skeleton import H36M17, Skeleton
from edgepose.stream import PUBLISHED_RATE_HZ

if TYPE_CHECKING:
    from torch import nn

    from edgepose import Engine

REAL_CLIPS = ("balance_cam1", "balance_cam2", "balance_cam3")
CALIBRATION_FRAMES = 4096  # frames of real detections in all windows together


def evaluation_windows(module: nn.Module | Engine) -> tuple[np.ndarray, np.ndarray]:
    """The shipped windows for a module or an engine: keypoints_norm (N, T, J, C) float32, target_m (N, J, 3) of the
    frame it answers for."""
    keypoints, target = load_windows(module.frames, getattr(module, "is_causal", False))
    joints = _joints(module.skeleton)
    return with_all_columns(np.ascontiguousarray(keypoints[:, :, joints]), module), target[:, joints]


def calibration_windows(module: nn.Module) -> np.ndarray:
    """Windows like those a module will be fed: of real detections as Stream makes them, and of training subjects
    through a simulated detector. keypoints_norm (N, T, J, C) float32."""
    real = np.concatenate([_streamed(load_clip(name), module) for name in REAL_CLIPS])
    every = max(1, -(-len(real) * module.frames // CALIBRATION_FRAMES))
    simulated, _ = load_windows(module.frames, getattr(module, "is_causal", False), use="calibration")
    simulated = with_all_columns(simulated[:, :, _joints(module.skeleton)], module)
    return np.ascontiguousarray(np.concatenate([real[::every], simulated]))


def _joints(skeleton: Skeleton) -> list[int]:
    return [H36M17.index(joint) for joint in skeleton.joints]


class _Recorder:
    """A lifter that keeps what a stream feeds it, and answers with zeros."""

    def __init__(self, module: nn.Module):
        self.frames, self.skeleton = module.frames, module.skeleton
        self.is_causal = getattr(module, "is_causal", False)
        self.inputs, self.rate_hz = inputs_of(module), getattr(module, "rate_hz", PUBLISHED_RATE_HZ)
        self.windows: list[np.ndarray] = []

    def run(self, keypoints_norm: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        self.windows.append(keypoints_norm.copy())
        answer = np.empty((len(keypoints_norm), len(self.skeleton), 3), np.float32) if out is None else out
        answer[...] = 0
        return answer


def _streamed(clip: Clip, module: nn.Module) -> np.ndarray:
    recorder = _Recorder(module)
    stream_clip(recorder, clip)
    return np.concatenate(recorder.windows)
