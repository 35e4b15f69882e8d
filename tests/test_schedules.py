import math

import pytest
import torch
from models import keypoints, small
from tiny_datasets import write_h36m
from tiny_mocap import write_all

from edgepose import zoo
from edgepose.training import schedules, supervised
from edgepose.training.losses import Objective
from edgepose.training.schedules import PAPERS, schedule_of
from edgepose.training.supervised import train
from edgepose.zoo.checkpoints import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("model", ["ampose-l", "ampose-refined", "dln", "martinez", "strided351-dense"])
def test_a_papers_recipe_is_there_for_its_models(model):
    schedule = schedule_of("paper", model)
    assert schedule.epochs and schedule.batch and schedule in PAPERS.values()
    assert schedule_of("ours", model) is schedules.OURS


@pytest.mark.parametrize("model", ["posegate", "posemlp"])
def test_a_model_without_a_papers_recipe_says_which_have_one(model):
    with pytest.raises(
            ValueError, match=f"known for '{model}'; there are those of AMPose, DLN, StridedTransformer, Martinez"):
        schedule_of("paper", model)
    with pytest.raises(ValueError, match="unknown recipe 'thesis'; there are ours, paper"):
        schedule_of("thesis", model)


def test_the_papers_rates_by_epoch():
    def at(model, *epochs):
        return [schedule_of("paper", model).rate(100 * epoch, 0, 100) for epoch in epochs]

    assert at("ampose", 0, 1, 10) == pytest.approx([2.5e-5, 2.45e-5, 2.5e-5 * 0.98**10])
    assert at("dln", 0, 169, 170, 200) == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
    assert at("strided27", 0, 1, 4, 5, 6) == pytest.approx(
        [1e-3, 0.95e-3, 0.95**4 * 1e-3, 0.5 * 0.95**4 * 1e-3, 0.5 * 0.95**5 * 1e-3])
    assert at("martinez", 0, 1000) == pytest.approx([1e-3, 0.96e-3])


def test_a_papers_epochs_become_steps_of_its_data_set(tmp_path, monkeypatch):
    data = write_h36m(tmp_path / "h36m", frames=12)
    source = supervised.open_source("h36m", data, "gt", 1, 0)
    assert source.windows == sum(len(clip.centres) for clip in source._training) > 0
    steps = supervised.usual_steps("dln-s", data, data="h36m", recipe="paper")
    assert steps == 210 * math.ceil(source.windows / 24)
    assert supervised.usual_steps("dln-s", data, data="h36m") == supervised.STEPS
    monkeypatch.setattr(supervised, "VALIDATION_WINDOWS", 8)
    metadata = load_checkpoint(train("dln-s", data, tmp_path, 2, data="h36m", recipe="paper"))[1]
    assert metadata["rate_hz"] == 50
    with pytest.raises(ValueError, match=r"is of a run with {'batch': 24, 'recipe': 'paper'}; this one "
                       r"has {'batch': 128, 'recipe': 'ours'}"):
        train("dln-s", data, tmp_path, 3, data="h36m", resume=True)


def test_motion_capture_has_no_epochs(tmp_path):
    with pytest.raises(ValueError, match="motion capture has none: --data h36m, or --steps N"):
        supervised.usual_steps("dln-s", write_all(tmp_path), recipe="paper")


def test_the_squared_error_is_that_of_the_coordinates():
    model = small("ampose").eval()
    x, joints = torch.from_numpy(keypoints(model, 3)), torch.randn(3, 1, 17, 3)
    with torch.no_grad():
        loss, distance = Objective(model, "squared")(x, joints)
        off = model(x) - joints[:, 0]
    assert loss == pytest.approx(off.square().mean().item())
    assert distance == pytest.approx(off.norm(dim=-1).mean().item())


def test_a_teachers_poses_are_half_of_what_is_learnt():
    model = small("ampose").eval()
    x, joints, taught = torch.from_numpy(keypoints(model, 3)), torch.randn(3, 1, 17, 3), torch.randn(3, 17, 3)
    with torch.no_grad():
        loss, distance = Objective(model)(x, joints, taught)
        answer = model(x)
    assert distance == pytest.approx((answer - joints[:, 0]).norm(dim=-1).mean().item())
    assert loss == pytest.approx((distance.item() + (answer - taught).norm(dim=-1).mean().item()) / 2)


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(0)
    options = {"channels": 16, "blocks": 1}
    save_checkpoint(tmp_path / "teacher.safetensors", zoo.build("posemlp", **options).eval(),
                    {"model": "posemlp", "frames": 1, "skeleton": "h36m17", "options": options})
    return tmp_path / "teacher.safetensors"


@pytest.mark.parametrize("model, frames", [("martinez-s", 1), ("dln-s", 9)])
def test_a_student_that_takes_less_learns_from_a_teacher_that_takes_more(tmp_path, monkeypatch, teacher, model, frames):
    monkeypatch.setattr(supervised, "BATCH", 8)
    monkeypatch.setattr(supervised, "VALIDATION_WINDOWS", 8)
    data = write_all(tmp_path / "mocap")
    plain, taught = (load_checkpoint(train(model, data, tmp_path / name, 2, frames=frames, teacher=by))[0].state_dict()
                     for name, by in (("plain", None), ("taught", teacher)))
    assert any(not torch.equal(plain[name], taught[name]) for name in plain)
    with pytest.raises(ValueError, match="lacks teacher"):
        train(model, data, tmp_path / "plain", 3, frames=frames, resume=True, teacher=teacher)


def test_a_teacher_of_another_window_is_refused(tmp_path, teacher):
    module = supervised.Teacher(teacher, 27, 13).module
    save_checkpoint(tmp_path / "nine.safetensors", zoo.build("martinez-s", 9),
                    {"model": "martinez-s", "frames": 9, "skeleton": "h36m17", "options": {}})
    assert module.frames == 1
    with pytest.raises(ValueError, match="nine.safetensors is a model of 9 frames; wanted 1 or 27"):
        supervised.Teacher(tmp_path / "nine.safetensors", 27, 13)
