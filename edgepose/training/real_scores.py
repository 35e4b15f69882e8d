"""The errors of a model on real clips: `edgepose evaluate --data real`.

A clip goes through `Stream`, frame by frame as at run time, once as the detector saw it and once as a perfect detector
would have. Only the joints of LIMBS count, from the middle of the hips: about the others detectors do not agree.
"Upper body" is shoulders, elbows and wrists from the middle of the shoulders. A group's figure is the mean of its
clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..adapters import ADAPTERS
from ..clip import Clip, stream_clip
from ..columns import inputs_of
from ..metrics import mpjpe, mpjve, n_mpjpe, p_mpjpe, pck
from ..stream import Lifter
from .real_clips import LIMBS, RealClip, from_hips, lengths_of, read_real_clips

PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
TOLD = {"length": "told lengths", "elevation": "told lens and gravity"}  # for a model with these inputs
# For a model that takes the confidence: keypoints that the detector did not find, by what their names contain.
HIDDEN = {"hips hidden": ("hip", "pelvis"),
          "hips and legs hidden": ("hip", "pelvis", "knee", "ankle", "heel", "toe", "foot")}
SHOULDERS = [LIMBS.index("left_shoulder"), LIMBS.index("right_shoulder")]
UPPER = [i for i, joint in enumerate(LIMBS) if joint.endswith(("shoulder", "elbow", "wrist"))]
DETECTED, PERFECT, OWN = "detected", "perfect", "MediaPipe's own"
Tables = list[dict[str, dict[str, float]]]  # each {row: {column: figure}}


@dataclass(frozen=True)
class Answers:
    """A lifter's poses of a clip beside the reference.

    predicted_m, target_m: (N, 12, 3), NaN in all of a pose that is not known. times_s: (N,).
    """

    predicted_m: np.ndarray
    target_m: np.ndarray
    times_s: np.ndarray

    @property
    def is_known(self) -> np.ndarray:
        """(N,) the poses that can be compared."""
        return np.isfinite(self.predicted_m + self.target_m).all(axis=(1, 2))

    def errors_mm(self) -> np.ndarray:
        """(N, 12) each joint's distance, NaN where it is not known."""
        return 1e3 * np.linalg.norm(self.predicted_m - self.target_m, axis=-1)


@dataclass(frozen=True)
class Score:
    """Figures of a lifter on a clip, or on a group.

    figures: {metric: value}. joints_mm: {joint: mean error}. poses: those scored; unknown: those without a reference.
    """

    figures: dict[str, float]
    joints_mm: dict[str, float]
    poses: int
    unknown: int

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {**self.figures, "joints_mm": self.joints_mm, "poses": self.poses, "unknown": self.unknown}

    def row(self) -> dict[str, float]:
        """The figures of a table."""
        return {**self.figures, "poses": self.poses, "unknown": self.unknown}

    def row_of_parts(self) -> dict[str, float]:
        """The mean error of the left and the right joint of each of PARTS."""
        return {f"{part}s mm": (self.joints_mm[f"left_{part}"] + self.joints_mm[f"right_{part}"]) / 2 for part in PARTS}


@dataclass(frozen=True)
class RealScores:
    """Figures of a lifter on a folder of clips.

    clips, groups: {name: {kind: score}}; a kind says where the 2D is from, and the delay. left_out: {which: why}.
    """

    clips: dict[str, dict[str, Score]]
    groups: dict[str, dict[str, Score]]
    left_out: dict[str, str]

    def tables(self) -> Tables:
        """The groups' figures, their joints', and the clips' figures."""
        of_groups, of_clips = ({f"{name.removeprefix('pose2sim_')}, {kind}": score
                                for name, kinds in scores.items() for kind, score in kinds.items()}
                               for scores in (self.groups, self.clips))
        return [{row: score.row() for row, score in of_groups.items()},
                {row: score.row_of_parts() for row, score in of_groups.items()},
                {row: score.row() for row, score in of_clips.items()}]

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        said = {key: {name: {kind: score.as_json() for kind, score in kinds.items()} for name, kinds in scores.items()}
                for key, scores in (("groups", self.groups), ("clips", self.clips))}
        return {**said, "left_out": self.left_out}


def score(answers: Answers) -> Score:
    """All figures of the poses that can be compared. Raises ValueError if they are fewer than the two of a velocity."""
    known = answers.is_known
    if known.sum() < 2:
        raise ValueError(f"{known.sum()} of {len(known)} poses have a reference; wanted at least 2")
    poses = [1e3 * poses_m[known] for poses_m in (answers.predicted_m, answers.target_m)]
    rooted = [np.insert(pose, 0, 0.0, axis=1) for pose in poses]  # the middle of the hips goes before the joints
    joints = range(1, 1 + len(LIMBS))
    figures = {"MPJPE mm": mpjpe(*rooted, joints), "N-MPJPE mm": n_mpjpe(*rooted, joints),
               "P-MPJPE mm": p_mpjpe(*poses), "PCK@150 %": pck(*rooted, joints=joints),
               "MPJVE mm/s": mpjve(*rooted, joints, answers.times_s[known]), "upper body mm": upper_body_error(*poses)}
    joints_mm = dict(zip(LIMBS, answers.errors_mm()[known].mean(axis=0).tolist()))
    return Score(figures, joints_mm, int(known.sum()), int((~known).sum()))


def upper_body_error(predicted: np.ndarray, target: np.ndarray) -> float:
    """The mean distance of shoulders, elbows and wrists from the middle of the shoulders: (N, 12, 3) twice, in its
    unit."""
    upper = [poses[:, UPPER] - poses[:, SHOULDERS].mean(axis=1, keepdims=True) for poses in (predicted, target)]
    return float(np.linalg.norm(upper[0] - upper[1], axis=-1).mean())


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of several clips, each of the same weight; poses are added up."""
    figures, joints_mm = ({key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
                          for parts in ([score.figures for score in scores], [score.joints_mm for score in scores]))
    return Score(figures, joints_mm, sum(score.poses for score in scores), sum(score.unknown for score in scores))


def delays_of(model: Lifter) -> list[int]:
    """No delay, and for a model that can wait for later frames all that it can use."""
    return sorted({0, 0 if getattr(model, "is_causal", False) else model.frames // 2})


def answers_to(model: Lifter, clip: RealClip, delays: Sequence[int]) -> dict[str, Answers]:
    """{kind: the poses} of a clip: as detected and with perfect 2D, for each delay, and the detector's own 3D.

    A model that may be told more than keypoints has the kinds again for each thing of TOLD that it takes: the person's
    lengths are those of the reference.
    """
    answers = {}
    for kind, seen in ((DETECTED, clip.detected), (PERFECT, clip.perfect)):
        for delay in delays:
            name = f"{kind}, delay {delay}" if model.frames > 1 else kind
            answers[name] = _streamed(model, seen, clip.reference_m, delay)
            if "length" in inputs_of(model):
                answers[f"{name}, {TOLD['length']}"] = _streamed(
                    model, seen, clip.reference_m, delay, lengths_m=lengths_of(clip.reference_coco17_m))
            if "elevation" in inputs_of(model):
                answers[f"{name}, {TOLD['elevation']}"] = _streamed(
                    model, clip.undistorted(seen), clip.reference_m, delay, camera=clip.lens, gravity=clip.gravity)
            if kind == DETECTED and "confidence" in inputs_of(model):
                answers |= {f"{name}, {hidden}": _streamed(model, without(seen, parts), clip.reference_m, delay)
                            for hidden, parts in HIDDEN.items()}
    if clip.own_m is not None:
        frames = np.flatnonzero(np.isfinite(clip.own_m).all(axis=(1, 2)))
        answers[OWN] = Answers(clip.own_m[frames], clip.reference_m[frames], frames / clip.detected.fps)
    return answers


def without(clip: Clip, parts: Sequence[str]) -> Clip:
    """The clip without the keypoints whose names contain one of `parts`: they were not found."""
    names = ADAPTERS[clip.layout].layout.joints
    keypoints_px = clip.keypoints_px.copy()
    keypoints_px[:, [i for i, name in enumerate(names) if any(part in name for part in parts)]] = 0
    return replace(clip, keypoints_px=keypoints_px)


def _streamed(model: Lifter, clip: Clip, reference_m: np.ndarray, delay_frames: int, **known: Any) -> Answers:
    rows = [model.skeleton.index(joint) for joint in LIMBS]
    poses, _ = stream_clip(model, clip, delay_frames, **known)
    joints_m = np.array([pose.joints_m[rows] for pose in poses], dtype=float).reshape(-1, len(LIMBS), 3)
    frames = [clip.frame_at(pose.timestamp_s) for pose in poses]
    return Answers(from_hips(joints_m), reference_m[frames], np.array([pose.timestamp_s for pose in poses]))


def answers_of_folder(model: Lifter, folder: str | Path, delays: Sequence[int] | None = None) -> tuple[
        dict[RealClip, dict[str, Answers]], dict[str, str]]:
    """({clip: {kind: the poses}}, {file: why it was left out}) of all clips of a folder, as read_real_clips has them.

    delays: in frames; None takes delays_of. Raises what read_real_clips and `Stream` raise.
    """
    clips, left_out = read_real_clips(folder)
    return {clip: answers_to(model, clip, delays or delays_of(model)) for clip in clips}, left_out


def score_all(answers: dict[RealClip, dict[str, Answers]], left_out: dict[str, str]) -> RealScores:
    """Figures of each clip and group; a kind of a clip with fewer than two poses to compare is in left_out."""
    of_clips: dict[str, dict[str, Score]] = {}
    of_groups: dict[str, dict[str, list[Score]]] = {}
    left_out = dict(left_out)
    for clip, kinds in answers.items():
        for kind, poses in kinds.items():
            try:
                scored = score(poses)
            except ValueError as error:
                left_out[f"{clip.name}, {kind}"] = str(error)
                continue
            of_clips.setdefault(clip.name, {})[kind] = scored
            of_groups.setdefault(clip.group, {}).setdefault(kind, []).append(scored)
    return RealScores(of_clips, {group: {kind: mean_score(scores) for kind, scores in kinds.items()}
                                 for group, kinds in of_groups.items()}, left_out)
