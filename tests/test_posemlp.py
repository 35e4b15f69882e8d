import numpy as np
import pytest
import torch

from edgepose import zoo
from edgepose.columns import OUTPUTS, STILL_INPUTS as INPUTS
from edgepose.training.losses import ERROR_QUANTILE, Objective, error_loss
from edgepose.zoo.posemlp import ERROR_UNIT_M, PoseMLP


def small(**options) -> PoseMLP:
    torch.manual_seed(0)
    return PoseMLP(channels=16, blocks=1, **options).eval()


def test_it_answers_with_a_pose_and_an_error():
    model = small()
    x = torch.randn(3, 1, 17, len(INPUTS))
    with torch.no_grad():
        answer = model(x)
    assert model.inputs == INPUTS and model.outputs == OUTPUTS and answer.shape == (3, 17, 4)
    assert (answer[..., 3] >= 0).all() and answer[..., 3].mean() == pytest.approx(ERROR_UNIT_M, rel=0.5)


def test_the_error_does_not_pull_at_the_pose():
    model = small().train()
    model(torch.randn(3, 1, 17, len(INPUTS)))[..., 3].sum().backward()
    assert (model.embed.weight.grad == 0).all() and (model.head.weight.grad == 0).all()
    assert model.error.weight.grad.abs().max() > 0


@pytest.mark.parametrize("inputs", ["x", "y x", "x y depth confidence", "x y speed", ""])
def test_inputs_that_are_no_columns_are_refused(inputs):
    with pytest.raises(ValueError, match="wanted x y and any of confidence length"):
        zoo.build("posemlp", inputs=inputs)


def test_it_standardises_both_sides():
    model = small(inputs="x y confidence")
    keypoints, joints = 3 + 2 * torch.randn(5000, 1, 17, 3), torch.randn(5000, 17, 3)
    keypoints[..., 2] = 1  # a column that never changes
    model.standardise(keypoints, joints)
    standardised = (keypoints.flatten(1) - model.input_mean) / model.input_deviation
    assert standardised.mean().abs() < 1e-3 and standardised[:, ::3].std() == pytest.approx(1, abs=0.01)
    assert (standardised[:, 2::3] == 0).all()


def test_the_error_loss_is_least_at_its_quantile():
    distance = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    errors = torch.linspace(0.5, 0.9, 41)
    best = errors[torch.stack([error_loss(error.expand_as(distance), distance) for error in errors]).argmin()]
    assert best.item() == pytest.approx(ERROR_QUANTILE, abs=0.02)


def test_the_objective_is_the_distance_and_the_errors_likelihood():
    model = small()
    x, joints = torch.randn(4, 1, 17, len(INPUTS)), torch.randn(4, 1, 17, 3)
    with torch.no_grad():
        loss, distance = Objective(model)(x, joints)
        answer = model(x)
    off = (answer[..., :3] - joints[:, 0]).norm(dim=-1)
    assert distance == pytest.approx(off.mean().item(), rel=1e-6)
    assert loss == pytest.approx((off.mean() + error_loss(answer[..., 3], off)).item(), rel=1e-6)


def test_training_teaches_pose_and_error(tmp_path):
    from tiny_mocap import write_all

    from edgepose.training.supervised import train

    distances = []
    path = train("posemlp-s", write_all(tmp_path / "mocap"), tmp_path, 150, batch=32,
                 options={"channels": 32, "blocks": 1}, report=lambda step: distances.append(step.losses["loss"]))
    assert path.is_file() and np.mean(distances[-5:]) < 0.85 * np.mean(distances[:5])  # it starts from the mean pose


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_temporal_one_begins_as_its_single_frame_network(tmp_path, is_causal):
    from edgepose.training.supervised import begin_with
    from edgepose.zoo.checkpoints import save_checkpoint

    single = zoo.build("posemlp", channels=16, blocks=1).eval()
    file = tmp_path / "single.safetensors"
    save_checkpoint(file, single, {"model": "posemlp", "frames": 1, "skeleton": "h36m17", "options": {}})
    temporal = zoo.build("posemlp27", channels=16, blocks=1, is_causal=is_causal).eval()
    begin_with(temporal, file)
    x = torch.randn(2, 27, 17, len(INPUTS))
    with torch.no_grad():
        torch.testing.assert_close(temporal(x), single(x[:, zoo.target_frame(temporal)][:, None]))


def test_a_temporal_one_takes_the_motions_deviation_from_its_own_windows(tmp_path):
    from tiny_mocap import write_all

    from edgepose.training.supervised import train
    from edgepose.zoo.checkpoints import load_checkpoint

    mocap, options = write_all(tmp_path / "mocap"), {"channels": 16, "blocks": 1}
    start = train("posemlp", mocap, tmp_path, 1, batch=4, options=options)
    single = load_checkpoint(start)[0]
    temporal = load_checkpoint(train("posemlp27", mocap, tmp_path, 1, batch=4, options=options, start=start))[0]
    torch.testing.assert_close(temporal.input_deviation, single.input_deviation)
    assert (temporal.motion_deviation != 1).all()


def test_a_temporal_one_sees_every_third_frame_and_its_target():
    model = zoo.build("posemlp27", channels=16, blocks=1).eval()
    torch.nn.init.normal_(model.embed_motion.weight)
    x = torch.randn(1, 27, 17, len(INPUTS))
    with torch.no_grad():
        frames_used = [frame for frame in range(27)
                       if not torch.equal(model(x), model(x + (torch.arange(27) == frame)[:, None, None]))]
    assert frames_used == list(range(1, 27, 3)) and zoo.target_frame(model) in frames_used
