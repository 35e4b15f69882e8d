"""The papers' tables: how each data set's test is cut into columns, which figures stand in its rows, and what its
average is.

A model of T frames gets the window around each frame that counts, the clip's ends repeated, and answers for its middle,
a causal one for its last frame.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..camera import flip_left_right
from ..columns import inputs_of, joints_of, outputs_of, with_all_columns
from ..metrics import auc, mpjpe, p_mpjpe, pck
from ..skeleton import H36M17
from ..stream import Lifter
from ..zoo import target_frame
from .datasets import LabelledClip

BATCH = 256
TIMED, WARM_UP = 100, 10  # calls of a model whose time is taken
AVERAGE = "Avg."
# PCK and AUC of MPI-INF-3DHP leave these out, as in the authors' mpii_get_pck_auc_joint_groups.m.
UNCOUNTED = ("pelvis", "spine", "nose")

# (N, J, 3) mm, (N, J, 3) mm, the names of the J joints -> a figure
Metric = Callable[[np.ndarray, np.ndarray, Sequence[str]], float]
Table = dict[str, dict[str, float]]  # {row: {column: figure}}


def _counted(joints: Sequence[str]) -> list[int]:
    return [i for i, joint in enumerate(joints) if joint not in UNCOUNTED]


def _p1(predicted: np.ndarray, target: np.ndarray, joints: Sequence[str]) -> float:
    return mpjpe(predicted, target)


def _p2(predicted: np.ndarray, target: np.ndarray, joints: Sequence[str]) -> float:
    return p_mpjpe(predicted, target)


def _pck(predicted: np.ndarray, target: np.ndarray, joints: Sequence[str]) -> float:
    return pck(predicted, target, joints=_counted(joints))


def _auc(predicted: np.ndarray, target: np.ndarray, joints: Sequence[str]) -> float:
    return auc(predicted, target, joints=_counted(joints))


@dataclass(frozen=True)
class Protocol:
    """column: the one a clip belongs to. columns: their order and how the papers write them. rows: the figures.

    is_pooled: the average is over all frames; otherwise over the columns, each of the same weight.
    """

    column: Callable[[LabelledClip], str]
    columns: dict[str, str]
    rows: dict[str, Metric]
    is_pooled: bool = False


PROTOCOLS = {
    # Protocols 1 and 2: all 17 joints, the root among them; every action counts alike, however long its takes are.
    "h36m": Protocol(lambda clip: clip.action, {
        "Directions": "Dir.", "Discussion": "Disc.", "Eating": "Eat", "Greeting": "Greet", "Phoning": "Phone",
        "Photo": "Photo",
        "Posing": "Pose", "Purchases": "Purch.", "Sitting": "Sit", "SittingDown": "SitD.", "Smoking": "Smoke",
        "Waiting": "Wait", "WalkDog": "WalkD.", "Walking": "Walk", "WalkTogether": "WalkT."}, {"P1": _p1, "P2": _p2}),
    "mpi-inf-3dhp": Protocol(lambda clip: clip.camera,
                             {"green screen": "GS", "no green screen": "no GS", "outdoor": "Outdoor"},
                             {"PCK": _pck, "AUC": _auc, "MPJPE": _p1}, is_pooled=True),
    "humaneva": Protocol(lambda clip: f"{clip.action} {clip.subject}", {
        f"{action} {subject}": f"{action} {subject}" for action in ("Walk", "Jog", "Box")
        for subject in ("S1", "S2", "S3")}, {"P1": _p1, "P2": _p2}),
}


def run_flipped(model: Lifter, keypoints_norm: np.ndarray) -> np.ndarray:
    """The mean of the poses of the windows and of their mirror images, mirrored back, from one call of the model:
    (B, T, J, C) -> (B, J, D) m. In most published figures; it doubles the rows of a call.
    """
    both = np.concatenate([keypoints_norm, flip_left_right(keypoints_norm, model.skeleton)])
    plain, mirrored = np.split(np.asarray(model.run(both)), 2)
    return (plain + flip_left_right(mirrored, model.skeleton)) / 2


class Flipped:
    """A lifter with flip averaging, as a lifter."""

    def __init__(self, model: Lifter):
        self._model, self.frames, self.skeleton = model, model.frames, model.skeleton
        self.is_causal = getattr(model, "is_causal", False)
        self.inputs, self.outputs, self.rate_hz = inputs_of(model), outputs_of(model), getattr(model, "rate_hz", None)

    def run(self, keypoints_norm: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(B, T, J, C) float32 -> (B, J, D) float32, metres from the root."""
        poses = run_flipped(self._model, keypoints_norm)
        if out is None:
            return poses
        out[...] = poses
        return out


def predict(model: Lifter, clip: LabelledClip, flip: bool = False) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(predicted_m (N, J, 3), target_m (N, J, 3), the names of the joints) for the clip's N frames that count.

    The joints are those that the model gives and the data set has measured.
    """
    rows = [H36M17.index(joint) for joint in model.skeleton.joints]
    predicted, target, answered = [], [], target_frame(model)
    for i in range(0, len(clip.centres), BATCH):
        keypoints, joints = clip.windows(clip.centres[i:i + BATCH], model.frames, answered)
        keypoints = with_all_columns(np.ascontiguousarray(keypoints[:, :, rows]), model)
        predicted.append(np.array(joints_of(run_flipped(model, keypoints) if flip else model.run(keypoints))))
        target.append(joints[:, answered, rows])
    indices = np.flatnonzero(clip.measured[rows])
    return (np.concatenate(predicted)[:, indices], np.concatenate(target)[:, indices],
            [model.skeleton.joints[joint] for joint in indices])


def papers_table(model: Lifter, name: str, clips: Sequence[LabelledClip], flip: bool = False) -> Table:
    """The table of a data set's papers, for its columns that the clips have, the average last.

    Raises ValueError if a clip belongs to no column: an action that is not in the protocol.
    """
    protocol = PROTOCOLS[name]
    of_column: dict[str, list[LabelledClip]] = {column: [] for column in protocol.columns}
    for clip in clips:
        column = protocol.column(clip)
        if column not in of_column:
            raise ValueError(f"{clip.source}: {column!r} is not in the protocol of {name}; it "
                             f"has {', '.join(of_column)}")
        of_column[column].append(clip)
    table: Table = {row: {} for row in protocol.rows}
    pairs = []
    for column, members in of_column.items():
        if members:
            parts = [predict(model, clip, flip) for clip in members]
            poses = [1000 * np.concatenate(poses) for poses in zip(*(part[:2] for part in parts))]
            for row, metric in protocol.rows.items():
                table[row][protocol.columns[column]] = metric(*poses, parts[0][2])
            if protocol.is_pooled:
                pairs.append((poses, parts[0][2]))
    for row, metric in protocol.rows.items():
        table[row][AVERAGE] = (metric(*(np.concatenate(poses) for poses in zip(*(poses for poses, _ in pairs))),
                                      pairs[0][1])
                               if protocol.is_pooled else statistics.fmean(table[row].values()))
    return table


def flip_cost(model: Lifter, keypoints_norm: np.ndarray) -> tuple[float, float]:
    """Medians in ms of a call for one window, without and with flip averaging, taken in turns. keypoints_norm:
    (1, T, J, C)."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for i in range(WARM_UP + TIMED):
        for flip, runs in times.items():
            began = time.perf_counter()
            run_flipped(model, keypoints_norm) if flip else model.run(keypoints_norm)
            if i >= WARM_UP:
                runs.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[False]), statistics.median(times[True])
