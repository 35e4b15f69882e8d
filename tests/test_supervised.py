import argparse
import math

import numpy as np
import pytest
import torch
from tiny_mocap import standing, write_all

from edgepose.build_engines.checkpoints import load_checkpoint
from edgepose.skeleton import H36M17
from edgepose.training import supervised
from edgepose.training.supervised import train, vary_bodies


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(supervised, "BATCH", 8)
    monkeypatch.setattr(supervised, "VALIDATION_WINDOWS", 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    return write_all(tmp_path / "mocap")


def weights(path):
    return load_checkpoint(path)[0].state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("frames", [1, 9])
def test_the_same_seed_gives_the_same_run(data, tmp_path, frames):
    runs = [weights(train("ampose-s", data, tmp_path / str(i), 3, frames=frames, seed=seed))
            for i, seed in enumerate((0, 0, 1))]
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_a_resumed_run_ends_as_an_uninterrupted_one(data, tmp_path):
    class Stopped(Exception):
        pass

    def stop_after_three(done, *_):
        if done == 3:
            raise Stopped

    whole = train("ampose-s", data, tmp_path / "whole", 5, every=2)
    with pytest.raises(Stopped):
        train("ampose-s", data, tmp_path / "parts", 5, every=2, report=stop_after_three)
    steps = []
    parts = train("ampose-s", data, tmp_path / "parts", 5, every=2, resume=True,
                  report=lambda done, *_: steps.append(done))
    assert steps == [3, 4, 5]  # from the checkpoint after step 2
    assert same(weights(whole), weights(parts))


def test_resuming_another_run_is_refused(data, tmp_path):
    train("ampose-s", data, tmp_path, 2, seed=0)
    with pytest.raises(ValueError, match=r"is of a run with {'seed': 0}; this one has {'seed': 1}"):
        train("ampose-s", data, tmp_path, 2, seed=1, resume=True)
    with pytest.raises(FileNotFoundError):
        train("ampose-s", data, tmp_path / "empty", 2, resume=True)


def test_the_checkpoint_says_how_it_was_made(data, tmp_path):
    path = train("ampose-s", data, tmp_path, 2, frames=9, seed=7, command="edgepose train")
    module, metadata = load_checkpoint(path)
    assert path.name == "ampose-s9.safetensors" and module.frames == 9
    assert metadata["seed"] == 7 and metadata["command"] == "edgepose train" and "CMU" in metadata["data"]
    assert metadata["figures"]["steps"] == 2 and 0 < metadata["figures"]["validation_mpjpe_mm"] < 5000


def test_training_lowers_the_loss(data, tmp_path):
    losses = []
    train("ampose-s", data, tmp_path, 40, every=100, report=lambda done, loss, *_: losses.append(loss))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_time_left_does_not_count_a_pause(data, tmp_path, monkeypatch):
    clock = iter(np.cumsum([1000.0 if i == 9 else 1.0 for i in range(40)]))  # the fifth step took 1000 s
    monkeypatch.setattr(supervised.time, "perf_counter", lambda: next(clock))
    left = []
    train("ampose-s", data, tmp_path, 8, every=100, report=lambda done, loss, validation, seconds: left.append(seconds))
    assert left == [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]


def test_a_loss_that_is_no_number_stops_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr(supervised, "mean_distance", lambda predicted, target: predicted.sum() * math.nan)
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        train("ampose-s", data, tmp_path, 2)


def test_the_learning_rate_warms_up_and_ends_at_zero():
    rates = [supervised.learning_rate(step, 1000) for step in range(1000)]
    assert max(rates) == rates[50] == supervised.LEARNING_RATE
    assert rates[0] < rates[1] < rates[49] and rates[-1] < 1e-8 and all(np.diff(rates[50:]) < 0)


def test_bodies_keep_their_symmetry_and_their_joints():
    bodies = vary_bodies(torch.from_numpy(standing()).expand(500, 2, -1, -1), torch.Generator().manual_seed(0))
    parents, mirror = list(H36M17.parents[1:]), list(H36M17.mirror)
    bones = bodies[:, :, 1:] - bodies[:, :, parents]
    lengths = torch.cat([torch.zeros(500, 2, 1), bones.norm(dim=-1)], -1)
    torch.testing.assert_close(lengths, lengths[..., mirror], atol=1e-5, rtol=0)
    torch.testing.assert_close(bodies[:, 0], bodies[:, 1])
    thigh = lengths[:, 0, H36M17.index("right_knee")]
    low, high = supervised.SIZES[0] * (1 - supervised.PROPORTIONS), supervised.SIZES[1] * (1 + supervised.PROPORTIONS)
    true = np.linalg.norm(standing()[H36M17.index("right_knee")] - standing()[H36M17.index("right_hip")])
    assert (thigh > low * true - 1e-5).all() and (thigh < high * true + 1e-5).all() and thigh.std() > 0.03
    left_hip = bodies[:, :, H36M17.index("left_hip"), 0]
    assert (left_hip > 0).all()  # mirrored about x = 0: still the person's left


def test_the_head_nods_forward_and_nothing_else_moves():
    body = torch.from_numpy(standing()).expand(400, 1, -1, -1)
    nodded = supervised._nod(body, torch.Generator().manual_seed(0))
    moved = (nodded - body).norm(dim=-1).amax((0, 1)) > 1e-6
    assert [H36M17.joints[j] for j in range(17) if moved[j]] == ["nose", "head"]
    assert (nodded - body)[:, 0, H36M17.index("head"), 2].mean() > 0.02  # +z is forward
    reach = lambda b: (b[:, :, H36M17.index("head")] - b[:, :, H36M17.index("thorax")]).norm(dim=-1)  # noqa: E731
    torch.testing.assert_close(reach(nodded), reach(body))


def test_the_command_prints_a_line_a_checkpoint(data, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    supervised.add_arguments(parser)
    supervised.main(parser.parse_args([
        "--model", "ampose-s", "--data", str(data), "--out", str(tmp_path), "--steps", "4", "--every", "2",
        "--threads", "1", "--precision", "bfloat16"]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 2/4  loss ") and lines[1].startswith("step 4/4") and len(lines) == 3
    command = load_checkpoint(lines[2])[1]["command"]
    assert "--seed 0" in command and "--precision bfloat16" in command and str(tmp_path) not in command
