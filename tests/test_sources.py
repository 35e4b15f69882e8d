import numpy as np
import pytest
import torch
from tiny_datasets import write_h36m
from tiny_mocap import write_all

from edgepose.training import supervised
from edgepose.training.sources import CUT_EARLIER, CUT_LATER, SOURCES, cut_short, open_source
from edgepose.training.supervised import train
from edgepose.zoo.checkpoints import load_checkpoint


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def paths(tmp_path):
    return {"mocap": write_all(tmp_path / "mocap"), "h36m": write_h36m(tmp_path / "h36m", frames=12)}


@pytest.mark.parametrize("data", ["mocap", "h36m"])
def test_a_source_draws_windows_of_all_their_frames_and_the_same_for_the_same_seed(paths, data):
    source = open_source(data, paths[data], "gt", 9, 4)
    for draw in (source.draw, source.validation):
        (keypoints, joints), (again, _) = draw(6, generator()), draw(6, generator())
        assert keypoints.shape == (6, 9, 17, 2) and joints.shape == (6, 9, 17, 3)
        assert (joints[:, :, 0] == 0).all() and torch.equal(keypoints, again)
    assert not torch.equal(source.draw(6, generator())[0], source.validation(6, generator())[0])


def test_some_windows_end_early_or_begin_late_as_a_streams_do():
    frames, target = 27, 13
    keypoints = torch.arange(frames).expand(4000, frames)[..., None, None].float()
    frames_seen = cut_short(keypoints, target, generator())[..., 0, 0].long()
    first, last = frames_seen.amin(1, keepdim=True), frames_seen.amax(1, keepdim=True)
    assert torch.equal(frames_seen, torch.arange(frames).clamp(first, last))
    assert (first <= target).all() and (last >= target).all() and set(last.flatten().tolist()) == set(range(13, 27))
    off = 4 * (0.25 / 4000) ** 0.5  # four standard errors; one of 14 cuts is where the window ends anyway
    assert (last < frames - 1).float().mean().item() == pytest.approx(CUT_LATER * 13 / 14, abs=off)
    assert (first > 0).float().mean().item() == pytest.approx(CUT_EARLIER * 13 / 14, abs=off)


def test_a_window_that_is_answered_at_its_end_is_only_cut_at_its_beginning():
    keypoints = torch.arange(9).expand(500, 9)[..., None, None].float()
    frames_seen = cut_short(keypoints, 8, generator())[..., 0, 0]
    assert (frames_seen[:, 8] == 8).all() and (frames_seen[:, 7] >= 7).all() and (frames_seen[:, 0] > 0).any()


def test_a_labelled_set_is_validated_on_its_test_split_unmirrored(paths):
    source = open_source("h36m", paths["h36m"], "gt", 1, 0)
    test = {tuple(np.round(pose.ravel(), 4)) for clip in source._test
            for pose in (clip.joints_m - clip.joints_m[:, :1]).astype(np.float32)}
    _, joints = source.validation(20, generator())
    assert {tuple(np.round(pose.ravel(), 4)) for pose in joints[:, 0].numpy()} <= test


def test_training_on_a_labelled_set_says_whose_data_it_was(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(supervised, "BATCH", 4)
    monkeypatch.setattr(supervised, "VALIDATION_WINDOWS", 4)
    path = train("strided27-s", paths["h36m"], tmp_path, 1, data="h36m", keypoints="gt")
    assert load_checkpoint(path)[1]["data"] == "h36m, gt 2D"
    with pytest.raises(ValueError, match="is of a run with {'data': 'h36m'}; this one has {'data': 'mocap'}"):
        train("strided27-s", paths["mocap"], tmp_path, 2, resume=True)


def test_there_is_a_source_for_every_data_set():
    assert SOURCES == ("mocap", "h36m", "mpi-inf-3dhp", "humaneva")
