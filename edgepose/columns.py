"""The columns of what a lifter takes, (B, T, J, C), and of what it answers, (B, J, D), by name.

Every lifter takes x and y; one may take more, so a zoo module and an engine have `inputs` and `outputs`, and an engine
file has them in its header. A lifter that has neither is of the published form.

    x, y                        normalised screen coordinates (camera.normalize_screen)
    confidence                  0 to 1; 0: the joint was not found and stands where Hold put it
    length, length_known        m, the person's length of LENGTHS at this joint; and 1, or 0 where it is not known
    depth, depth_known          m along a depth camera's axis, less the median of the joints known; and 1 or 0
    elevation, elevation_known  radians of the joint's ray above the horizon, by lens and gravity; and 1 or 0
    gap                         s since the person's previous frame, the same at every joint; 0: nothing came before

What is not known is 0. An answer is x, y, z in m from the root, in camera axes, and `error`, the predicted standard
deviation of the joint's distance in m.
"""

from __future__ import annotations

import numpy as np

from .checks import checked_number

PUBLISHED_INPUTS, PUBLISHED_OUTPUTS = ("x", "y"), ("x", "y", "z")
STILL_INPUTS = (*PUBLISHED_INPUTS, "confidence", "length", "length_known", "depth", "depth_known", "elevation",
                "elevation_known")  # what a single frame has
INPUTS = (*STILL_INPUTS, "gap")
USUAL_RATE_HZ = 50.0  # for a lifter that does not say its own
OUTPUTS = (*PUBLISHED_OUTPUTS, "error")
# A person's lengths, and the joints whose `length` column has them. Widths are from left to right, the trunk from the
# middle of the hips to that of the shoulders, the others from joint to joint; left and right alike.
LENGTHS = {"upper_arm": ("left_elbow", "right_elbow"), "forearm": ("left_wrist", "right_wrist"),
           "thigh": ("left_knee", "right_knee"),
           "shank": ("left_ankle", "right_ankle"), "shoulder_width": ("left_shoulder", "right_shoulder"),
           "hip_width": ("left_hip", "right_hip"), "trunk": ("thorax",)}
# Their parts of a standing height: medians of the 31 people of the training motion whose bodies are their own, whose
# height is the sum of thigh, shank, trunk and head and 0.15 m for the ankle and the crown. Their deviations are 4 to 11
# percent.
HEIGHT_PARTS = {"upper_arm": 0.166, "forearm": 0.157, "thigh": 0.233, "shank": 0.253, "shoulder_width": 0.211,
                "hip_width": 0.101, "trunk": 0.296}

LEAST_HEIGHT_M, MOST_HEIGHT_M = 0.5, 2.5


def lengths_of_height(height_m: float) -> dict[str, float]:
    """The lengths of somebody of whom only the standing height is known, in m: for Stream(..., lengths_m=...).

    Raises ValueError unless the height is 0.5 to 2.5 m, TypeError for what is no number.
    """
    height_m = checked_number("height_m", height_m, LEAST_HEIGHT_M, MOST_HEIGHT_M)
    return {name: part * height_m for name, part in HEIGHT_PARTS.items()}


def inputs_of(lifter: object) -> tuple[str, ...]:
    """The names of the columns that a lifter takes."""
    return getattr(lifter, "inputs", PUBLISHED_INPUTS)


def outputs_of(lifter: object) -> tuple[str, ...]:
    """The names of the columns that a lifter answers with."""
    return getattr(lifter, "outputs", PUBLISHED_OUTPUTS)


def with_all_columns(keypoints_norm: np.ndarray, lifter: object) -> np.ndarray:
    """Windows of x and y alone as a lifter takes them: (..., 2) -> (..., C); every joint found, frames at the rate of
    its training, nothing else known."""
    names = inputs_of(lifter)
    if keypoints_norm.shape[-1] == len(names):
        return keypoints_norm
    windows = np.zeros((*keypoints_norm.shape[:-1], len(names)), keypoints_norm.dtype)
    windows[..., :2] = keypoints_norm
    if "confidence" in names:
        windows[..., names.index("confidence")] = 1
    if "gap" in names:
        windows[..., names.index("gap")] = 1 / (getattr(lifter, "rate_hz", None) or USUAL_RATE_HZ)
    return windows


def joints_of(poses: np.ndarray) -> np.ndarray:
    """The joints of a lifter's answer, in m: (..., D) -> (..., 3)."""
    return poses[..., :3]
