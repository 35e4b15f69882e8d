import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_mocap import standing, write_all, write_positions, write_subject
from walking import walk

from edgepose.zoo.checkpoints import load_checkpoint, read_tensors
from edgepose.skeleton import H36M17
from edgepose.training import weakly_supervised as weak
from edgepose.training.cameras import Cameras
from edgepose.training.landmarks import coco_landmarks
from edgepose.training.mocap import read_motion
from edgepose.training.noise import adapted

pytestmark = pytest.mark.slow

SMALL = {"channels": 16, "depth": 1, "heads": 2}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(weak, "BATCH", 8)
    monkeypatch.setattr(weak, "STATISTICS_WINDOWS", 64)
    monkeypatch.setattr(weak, "VALIDATION_WINDOWS", 16)


@pytest.fixture
def data(tmp_path):
    return write_all(tmp_path / "mocap")


def poses(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pose = torch.from_numpy(standing() - standing()[0]) * torch.tensor([1.0, -1.0, -1.0])
    return pose + 0.05 * torch.randn(count, 17, 3, generator=generator)


def turned(pose_m, yaw):
    c, s = np.cos(yaw), np.sin(yaw)
    return pose_m @ torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float32).T


def test_the_chain_matrix_holds_bone_lengths_and_angles_and_no_direction():
    pose = poses()
    psi = weak.kinematic_chain_space(pose)
    assert psi.shape == (6, 16, 16)
    lengths = torch.stack([(pose[:, joint] - pose[:, parent]).norm(dim=-1) for parent, joint in H36M17.bones], 1)
    torch.testing.assert_close(psi.diagonal(dim1=1, dim2=2), lengths**2)
    torch.testing.assert_close(psi, weak.kinematic_chain_space(turned(pose, 1.0)), atol=1e-5, rtol=1e-4)
    # The space is blind to a mirror.
    torch.testing.assert_close(psi, weak.kinematic_chain_space(pose * torch.tensor([1.0, 1.0, -1.0])))


def test_the_critic_can_tell_a_mirrored_body_by_its_coordinates_alone():
    pose = poses()
    plain, mirrored = (weak.Critic.inputs(p) for p in (pose, pose * torch.tensor([1.0, 1.0, -1.0])))
    assert plain.shape == (6, 17 * 3 + 16**2)
    torch.testing.assert_close(plain[:, 51:], mirrored[:, 51:])
    torch.testing.assert_close(plain[:, :51].reshape(6, 17, 3)[..., 2], -mirrored[:, :51].reshape(6, 17, 3)[..., 2])
    torch.testing.assert_close(plain[:, :51] * weak.DEVIATION_M, pose.flatten(1))


def test_the_critic_learns_that_bodies_mirrored_in_depth_are_none():
    torch.manual_seed(0)
    # Every direction is as likely: no joint is before the pelvis more often than behind.
    yaw = torch.linspace(0, 2 * np.pi, 256)
    c, s, o, l = yaw.cos(), yaw.sin(), torch.zeros(256), torch.ones(256)
    real = poses(256) @ torch.stack([c, o, s, o, l, o, -s, o, c], -1).reshape(256, 3, 3)
    real, mirrored = weak.Critic.inputs(real), weak.Critic.inputs(real * torch.tensor([1.0, 1.0, -1.0]))
    critic, random = weak.Critic(17, 64), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(critic.parameters(), weak.LEARNING_RATE, weak.BETAS)
    for _ in range(100):
        loss = critic(mirrored).mean() - critic(real).mean() + weak.gradient_penalty(critic, real, mirrored, random)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (critic(real) > critic(mirrored)).float().mean() > 0.9


def test_the_camera_loss_is_zero_for_scaled_parts_of_rotations_alone():
    rotation = torch.linalg.qr(torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0)))[0]
    scales = torch.tensor([0.1, 0.5, 1.0, 2.0, 9.0])[:, None, None]
    assert weak.camera_loss(scales * rotation[:, :2]) < 1e-5
    stretched = torch.tensor([[[1.0, 0, 0], [0, 2.0, 0]]])  # 2 / 5 diag(1, 4) - I = diag(-0.6, 0.6)
    assert weak.camera_loss(stretched) == pytest.approx(0.6 * 2**0.5)


def people():
    """Poses from their pelvis, the middle of their hips."""
    pose = poses()
    pose[:, H36M17.root] = pose[:, [H36M17.index("left_hip"), H36M17.index("right_hip")]].mean(1)
    return pose - pose[:, weak.ROOT]


def pictures(pose, place, distance=5.0):
    """Keypoints that an ideal detector finds of the pose, whose pelvis is seen in direction `place`: (N, 1, 17, 2)."""
    camera = Cameras(torch.zeros(len(pose), 3), torch.eye(3).expand(len(pose), 3, 3),
                     torch.full((len(pose),), weak.FOCAL), torch.ones(len(pose)))
    return adapted(camera.project(coco_landmarks((pose + torch.tensor([*place, 1.0]) * distance)[:, None], None)))[0]


def test_the_projection_is_that_of_a_pinhole_camera_wherever_the_person_stands():
    pose = people()
    for distance, place in ((5.0, (0.0, 0.0)), (4.0, (0.2, -0.1)), (6.0, (-0.3, 0.05))):
        keypoints = pictures(pose, place, distance)
        m = 2 * weak.FOCAL / distance * torch.eye(2, 3).expand(6, 2, 3)
        torch.testing.assert_close(weak.project(m, pose, keypoints), keypoints[:, 0] - keypoints[:, 0, :1],
                                   atol=5e-4, rtol=0)
        assert weak.projection_loss(m, pose, keypoints) < 1e-3


def test_the_projection_loss_is_the_distance_in_parts_of_the_person():
    pose = people()
    keypoints = pictures(pose, (0.0, 0.0))
    m = 2 * weak.FOCAL / 5 * torch.eye(2, 3).expand(6, 2, 3)
    size = (keypoints.amax(2) - keypoints.amin(2)).amax(-1)
    moved = keypoints + torch.tensor([0.03, -0.04]) * (torch.arange(17) > 0)[:, None]
    assert weak.projection_loss(m, pose, moved) == pytest.approx((0.05 * 16 / 17 / size).mean().item(), rel=0.02)
    turned_back = weak.projection_loss(m, pose * torch.tensor([1.0, 1.0, -1.0]), keypoints)
    assert turned_back > 0.01  # perspective and the face show what is in front


def test_the_gradient_penalty_is_zero_for_a_critic_of_slope_one():
    direction = torch.nn.functional.normalize(torch.randn(17 * 3, generator=torch.Generator().manual_seed(1)), dim=0)
    random = torch.Generator().manual_seed(0)
    for slope, expected in ((1.0, 0.0), (3.0, 4.0)):
        penalty = weak.gradient_penalty(lambda inputs: slope * inputs @ direction, poses(seed=1).flatten(1),
                                        poses(seed=2).flatten(1), random)
        assert penalty.item() == pytest.approx(expected, abs=1e-5)


def test_the_error_after_scaling_forgets_size_and_place_alone():
    target = poses().numpy()
    target = target - target[:, :1]
    assert weak.scaled_mpjpe(3 * target + 0.5, target) < 0.01
    assert weak.scaled_mpjpe(target * [1, 1, -1], target) > 10


def test_keypoints_and_poses_are_of_different_people(data):
    motion = read_motion(data, "training")
    people = [{name.split("/")[0] for name in weak.half_of(motion, half).clip_names} for half in (0, 1)]
    assert all(people) and not people[0] & people[1]
    halves = [weak.half_of(motion, half) for half in (0, 1)]
    assert sum(len(half.positions_m) for half in halves) == len(motion.positions_m)


def test_one_subject_alone_is_too_few(tmp_path):
    for subject in ("cmu_001", "cmu_086"):
        write_subject(tmp_path, subject, (30,))
    with pytest.raises(ValueError, match="needs 2 training subjects or more"):
        weak.train("posegate-s", tmp_path, tmp_path / "out", 1, options=SMALL)


def test_a_resumed_run_ends_as_an_uninterrupted_one(data, tmp_path):
    class Stopped(Exception):
        pass

    def stop(step):
        if step.is_kept:
            raise Stopped

    whole = weak.train("posegate-s", data, tmp_path / "whole", 4, every=2, options=SMALL)
    with pytest.raises(Stopped):
        weak.train("posegate-s", data, tmp_path / "parts", 4, every=2, report=stop, options=SMALL)
    parts = weak.train("posegate-s", data, tmp_path / "parts", 4, every=2, resume=True, options=SMALL)
    a, b = (load_checkpoint(path)[0].state_dict() for path in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(ValueError, match="is of a run with {'seed': 0}; this one has {'seed': 1}"):
        weak.train("posegate-s", data, tmp_path / "parts", 6, seed=1, resume=True, options=SMALL)
    with pytest.raises(ValueError, match="posegate-s-weak.safetensors is there already, of an earlier run: --resume"):
        weak.train("posegate-s", data, tmp_path / "parts", 6, options=SMALL)


def test_the_checkpoint_is_an_ordinary_one_that_says_how_it_was_made(data, tmp_path):
    path = weak.train("ampose", data, tmp_path, 2, command="how", options=SMALL)
    module, metadata = load_checkpoint(path)
    assert path.name == "ampose-weak.safetensors" and metadata["command"] == "how" and metadata["options"] == SMALL
    assert metadata["figures"]["steps"] == 2 and metadata["figures"]["mean_pose_scaled_mpjpe_mm"] > 0
    assert module(torch.zeros(1, 1, 17, 2)).shape == (1, 17, 3)
    state = read_tensors(tmp_path / "ampose-weak.state.safetensors")[0]
    assert all(torch.equal(tensor, state[f"averaged.{name}"]) for name, tensor in module.state_dict().items())
    assert not all(torch.equal(tensor, state[f"generator.{name}"]) for name, tensor in module.state_dict().items())


def test_the_camera_starts_as_the_plain_weak_perspective(data):
    camera = weak.CameraNetwork(17)
    m = camera(torch.randn(3, 1, 17, 2))
    torch.testing.assert_close(m, weak.START_SCALE * torch.eye(2, 3).expand(3, 2, 3))


def test_it_learns_to_project_back_from_keypoints_alone(data):
    trainer = weak.UnpairedTrainer("posegate-s", read_motion(data, "training"), 60, 0, False, SMALL)
    losses = [trainer.step()["projection"] for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_depth_is_learned_without_pairs(tmp_path, monkeypatch):
    for name, value in {"BATCH": 128, "STATISTICS_WINDOWS": 2000, "VALIDATION_WINDOWS": 256, "WARM_UP": 20}.items():
        monkeypatch.setattr(weak, name, value)
    for subject, size, start in (("cmu_001", 1.0, 0), ("cmu_002", 1.05, 40), ("cmu_086", 0.97, 90)):
        write_positions(tmp_path, subject, size * walk(400 + start, 60.0).numpy()[start:], (400,))
    reports = []
    weak.train("martinez-s", tmp_path, tmp_path / "out", 200, options={"channels": 64},
               report=lambda step: reports.append(step.scores))
    error, floor = reports[-1].values()  # floor: the mean pose's error
    assert error < 0.65 * floor  # 0.55; without the critic 0.81


def test_no_pose_of_those_who_are_seen_is_ever_used(data, monkeypatch):
    used = []

    def noted(trainer, motion, random, noisy, count, observed=weak.UnpairedTrainer._observed):
        keypoints, pose_m = observed(trainer, motion, random, noisy, count)
        used.append(motion)
        return ((keypoints, torch.full_like(pose_m, torch.nan)) if motion is trainer.seen
                else (torch.full_like(keypoints, torch.nan), pose_m))

    monkeypatch.setattr(weak.UnpairedTrainer, "_observed", noted)
    trainer = weak.UnpairedTrainer("martinez-s", read_motion(data, "training"), 2, 0, False, {"channels": 16})
    losses = trainer.step()
    assert all(np.isfinite(loss) for loss in losses.values())
    assert {id(motion) for motion in used} == {id(trainer.seen), id(trainer.posed)}
    assert all(parameter.isfinite().all() for parameter in trainer.generator.parameters())
    assert trainer.generator.input_mean.isfinite().all() and trainer.generator.output_deviation.isfinite().all()


def test_the_command_prints_its_checkpoint(data, tmp_path):
    process = subprocess.run([sys.executable, "-m", "edgepose.training.weakly_supervised", "--path",
                              str(data), "--out", str(tmp_path), "--steps", "1", "--threads",
                              "1", "--option", "channels=16"], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    assert "mm after scaling (mean pose" in process.stdout
    assert process.stdout.strip().endswith("martinez-s-weak.safetensors")
    metadata = load_checkpoint(tmp_path / "martinez-s-weak.safetensors")[1]
    assert metadata["options"] == {"channels": 16} and metadata["command"].endswith(" --option channels=16")
