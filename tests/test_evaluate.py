import argparse
import dataclasses
import json

import numpy as np
import pytest
import torch
from test_clips import write_detections
from tiny_mocap import write_all

from edgepose import zoo
from edgepose.build_engines.checkpoints import save_checkpoint
from edgepose.skeleton import H36M17
from edgepose.recording import load_clip
from edgepose.training import clips, evaluate


class Perfect:
    """Knows the answer of every window by its first keypoint."""

    frames, skeleton = 1, H36M17

    def __init__(self, keypoints, target):
        self.answers = {window[0].tobytes(): pose for window, pose in zip(keypoints, target)}

    def run(self, keypoints_norm, out=None):
        return np.stack([self.answers[window[0].tobytes()] for window in keypoints_norm])


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
    model = Perfect(*(np.concatenate(parts) for parts in zip(*windows)))
    rows = evaluate.on_validation(model, data)
    for kind in ("clean", "noisy"):
        assert rows[f"model, {kind}"]["MPJPE mm"] == 0 and rows[f"model, {kind}"]["PCK@150 %"] == 100
        assert rows[f"mean pose, {kind}"]["MPJPE mm"] > 100


def test_windows_are_the_same_in_every_call_and_noise_moves_only_the_keypoints(data):
    (clean, target), (again, _), (noisy, same) = (evaluate.seeded_windows(data, "validation", 50, 9, noise)
                                                  for noise in (False, False, True))
    np.testing.assert_array_equal(clean, again)
    np.testing.assert_array_equal(target, same)
    assert clean.shape == (50, 9, 17, 2) and (clean != noisy).any()


def test_the_floors_are_the_mean_and_the_best_linear_map():
    rng = np.random.default_rng(0)
    keypoints = rng.normal(size=(500, 1, 17, 2))
    linear = keypoints.reshape(500, -1) @ rng.normal(size=(34, 51)) + rng.normal(size=51)
    floors = evaluate.floors(keypoints, linear.reshape(500, 17, 3))
    np.testing.assert_allclose(floors["linear regression"](keypoints), linear.reshape(500, 17, 3), atol=1e-9)
    np.testing.assert_allclose(floors["mean pose"](keypoints[:2]), np.repeat(linear.mean(0).reshape(1, 17, 3), 2, 0))


def test_lifting_in_batches_is_lifting_at_once(checkpoint):
    model, _ = evaluate.open_model(str(checkpoint))
    keypoints = np.random.default_rng(0).normal(size=(10, 9, 17, 2)).astype(np.float32)
    np.testing.assert_allclose(evaluate.lift(model, keypoints, batch=3), model.run(keypoints), atol=1e-6)


def test_a_real_clip_is_scored_through_the_stream_frame_by_frame(tmp_path):
    clips.write_clip(tmp_path / "balance_cam1.npz", write_detections(tmp_path / "raw"), "cam1")
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
        evaluate.open_model("nothing")


def test_the_command_prints_a_table_and_writes_json(data, checkpoint, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    file = tmp_path / "f.json"
    evaluate.main(parser.parse_args(["--model", str(checkpoint), "--data", str(data), "--json", str(file)]))
    written = json.loads(file.read_text())
    rows = {"model, clean", "model, noisy", "mean pose, clean", "mean pose, noisy", "linear regression, clean",
            "linear regression, noisy", "shipped windows, noisy", *(f"real detections, {c}" for c in clips.CAMERAS)}
    assert set(written["figures"]) == rows and written["model"]["model"] == "ampose"
    printed = capsys.readouterr().out
    assert "P-MPJPE mm" in printed and all(row in printed for row in rows)


def test_windows_of_a_causal_model_end_in_the_frame_they_are_for(data):
    keypoints, target = evaluate.seeded_windows(data, "validation", 20, 5, True, is_causal=True)
    longer, middle = evaluate.seeded_windows(data, "validation", 20, 9, True)
    np.testing.assert_array_equal(keypoints, longer[:, :5])
    np.testing.assert_array_equal(target, middle)
