import numpy as np
import pytest
import torch
from tiny_mocap import standing, write_all

from edgepose.columns import LENGTHS, STILL_INPUTS as INPUTS
from edgepose.skeleton import H36M17
from edgepose.training import observation as o
from edgepose.training.mocap import read_motion

COLUMN = {name: i for i, name in enumerate(INPUTS)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def motion():
    return torch.from_numpy(standing()).expand(400, 3, -1, -1)


@pytest.mark.parametrize("noisy", [False, True])
def test_columns_come_in_the_order_asked_for_and_x_y_do_not_depend_on_the_others(motion, noisy):
    plain, joints = o.observe_frames(motion, generator(), noisy)
    columns, same_joints = o.observe_frames(motion, generator(), noisy, o.AS_CAPTURED, INPUTS)
    assert plain.shape == (400, 3, 17, 2) and columns.shape == (400, 3, 17, len(INPUTS))
    assert torch.equal(columns[..., :2], plain) and torch.equal(joints, same_joints)
    assert (columns[..., COLUMN["confidence"]] == 1).all() or noisy


def test_what_is_not_known_is_zero_and_a_part_of_the_windows_knows(motion):
    columns, _ = o.observe_frames(motion.expand(400, -1, -1, -1), generator(), True, o.WILD, INPUTS)
    for name in ("length", "depth", "elevation"):
        value, known = columns[..., COLUMN[name]], columns[..., COLUMN[f"{name}_known"]]
        assert set(known.unique().tolist()) == {0.0, 1.0} and (value[known == 0] == 0).all()
        part = known.amax((1, 2)).mean().item()
        assert part == pytest.approx(o.WILD.known[name], abs=4 * (0.25 / 400) ** 0.5)
    unknown, _ = o.observe_frames(motion, generator(), True, o.AS_CAPTURED, INPUTS)
    assert (unknown[..., COLUMN["length"]:] == 0).all()


def test_lengths_stand_at_their_joints(motion):
    columns, joints = o.observe_frames(motion, generator(), False, o.knowing(o.AS_CAPTURED, "length"), INPUTS)
    length, known = columns[0, 0, :, COLUMN["length"]], columns[0, 0, :, COLUMN["length_known"]]
    assert set(known.nonzero()[:, 0].tolist()) == {H36M17.index(joint) for at in LENGTHS.values() for joint in at}
    thigh = np.linalg.norm(standing()[H36M17.index("right_knee")] - standing()[H36M17.index("right_hip")])
    assert length[H36M17.index("left_knee")].item() == pytest.approx(thigh, abs=1e-5)
    assert length[H36M17.index("right_hip")].item() == pytest.approx(0.18, abs=1e-5)
    assert set(o.person_lengths(joints)) == set(LENGTHS)


def test_depth_is_the_joints_own_less_the_median_where_nothing_errs(motion):
    columns, joints = o.observe_frames(motion, generator(), False, o.knowing(o.AS_CAPTURED, "depth"), INPUTS)
    z = joints[..., 2]
    torch.testing.assert_close(columns[..., COLUMN["depth"]], z - z.median(-1, keepdim=True).values, atol=1e-5, rtol=0)


def test_a_depth_camera_sees_surfaces_holes_and_the_background(motion):
    columns, joints = o.observe_frames(motion, generator(), True, o.knowing(o.AS_CAPTURED, "depth"), INPUTS)
    depth, known = columns[..., COLUMN["depth"]], columns[..., COLUMN["depth_known"]] > 0
    z = joints[..., 2]
    error = ((depth - (z - z.median(-1, keepdim=True).values))[known]).abs()
    # Surfaces lie up to 8 cm apart, and the median moves with holes and with what is before or behind the person.
    assert 0.01 < error.median() < 0.08 and 0.05 < (error > 0.15).float().mean() < 0.35
    assert (~known).float().mean() == pytest.approx(sum(o.HOLES) / 2, abs=0.03)


def test_elevation_is_that_of_the_ray_above_the_horizon(motion):
    columns, _ = o.observe_frames(motion, generator(), False, o.knowing(o.AS_CAPTURED, "elevation"), INPUTS)
    elevation = columns[..., COLUMN["elevation"]]
    head, ankle = H36M17.index("head"), H36M17.index("left_ankle")
    assert (elevation[..., head] > elevation[..., ankle]).all()
    # A person of 1.5 m from ankle to head, 2 to 8 m away, covers 10 to 45 degrees.
    span = torch.rad2deg(elevation[..., head] - elevation[..., ankle])
    assert 8 < span.min() and span.max() < 50


def test_windows_for_training_are_other_poses_and_bodies(tmp_path):
    motion = read_motion(write_all(tmp_path), "training")
    keypoints, joints = o.draw_observed(motion, 64, 9, generator(), o.WILD, INPUTS)
    assert keypoints.shape == (64, 9, 17, len(INPUTS)) and joints.shape == (64, 9, 17, 3)
    assert torch.isfinite(keypoints).all()
    again, _ = o.draw_observed(motion, 64, 9, generator(), o.WILD, INPUTS)
    assert torch.equal(keypoints, again)
    thigh = (joints[:, :, H36M17.index("left_knee")] - joints[:, :, H36M17.index("left_hip")]).norm(dim=-1)
    assert thigh[:, 4].std() > 0.02


def test_frames_know_how_far_apart_they_are_and_the_first_that_nothing_came_before():
    motion = torch.rand(5, 4, 17, 3, generator=generator()) + torch.tensor([0.0, 1.0, 0.0])
    columns, _ = o.observe_frames(motion, generator(), True, o.AS_CAPTURED, ("x", "y", "gap"))
    gap_s = columns[..., 2]
    assert (gap_s[:, 0] == 0).all() and (gap_s[:, 1:] == torch.tensor(0.02)).all()
