import numpy as np
import pytest
import torch
from models import keypoints, small

from edgepose.training.losses import MOTION, Objective, error_loss, frame_weights, mean_distance


@pytest.mark.parametrize("frames, target", [(27, 13), (81, 40), (27, 26), (1, 0)])
def test_frames_weigh_most_at_the_target_and_one_on_average(frames, target):
    weights = frame_weights(frames, target)
    assert weights.argmax() == target and weights.mean() == pytest.approx(1)
    assert (np.diff(weights[:target + 1]) > 0).all() and (np.diff(weights[target:]) < 0).all()


def test_the_ends_weigh_about_a_quarter_of_the_target():
    weights = frame_weights(351, 175)
    assert 0.25 < weights[0] / weights[175] < 0.26  # three deviations out: 0.25 + 0.75 e^-4.5


def test_the_full_to_single_loss_by_hand():
    model = small("strided27").eval()
    x, joints = torch.from_numpy(keypoints(model, 2)), torch.randn(2, 27, 17, 3)
    with torch.no_grad():
        loss, distance = Objective(model)(x, joints)
        sequence, single = model.full_to_single(x)
    assert torch.equal(single, model(x))
    assert distance == pytest.approx(mean_distance(single, joints[:, 13]).item())
    by_frame = (sequence - joints).norm(dim=-1).mean((0, 2))
    assert loss.item() == pytest.approx(distance.item() + (frame_weights(27, 13) * by_frame).mean().item(), rel=1e-6)


def test_a_causal_model_is_scored_on_the_newest_frame():
    model = small("strided27", is_causal=True).eval()
    joints = torch.zeros(1, 27, 17, 3)
    joints[:, -1] = 1
    with torch.no_grad():
        x = torch.from_numpy(keypoints(model, 1))
        distance = Objective(model)(x, joints)[1]
    assert distance == pytest.approx(mean_distance(model(x), joints[:, -1]).item())


def test_a_model_that_remembers_frames_learns_from_all_of_them_and_from_their_motion():
    model = small("strided-causal", 27).eval()
    x, joints = torch.from_numpy(keypoints(model, 2)), torch.randn(2, 27, 17, 3)
    with torch.no_grad():
        loss, distance = Objective(model)(x, joints)
        answers = model.sequence(x)
    pose, off_m = answers[..., :3], (answers[..., :3] - joints).norm(dim=-1)
    assert distance == pytest.approx(off_m.mean().item())
    motion = mean_distance(pose[:, 1:] - pose[:, :-1], joints[:, 1:] - joints[:, :-1])
    predicted = error_loss(answers[..., 3], off_m)
    assert loss.item() == pytest.approx((distance + MOTION * motion + predicted).item(), rel=1e-5)
