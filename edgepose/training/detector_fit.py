"""The errors of real detectors, and the bodies that they see, measured on calibrated clips for `noise` and `landmarks`.

    python -m edgepose.training.detector_fit --detections DIR
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .landmarks import COCO_JOINTS
from .noise import JITTER_PERCENT
from .real_clips import RealClip, read_real_clips

LEAST_CONFIDENCE = 0.05  # a point below this is none


def fit_jitter(clips: list[RealClip]) -> tuple[dict[str, float], dict[str, float], float]:
    """(jitter and bias in percent of the person's size, by the last part of a joint's name, and the jitter's
    correlation from one frame to the next at 50 Hz) of one detector.

    The bias is the median of a joint's error over a clip, of the joints' root mean square; the jitter is what is left:
    its scale is the median error over sqrt(2), the median of the bivariate t with two degrees of freedom. The reference
    comes from the same detector's points in all views, so both are a little too small.
    """
    errors, biases, changes, rates = [], [], [], []
    for clip in clips:
        found, true = clip.detected_coco17, clip.perfect.keypoints_px
        known = (true[..., 2] > 0) & (found[..., 2] > LEAST_CONFIDENCE)
        place = np.where(true[..., 2:] > 0, true[..., :2], np.nan)
        size = np.nanmax(np.nanmax(place, 1) - np.nanmin(place, 1), -1)
        error = np.where(known[..., None], found[..., :2] - true[..., :2], np.nan) / size[:, None, None]
        bias = np.nanmedian(error, 0, keepdims=True)
        errors.append(np.linalg.norm(error - bias, axis=-1))
        biases.append(np.linalg.norm(bias[0], axis=-1))
        changes.append(np.linalg.norm(np.diff(error, axis=0), axis=-1))
        rates.append(clip.detected.fps)
    lengths, steps, bias = np.concatenate(errors), np.concatenate(changes), np.stack(biases)
    jitter, constant = {}, {}
    for part in JITTER_PERCENT:
        own = [j for j, name in enumerate(COCO_JOINTS) if name.endswith(part)]
        jitter[part] = float(100 * np.nanmedian(lengths[:, own]) / math.sqrt(2))
        constant[part] = float(100 * np.sqrt(np.nanmean(bias[:, own] ** 2) / 2))  # along each axis
    # A step of the process has the scale sqrt(2 - 2 r) times that of the jitter.
    correlation = max(0.0, 1 - float(np.nanmedian(steps) / np.nanmedian(lengths)) ** 2 / 2)
    return jitter, constant, correlation ** (float(np.mean(rates)) / 50)


def body_ratios(points_m: np.ndarray) -> dict[str, float]:
    """Ratios that differ between bodies and between detectors: (N, 17, 3) COCO points in 3D -> medians over the frames.

    Widths and heights over thigh plus shank; the heights of nose and eyes are above the middle of the shoulders, along
    the trunk.
    """
    def place(joint: str) -> np.ndarray:
        return points_m[:, COCO_JOINTS.index(joint)]

    def between(a: str, b: str) -> np.ndarray:
        return np.linalg.norm(place(a) - place(b), axis=-1)

    leg = sum(between(f"{side}_hip", f"{side}_knee") + between(f"{side}_knee", f"{side}_ankle")
              for side in ("left", "right")) / 2
    shoulders, hips = ((place(f"left_{part}") + place(f"right_{part}")) / 2 for part in ("shoulder", "hip"))
    trunk = np.linalg.norm(shoulders - hips, axis=-1)
    up = (shoulders - hips) / trunk[:, None]
    eyes = (place("left_eye") + place("right_eye")) / 2
    values = {"trunk": trunk, "hips": between("left_hip", "right_hip"),
              "shoulders": between("left_shoulder", "right_shoulder"), "ears": between("left_ear", "right_ear"),
              "nose above": ((place("nose") - shoulders) * up).sum(-1), "eyes above": ((eyes - shoulders) * up).sum(-1)}
    leg = float(np.nanmedian(leg))
    return {name: round(float(np.nanmedian(value)) / leg, 3) for name, value in values.items()}


def of_groups(clips: list[RealClip]) -> Mapping[str, list[RealClip]]:
    """The clips by their group."""
    return {group: [clip for clip in clips if clip.group == group]
            for group in dict.fromkeys(clip.group for clip in clips)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Measure detectors' errors and bodies on calibrated clips of real detections.")
    parser.add_argument("--detections", required=True, metavar="DIR")
    clips_of_all, _ = read_real_clips(Path(parser.parse_args().detections))
    for group, clips_of_one in of_groups(clips_of_all).items():
        jitter_percent, bias_percent, frame_correlation = fit_jitter(clips_of_one)
        print(group)
        print("  jitter %", {part: round(value, 2) for part, value in jitter_percent.items()},
              "correlation", round(frame_correlation, 2))
        print("  bias %  ", {part: round(value, 2) for part, value in bias_percent.items()})
        print("  bodies  ", body_ratios(np.concatenate([clip.reference_coco17_m for clip in clips_of_one])))
