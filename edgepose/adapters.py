"""From a detector's keypoints to the joints a model wants: one table, ADAPTERS, a row per layout.

Every joint is a weighted sum of named keypoints, so an adapter is data. Its confidence is the least of theirs: a
midpoint is as bad as its worse end. Layouts are skeletons without parents: only the names and their order count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .checks import listed, near
from .skeleton import H36M16, H36M17, MODEL_SKELETONS, Skeleton

FACE_SEEN = 0.3  # below this confidence recipe B does not trust the nose or an eye; the published demo uses 0.3 too

_COCO = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
         "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
         "left_ankle", "right_ankle")

COCO17 = Skeleton("coco17", _COCO)
# AlphaPose, RTMPose body-26.
HALPE26 = Skeleton("halpe26", _COCO + (
    "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe", "left_heel",
    "right_heel"))
# OpenPose; right comes first. A keypoint it did not find is (0, 0, 0).
BODY25 = Skeleton("body25", (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye",
    "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
    "right_small_toe", "right_heel"))
# MediaPipe divides x by the width and y by the height: multiply back to pixels first. visibility is the confidence.
MEDIAPIPE33 = Skeleton("mediapipe33", (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "left_mouth", "right_mouth", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_foot_index", "right_foot_index"))
MPII16 = Skeleton("mpii16", (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
    "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
    "left_wrist"))

# One keypoint; the mean of several; or weights, where a pair is the weight for x and the weight for y.
Sources = str | Sequence[str] | Mapping[str, float | tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Adapter:
    """Turns keypoints in `layout` into the joints of `skeleton`.

    sources: (J, P) positions in the layout, each joint's own; a joint with fewer than P repeats its first.
    weights: (J, P, 2) for x and for y; they sum to 1, and are 0 where a source is repeated.
    most_confidence: (J,) a joint is never surer than this.
    when_face_hidden: the adapter to use instead where the nose or an eye of COCO-17 is below FACE_SEEN.
    """

    layout: Skeleton
    skeleton: Skeleton
    sources: np.ndarray
    weights: np.ndarray
    most_confidence: np.ndarray
    when_face_hidden: Adapter | None = None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Sources], joints: Sequence[str], name: str = "custom") -> Adapter:
        """An adapter for a detector of your own.

        mapping: for every joint of the model one keypoint, several (their mean), or {keypoint: weight}, where the
        weight may be a pair for x and for y. joints: the detector's keypoints in their order.
        Raises ValueError if a joint of the model is missing or unknown, a keypoint is unknown, or weights do not
        sum to 1: such a joint would not move with the person.

            Adapter.from_mapping({"pelvis": ("l_hip", "r_hip"), "nose": "nose", ...}, joints=["nose", "l_hip", ...])
        """
        if not isinstance(mapping, Mapping):
            raise TypeError(f"mapping is {mapping!r}; wanted {{joint: keypoint, keypoints or {{keypoint: weight}}}}")
        if isinstance(joints, str) or not all(isinstance(joint, str) for joint in joints):
            raise TypeError(f"joints is {joints!r}; wanted the names of the detector's keypoints in their order")
        layout = Skeleton(name, tuple(joints))
        if set(mapping) == set(H36M16.joints):  # the nose may be left out: it lies between thorax and head
            mapping = {**mapping, "nose": _mean_of(_terms("thorax", mapping["thorax"]), _terms("head", mapping["head"]))}
        skeleton = next((s for s in MODEL_SKELETONS.values() if set(s.joints) == set(mapping)), None)
        if skeleton is None:
            faults = [f"has the unknown joint {joint!r}{near(joint, H36M17.joints)}" for joint in mapping if joint not in H36M17.joints]
            missing = [repr(joint) for joint in H36M17.joints if joint not in mapping and joint != "nose"]
            faults += [f"leaves out {listed(missing)}"] if missing else []
            raise ValueError(f"layout {name!r} {listed(faults, '; ')}; wanted {', '.join(H36M17.joints)} (the nose may be left out)")
        terms = [_terms(joint, mapping[joint]) for joint in skeleton.joints]
        for joint, term in zip(skeleton.joints, terms):
            for keypoint in term:
                if keypoint not in layout.joints:
                    raise ValueError(f"joint {joint!r} comes from {keypoint!r}, and the detector has no joint {keypoint!r}"
                                     f"{near(keypoint, layout.joints)}; it has {', '.join(layout.joints)}")
        sources = np.zeros((len(skeleton), max(map(len, terms))), dtype=np.intp)
        weights = np.zeros((*sources.shape, 2))
        for j, term in enumerate(terms):
            indices = [layout.index(keypoint) for keypoint in term]
            sources[j] = indices[0]
            sources[j, :len(indices)] = indices
            weights[j, :len(indices)] = list(term.values())
            if not np.allclose(weights[j].sum(axis=0), 1.0, atol=1e-6):
                raise ValueError(f"the weights of {skeleton.joints[j]!r} sum to {weights[j].sum(axis=0)} for x and y; "
                                 "wanted 1")
        return cls(layout, skeleton, sources, weights, np.full(len(skeleton), np.inf))

    def onto(self, skeleton: Skeleton) -> Adapter:
        """The same adapter for a model with another skeleton: its joints are picked by name.

        Raises ValueError if the skeleton has a joint this adapter does not give.
        """
        rows = [self.skeleton.index(joint) for joint in skeleton.joints]
        hidden = self.when_face_hidden and self.when_face_hidden.onto(skeleton)
        return replace(self, skeleton=skeleton, sources=self.sources[rows], weights=self.weights[rows],
                       most_confidence=self.most_confidence[rows], when_face_hidden=hidden)

    def __call__(self, keypoints_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The model's joints: (..., J, 2) px, and their confidence (..., J).

        keypoints_px: (..., K, 2), or (..., K, 3) with the confidence; without it every keypoint counts as sure but one at
        (0, 0), which was not found.
        A joint with a source of confidence 0 has confidence 0, and its place means nothing.
        Raises ValueError if the shape does not fit the layout.
        """
        keypoints = np.asarray(keypoints_px)
        if keypoints.ndim < 2 or keypoints.shape[-2] != len(self.layout) or keypoints.shape[-1] not in (2, 3):
            k = len(self.layout)
            raise ValueError(f'keypoints_px has shape {keypoints.shape}; layout "{self.layout.name}" needs '
                             f"({k}, 2) or ({k}, 3)")
        if keypoints.shape[-1] == 2:
            # Detectors mark what they did not find as (0, 0): the corner, where no keypoint lies to the last digit.
            keypoints = np.concatenate([keypoints, keypoints.any(axis=-1, keepdims=True)], axis=-1)
        parts = keypoints.take(self.sources, axis=-2)
        xy = (parts[..., :2] * self.weights).sum(axis=-2)
        confidence = np.minimum(parts[..., 2].min(axis=-1), self.most_confidence)
        if self.when_face_hidden is not None:
            is_hidden = keypoints.take(_FACE, axis=-2)[..., 2].min(axis=-1) < FACE_SEEN
            if is_hidden.any():
                other_xy, other_confidence = self.when_face_hidden(keypoints)
                xy = np.where(is_hidden[..., None, None], other_xy, xy)
                confidence = np.where(is_hidden[..., None], other_confidence, confidence)
        return xy, confidence


def _terms(joint: str, sources: Sources) -> dict[str, tuple[float, float]]:
    """The sources of one joint as {keypoint: (weight for x, weight for y)}."""
    if isinstance(sources, str):
        sources = (sources,)
    if not isinstance(sources, (Mapping, Sequence)) or not sources:
        raise ValueError(f"joint {joint!r} comes from {sources!r}; wanted a keypoint, several, or {{keypoint: weight}}")
    if not isinstance(sources, Mapping):
        sources = {keypoint: 1.0 / len(sources) for keypoint in sources}
    try:
        return {keypoint: tuple(np.broadcast_to(np.asarray(weight, float), 2)) for keypoint, weight in sources.items()}
    except (TypeError, ValueError):
        raise ValueError(f"the weights of joint {joint!r} are {sources!r}; wanted numbers, or pairs for x and y") from None


def _mean_of(a: dict[str, tuple[float, float]], b: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The point half way between two joints, as {keypoint: (weight for x, weight for y)}."""
    zero = (0.0, 0.0)
    return {k: tuple((np.array(a.get(k, zero)) + b.get(k, zero)) / 2) for k in {**a, **b}}


def _each(keypoints: Sequence[str], weight: float | tuple[float, float]) -> dict[str, float | tuple[float, float]]:
    return dict.fromkeys(keypoints, weight)


_FACE = np.array([COCO17.index(keypoint) for keypoint in ("nose", "left_eye", "right_eye")])
_HIPS, _SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
_EYES, _EARS = ("left_eye", "right_eye"), ("left_ear", "right_ear")
_LIMBS = {joint: joint for joint in H36M17.joints if joint.startswith(("left_", "right_"))}

# Recipe A (mmpose, MotionBERT): midpoints.
_MIDPOINTS = {**_LIMBS, "pelvis": _HIPS, "spine": _HIPS + _SHOULDERS, "thorax": _SHOULDERS, "nose": "nose"}
# Recipe B: the demo of GAST, MHFormer, Strided Transformer and PoseFormerV2, in closed form.
_DEMO = {
    **_LIMBS,
    "pelvis": _HIPS,
    "spine": {**_each(_SHOULDERS, (5 / 12, 1 / 4)), **_each(_HIPS, 1 / 4), "nose": (-1 / 3, 0.0)},
    "thorax": {**_each(_SHOULDERS, 1 / 3), "nose": (1 / 3, 1.0), **_each(_EYES, (0.0, -1 / 3))},
    "nose": {"nose": 3 / 4, **_each(_SHOULDERS, 1 / 8)},
    "head": {**_each(_EYES, (1 / 4, 1.0)), **_each(_EARS, (1 / 4, 0.0)), "nose": (0.0, -1.0)},
}
# Someone seen from behind: the head goes on where the back points. Our choice.
_DEMO_FACE_HIDDEN = {
    **_MIDPOINTS,
    "nose": {**_each(_SHOULDERS, 1.25 / 2), **_each(_HIPS, -0.25 / 2)},
    "head": {**_each(_SHOULDERS, 1.5 / 2), **_each(_HIPS, -0.5 / 2)},
}


def _demo() -> Adapter:
    hidden = Adapter.from_mapping(_DEMO_FACE_HIDDEN, COCO17.joints, "coco17-demo")
    # The guessed joints still come from this frame, so they pass for seen, but only just.
    guessed = np.isin(H36M17.joints, ("nose", "head"))
    return replace(Adapter.from_mapping(_DEMO, COCO17.joints, "coco17-demo"), when_face_hidden=replace(
        hidden, most_confidence=np.where(guessed, FACE_SEEN, np.inf)))


# "coco17" is recipe A, for mmpose checkpoints; "coco17-demo" is recipe B, for Strided Transformer and its family.
# Halpe as in MotionBERT. BODY_25, MPII (its neck and head as mmpose does for AIC) and the nose of h36m16 are ours.
ADAPTERS: dict[str, Adapter] = {adapter.layout.name: adapter for adapter in (
    Adapter.from_mapping({**_MIDPOINTS, "head": _EYES}, COCO17.joints, "coco17"),
    _demo(),
    Adapter.from_mapping({**_LIMBS, "pelvis": "hip", "spine": ("neck", "hip"), "thorax": "neck", "nose": "nose",
                          "head": "head"}, HALPE26.joints, "halpe26"),
    Adapter.from_mapping({**_LIMBS, "pelvis": "mid_hip", "spine": ("mid_hip", "neck"), "thorax": "neck",
                          "nose": "nose", "head": _EYES}, BODY25.joints, "body25"),
    Adapter.from_mapping({**_MIDPOINTS, "head": _EARS}, MEDIAPIPE33.joints, "mediapipe33"),
    Adapter.from_mapping({**_LIMBS, "pelvis": "pelvis", "spine": ("pelvis", "thorax"), "thorax": "thorax",
                          "nose": {"thorax": 3 / 4, "head_top": 1 / 4},
                          "head": {"thorax": 5 / 12, "head_top": 7 / 12}}, MPII16.joints, "mpii16"),
    Adapter.from_mapping({joint: joint for joint in H36M17.joints}, H36M17.joints, "h36m17"),
    Adapter.from_mapping({joint: joint for joint in H36M16.joints}, H36M16.joints, "h36m16"),
)}
