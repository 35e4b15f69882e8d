import math

import pytest
import torch

from edgepose.training import cameras

COUNT = 4000


@pytest.fixture
def many():
    target = torch.tensor([0.5, 0.9, -0.3]).repeat(COUNT, 1)
    return target, cameras.random_cameras(target, torch.Generator().manual_seed(0))


def test_rotations_are_rotations(many):
    rotation = many[1].rotation
    eye = rotation @ rotation.transpose(1, 2)
    assert (eye - torch.eye(3)).abs().max() < 1e-5 and (torch.linalg.det(rotation) - 1).abs().max() < 1e-5


def test_a_level_camera_sees_up_as_up_and_its_right_as_right():
    level = cameras._rotation(*torch.zeros(3, 1))
    camera = cameras.Cameras(torch.tensor([[0.0, 1.0, 5.0]]), level, torch.ones(1), torch.ones(1))
    seen = camera.view(torch.tensor([[[[0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 0.0]]]]))
    assert seen[0, 0].tolist() == [[0, 0, 5], [1, 0, 5], [0, -1, 5]]


def test_projection_is_the_normalised_screen():
    width, height, f = 1280.0, 720.0, 1000.0
    camera = cameras.Cameras(torch.zeros(1, 3), torch.eye(3)[None], torch.tensor([f / width]),
                             torch.tensor([width / height]))
    point = torch.tensor([0.4, -0.3, 2.0])
    x_px, y_px = f * point[0] / point[2] + width / 2, f * point[1] / point[2] + height / 2
    expected = torch.stack([2 * x_px / width - 1, 2 * y_px / width - height / width])
    torch.testing.assert_close(camera.project(point[None, None, None])[0, 0, 0], expected)


def test_cameras_are_where_they_should_be(many):
    target, camera = many
    away = camera.position_m - target
    distance = away[:, [0, 2]].norm(dim=-1)
    assert camera.position_m[:, 1].min() >= 0.3 and camera.position_m[:, 1].max() <= 3.0
    assert distance.min() >= 2.0 - 1e-5 and distance.quantile(0.9) <= 8.0
    azimuth = torch.atan2(away[:, 0], away[:, 2])
    eighths = torch.histc(azimuth, 8, -math.pi, math.pi) / COUNT
    assert eighths.min() > 0.1


def test_a_person_standing_upright_is_whole_in_nearly_every_picture(many):
    target, camera = many
    feet_and_crown = target[:, None, None] + torch.tensor([[0.0, -0.85, 0.0], [0.0, 0.8, 0.0]])
    seen = camera.project(camera.view(feet_and_crown))
    inside = (seen[..., 0].abs() < 1) & (seen[..., 1].abs() < 1 / camera.aspect[:, None, None])
    assert inside.all(-1).float().mean() > 0.95


def test_people_stand_anywhere_in_the_picture(many):
    target, camera = many
    x, y = camera.project(camera.view(target[:, None, None]))[:, 0, 0].T
    assert x.min() < -0.7 and x.max() > 0.7 and (y * camera.aspect).min() < -0.4 and (y * camera.aspect).max() > 0.4


def test_phones_webcams_and_the_focal_length_of_human36m_are_covered(many):
    focal, aspect = many[1].focal, many[1].aspect
    landscape, portrait, square = focal[aspect > 1.7], focal[aspect < 0.6], focal[aspect == 1]
    assert landscape.min() < 0.6 and landscape.max() > 1.5 and portrait.min() < 1.1 and portrait.max() > 2.6
    assert square.min() < 1.145 < square.max()
