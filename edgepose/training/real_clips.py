"""Real clips with a 3D reference, of several people, detectors and cameras: for `edgepose evaluate --data real`.

A folder of .npz files, one a camera. A clip has the detector's points, `coco17` (F, 17, 3) px and confidence, or
`keypoints` in a `layout` of `adapters`; `fps` and `image_size`; its camera, `camera_K`, `camera_dist` (k1 k2 p1 p2),
`camera_R`, `camera_t` (x_cam = R x_world + t, metres, the world's z up); and `reference_coco17_world_m` (F, 17, 3), NaN
where a joint is not known. Without a reference, CLIP_cam<n>.npz takes camera n and the reference from CLIP_refined.npz,
where that is beside it. Several people have `coco17_by_person` (P, F, 17, 3), `person_names` and a reference each.
`mediapipe_world_m` is the detector's own 3D.

References are triangulated from detections and good to some 30 mm: no figure below that means anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..adapters import ADAPTERS, COCO17, MEDIAPIPE33
from ..clip import Clip
from ..npz import read_npz

LIMBS = COCO17.joints[COCO17.index("left_shoulder"):]  # shoulders, elbows, wrists, hips, knees, ankles
# By how a file's name begins; the first that fits.
GROUPS = {"pose2sim_balance_mediapipe": "beam, MediaPipe", "pose2sim_balance": "beam, OpenPose",
          "pose2sim_multi": "several people, MediaPipe", "aist": "AIST++"}
CAMERA_SHAPES = {"camera_K": (3, 3), "camera_dist": (4,), "camera_R": (3, 3), "camera_t": (3,)}
CAMERA_KEYS = tuple(CAMERA_SHAPES)
DOWN = np.array([0.0, 0.0, -1.0])  # in the world
UNDISTORT_ROUNDS = 10  # each takes the rest of the error times the distortion's slope: 1e-9 px at a slope of 0.1
_HIPS = [LIMBS.index("left_hip"), LIMBS.index("right_hip")]


@dataclass(frozen=True, eq=False)
class RealClip:
    """One person as one camera saw them.

    detected: what the detector found. perfect: the reference as a perfect detector would have found it, COCO-17.
    reference_m: (F, 12, 3) the joints of LIMBS in metres from the middle of the hips, camera axes; NaN in the whole of
    a frame in which one of them is not known. own_m: the same by the detector's own 3D, where the file has it.
    lens, distortion, gravity: the camera; lens and gravity as `Stream` takes them, k1 k2 p1 p2.
    detected_coco17: (F, 17, 3) what the detector found, in px and confidence, in COCO's order. reference_coco17_m: (F,
    17, 3) the reference of the detector's points in the world, NaN where it is not known. hips_m: (F, 3) the middle of
    the hips in front of the camera, NaN where it is not known.
    """

    name: str
    group: str
    detected: Clip
    perfect: Clip
    reference_m: np.ndarray
    lens: tuple[float, float, float, float]
    distortion: np.ndarray
    gravity: tuple[float, float, float]
    detected_coco17: np.ndarray
    reference_coco17_m: np.ndarray
    own_m: np.ndarray | None = None
    hips_m: np.ndarray | None = None

    def undistorted(self, seen: Clip) -> Clip:
        """`detected` or `perfect` as a camera without distortion would have seen it."""
        fx, fy, cx, cy = self.lens
        camera = {"camera_K": np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), "camera_dist": self.distortion}
        points = seen.keypoints_px.copy()
        is_found = points[..., 2] > 0
        points[is_found, :2] = _undistorted(points[is_found, :2], camera)[:, :2] * (fx, fy) + (cx, cy)
        return replace(seen, keypoints_px=points)


def lengths_of(points_m: np.ndarray) -> dict[str, float]:
    """The lengths of columns.LENGTHS of a person, in m: medians of the detector's points in 3D, (F, 17, 3) COCO, NaN
    where one is not known."""
    def place(joint: str) -> np.ndarray:
        return points_m[:, COCO17.index(joint)]

    def middle(part: str) -> np.ndarray:
        return (place(f"left_{part}") + place(f"right_{part}")) / 2

    def median(*vectors: np.ndarray) -> float:
        return float(np.mean([np.nanmedian(np.linalg.norm(vector, axis=-1)) for vector in vectors]))

    def limb(upper: str, lower: str) -> float:
        return median(*(place(f"{side}_{upper}") - place(f"{side}_{lower}") for side in ("left", "right")))

    return {"upper_arm": limb("shoulder", "elbow"), "forearm": limb("elbow", "wrist"), "thigh": limb("hip", "knee"),
            "shank": limb("knee", "ankle"), "shoulder_width": median(place("left_shoulder") - place("right_shoulder")),
            "hip_width": median(place("left_hip") - place("right_hip")),
            "trunk": median(middle("shoulder") - middle("hip"))}


def project_distorted(world_m: np.ndarray, camera: Mapping[str, np.ndarray]) -> np.ndarray:
    """World points in a calibrated camera: (..., 3) m -> (..., 2) px. Distortion k1, k2, p1, p2 as in OpenCV.

    camera: the arrays of CAMERA_KEYS.
    """
    seen = world_m @ camera["camera_R"].T + camera["camera_t"].ravel()
    x, y = seen[..., 0] / seen[..., 2], seen[..., 1] / seen[..., 2]
    k1, k2, p1, p2 = camera["camera_dist"]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    xy = np.stack([x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                   y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], -1)
    return xy @ camera["camera_K"][:2, :2].T + camera["camera_K"][:2, 2]


def triangulate(points_px: np.ndarray, cameras: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """The world points that are nearest to their rays: (V, N, 3) px and confidence in V cameras -> (N, 3) m.

    The squared distances to the rays are weighted by confidence; one of 0 may hold any place. NaN where fewer than two
    cameras found the point.
    """
    normal, right = np.zeros((points_px.shape[1], 3, 3)), np.zeros((points_px.shape[1], 3))
    for points, camera in zip(points_px.astype(float), cameras):
        found_px = np.where(points[:, 2:] > 0, points[:, :2], camera["camera_K"][:2, 2])
        rays = _undistorted(found_px, camera) @ camera["camera_R"]
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        across = points[:, 2, None, None] * (np.eye(3) - rays[:, :, None] * rays[:, None])
        normal += across
        right += across @ (-camera["camera_R"].T @ camera["camera_t"].ravel())
    world_m = np.full(right.shape, np.nan)
    is_seen = (points_px[..., 2] > 0).sum(axis=0) >= 2
    world_m[is_seen] = np.linalg.solve(normal[is_seen], right[is_seen, :, None])[..., 0]
    return world_m


def _undistorted(points_px: np.ndarray, camera: Mapping[str, np.ndarray]) -> np.ndarray:
    """The inverse of project_distorted up to the distance: (N, 2) px -> (N, 3) in camera axes at a depth of 1."""
    distorted = (points_px - camera["camera_K"][:2, 2]) @ np.linalg.inv(camera["camera_K"][:2, :2]).T
    points = np.concatenate([distorted, np.ones((len(distorted), 1))], axis=1)
    ideal = {**camera, "camera_K": np.eye(3), "camera_R": np.eye(3), "camera_t": np.zeros(3)}
    for _ in range(UNDISTORT_ROUNDS):
        points[:, :2] += distorted - project_distorted(points, ideal)
    return points


def from_hips(joints_m: np.ndarray) -> np.ndarray:
    """The joints of LIMBS, (F, 12, 3), from the middle of the hips; NaN in the whole of a frame in which one is NaN."""
    centred = joints_m - joints_m[:, _HIPS].mean(axis=1, keepdims=True)
    centred[~np.isfinite(joints_m).all(axis=(1, 2))] = np.nan
    return centred


def read_real_clips(folder: str | Path) -> tuple[list[RealClip], dict[str, str]]:
    """(the clips of a folder that have a reference, {file: why it was left out}).

    Raises ValueError, naming the folder, if there is none, and naming the file if one is damaged, or an array is
    missing or of another shape.
    """
    clips, left_out = [], {}
    for path in sorted(Path(folder).glob("*.npz")):
        arrays = _with_reference(path, read_npz(path))
        missing = [key for key in ("reference_coco17_world_m", *CAMERA_KEYS) if key not in arrays]
        if missing or not {"coco17", "coco17_by_person"} & arrays.keys():
            left_out[path.stem] = f"no {missing[0]}" if missing else "no keypoints"
            continue
        try:
            is_of_several = "coco17_by_person" in arrays
            clips += _people(path.stem, arrays) if is_of_several else [_clip(path.stem, path.stem, arrays)]
        except KeyError as error:
            raise ValueError(f"{path} has no {error}; it has {', '.join(arrays)}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if not clips:
        raise ValueError(f"{folder}: there is no clip with a reference in it; wanted .npz files with "
                         f"reference_coco17_world_m, {', '.join(CAMERA_KEYS)} and coco17")
    return clips, left_out


def _with_reference(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays, with camera and reference from CLIP_refined.npz where the file has none and is camera n of that."""
    of_camera = re.fullmatch(r"(.+)_cam(\d+)", path.stem)
    refined = of_camera and path.with_name(f"{of_camera[1]}_refined.npz")
    if "reference_coco17_world_m" in arrays or not refined or not refined.is_file():
        return arrays
    shared, camera = read_npz(refined), int(of_camera[2]) - 1
    if "reference_coco17_world_m" not in shared or not all(
            key in shared and 0 <= camera < len(np.atleast_1d(shared[key])) for key in CAMERA_KEYS):
        return arrays
    return {**arrays, "reference_coco17_world_m": shared["reference_coco17_world_m"],
            **{key: shared[key][camera] for key in CAMERA_KEYS}}


def _people(stem: str, arrays: dict[str, np.ndarray]) -> Iterator[RealClip]:
    """A clip for each person of a file whom the detector found in any frame."""
    people = len(_numbers(arrays, "coco17_by_person", None, None, len(COCO17), 3))
    by_person = [key for key in ("person_names", "reference_coco17_world_m", "mediapipe_world_m_by_person")
                 if key != "mediapipe_world_m_by_person" or key in arrays]
    for key in by_person:
        if arrays[key].shape[:1] != (people,):
            raise ValueError(f"{key} has shape {arrays[key].shape}; wanted an entry for each of {people} people")
    for i, person in enumerate(arrays["person_names"].tolist()):
        if not arrays["coco17_by_person"][i, ..., 2].any():
            continue
        of_person = {**{key: arrays[key] for key in ("fps", "image_size", *CAMERA_KEYS)},
                     "coco17": arrays["coco17_by_person"][i],
                     "reference_coco17_world_m": arrays["reference_coco17_world_m"][i]}
        if "mediapipe_world_m_by_person" in arrays:
            of_person["mediapipe_world_m"] = arrays["mediapipe_world_m_by_person"][i]
        yield _clip(f"{stem}, {person}", stem, of_person)


def _as_coco17(arrays: dict[str, np.ndarray], key: str, layout: str) -> np.ndarray:
    if "coco17" in arrays or layout == COCO17.name:
        return arrays["coco17" if "coco17" in arrays else key]
    return arrays[key][:, [ADAPTERS[layout].layout.index(joint) for joint in COCO17.joints]]


def _numbers(arrays: Mapping[str, np.ndarray], key: str, *shape: int | None) -> np.ndarray:
    """The array under a key, as float64. shape: None for any extent. Raises KeyError without it, ValueError, with the
    key, if it is of another shape or no numbers."""
    array = arrays[key]
    if (array.dtype.kind not in "fiu" or array.ndim != len(shape)
            or any(wanted not in (None, extent) for wanted, extent in zip(shape, array.shape))):
        wanted = ", ".join("any" if extent is None else str(extent) for extent in shape)
        raise ValueError(f"{key} is {array.dtype} of shape {array.shape}; wanted numbers, ({wanted})")
    return array.astype(float)


def _clip(name: str, stem: str, arrays: dict[str, np.ndarray]) -> RealClip:
    world_m = _numbers(arrays, "reference_coco17_world_m", None, len(COCO17), 3)
    arrays = {**arrays, "camera_t": arrays["camera_t"].ravel()}
    arrays |= {key: _numbers(arrays, key, *shape) for key, shape in CAMERA_SHAPES.items()}
    in_camera = world_m @ arrays["camera_R"].T + arrays["camera_t"]
    is_known = np.isfinite(world_m).all(axis=-1)
    layout = str(arrays.get("layout", COCO17.name))
    detected = ("keypoints", layout) if layout in ADAPTERS and "keypoints" in arrays else ("coco17", COCO17.name)
    for key, joints in (detected[0], len(ADAPTERS[detected[1]].layout)), ("coco17", len(COCO17)):
        _numbers(arrays, key, len(world_m), joints, 3)
    (fps,), size = _numbers({"fps": arrays["fps"].ravel()}, "fps", 1), tuple(_numbers(arrays, "image_size", 2).tolist())
    perfect_px = np.where(is_known[..., None], project_distorted(world_m, arrays), 0.0)
    own = (_numbers(arrays, "mediapipe_world_m", len(world_m), len(MEDIAPIPE33), 3)
           if "mediapipe_world_m" in arrays else None)
    matrix = arrays["camera_K"]
    rows = [MEDIAPIPE33.index(joint) for joint in LIMBS]
    group = next((group for start, group in GROUPS.items() if stem.startswith(start)), re.sub(r"_cam\d+$", "", stem))
    return RealClip(name, group, Clip(name, arrays[detected[0]].astype(float), detected[1], size, float(fps)),
                    Clip(name, np.concatenate([perfect_px, is_known[..., None]], -1), COCO17.name, size, float(fps)),
                    from_hips(in_camera[:, [COCO17.index(joint) for joint in LIMBS]]),
                    (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]), arrays["camera_dist"],
                    tuple((arrays["camera_R"] @ DOWN).tolist()),
                    _as_coco17(arrays, *detected).astype(float), world_m,
                    None if own is None else from_hips(own[:, rows]),
                    in_camera[:, [COCO17.index("left_hip"), COCO17.index("right_hip")]].mean(axis=1))
