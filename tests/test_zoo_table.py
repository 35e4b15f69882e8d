import json
from types import SimpleNamespace

import numpy as np
import pytest
from models import small
from tiny_mocap import write_all

from edgepose.benchmarks import zoo_table
from edgepose.zoo.checkpoints import save_checkpoint
from edgepose.training import evaluate

pytestmark = pytest.mark.slow


@pytest.fixture
def few(monkeypatch):
    for module, names in ((evaluate, {"WINDOWS": 40, "FLOOR_WINDOWS": 60}),
                          (zoo_table, {"SEQUENCES": 2, "MOMENTS": 5, "ROUNDS": 2, "CALLS": 2})):
        for name, value in names.items():
            monkeypatch.setattr(module, name, value)


def test_the_page_has_a_row_of_cost_for_each_model_and_of_accuracy_for_each_with_weights(tmp_path, few):
    data = write_all(tmp_path / "mocap")
    save_checkpoint(tmp_path / "weights" / "strided27-s.safetensors", small("strided27-s"), {
        "model": "strided27-s", "frames": 27, "skeleton": "h36m17", "options": {"channels": 48, "heads": 4},
        "command": "edgepose train", "figures": {"steps": 1234}})
    save_checkpoint(tmp_path / "weights" / "ampose.safetensors", small("ampose"), {
        "model": "ampose", "frames": 1, "skeleton": "h36m17", "options": {"channels": 48, "heads": 4}})
    save_checkpoint(tmp_path / "martinez-s-paired.safetensors", small("martinez-s"), {
        "model": "martinez-s", "frames": 1, "skeleton": "h36m17", "options": {"channels": 64}, "seed": 3,
        "command": "python -m edgepose.training.weakly_supervised --model martinez-s --path DIR --out DIR "
                   "--steps 1009 --paired",
        "figures": {"validation_scaled_mpjpe_mm": 44.74, "mean_pose_scaled_mpjpe_mm": 181.13, "steps": 1009}})
    zoo_table.main(SimpleNamespace(path=data, weights=[tmp_path, tmp_path / "weights"],
                                   weakly=[tmp_path / "martinez-s-paired.safetensors"], out=tmp_path / "results.md",
                                   json=tmp_path / "zoo.json", models=["ampose", "strided27-s", "dln-s"]))
    page, report = (tmp_path / "results.md").read_text(), json.loads((tmp_path / "zoo.json").read_text())
    accuracy, cost = page.split("## Size and latency")
    assert "## Without 2D-3D pairs" in accuracy
    assert "| `martinez-s` | channels 64 | clean | yes | 1,009 | 3 | 44.7 | 181.1 |" in accuracy
    assert "| `strided27-s` | 27 | 1,234 |" in accuracy and "`dln-s`" not in accuracy
    assert "mean pose, noisy: MPJPE" in accuracy
    assert all(f"| `{model}` |" in cost for model in ("ampose", "strided27-s", "dln-s"))
    rows = {row["model"]: row for row in report["rows"]}
    assert rows["dln-s"]["figures"] is None and rows["ampose"]["steps"] is None
    assert set(rows["strided27-s"]["figures"]["noisy"]) == {*evaluate.METRICS, zoo_table.VELOCITY}
    assert all(0 < value for row in rows.values() for value in row["latency_ms"].values())
    again_with = SimpleNamespace(path=data, weights=[tmp_path], weakly=[], out=tmp_path / "results.md",
                                 json=tmp_path / "zoo.json", models=["martinez-s"])
    zoo_table.main(again_with)
    again = {row["model"]: row for row in json.loads((tmp_path / "zoo.json").read_text())["rows"]}
    assert {name: row for name, row in again.items() if name != "martinez-s"} == rows and "martinez-s" in again
    assert (tmp_path / "results.md").read_text().split("## Size")[0] == accuracy
    older = {key: value for key, value in report.items() if key != "weakly"}
    for row in older["rows"]:
        for figures in (row["figures"] or {}).values():
            del figures["N-MPJPE mm"]
    (tmp_path / "zoo.json").write_text(json.dumps(older))
    zoo_table.main(again_with)
    page = (tmp_path / "results.md").read_text()
    assert "## Without 2D-3D pairs" not in page and "N-MPJPE" not in page and "| P-MPJPE mm, clean / noisy |" in page


def test_a_page_without_weakly_supervised_runs_says_nothing_of_them_and_other_checkpoints_are_none(tmp_path, few):
    assert "pairs" not in zoo_table.page([], {}, [], "", {"processor": "", "instruction_sets": [""], "python": ""})
    save_checkpoint(tmp_path / "ampose.safetensors", small("ampose"), {
        "model": "ampose", "frames": 1, "skeleton": "h36m17", "options": {}, "seed": 0,
        "command": "edgepose train --path DIR", "figures": {}})
    with pytest.raises(ValueError, match="ampose.safetensors was made by 'edgepose train --path DIR'; --weakly is for"):
        zoo_table.read_weakly(tmp_path / "ampose.safetensors")


def test_the_velocity_error_is_of_the_same_moments_whatever_the_window(tmp_path, few):
    keypoints, joints = zoo_table.sequences(write_all(tmp_path / "mocap"), noisy=False)
    assert keypoints.shape == (2, 5 + 350, 17, 2)
    truth = {window.tobytes(): pose for sequence, poses in zip(keypoints, joints)
             for window, pose in zip(sequence, poses)}

    class Knows:
        skeleton = None

        def __init__(self, frames, is_causal):
            self.frames, self.is_causal = frames, is_causal

        def run(self, windows):
            answered = self.frames - 1 if self.is_causal else self.frames // 2
            return np.stack([truth[window[answered].tobytes()] for window in windows])

    for frames, is_causal in ((1, False), (9, False), (27, True), (351, False), (175, True)):
        assert zoo_table.velocity_error(Knows(frames, is_causal), keypoints, joints) == 0
