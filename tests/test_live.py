import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from test_drawing import pose_at

from edgepose.camera import screen_to_px
from edgepose.cli import main
from edgepose.show import live
from edgepose.skeleton import H36M17

needs_rerun = pytest.mark.skipif(find_spec("rerun") is None, reason="needs rerun-sdk, of the extra `live`")


def read(file):
    """{entity: [(time_s, {component: value}), ...]} of a recording."""
    chunk = pytest.importorskip("rerun.chunk", reason="reading a recording needs a rerun-sdk with rerun.chunk")
    rows = {}
    for part in chunk.RrdReader(file).stream().to_chunks():
        table = part.to_record_batch()
        table = table.drop_columns([name for name in ("rerun.controls.RowId", "log_time")
                                    if name in table.schema.names])
        times_s = [None] * len(table) if part.is_static else table["time"].view("int64").to_numpy() / 1e9
        if not part.is_static:
            table = table.drop_columns("time")
        rows.setdefault(part.entity_path, []).extend(zip(times_s, table.to_pylist()))
    return {entity: sorted(values, key=lambda row: row[0] or 0.0) for entity, values in rows.items()}


@needs_rerun
def test_a_recording_holds_the_poses_at_their_times(tmp_path):
    poses = [pose_at(0.02 * i, 0.1 * i) for i in range(3)]
    with live.Viewer((640, 480), tmp_path / "a.rrd") as viewer:
        for pose in poses:
            viewer.push(pose)
    rows = read(tmp_path / "a.rrd")
    assert rows["/pose"][0][1]["ViewCoordinates:xyz"] == [[3, 2, 5]]  # right, down, forward
    for i, pose in enumerate(poses):
        places = {"/pose": pose.joints_m, "/keypoints": screen_to_px(pose.keypoints_norm, (640, 480))}
        for entity, joints in places.items():
            kind = f"{joints.shape[1]}D"
            time_s, points = rows[f"{entity}/joints"][i]
            _, lines = rows[f"{entity}/bones"][i]
            assert time_s == pytest.approx(pose.timestamp_s)
            np.testing.assert_allclose(points[f"Points{kind}:positions"], joints, rtol=1e-6)
            np.testing.assert_allclose(lines[f"LineStrips{kind}:strips"], joints[np.array(H36M17.bones)], rtol=1e-6)
            colours = dict(zip(H36M17.joints, points[f"Points{kind}:colors"]))
            assert colours["left_knee"] == 0xD1495BFF and colours["right_knee"] == 0x2A6FBBFF
            assert points[f"Points{kind}:labels"][0] == "pelvis (held, 1.00)"


@needs_rerun
def test_a_person_who_is_gone_is_cleared_and_one_who_stays_is_not(tmp_path):
    with live.Viewer((640, 480), tmp_path / "a.rrd") as viewer:
        for time_s in (0.0, 0.1, 1.0):
            viewer.push(pose_at(time_s))
    for entity in ("/pose", "/keypoints"):
        cleared = [time_s for time_s, row in read(tmp_path / "a.rrd")[entity] if row.get("Clear:is_recursive")]
        assert cleared == [pytest.approx(0.1 + live.HELD_S)]


@needs_rerun
def test_without_a_file_the_viewer_is_opened(monkeypatch):
    import rerun

    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    def spawn(self, *, default_blueprint):
        opened.append(default_blueprint)
        assert str(Path(sys.executable).parent) in os.environ["PATH"].split(os.pathsep)

    monkeypatch.setattr(rerun.RecordingStream, "spawn", spawn)
    monkeypatch.setenv("PATH", "/bin")
    with live.Viewer((640, 480)) as viewer:
        viewer.push(pose_at(0.0))
    assert len(opened) == 1 and isinstance(opened[0], rerun.blueprint.Blueprint) and os.environ["PATH"] == "/bin"


@needs_rerun
def test_a_viewer_that_cannot_start_is_an_error(monkeypatch, capsys):
    import rerun

    def spawn(self, *, default_blueprint):
        raise RuntimeError("Failed to find Rerun Viewer executable in PATH.")

    monkeypatch.setattr(rerun.RecordingStream, "spawn", spawn)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    assert main(["stream", "--live"]) == 1
    assert "the rerun viewer does not start: Failed to find" in capsys.readouterr().err
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"):
        monkeypatch.delenv(variable, raising=False)
    assert main(["stream", "--live"]) == 1
    assert "needs a display" in capsys.readouterr().err


@needs_rerun
def test_the_command_writes_a_recording_of_every_pose(tmp_path, capsys):
    file = tmp_path / "a.rrd"
    assert main(["stream", "--live", str(file), "--out", str(tmp_path / "poses.npz")]) == 0
    assert str(file) in capsys.readouterr().out
    rows = read(file)["/pose/joints"]
    with np.load(tmp_path / "poses.npz") as poses:
        np.testing.assert_allclose([time_s for time_s, _ in rows], poses["timestamp_s"], atol=1e-6)
        np.testing.assert_allclose([row["Points3D:positions"] for _, row in rows], poses["joints_m"], rtol=1e-6)


def test_without_rerun_the_command_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["stream", "--live", str(tmp_path / "a.rrd")]) == 1
    assert "pip install 'edgepose[live]'" in capsys.readouterr().err


def test_another_name_of_a_recording_is_refused(tmp_path, capsys):
    assert main(["stream", "--live", str(tmp_path / "a.txt")]) == 1
    assert "wanted a name that ends in .rrd" in capsys.readouterr().err
