"""Coordinate systems other than the camera's: ROS, a z-up world, and the floor that feet stand on.

    to_ros = Axes.named("ros_body")
    joints_m = to_ros(pose.joints_m + pose.root_m)      # x forward, y left, z up, from the camera
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import _native
from .checks import checked_number
from .skeleton import Skeleton
from .stream import Pose


@dataclass(frozen=True, eq=False)
class Axes:
    """Where camera coordinates (x right, y down, z forward, m) lie in other ones: p = rotation @ p_camera + origin_m.

    rotation: (3, 3). origin_m: (3,), the place of the camera.
    """

    rotation: np.ndarray
    origin_m: np.ndarray

    @staticmethod
    def named(name: str) -> Axes:
        """"camera", "opencv" and "ros_optical" are the camera's own; "ros_body" has x forward, y left, z up; "y_up" x
        right, y up, z towards the camera.

        Raises ValueError, listing the names, for another one. Source: ROS REP 103, "Standard Units of Measure and
        Coordinate Conventions".
        """
        return Axes(*_native.axes_named(name))

    @staticmethod
    def of_camera(rotation: np.ndarray, translation: np.ndarray) -> Axes:
        """The world of a calibrated camera, p_camera = rotation @ p_world + translation, as OpenCV has it: (3, 3) and
        (3,) m. Raises ValueError unless that is a rotation and a place."""
        rotation, translation = np.asarray(rotation, np.float64), np.asarray(translation, np.float64).ravel()
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise ValueError(f"rotation and translation have shapes {rotation.shape} and {translation.shape}; wanted "
                             "(3, 3) and (3,)")
        return Axes(*_native.axes_of_camera(rotation.ravel().tolist(), translation.tolist()))

    @staticmethod
    def of_gravity(gravity: tuple[float, float, float], height_m: float = 0.0) -> Axes:
        """A z-up world: x is the camera's forward direction and y its left one, both level; the camera is height_m
        above the origin.

        gravity: where it points in camera axes, of any length: (0, 1, 0) for a level camera, else from an IMU (whose
        accelerometer shows the opposite while it is at rest).
        Raises ValueError for a vector without direction, and a camera that looks straight up or down.
        """
        return Axes(*_native.axes_of_gravity([float(part) for part in gravity],
                                             checked_number("height_m", height_m)))

    def __call__(self, points_m: np.ndarray) -> np.ndarray:
        """Points in camera coordinates, (..., 3) m, in these axes."""
        return np.asarray(points_m) @ self.rotation.T + self.origin_m

    def turn(self, vectors: np.ndarray) -> np.ndarray:
        """Directions, velocities, and joints relative to the root, (..., 3), in these axes."""
        return np.asarray(vectors) @ self.rotation.T

    def of_pose(self, pose: Pose) -> np.ndarray:
        """(J, 3) m: the joints in these axes. Raises ValueError for a pose without its place."""
        if pose.root_m is None:
            raise ValueError("the pose has no place: root_m is None; wanted a Stream with camera=(fx, fy, cx, cy)")
        return self(pose.joints_m + pose.root_m)


class Floor:
    """The floor by the feet that stand on it, from poses with their place.

    A plane through the lower ankle of each pose. Where the ankles do not show its slope, because the person stayed in
    one place, that is taken from how upright they stood; with gravity, in camera axes, it is known.
    Raises ValueError for a skeleton without ankles or thorax, and gravity without direction.
    """

    def __init__(self, skeleton: Skeleton, gravity: tuple[float, float, float] | None = None) -> None:
        self._floor = _native.Floor(skeleton, None if gravity is None else [float(part) for part in gravity])

    def add(self, pose: Pose) -> None:
        """Takes a pose. One without its place is left out."""
        if pose.root_m is not None:
            self._floor.add(pose.joints_m, pose.root_m.tolist())

    def axes(self) -> Axes:
        """A z-up world: z is 0 on the floor, x is the camera's forward direction and y its left one, both level, and
        the camera is above the origin. Raises ValueError before the first pose."""
        return Axes(*self._floor.axes())

    def reset(self) -> None:
        """Forgets the poses: for another place of the camera."""
        self._floor.reset()
