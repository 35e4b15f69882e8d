"""The one place that knows which program wrote a file of 2D keypoints: see docs/files.md."""

from __future__ import annotations

from pathlib import Path

from ..checks import first_line, read_json
from ..npz import read_npz
from ..skeleton import Skeleton
from . import coco, mmpose, openpose, tables, videopose3d
from .recording import Recording

SUFFIXES = (".npz", ".json", ".npy", ".csv")  # files of keypoints; a folder of OpenPose's is one too


def read_recording(path: Path, layout: Skeleton | None = None) -> Recording | None:
    """The film that another program's file or folder describes; None for an .npz file that is none of theirs.

    layout: the keypoints of a table that does not name them.
    Raises ValueError, naming the file, what is in it and what was wanted.
    """
    if path.is_dir():
        return openpose.read_folder(path)
    if path.suffix == ".npz":
        return videopose3d.read_videopose3d(path) if videopose3d.is_videopose3d(read_npz(path, ())) else None
    if path.suffix == ".npy":
        return tables.read_npy(path)
    if path.suffix == ".csv":
        return tables.read_csv(path, layout)
    if path.suffix != ".json":
        raise ValueError(f"{path}: wanted a file of keypoints, {', '.join(SUFFIXES)}, or a folder that OpenPose wrote")
    try:
        value = read_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no JSON file ({first_line(error)})") from None
    if openpose.is_frame(value):
        return openpose.read_frames(path, [value])
    if isinstance(value, list) and value and openpose.is_frame(value[0]):
        return openpose.read_frames(path, value)
    if coco.is_results(value):
        return coco.read_results(path, value)
    if mmpose.is_predictions(value):
        return mmpose.read_predictions(path, value)
    begins = (f"a {type(value).__name__} of {len(value)}" if isinstance(value, (dict, list)) else repr(value)[:40])
    keys = value if isinstance(value, dict) else value[0] if isinstance(value, list) and value else None
    names = ", ".join(map(str, list(keys)[:5])) if isinstance(keys, dict) else ""
    raise ValueError(f"{path} holds {begins}{f' with {names}' if names else ''}; wanted the keypoints of OpenPose, "
                     "AlphaPose, COCO's results or MMPose")
