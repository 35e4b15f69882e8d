"""Poses in the rerun viewer as they come: keypoints beside the 3D pose, on a timeline. Needs rerun-sdk (the `live`
extra)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import numpy as np

from ..camera import screen_to_px
from ..checks import need_library
from ..stream import Pose
from .drawing import HELD_S, bone_colours, colour_of

KEYPOINTS, POSE = "keypoints", "pose"  # the entities, each in a view of its own
LINE_PX, POINT_PX = 1.5, 3.0
LINE_M, POINT_M = 0.008, 0.014


class Viewer:
    """A rerun viewer, or with `file` a recording that `rerun FILE.rrd` opens; close() it, or use it in a `with`.

    image_size: (width, height) of the picture in px.
    Raises ImportError, naming the extra, if rerun is not installed, and OSError if its viewer cannot start.
    """

    def __init__(self, image_size: tuple[float, float], file: Path | None = None) -> None:
        need_library("rerun", "the live view")
        import rerun
        from rerun import blueprint

        self._rerun, self._image_size, self._last_s = rerun, image_size, None
        views = blueprint.Blueprint(blueprint.Horizontal(blueprint.Spatial2DView(origin=KEYPOINTS,
                                                                                 name="keypoints, px"),
                                                         blueprint.Spatial3DView(origin=POSE, name="pose, m")))
        self._recording = rerun.RecordingStream("edgepose", recording_id=uuid4())
        if file is None:
            self._open(views)
        else:
            self._recording.save(file, default_blueprint=views)
        self._recording.log(POSE, rerun.ViewCoordinates.RDF, static=True)  # our axes: x right, y down, z forward

    def _open(self, views) -> None:
        displays = ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET")
        if sys.platform == "linux" and not any(map(os.environ.get, displays)):  # rerun says so in its log alone
            raise OSError(f"the rerun viewer needs a display, and none of {', '.join(displays)} "
                          "is set; record instead, with --live FILE.rrd, and open that where there is one")
        path = os.environ.get("PATH", "")
        # rerun looks for its program in PATH alone; pip puts it beside the running Python.
        os.environ["PATH"] = os.pathsep.join([path, str(Path(sys.executable).parent)])
        try:
            self._recording.spawn(default_blueprint=views)
        except RuntimeError as error:
            raise OSError(f"the rerun viewer does not start: {error}") from None
        finally:
            os.environ["PATH"] = path

    def push(self, pose: Pose) -> None:
        """Shows a pose at its time; after HELD_S without another it disappears."""
        if self._last_s is not None and pose.timestamp_s - self._last_s > HELD_S:
            self._recording.set_time("time", duration=self._last_s + HELD_S)
            for entity in (KEYPOINTS, POSE):
                self._recording.log(entity, self._rerun.Clear(recursive=True))
        self._last_s = pose.timestamp_s
        self._recording.set_time("time", duration=pose.timestamp_s)
        rr, skeleton = self._rerun, pose.skeleton
        names = [f"{joint} ({'seen' if seen else 'held'}, {confidence:.2f})"
                 for joint, seen, confidence in zip(skeleton.joints, pose.is_seen, pose.confidence)]
        of_joints, of_bones = _rgb(colour_of(joint) for joint in skeleton.joints), _rgb(bone_colours(skeleton))
        bones = np.array(skeleton.bones)
        flat = screen_to_px(pose.keypoints_norm, self._image_size)
        for entity, joints, points, lines, point, line in ((KEYPOINTS, flat, rr.Points2D, rr.LineStrips2D, POINT_PX,
                                                            LINE_PX),
                                                           (POSE, pose.joints_m, rr.Points3D, rr.LineStrips3D, POINT_M,
                                                            LINE_M)):
            self._recording.log(f"{entity}/bones", lines(joints[bones], colors=of_bones, radii=line))
            self._recording.log(f"{entity}/joints",
                                points(joints, colors=of_joints, radii=point, labels=names, show_labels=False))

    def close(self) -> None:
        """Sends or writes the last poses. The viewer stays open."""
        self._recording.disconnect()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _rgb(colours: Iterable[str]) -> list[tuple[int, ...]]:
    return [tuple(bytes.fromhex(colour.lstrip("#"))) for colour in colours]
