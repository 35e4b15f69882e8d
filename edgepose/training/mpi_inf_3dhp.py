"""MPI-INF-3DHP, as its authors give it out or as the papers' code has converted it.

As given out (read with h5py and scipy: pip install 'edgepose[data]'):
- Test: `TS1/annot_data.mat` to `TS6/annot_data.mat`, HDF5 (Matlab 7.3, so the axes are reversed): `annot2`
  (F, 1, 17, 2) px, `univ_annot3` (F, 1, 17, 3) mm, `valid_frame` and `activity_annotation`, one number a frame. The
  folder may also be called mpi_inf_3dhp_test_set inside the one given.
- Training: `S1/Seq1/annot.mat` to `S8/Seq2/annot.mat`, cells of 14 cameras: `annot2` (F, 56) px, `univ_annot3` (F, 84)
  mm, of 28 joints. Used are CAMERAS, the eight of VNect, as in all papers that train on the set, and the frames that
  have a picture.
Converted (P-STMO's data_to_npz_3dhp.py and after it PoseFormerV2, MotionAGFormer and others), one key `data`:
- `data_test_3dhp.npz` {"TS1": {"data_2d": (F, 17, 2), "data_3d": (F, 17, 3), "valid": (F,)}}; it has lost the
  activities.
- `data_train_3dhp.npz` {"S1 Seq1": [{"0": {"data_2d": ..., "data_3d": ...}}, fps]}, the keys being the cameras.

The joints are in camera axes, scaled to the height of Human3.6M's people ("univ"): what the papers train on and test
with. Its neck is our thorax, its head our nose and its head_top our head. The 2D is the ground truth; there is no
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import first_line
from ..skeleton import H36M17
from .datasets import LabelledClip, assemble
from .npz import entries, entry, load_npz, points

KEYPOINTS = ("gt",)
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # at the height of the chest and the knee, and two that look down
NAMED = {"thorax": "neck", "nose": "head", "head": "head_top"}  # ours: theirs
JOINTS17 = ("head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
            "left_wrist",
            "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head")
JOINTS28 = ("spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top", "left_clavicle",
            "left_shoulder",
            "left_elbow", "left_wrist", "left_hand", "right_clavicle", "right_shoulder", "right_elbow", "right_wrist",
            "right_hand", "left_hip", "left_knee", "left_ankle", "left_foot", "left_toe", "right_hip", "right_knee",
            "right_ankle", "right_foot", "right_toe")
TESTS = {  # -> its scene and picture
    "TS1": ("green screen", (2048, 2048)), "TS2": ("green screen", (2048, 2048)),
    "TS3": ("no green screen", (2048, 2048)),
    "TS4": ("no green screen", (2048, 2048)), "TS5": ("outdoor", (1920, 1080)), "TS6": ("outdoor", (1920, 1080))}
TEST_FPS = 25.0  # not in the files; the rate of most of the training
# The file counts them from 1 to 7.
ACTIVITIES = ("Standing/Walking", "Exercising", "Sitting", "Reaching/Crouching", "On The Floor", "Sports",
              "Miscellaneous")
SEQUENCES = {  # subject and sequence -> frames that have a picture, and their rate
    ("S1", "Seq1"): (6416, 25), ("S1", "Seq2"): (12430, 50), ("S2", "Seq1"): (6502, 25), ("S2", "Seq2"): (6081, 25),
    ("S3", "Seq1"): (12488, 50), ("S3", "Seq2"): (12283, 50), ("S4", "Seq1"): (6171, 25), ("S4", "Seq2"): (6675, 25),
    ("S5", "Seq1"): (12820, 50), ("S5", "Seq2"): (12312, 50), ("S6", "Seq1"): (6188, 25), ("S6", "Seq2"): (6145, 25),
    ("S7", "Seq1"): (6239, 25), ("S7", "Seq2"): (6320, 25), ("S8", "Seq1"): (6468, 25), ("S8", "Seq2"): (6054, 25)}
TRAINING_SIZE = (2048, 2048)
ANNOT_DATA = ("annot2", "univ_annot3", "valid_frame", "activity_annotation")


def read(path: Path, split: str, keypoints: str, cameras: Sequence[int] = CAMERAS) -> list[LabelledClip]:
    """The clips of a split: of the test, one for each activity of a sequence, whose frames count there, its scene in
    the place of the camera; of the training, one for each camera of a sequence. Files as given out go before converted
    ones.

    keypoints: "gt", there is no other. cameras: which of the 14, 0 to 13, of the training as given out.
    Raises ValueError if a file, key, sequence or camera is missing, or something has another shape, naming it.
    """
    if split == "test":
        folder = path / "mpi_inf_3dhp_test_set" if (path / "mpi_inf_3dhp_test_set").is_dir() else path
        if (folder / "TS1").is_dir():
            return [clip for name in TESTS for clip in _read_annot_data(folder / name / "annot_data.mat", name)]
        converted = path / "data_test_3dhp.npz"
    else:
        if (path / "S1").is_dir():
            return [clip for subject, sequence in SEQUENCES
                    for clip in _read_annot(path / subject / sequence / "annot.mat", subject, sequence, cameras)]
        converted = path / "data_train_3dhp.npz"
    if not converted.is_file():
        wanted = ("TS1/annot_data.mat to TS6/annot_data.mat" if split == "test"
                  else "S1/Seq1/annot.mat to S8/Seq2/annot.mat")
        raise ValueError(f"{path} has no {split} split of MPI-INF-3DHP; wanted {wanted}, or {converted.name}")
    return _read_converted(converted, split)


def _read_annot_data(file: Path, name: str) -> list[LabelledClip]:
    import h5py

    if not file.is_file():
        raise ValueError(f"{file} is missing")
    try:
        with h5py.File(file) as data:
            names, arrays = list(data), {key: np.asarray(data[key]) for key in ANNOT_DATA if key in data}
    except Exception as error:  # whatever h5py makes of damaged bytes: OSError, RuntimeError, KeyError, ...
        raise ValueError(f"{file} is no HDF5 file (Matlab 7.3), or damaged: {first_line(error)}") from error
    for key in ANNOT_DATA:
        if key not in arrays:
            raise ValueError(f"{file} has no {key!r}; it has {', '.join(names)}")
    for key, last in (("annot2", 2), ("univ_annot3", 3)):
        if arrays[key].ndim != 4 or arrays[key].shape[1:] != (1, len(JOINTS17), last):
            raise ValueError(f"{file}: {key} has shape {arrays[key].shape}; wanted (F, 1, {len(JOINTS17)}, {last})")
    return _test_clips(f"{file}: annot2 and univ_annot3", name, arrays["annot2"][:, 0], arrays["univ_annot3"][:, 0],
                       arrays["valid_frame"].ravel(), arrays["activity_annotation"].ravel())


def _read_annot(file: Path, subject: str, sequence: str, cameras: Sequence[int]) -> list[LabelledClip]:
    from scipy.io import loadmat

    if not file.is_file():
        raise ValueError(f"{file} is missing")
    try:
        data = loadmat(file, variable_names=["annot2", "univ_annot3"])
    except Exception as error:  # whatever scipy makes of damaged bytes: MatReadError, zlib.error, IndexError, ...
        raise ValueError(f"{file} is no Matlab file of version 5 to 7: {first_line(error)}") from error
    frames, fps = SEQUENCES[subject, sequence]
    clips = []
    for camera in cameras:
        seen = []
        for key, last in (("annot2", 2), ("univ_annot3", 3)):
            cell = entry(data, key, str(file))
            if cell.dtype != object or not 0 <= camera < cell.size:
                raise ValueError(f"{file}: {key} is {cell.dtype} of shape {cell.shape}; wanted a cell of 14 "
                                 f"cameras, {camera} among them")
            rows = cell.ravel()[camera]
            if rows.ndim != 2 or rows.shape[1] != last * len(JOINTS28):
                raise ValueError(f"{file}: {key}, camera {camera}, has shape {rows.shape}; wanted "
                                 f"(F, {last * len(JOINTS28)})")
            seen.append(assemble(rows[:frames].reshape(-1, len(JOINTS28), last), JOINTS28, NAMED))
        clips.append(_training_clip(f"{file}: camera {camera}", subject, sequence, str(camera), fps, *seen))
    return clips


def _read_converted(file: Path, split: str) -> list[LabelledClip]:
    (data,) = load_npz(file, "data")
    clips = []
    for name in (TESTS if split == "test" else map(" ".join, SEQUENCES)):
        part = entry(data, name, f"{file}: data")
        source = f"{file}: data, {name}"
        if split == "test":
            seen = [_seventeen(part, key, last, source) for key, last in (("data_2d", 2), ("data_3d", 3))]
            clips += _test_clips(source, name, *seen, np.ravel(entry(part, "valid", source)), None)
            continue
        if isinstance(part, np.ndarray):
            part = part.tolist()
        if not isinstance(part, (list, tuple)) or len(part) != 2 or not isinstance(part[1], (int, float, np.number)):
            size = f" of {len(part)}" if isinstance(part, (list, tuple)) else ""
            raise ValueError(f"{source} is {type(part).__name__}{size}; wanted [{{camera: ...}}, fps]")
        for camera, view in entries(part[0], f"{source}, its first part").items():
            seen = [assemble(_seventeen(view, key, last, f"{source}, camera {camera}"), JOINTS17, NAMED)
                      for key, last in (("data_2d", 2), ("data_3d", 3))]
            clips.append(_training_clip(f"{source}, camera {camera}", *name.split(), str(camera), float(part[1]),
                                        *seen))
    return clips


def _seventeen(part: Any, key: str, last: int, source: str) -> np.ndarray:
    return points(entry(part, key, source), (len(JOINTS17),), (last,), f"{source}: {key}")


def _test_clips(source: str, name: str, keypoints_px: np.ndarray, joints_mm: np.ndarray, valid: np.ndarray,
                activities: np.ndarray | None) -> list[LabelledClip]:
    """One clip of the whole sequence for each activity in it, or one in all where the activities are not known."""
    valid = valid != 0
    if activities is None:
        counted = {"any": valid}
    else:
        if len(activities) != len(valid):
            raise ValueError(f"{source}: activity_annotation is of {len(activities)} frames, "
                             f"valid_frame of {len(valid)}")
        unknown = set(activities[valid].tolist()) - set(range(1, len(ACTIVITIES) + 1))
        if unknown:
            raise ValueError(f"{source}: activity_annotation has {sorted(unknown)}; wanted 1 to {len(ACTIVITIES)}")
        counted = {action: valid & (activities == i + 1) for i, action in enumerate(ACTIVITIES)}
    keypoints_px = assemble(keypoints_px, JOINTS17, NAMED).astype(np.float32)
    joints_m = (assemble(joints_mm, JOINTS17, NAMED) / 1000).astype(np.float32)
    scene, image_size = TESTS[name]
    return [LabelledClip(source, name, action, scene, "test", image_size, TEST_FPS, keypoints_px, joints_m, frames,
                         np.ones(len(H36M17), bool)) for action, frames in counted.items() if frames.any()]


def _training_clip(source: str, subject: str, sequence: str, camera: str, fps: float, keypoints_px: np.ndarray,
                   joints_mm: np.ndarray) -> LabelledClip:
    return LabelledClip(source, subject, sequence, camera, "training", TRAINING_SIZE, fps,
                        keypoints_px.astype(np.float32),
                        (joints_mm / 1000).astype(np.float32), np.ones(len(joints_mm), bool),
                        np.ones(len(H36M17), bool))
