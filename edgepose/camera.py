"""Between pixels and what the models see; the place of the root in front of the camera; mirroring.

Pixels have x right and y down from the top left corner. Camera axes are x right, y down, z forward, in metres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import _native
from .checks import checked_number
from .skeleton import Skeleton

LEAST_PX = 2.0  # every person is larger; smaller numbers are normalised coordinates
MOST_SIDE_PX = 1e6  # no camera has a wider picture
VIEW_DEGREES = 60.0
DEPTH_REACH_PX = 2
DISTORTIONS = 8  # coefficients at most
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


def guessed_intrinsics(image_size: tuple[float, float],
                       view_degrees: float = VIEW_DEGREES) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) in px of a lens that was not calibrated: square pixels, centred, and seeing `view_degrees` along
    the longer side of the picture.

    The default is a webcam's; phones see 65 to 75, cameras for machines and zoomed ones less. An error of 10 % of the
    focal length is one of 10 % of every distance.
    Raises ValueError if the size is not two positive numbers or the view not within 1 to 170 degrees.
    """
    width, height = checked_image_size(image_size)
    checked_number("view_degrees", view_degrees, 1, 170)
    focal = max(width, height) / (2 * math.tan(math.radians(view_degrees) / 2))
    return focal, focal, width / 2, height / 2


def with_depths(keypoints_px: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """Keypoints with what a depth picture measured at each: (..., K, 2 or 3) -> (..., K, 4), for `Stream.push`.

    depth_m: (height, width), aligned with the picture the keypoints are from; in metres, or in millimetres if of whole
    numbers, as depth cameras give them. 0, NaN or infinite where nothing was measured.
    Each depth is the median of what was measured within DEPTH_REACH_PX of the keypoint; NaN where nothing was, and
    outside of the picture. Keypoints without a confidence are sure.
    Raises ValueError for other shapes.
    """
    keypoints, depths = np.asarray(keypoints_px, np.float64), np.asarray(depth_m)
    if depths.ndim != 2 or depths.dtype.kind not in "fiu":
        raise ValueError(f"depth_m is {depths.dtype} of shape {depths.shape}; wanted numbers, (height, width)")
    if keypoints.ndim < 2 or keypoints.shape[-1] not in (2, 3):
        raise ValueError(f"keypoints_px has shape {keypoints.shape}; wanted (K, 2), (K, 3) or those of several people")
    rows = keypoints.reshape(-1, keypoints.shape[-1])
    found = np.ones((len(rows), 4))
    found[:, :rows.shape[1]] = rows
    found[:, 3] = _native.depths_at(np.ascontiguousarray(depths, np.float32), rows[:, :2].copy(), DEPTH_REACH_PX)
    found[:, 3] *= 1 if depths.dtype.kind == "f" else 1e-3
    return found.reshape(*keypoints.shape[:-1], 4)


def root_translation(pose_m: np.ndarray, keypoints_px: np.ndarray, confidence: np.ndarray,
                     fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """The place of the root from which the pose is seen at the keypoints: (3,) metres, camera axes.

    pose_m: (J, 3), root-relative, already scaled to the person's size. keypoints_px: (J, 2), the same joints,
    undistorted. confidence: (J,), the weight of each joint; 0 leaves it out, whatever its coordinates.
    The distance is as wrong as the size of the pose: 5 % of height is 5 % of distance.
    A Stream with a camera does this and filters it over time: Pose.root_m. For one of its poses alone:
    root_translation(pose.joints_m, pose.keypoints_norm, pose.confidence, H36M_FOCAL, H36M_FOCAL, 0, 0), because its
    rays are those of the camera that the keypoints were normalised for.
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


def checked_distortion(distortion: Sequence[float] | None) -> list[float]:
    """OpenCV's k1, k2, p1, p2, k3, k4, k5, k6, those that are not given 0. Raises ValueError unless there are 4, 5 or 8
    finite numbers, or None."""
    numbers = np.zeros(0) if distortion is None else np.asarray(distortion)
    if numbers.size not in (0, 4, 5, DISTORTIONS) or numbers.dtype.kind not in "fiu" or not np.isfinite(numbers).all():
        raise ValueError(f"distortion is {distortion!r}; wanted OpenCV's 4, 5 or 8 finite numbers: k1, k2, p1, p2, k3, "
                         "k4, k5, k6")
    return [*map(float, numbers.ravel()), *[0.0] * (DISTORTIONS - numbers.size)]


def undistorted(keypoints_px: np.ndarray, camera: tuple[float, float, float, float],
                distortion: Sequence[float]) -> np.ndarray:
    """(..., 2) px where the same lens without its distortion would show them; NaN where the distortion has no inverse.

    A Stream with `distortion` does this itself. Raises ValueError on wrong shapes and impossible lenses.
    """
    points = _pairs(np.asarray(keypoints_px, np.float64), "keypoints_px")
    return _native.undistorted(points.reshape(-1, 2), checked_intrinsics(camera),
                               checked_distortion(distortion)).reshape(points.shape)
