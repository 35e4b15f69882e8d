"""The models that a command names, torch modules and engine files alike, as `Stream` runs them; and the poses of many
windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..columns import inputs_of, joints_of, outputs_of, with_all_columns
from ..engine import load
from ..stream import Lifter
from ..zoo.checkpoints import find_checkpoint, load_checkpoint


class TorchLifter:
    """A module of the zoo as `Stream` wants it, and an engine looks the same to this file.

    rate_hz: the frames a second of the windows that it was trained on; None: not known.
    """

    def __init__(self, module: torch.nn.Module, rate_hz: float | None = None):
        self.rate_hz = rate_hz
        self.module, self.frames, self.skeleton = module.eval(), module.frames, module.skeleton
        self.is_causal = getattr(module, "is_causal", False)
        self.inputs, self.outputs = inputs_of(module), outputs_of(module)
        self.state = getattr(module, "state", 0)

    def run(self, keypoints_norm: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(B, T, J, C) float32 -> (B, J, D) float32, metres from the root."""
        with torch.no_grad():
            poses = self.module(torch.from_numpy(np.ascontiguousarray(keypoints_norm, np.float32))).numpy()
        if out is None:
            return poses
        out[...] = poses
        return out


    def step(self, keypoints_norm: np.ndarray, states: Sequence[np.ndarray]) -> np.ndarray:
        """(B, 1, J, C) and the states of B people, which are advanced, -> (B, J, D); of a module with a state."""
        with torch.no_grad():
            before = self.module.unpack(torch.from_numpy(np.stack(states)))
            answers, after = self.module.advance(torch.from_numpy(keypoints_norm), before)
            for state, row in zip(states, self.module.pack(after).numpy()):
                state[:] = row
        return answers[:, 0].numpy()


def open_model(name_or_file: str, frames: int | None = None, trust: bool = False) -> tuple[Lifter, dict[str, Any]]:
    """(lifter, what its file says of it): an engine file, a checkpoint, or weights that ship, by their zoo name.

    frames: the window length it must have; None takes the usual one. trust: see edgepose.load.
    Raises ValueError if a file is of another, and what edgepose.load, find_checkpoint and load_checkpoint raise.
    """
    if name_or_file.endswith(".epose"):
        engine = load(name_or_file, trust=trust)
        if frames not in (None, engine.frames):
            raise ValueError(f"{name_or_file} is a model of {engine.frames} frame(s), not of "
                             f"{frames}: leave --frames out")
        return engine, {key: value for key, value in engine.header.items() if key != "plan"}
    module, metadata = load_checkpoint(find_checkpoint(name_or_file, frames), frames)
    return TorchLifter(module, metadata.get("rate_hz")), metadata


def lift(model: Lifter, keypoints_norm: np.ndarray, batch: int = 64, with_error: bool = False) -> np.ndarray:
    """The poses of many windows: (N, T, J, 2 or C) -> (N, J, 3) m; columns that they do not have are filled in.

    with_error: (N, J, 4), the predicted error in m beside each joint, of a model that has it.
    """
    keypoints_norm = with_all_columns(keypoints_norm, model)
    chunks = (keypoints_norm[i:i + batch] for i in range(0, len(keypoints_norm), batch))
    answers = np.concatenate([np.array(model.run(chunk)) for chunk in chunks])
    return answers if with_error else joints_of(answers)
