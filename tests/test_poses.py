import math

import pytest
import torch
from tiny_mocap import standing

from edgepose.skeleton import H36M17
from edgepose.training import poses


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def windows():
    """(300, 4, 17, 3): people who sway, each in a pose of their own."""
    still = torch.from_numpy(standing()).expand(300, 4, -1, -1)
    own = 0.1 * torch.randn(300, 1, 17, 3, generator=generator(1))
    own = own + 0.01 * torch.randn(300, 4, 17, 3, generator=generator(2)).cumsum(1)
    return still + own + torch.tensor([0, 0.6, 0])


def bones(motion):
    return (motion[..., 1:, :] - motion[..., list(H36M17.parents[1:]), :]).norm(dim=-1)


def test_every_bone_keeps_its_length_and_nothing_sinks_below_the_floor(windows):
    varied = poses.vary_poses(windows, generator())
    torch.testing.assert_close(bones(varied), bones(windows), atol=1e-5, rtol=0)
    assert varied[..., 1].min() >= poses.FLOOR_M - 1e-5
    assert (varied - windows).norm(dim=-1).mean() > 0.05


def test_a_crossed_limb_is_another_windows_seen_from_the_shoulders(windows):
    crossed = poses.cross_limbs(windows, generator())
    shoulder, elbow = H36M17.index("left_shoulder"), H36M17.index("left_elbow")
    axes = poses._frame(windows, shoulder, H36M17.index("right_shoulder"))

    def direction(motion):
        return torch.nn.functional.normalize((axes @ (motion[:, :, elbow] - motion[:, :, shoulder])[..., None])[..., 0],
                                             dim=-1)

    own, taken = direction(windows), direction(crossed)
    is_crossed = (own - taken).abs().amax((1, 2)) > 1e-5
    assert is_crossed.float().mean() == pytest.approx(poses.LIMB_CROSSED, abs=0.12)
    for window in is_crossed.nonzero()[:20, 0]:
        assert (own - taken[window]).abs().amax((1, 2)).min() < 1e-5  # the pose of some window, in all of its frames
    still = [H36M17.index(joint) for joint in ("pelvis", "spine", "thorax", "nose", "head",
                                               "left_hip", "right_shoulder")]
    assert torch.equal(crossed[:, :, still], windows[:, :, still])


def test_turns_are_the_same_in_every_frame_of_a_window(windows):
    still = windows[:, :1].expand(-1, 4, -1, -1)
    turned = poses.turn_joints(still, generator())
    torch.testing.assert_close(turned, turned[:, :1].expand_as(turned), atol=1e-5, rtol=0)


def test_some_people_lie_down(windows):
    turned = poses.turn_joints(windows.expand(300, -1, -1, -1), generator())
    trunk = turned[:, 0, H36M17.index("thorax")] - turned[:, 0, H36M17.root]
    lean = torch.rad2deg(torch.acos((trunk[:, 1] / trunk.norm(dim=-1)).clamp(-1, 1)))
    assert (lean > 60).any() and lean.median() < 30


def test_no_joint_is_bent_further_than_joints_bend(windows):
    bend = windows.clone()
    wrist, elbow, shoulder = (H36M17.index(f"left_{part}") for part in ("wrist", "elbow", "shoulder"))
    upper = bend[:, :, elbow] - bend[:, :, shoulder]
    bend[:, :, wrist] = bend[:, :, elbow] - 0.9 * upper + torch.tensor([0, 0, 0.12])  # almost folded
    angle = lambda m: torch.acos(torch.nn.functional.cosine_similarity(  # noqa: E731
        m[:, :, elbow] - m[:, :, shoulder], m[:, :, wrist] - m[:, :, elbow], -1))
    before, after = angle(bend), angle(poses.turn_joints(bend, generator()))
    assert (after <= torch.maximum(before, torch.tensor(poses.MOST_BEND_RAD)) + 1e-3).all()


def test_rotations_turn_by_their_angle():
    turn = poses.rotations(torch.tensor([[0.0, 0, 1]]), torch.tensor([math.pi / 2]))
    torch.testing.assert_close(turn @ torch.tensor([1.0, 0, 0]), torch.tensor([[0.0, 1, 0]]), atol=1e-6, rtol=0)
