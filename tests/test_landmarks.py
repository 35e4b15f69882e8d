import numpy as np
import pytest
import torch
from tiny_mocap import standing

from edgepose.skeleton import H36M17
from edgepose.training import landmarks


def place(points: torch.Tensor, joint: str) -> torch.Tensor:
    return points[..., landmarks.COCO_JOINTS.index(joint), :]


@pytest.fixture
def body():
    """(2000, 1, 17, 3): the same person each time, facing +z, left along +x."""
    return torch.from_numpy(standing()).expand(2000, 1, -1, -1)


@pytest.fixture
def points(body):
    return landmarks.coco_landmarks(body, torch.Generator().manual_seed(0))


def test_the_face_is_in_front_of_the_skull_with_the_left_eye_on_the_left(body, points):
    base = body[0, 0, H36M17.index("nose")]
    nose, left, right = (place(points, joint).mean((0, 1)) - base for joint in ("nose", "left_eye", "right_eye"))
    assert 0.05 < nose[2] < 0.15 and abs(nose[0]) < 0.005
    assert left[0] > 0.02 and right[0] < -0.02 and min(left[1], right[1]) > nose[1] and min(left[2], right[2]) > 0.05


def test_the_face_keeps_its_shape_however_the_head_turns(points):
    apart = (place(points, "left_eye") - place(points, "right_eye")).norm(dim=-1)
    skull = np.linalg.norm(standing()[H36M17.index("head")] - standing()[H36M17.index("nose")])
    np.testing.assert_allclose(apart, 0.62 * skull, rtol=1e-4)


def test_hips_are_wider_and_shoulders_narrower_than_the_joints(points):
    for side, mocap_m, (low, high) in (("hip", 0.18, landmarks.OPENPOSE.hip_width),
                                       ("shoulder", 0.36, landmarks.OPENPOSE.shoulder_width)):
        width = (place(points, f"left_{side}") - place(points, f"right_{side}"))[..., 0].mean()
        # The mean of 2000 draws: three standard deviations of the uniform width and of the placement.
        off = 3 * ((mocap_m * (high - low)) ** 2 / 12 + 2 * landmarks.OPENPOSE.deviation_m ** 2) ** 0.5 / 2000 ** 0.5
        assert abs(width - mocap_m * (low + high) / 2) < off


def test_what_is_drawn_is_drawn_once_a_window():
    body = torch.from_numpy(standing()).expand(5, 9, -1, -1)
    points = landmarks.coco_landmarks(body, torch.Generator().manual_seed(0))
    torch.testing.assert_close(points, points[:, :1].expand_as(points))
    assert (points[0] - points[1]).abs().max() > 0.001


def test_without_a_generator_landmarks_stand_where_they_do_on_average(body, points):
    mean = landmarks.coco_landmarks(body[:1], None)
    assert mean.shape == (1, 1, 17, 3)
    # Three standard deviations of 2000 draws: 0.2 mm each, and widths.
    for joint in ("left_hip", "right_shoulder", "left_wrist"):
        assert (place(mean, joint) - place(points, joint).mean((0, 1))).abs().max() < 0.002


def test_landmarks_turn_with_the_axes(body):
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    turn = turn * torch.linalg.det(turn)
    quiet = lambda joints: landmarks._face(  # noqa: E731
        joints, *torch.zeros(2, 2000, 1), torch.ones(2000, 1, 1), torch.zeros(2000, 1, 3))
    torch.testing.assert_close(quiet(body @ turn), quiet(body) @ turn, atol=1e-5, rtol=0)


def test_the_way_back_leads_to_the_joints_it_came_from(points):
    mean = points.mean((0, 1)).numpy()[None]
    # A detector's neck and top of the head; the skull's base and crown are known parts of the way between them.
    base, crown = (standing()[H36M17.index(joint)] for joint in ("nose", "head"))
    step = (crown - base) / (landmarks.CROWN - landmarks.SKULL_BASE)
    neck = base - landmarks.SKULL_BASE * step
    back = landmarks.mocap_joints(mean, neck[None], (neck + step)[None])[0]
    error = np.linalg.norm(back - standing(), axis=-1)
    assert error.max() < 0.01  # the trunk of this body is not quite that of the CMU subjects
    assert error[[H36M17.index(joint) for joint in landmarks.LIMBS]].max() < 0.003
