"""The folder of the GPU benchmark: written where torch and ONNX are installed, measured also where they are not.

For each model: its checkpoint, for torch; its engines of the cuda backend; its TensorRT engines, not built yet, one for
each flavour (TensorRT 8.6 takes "legacy", 10 and later "strong") and batch; evaluation windows and torch's poses of
them, in float32 on the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WINDOWS = 256  # evaluation windows, evenly spread
FLAVOURS = ("strong", "legacy")  # the better first
CONTENTS = "contents.json"


@dataclass(frozen=True)
class Model:
    """A lifter in the folder."""

    folder: Path
    name: str
    frames: int
    is_trained: bool

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    @property
    def windows(self) -> Path:
        return self.folder / f"{self.name}_windows.npz"

    def cuda(self, precision: str) -> Path:
        return self.folder / f"{self.name}_cuda_{precision}.epose"

    def tensorrt(self, precision: str, batch: int, flavour: str) -> Path:
        return self.folder / f"{self.name}_tensorrt_{precision}_b{batch}_{flavour}.epose"

    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        """keypoints_norm (N, T, J, 2) and torch's poses_m (N, J, 3)."""
        with np.load(self.windows) as arrays:
            return arrays["keypoints_norm"], arrays["poses_m"]


def read(folder: Path) -> list[Model]:
    """The models of a folder by prepare(). Raises ValueError if it is none."""
    try:
        return [Model(folder, *row) for row in json.loads((folder / CONTENTS).read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{folder} is not prepared ({error}); --prepare {folder} writes it, where torch and "
                         "ONNX are installed") from error


def prepare(folder: Path, models: Sequence[str], batches: Sequence[int], runtimes: Sequence[tuple[str, str]],
            flavours: Sequence[str] = FLAVOURS) -> list[Model]:
    """Writes what these runtimes, (name, precision) each, need. models: checkpoints or zoo names; one without weights
    gets seeded ones.

    int8 is every product in eight bits but the first and the last, as in `edgepose bench`: the same scales in every
    runtime.
    Raises ImportError without torch, ONNX or ONNX Runtime, ValueError for a model that is none.
    """
    import torch

    from edgepose import enginefile
    from edgepose.benchmarks.run import eight_bit_scales, trained_or_seeded
    from edgepose.build_engines.build import build, tensorrt_header
    from edgepose.build_engines.tensorrt import boards
    from edgepose.build_engines.windows import calibration_windows, evaluation_windows
    from edgepose.zoo import checkpoints

    folder.mkdir(parents=True, exist_ok=True)
    prepared = []
    for lifter in map(trained_or_seeded, dict.fromkeys(models)):
        module, model = lifter.module, Model(folder, lifter.file_stem, lifter.module.frames, lifter.is_trained)
        scales = eight_bit_scales(module) if any(precision == "int8" for _, precision in runtimes) else None
        checkpoints.save_checkpoint(model.checkpoint, module,
                                    {"model": lifter.name, "frames": module.frames, "skeleton": module.skeleton.name,
                                     "options": lifter.options})
        windows, _ = evaluation_windows(module)
        windows = np.ascontiguousarray(windows[::max(1, len(windows) // WINDOWS)])
        with torch.inference_mode():
            np.savez(model.windows, keypoints_norm=windows, poses_m=module(torch.from_numpy(windows)).numpy())
        for runtime, precision in runtimes:
            if runtime == "cuda":
                enginefile.write(model.cuda(precision), *build(lifter, "cuda", precision, scales))
        calibration = calibration_windows(module)
        for precision in sorted({precision for runtime, precision in runtimes if runtime.startswith("tensorrt")}):
            for batch, flavour in ((batch, flavour) for batch in batches for flavour in flavours):
                graph = boards.graph_for_board(lifter, precision, batch, flavour, scales, calibration)
                boards.write_unbuilt(model.tensorrt(precision, batch, flavour),
                                     tensorrt_header(lifter, precision, scales), graph)
        prepared.append(model)
    rows = [[model.name, model.frames, model.is_trained] for model in prepared]
    enginefile.write_atomically(folder / CONTENTS, (json.dumps(rows) + "\n").encode())
    return prepared
