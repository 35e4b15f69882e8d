import argparse
import dataclasses
import json

import numpy as np
import pytest
import torch
from tiny_datasets import write_h36m
from tiny_mocap import write_all, write_subject
from tiny_real_clips import write_balance

from edgepose import zoo
from edgepose.clip import load_clip
from edgepose.shipped import WEIGHTS
from edgepose.zoo.checkpoints import save_checkpoint
from edgepose.skeleton import H36M17
from edgepose.training import clips, evaluate, models


class Perfect:
    """An engine that knows the answer to each window by its first keypoint; it answers others with a line of joints."""

    frames, skeleton = 1, H36M17

    def __init__(self, keypoints, target):
        self.answers = {window[0].tobytes(): pose for window, pose in zip(keypoints, target)}

    def run(self, keypoints_norm, out=None):
        return np.stack([self.answers.get(window[0].tobytes(), np.ones((17, 3)) * np.arange(17)[:, None])
                         for window in keypoints_norm])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(evaluate, "WINDOWS", 300)
    monkeypatch.setattr(evaluate, "FLOOR_WINDOWS", 400)


@pytest.fixture
def data(tmp_path):
    return write_all(tmp_path / "mocap")


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, zoo.build("ampose", 9, channels=16),
                    {"model": "ampose", "frames": 9, "skeleton": "h36m17", "options": {"channels": 16}})
    return path


def test_a_model_that_knows_the_answers_has_no_error(data):
    windows = [evaluate.seeded_windows(data, "validation", 300, 1, noisy) for noisy in (False, True)]
    keypoints, joints = (np.concatenate(parts) for parts in zip(*windows))
    model = Perfect(keypoints, joints[:, 0])
    rows = evaluate.on_validation(model, data)
    for kind in ("clean", "noisy"):
        assert rows[f"model, {kind}"]["MPJPE mm"] == 0 and rows[f"model, {kind}"]["PCK@150 %"] == 100
        assert rows[f"mean pose, {kind}"]["MPJPE mm"] > 100


def test_windows_are_the_same_in_every_call_and_noise_moves_only_the_keypoints(data):
    (clean, target), (again, _), (noisy, same) = (evaluate.seeded_windows(data, "validation", 50, 9, noise)
                                                  for noise in (False, False, True))
    np.testing.assert_array_equal(clean, again)
    np.testing.assert_array_equal(target, same)
    assert clean.shape == (50, 9, 17, 2) and target.shape == (50, 9, 17, 3) and (clean != noisy).any()


def test_the_floors_are_the_mean_and_the_best_linear_map():
    rng = np.random.default_rng(0)
    keypoints = rng.normal(size=(500, 17, 2))
    linear = keypoints.reshape(500, -1) @ rng.normal(size=(34, 51)) + rng.normal(size=51)
    floors = evaluate.floors(keypoints, linear.reshape(500, 17, 3))
    np.testing.assert_allclose(floors["linear regression"](keypoints), linear.reshape(500, 17, 3), atol=1e-9)
    np.testing.assert_allclose(floors["mean pose"](keypoints[:2]), np.repeat(linear.mean(0).reshape(1, 17, 3), 2, 0))


def test_each_source_of_the_validation_set_has_rows_of_its_own_and_leaves_cmu_s_as_they_are(data):
    before = evaluate.on_validation(Perfect([], []), data)
    for subject in ("hdm05_tr", "uiprmd_08"):
        write_subject(data, subject, (25, 30))
    windows = [evaluate.seeded_windows(data, "validation", 300, 1, noisy, source) for noisy in (False, True)
               for source in ("cmu", "hdm05")]
    keypoints, joints = (np.concatenate(parts) for parts in zip(*windows))
    rows = evaluate.on_validation(Perfect(keypoints, joints[:, 0]), data)
    assert list(rows)[:6] == list(before) and len(rows) == 18
    assert {row: figures for row, figures in rows.items() if row in before and not row.startswith("model")} == {
        row: figures for row, figures in before.items() if not row.startswith("model")}
    for kind in ("clean", "noisy"):
        assert rows[f"model, {kind}"]["MPJPE mm"] == 0 == rows[f"model, {kind}, HDM05"]["MPJPE mm"]
        assert rows[f"model, {kind}, UI-PRMD"]["MPJPE mm"] > 10
        assert rows[f"mean pose, {kind}, UI-PRMD"] != rows[f"mean pose, {kind}"]


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_figures_are_of_the_frame_that_is_answered_for(data, is_causal, monkeypatch):
    monkeypatch.setattr(evaluate, "WINDOWS", 100)
    monkeypatch.setattr(evaluate, "FLOOR_WINDOWS", 100)
    windows = [evaluate.seeded_windows(data, "validation", 100, 9, noisy) for noisy in (False, True)]
    keypoints, joints = (np.concatenate(parts) for parts in zip(*windows))
    model = Perfect(keypoints, joints[:, 8 if is_causal else 4])
    model.frames, model.is_causal = 9, is_causal
    assert evaluate.on_validation(model, data)["model, clean"]["MPJPE mm"] == 0


def test_lifting_in_batches_is_lifting_at_once(checkpoint):
    model, _ = models.open_model(str(checkpoint))
    keypoints = np.random.default_rng(0).normal(size=(10, 9, 17, 2)).astype(np.float32)
    np.testing.assert_allclose(models.lift(model, keypoints, batch=3), model.run(keypoints), atol=1e-6)


def test_a_real_clip_is_scored_through_the_stream_frame_by_frame(tmp_path):
    write_balance(tmp_path / "raw")
    clips.write_clip(tmp_path / "balance_cam1.npz", tmp_path / "raw", "cam1")
    clip = load_clip(str(tmp_path / "balance_cam1.npz"))
    growing = clip.reference_m * np.linspace(1, 2, len(clip.keypoints_px))[:, None, None]
    clip = dataclasses.replace(clip, reference_m=growing)
    answers = iter(growing)

    class KnowsAllButTheHead:
        frames, skeleton = 1, H36M17

        def run(self, keypoints_norm, out=None):
            pose = next(answers).copy()
            pose[H36M17.index("head")] += [0, 0, 0.17]
            return pose[None]

    assert evaluate.on_clip(KnowsAllButTheHead(), clip)["MPJPE mm"] == pytest.approx(10.0, abs=1e-3)


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="model 'nothing' is neither a .safetensors checkpoint nor one of ampose, "):
        models.open_model("nothing")


def test_another_window_length_than_the_files_own_is_refused(checkpoint):
    assert models.open_model(str(checkpoint), 9)[0].frames == 9
    with pytest.raises(ValueError, match=r"small.safetensors is a model of 9 frame\(s\), not of 27"):
        models.open_model(str(checkpoint), 27)
    with pytest.raises(ValueError, match=r"ampose_fp16.epose is a model of 1 frame\(s\), not of 27"):
        models.open_model(str(WEIGHTS / "ampose_fp16.epose"), 27)
    with pytest.raises(ValueError, match="model 'hrnet-w8' is a detector; wanted .* one of ampose"):
        models.open_model("hrnet-w8")


def test_the_command_prints_a_table_and_writes_json(data, checkpoint, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    file = tmp_path / "f.json"
    evaluate.main(
        parser.parse_args(["--model", str(checkpoint), "--data", "mocap", "--path", str(data), "--json", str(file)]))
    written = json.loads(file.read_text())
    rows = {"model, clean", "model, noisy", "mean pose, clean", "mean pose, noisy", "linear regression, clean",
            "linear regression, noisy", "shipped windows, noisy", *(f"real detections, {c}" for c in clips.CAMERAS)}
    assert set(written["figures"]) == rows and written["model"]["model"] == "ampose"
    printed = capsys.readouterr().out
    assert "P-MPJPE mm" in printed and all(row in printed for row in rows)


def run(arguments):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return evaluate.main(parser.parse_args([str(argument) for argument in arguments]))


def test_a_papers_table_is_printed_with_flip_averaging_and_its_cost(checkpoint, tmp_path, capsys):
    path = write_h36m(tmp_path / "h36m", kind="cpn_ft_h36m_dbb")
    file = tmp_path / "f.json"
    run(["--model", checkpoint, "--data", "h36m", "--path", path, "--keypoints", "cpn", "--flip", "--json", file])
    written, printed = json.loads(file.read_text()), capsys.readouterr().out
    assert (written["data"], written["keypoints"]) == ("h36m", "cpn")
    assert {row: set(figures) for row, figures in written["figures"].items()} == dict.fromkeys(
        ("P1", "P1 flip", "P2", "P2 flip"), {"Eat", "Walk", "Avg."})
    assert written["figures"]["P1"]["Avg."] != written["figures"]["P1 flip"]["Avg."]
    assert written["flip"]["ratio"] == pytest.approx(written["flip"]["flip_ms"] / written["flip"]["plain_ms"])
    for text in ("h36m, cpn 2D", "P1 flip", "Avg.", f"{written['figures']['P2']['Walk']:.1f}",
                 f"{written['flip']['ratio']:.2f} x the time"):
        assert text in printed


def test_flip_averaging_has_rows_of_its_own_and_floors_have_none(data, checkpoint, tmp_path, capsys):
    file = tmp_path / "f.json"
    run(["--model", checkpoint, "--data", "mocap", "--path", data, "--flip", "--json", file])
    written, printed = json.loads(file.read_text()), capsys.readouterr().out
    flipped = [row for row in written["figures"] if row.endswith(", flip")]
    assert set(flipped) == {f"{row}, flip" for row in ("model, clean", "model, noisy", "shipped windows, noisy",
                                                       *(f"real detections, {camera}" for camera in clips.CAMERAS))}
    assert all(written["figures"][row] != written["figures"][row.removesuffix(", flip")] for row in flipped)
    assert f"Flip averaging takes {written['flip']['ratio']:.2f} x the time" in printed


def test_selected_actions_are_the_only_columns(checkpoint, tmp_path, capsys):
    path = write_h36m(tmp_path / "h36m")
    run(["--model", checkpoint, "--data", "h36m", "--path", path, "--actions", "Eating"])
    printed = capsys.readouterr().out
    assert "Eat" in printed and "Walk" not in printed and "flip" not in printed
    assert "NOT the papers' average" not in printed
    run(["--model", checkpoint, "--data", "h36m", "--path", path])
    assert "NOT the papers' average: the data has no Dir., Disc., Greet" in capsys.readouterr().out
    with pytest.raises(ValueError, match="h36m has no action 'Flying' in its test split; there are Walking, Eating"):
        run(["--model", checkpoint, "--data", "h36m", "--path", path, "--actions", "Flying"])


@pytest.mark.parametrize("arguments, message", [
    (["--data", "h36m"], "--data NAME and --path DIR go together: where does h36m lie"),
    (["--path", "x"], "go together: which data set lies in x: mocap, real, h36m, mpi-inf-3dhp, humaneva"),
    (["--data", "mocap", "--path", "x", "--actions", "Eating"], "--actions is for the papers' data sets"),
    (["--data", "h36m", "--path", "x", "--clips", "y"], "--clips is not for h36m"),
    (["--clips", "nowhere"], "--clips nowhere: wanted balance_cam1.npz, balance_cam2.npz, balance_cam3.npz "
     "in it; there is no nowhere/balance_cam1.npz"),
    (["--json", "nowhere/f.json"], "nowhere/f.json: there is no folder .*nowhere"),
    (["--plot", "nowhere/f.png"], "nowhere/f.png: there is no folder .*nowhere"),
    (["--json", "f.txt"], "f.txt: wanted a name that ends in .json")])
def test_options_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        run(["--model", "ampose", *arguments])
