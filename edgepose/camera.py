"""Between pixels and what the models see; the place of the root in front of the camera; mirroring.

Pixels have x right and y down from the top left corner. Camera axes are x right, y down, z forward, in metres.
"""

from __future__ import annotations

import math

import numpy as np

from . import _native
from .skeleton import Skeleton

LEAST_PX = 2.0  # every person is larger; smaller numbers are normalised coordinates
MOST_SIDE_PX = 1e6  # no camera has a wider picture
H36M_FOCAL = 2.29  # 2 f / w of the Human3.6M cameras, f = 1145 px in a picture w = 1000 px wide


def normalize_screen(keypoints_px: np.ndarray, image_size: tuple[float, float]) -> np.ndarray:
    """Normalised screen coordinates: x in [-1, 1], y in [-h/w, h/w], the centre of the picture is 0.

    keypoints_px: (..., 2). image_size: width and height of the whole picture in px, not of the person's box.
    Both axes are divided by the width, so that the picture keeps its shape; a portrait picture has |y| > 1.
    Raises ValueError if the last axis is not 2 or the size is not two positive numbers.
    Source: Pavllo et al. 2019, VideoPose3D common/camera.py.
    """
    width, height = checked_image_size(image_size)
    return _pairs(keypoints_px, "keypoints_px") * (2.0 / width) - (1.0, height / width)


def screen_to_px(keypoints_norm: np.ndarray, image_size: tuple[float, float]) -> np.ndarray:
    """The inverse of `normalize_screen`: (..., 2) normalised screen coordinates to pixels.

    Raises ValueError if the last axis is not 2 or the size is not two positive numbers.
    """
    width, height = checked_image_size(image_size)
    return (_pairs(keypoints_norm, "keypoints_norm") + (1.0, height / width)) * (width / 2.0)


def normalize_with_intrinsics(keypoints_px: np.ndarray, fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """Normalised screen coordinates as the cameras the models were trained on would have seen them.

    keypoints_px: (..., 2), lens distortion already removed. fx, fy, cx, cy: focal lengths and centre in px.
    A ray keeps its direction: only the focal length is exchanged for that of Human3.6M.
    Raises ValueError if the last axis is not 2 or a focal length is not positive.
    """
    checked_intrinsics((fx, fy, cx, cy))
    return (_pairs(keypoints_px, "keypoints_px") - (cx, cy)) * (H36M_FOCAL / fx, H36M_FOCAL / fy)


def root_translation(pose_m: np.ndarray, keypoints_px: np.ndarray, confidence: np.ndarray,
                     fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """The place of the root from which the pose is seen at the keypoints: (3,) metres, camera axes.

    pose_m: (J, 3), root-relative, already scaled to the person's size. keypoints_px: (J, 2), the same joints,
    undistorted. confidence: (J,), the weight of each joint; 0 leaves it out, whatever its coordinates.
    The distance is as wrong as the size of the pose: 5 % of height is 5 % of distance.
    For a pose of a Stream with a camera: root_translation(pose.joints_m, pose.keypoints_norm, pose.confidence,
    H36M_FOCAL, H36M_FOCAL, 0, 0), because its rays are those of the camera that the keypoints were normalised for.
    Raises ValueError on wrong shapes, a focal length that is not positive, or if the joints with a confidence
    above 0 do not determine the place (fewer than two, or all in one point of the picture and of the pose).
    Each joint (x, y, z) seen at (u, v) gives two equations that are linear in t: fx tx - (u - cx) tz =
    (u - cx) z - fx x, and the same for y; they are solved by weighted least squares.
    """
    pose, seen_at, weight = (np.asarray(a, dtype=np.float64) for a in (pose_m, keypoints_px, confidence))
    if pose.ndim != 2 or pose.shape[1] != 3 or seen_at.shape != (len(pose), 2) or weight.shape != (len(pose),):
        raise ValueError(f"pose_m, keypoints_px, confidence have shapes {pose.shape}, {seen_at.shape}, {weight.shape}; "
                         "wanted (J, 3), (J, 2), (J,)")
    checked_intrinsics((fx, fy, cx, cy))
    return _native.root_translation(pose, seen_at, weight, fx, fy, cx, cy)


def flip_left_right(pose: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The mirror image: x negated, left and right joints swapped. Twice gives back the pose.

    pose: (..., J, C) normalised screen coordinates or metres in camera axes, x first, joints as in `skeleton`; columns
    after the coordinates go with their joint.
    Raises ValueError if the shape does not fit the skeleton.
    """
    pose = np.asarray(pose)
    if pose.ndim < 2 or pose.shape[-2] != len(skeleton) or pose.shape[-1] < 2:
        raise ValueError(f"pose has shape {pose.shape}; skeleton {skeleton.name!r} needs (..., "
                         f"{len(skeleton)}, 2 or more)")
    flipped = pose[..., skeleton.mirror, :]
    flipped[..., 0] *= -1
    return flipped


def check_pixels(keypoints: np.ndarray, name: str) -> None:
    """Raises ValueError, with the name, if (..., 2) keypoints are all as near to the corner as normalised ones. Zeros
    are nobody."""
    if 0.0 < np.abs(keypoints).max(initial=0.0) <= LEAST_PX:
        raise ValueError(f"{name} are all within {LEAST_PX:g} px of the corner, as normalised ones are; "
                         "wanted pixels: coordinates from 0 to 1 times the picture's width and height, from -1 to 1 as "
                         "edgepose.camera.screen_to_px")


def checked_image_size(image_size: tuple[float, float]) -> tuple[float, float]:
    """(width, height) in px as given. Raises ValueError unless these are two numbers of pixels from 1 to MOST_SIDE_PX,
    in an order."""
    try:
        width, height = image_size
        is_size = all(not isinstance(side, (bool, np.bool_)) and 1 <= side <= MOST_SIDE_PX for side in (width, height))
        if is_size and not isinstance(image_size, (set, frozenset, dict)):  # these have no order
            return width, height
    except (TypeError, ValueError):
        pass
    raise ValueError(f"image_size is {image_size!r}; wanted (width, height), two numbers of pixels from 1 to "
                     f"{MOST_SIDE_PX:.0f}")


def _pairs(points: np.ndarray, name: str) -> np.ndarray:
    points = np.asarray(points)
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"{name} has shape {points.shape}; wanted (..., 2): x and y, without the confidence")
    return points


def checked_intrinsics(camera: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) in px as given. Raises ValueError unless these are four finite numbers, fx and fy positive."""
    try:
        fx, fy, cx, cy = camera
        if 0 < fx < math.inf and 0 < fy < math.inf and math.isfinite(cx) and math.isfinite(cy):
            return fx, fy, cx, cy
    except (TypeError, ValueError):
        pass
    raise ValueError(f"fx, fy, cx, cy are {camera!r}; wanted four finite numbers of pixels, fx and fy positive")
