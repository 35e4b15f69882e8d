"""From a detector's keypoints to the joints a model wants: one table, ADAPTERS, a row per layout, as
csrc/runtime/layouts.cpp has it.

Every joint is a weighted sum of named keypoints, so an adapter is data. Its confidence is the least of theirs: a
midpoint is as bad as its worse end. The head is the middle of the eyes in every layout that has eyes, also in halpe26,
which has a point called head, and mediapipe33: the weights that ship were trained so. Nose and head come from what is
seen of the face, else from the trunk's direction. Layouts are skeletons without parents: only the names and their order
count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import _native
from .checks import first_line, listed, near, read_json
from .skeleton import H36M16, H36M17, MODEL_SKELETONS, Skeleton

# One keypoint; the mean of several; weights, where a pair is the weight for x and the weight for y; None for a joint
# not detected.
Sources = str | Sequence[str] | Mapping[str, float | tuple[float, float]] | None
Line = tuple[tuple[tuple[int, float, float], ...], float]  # keypoints with their weights, and the most confidence


@dataclass(frozen=True, eq=False)
class Adapter:
    """Turns keypoints in `layout` into the joints of `skeleton`.

    alternatives: where each joint comes from, best first: (((keypoint, weight for x, weight for y), ...),
    most_confidence). Weights sum to 1; a joint is never surer than most_confidence. The first is taken whose keypoints
    are seen, those aside that the last needs too; else the last.
    """

    layout: Skeleton
    skeleton: Skeleton
    alternatives: tuple[tuple[Line, ...], ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Sources], joints: Sequence[str], name: str = "custom") -> Adapter:
        """An adapter for a detector of your own.

        mapping: for every joint of the model one keypoint, several (their mean), or {keypoint: weight}, where the
        weight may be a pair for x and for y; None if the detector does not give it, as the legs of a person at a desk.
        joints: the detector's keypoints in their order.
        Raises ValueError if a joint of the model is missing or unknown, a keypoint is unknown, weights do not sum to 1:
        such a joint would not move with the person, or neither a hip nor both shoulders are detected.

            Adapter.from_mapping({"pelvis": ("l_hip", "r_hip"), "nose": "nose", ...}, joints=["nose", "l_hip", ...])
        """
        if not isinstance(mapping, Mapping):
            raise TypeError(f"mapping is {mapping!r}; wanted {{joint: keypoint, keypoints or {{keypoint: weight}}}}")
        if isinstance(joints, str) or not all(isinstance(joint, str) for joint in joints):
            raise TypeError(f"joints is {joints!r}; wanted the names of the detector's keypoints in their order")
        layout = Skeleton(name, tuple(joints))
        if set(mapping) == set(H36M16.joints):  # the nose may be left out: it lies between thorax and head
            ends = [_terms(end, mapping[end]) for end in ("thorax", "head")]
            mapping = {**mapping, "nose": _mean_of(*ends) if all(ends) else None}
        skeleton = next((s for s in MODEL_SKELETONS.values() if set(s.joints) == set(mapping)), None)
        if skeleton is None:
            faults = [f"has the unknown joint {joint!r}{near(joint, H36M17.joints)}"
                      for joint in mapping if joint not in H36M17.joints]
            missing = [repr(joint) for joint in H36M17.joints if joint not in mapping and joint != "nose"]
            faults += [f"leaves out {listed(missing)}"] if missing else []
            raise ValueError(
                f"layout {name!r} {listed(faults, '; ')}; wanted {', '.join(H36M17.joints)} (the nose may be left out)")
        terms = [_terms(joint, mapping[joint]) for joint in skeleton.joints]
        for joint, term in zip(skeleton.joints, terms):
            for keypoint in term:
                if keypoint not in layout.joints:
                    raise ValueError(
                        f"joint {joint!r} comes from {keypoint!r}, and the detector has no joint {keypoint!r}"
                        f"{near(keypoint, layout.joints)}; it has {', '.join(layout.joints)}")
        for joint, term in zip(skeleton.joints, terms):
            total = np.sum(list(term.values()), axis=0)
            if term and not np.allclose(total, 1.0, atol=1e-6):
                raise ValueError(f"the weights of {joint!r} sum to {total} for x and y; wanted 1")
        found = {joint for joint, term in zip(skeleton.joints, terms) if term}
        if not found & {"pelvis", "left_hip", "right_hip"} and not {"left_shoulder", "right_shoulder"} <= found:
            raise ValueError(f"layout {name!r} detects no hip and not both shoulders, so it can place nobody")
        return cls(layout, skeleton, tuple(((tuple((layout.index(keypoint), *weights)
                                                   for keypoint, weights in term.items()),
                                             np.inf if term else 0.0),) for term in terms))

    @classmethod
    def from_file(cls, path: str | Path) -> Adapter:
        """The adapter of a JSON file: {"keypoints": [the detector's, in their order], "joints": {joint: keypoint, or as
        `from_mapping` takes them}}; it is named as the file.

        Raises ValueError, naming the file, for another content, and what from_mapping raises.
        """
        try:
            value = read_json(Path(path).read_bytes())
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} is no JSON file ({first_line(error)})") from None
        if not (isinstance(value, dict) and isinstance(value.get("keypoints"), list)
                and isinstance(value.get("joints"), dict)):
            raise ValueError(f'{path}: wanted {{"keypoints": ["nose", ...], "joints": {{"pelvis": ["left_hip", '
                             f'"right_hip"], ...}}}}')
        try:
            return cls.from_mapping(value["joints"], value["keypoints"], Path(path).stem)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from None

    def onto(self, skeleton: Skeleton) -> Adapter:
        """The same adapter for a model with another skeleton: its joints are picked by name.

        Raises ValueError if the skeleton has a joint this adapter does not give.
        """
        return replace(self, skeleton=skeleton,
                       alternatives=tuple(self.alternatives[self.skeleton.index(joint)] for joint in skeleton.joints))

    def __call__(self, keypoints_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The model's joints: (..., J, 2) px, and their confidence (..., J).

        keypoints_px: (..., K, 2), or (..., K, 3) with the confidence; without it every keypoint counts as sure. One at
        (0, 0), at (-1, -1) or at NaN, or of a confidence below 0, was not found. A joint with a source of confidence 0
        has confidence 0, and its place means nothing.
        Raises ValueError if the shape does not fit the layout.
        """
        keypoints = np.asarray(keypoints_px)
        if keypoints.ndim < 2 or keypoints.shape[-2] != len(self.layout) or keypoints.shape[-1] not in (2, 3):
            k = len(self.layout)
            raise ValueError(f'keypoints_px has shape {keypoints.shape}; layout "{self.layout.name}" needs '
                             f"({k}, 2) or ({k}, 3)")
        frames = keypoints.reshape(-1, *keypoints.shape[-2:])
        xy, confidence = _native.adapted(self, frames)
        leading = keypoints.shape[:-2]
        return xy.reshape(*leading, *xy.shape[1:]), confidence.reshape(*leading, *confidence.shape[1:])


def _terms(joint: str, sources: Sources) -> dict[str, tuple[float, float]]:
    """The sources of one joint as {keypoint: (weight for x, weight for y)}; {} for None."""
    if sources is None:
        return {}
    if isinstance(sources, str):
        sources = (sources,)
    if not isinstance(sources, (Mapping, Sequence)) or not sources:
        raise ValueError(f"joint {joint!r} comes from {sources!r}; wanted a keypoint, several, or {{keypoint: weight}}")
    if not isinstance(sources, Mapping):
        sources = {keypoint: 1.0 / len(sources) for keypoint in sources}
    try:
        return {keypoint: tuple(np.broadcast_to(np.asarray(weight, float), 2)) for keypoint, weight in sources.items()}
    except (TypeError, ValueError):
        raise ValueError(
            f"the weights of joint {joint!r} are {sources!r}; wanted numbers, or pairs for x and y") from None


def _mean_of(a: dict[str, tuple[float, float]], b: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The point half way between two joints, as {keypoint: (weight for x, weight for y)}."""
    zero = (0.0, 0.0)
    return {k: tuple((np.array(a.get(k, zero)) + b.get(k, zero)) / 2) for k in {**a, **b}}


ADAPTERS: dict[str, Adapter] = {name: Adapter(Skeleton(name, tuple(keypoints)), H36M17, alternatives)
                                for name, keypoints, alternatives in _native.layouts()}
COCO17, HALPE26, BODY25, MEDIAPIPE33, MPII16 = (ADAPTERS[name].layout
                                                for name in ("coco17", "halpe26", "body25", "mediapipe33", "mpii16"))


def adapter_of(layout: str | Adapter) -> Adapter:
    """The adapter of a layout by its name in ADAPTERS; an Adapter is its own. Raises ValueError for another."""
    if isinstance(layout, Adapter):
        return layout
    if not isinstance(layout, str) or layout not in ADAPTERS:
        raise ValueError(f"there is no layout {layout!r}; wanted one of {', '.join(ADAPTERS)}, or an Adapter")
    return ADAPTERS[layout]
