import pytest
import torch
from tiny_mocap import write_all
from walking import SIZE, film, walk

from edgepose.adapters import COCO17
from edgepose.skeleton import H36M17
from edgepose.training import pictures as p
from edgepose.training.landmarks import coco_landmarks
from edgepose.training.mocap import read_motion

pytestmark = pytest.mark.slow


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return read_motion(write_all(tmp_path_factory.mktemp("mocap")), "training")


def people(count=3, seed=0):
    """Capsules of people who walk 4 m before a camera, in pictures of 96 x 128, and their keypoints."""
    joints = walk(30)[::30 // count][:count] * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([-0.5, 0.9, 4.0])
    landmarks = coco_landmarks(joints[:, None], generator(seed))[:, 0]
    looks = p.random_looks(count, generator(seed))
    focal, centre = torch.full((count,), 180.0), torch.tensor([[63.5, 47.5]]).expand(count, 2)
    points = landmarks[..., :2] / landmarks[..., 2:] * 180 + centre[:, None]
    return p.body_capsules(joints, landmarks, looks, focal, centre), looks, points


def covered(capsules, looks, size=(96, 128)):
    """The pixels of a body: those that do not depend on the background."""
    count = len(capsules.ends_px)
    black, white = (p.draw(capsules, torch.full((count, 3, *size), level), looks) for level in (0.0, 1.0))
    return (black == white).all(1)


def test_every_keypoint_lies_on_the_drawn_body():
    capsules, looks, points = people()
    body = covered(capsules, looks)
    assert (p.in_picture(points, (96, 128))[..., 2] == 1).all()
    for b in range(len(points)):
        x, y = points[b].round().long().unbind(-1)
        assert body[b, y, x].all(), [COCO17.joints[j] for j in (~body[b, y, x]).nonzero()[:, 0]]
    assert 0.02 < body.float().mean() < 0.3


def test_a_capsule_covers_what_is_nearer_to_its_axis_than_its_radius():
    looks = p.random_looks(1, generator())
    capsule = p.Capsules(torch.tensor([[[[20.0, 30.0], [70.0, 50.0]]]]), torch.full((1, 1, 2), 3.0),
                         torch.tensor([[[0.04, 0.08]]]), torch.full((1, 1, 2), 100.0), torch.ones(1, 1, 3))
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    along = (((x - 20) * 50 + (y - 30) * 20) / 2900).clamp(0, 1)
    distance = torch.hypot(x - 20 - 50 * along, y - 30 - 20 * along)
    torch.testing.assert_close(covered(capsule, looks)[0], distance < 4 + 4 * along)


def test_the_nearer_of_two_is_seen():
    looks = p.random_looks(1, generator())
    ends = torch.tensor([[[[10.0, 48.0], [110.0, 48.0]], [[64.0, 10.0], [64.0, 90.0]]]])
    colours = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]])
    for depths in ((2.0, 3.0), (3.0, 2.0)):
        depth = torch.tensor(depths)[None, :, None].expand(1, 2, 2)
        picture = p.draw(p.Capsules(ends, depth, torch.full((1, 2, 2), 0.05), torch.full((1, 2, 2), 100.0), colours),
                         torch.zeros(1, 3, 96, 128), looks)
        assert int(picture[0, :, 48, 64].argmax()) == depths.index(2.0)
        assert int(picture[0, :, 48, 20].argmax()) == 0 and int(picture[0, :, 80, 64].argmax()) == 1


def test_the_side_towards_the_light_is_brighter():
    looks = p.random_looks(1, generator())
    looks = p.Looks(looks.colours, looks.build, torch.tensor([[-0.8, 0.0, -0.6]]), torch.tensor([0.5]))
    ends = torch.tensor([[[[64.0, 10.0], [64.0, 90.0]]]])
    picture = p.draw(p.Capsules(ends, torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), 0.2),
                                torch.full((1, 1, 2), 100.0), torch.ones(1, 1, 3)), torch.zeros(1, 3, 96, 128), looks)
    assert picture[0, 0, 48, 50] > picture[0, 0, 48, 78] >= 0.5 - 1e-6


def test_the_nose_is_in_front_of_the_hair_and_the_toes_are_ahead():
    joints = walk(1)
    points = p.body_points(joints, coco_landmarks(joints[:, None], generator())[:, 0])
    ahead = {name: float(point[0, 2]) for name, point in points.items()}  # the person faces +z
    assert ahead["nose"] > ahead["brow"] > ahead["hair_low"] and ahead["chest_front"] > ahead["chest"]
    assert all(ahead[f"{side}_toe"] > ahead[f"{side}_ankle"] for side in ("left", "right"))


def test_pictures_depend_on_the_generator_alone_and_hold_people_of_many_sizes(motion):
    pictures, keypoints = p.draw_pictures(motion, 24, (64, 96), generator(3))
    again, _ = p.draw_pictures(motion, 24, (64, 96), generator(3))
    assert torch.equal(pictures, again) and pictures.shape == (24, 3, 64, 96) and keypoints.shape == (24, 17, 3)
    assert 0 <= pictures.min() and pictures.max() <= 1
    height = keypoints[..., 1].amax(1) - keypoints[..., 1].amin(1)
    # ZOOM over the padding, as part of the picture's height; a bent person fills the width instead.
    assert height.max() <= 64 * 1.1 / 1.25 + 1e-3 and height.min() < 0.6 * height.max()
    assert (keypoints[..., 2] == 1).float().mean() > 0.95


def test_a_film_is_one_person_by_one_camera(motion):
    movie = film(6, seed=4)
    assert movie.frames.shape == (6, *SIZE, 3) and movie.frames.dtype == torch.uint8
    assert not movie.joints_m[:, H36M17.root].any()
    assert (p.in_picture(movie.keypoints_px, SIZE)[..., 2] == 1).all()
    # The same corner of the background in all frames, and the bones of the walk.
    assert all(torch.equal(frame[:8, :8], movie.frames[0, :8, :8]) for frame in movie.frames)
    for parent, joint in H36M17.bones:
        drawn_m, walked_m = ((m[:, parent] - m[:, joint]).norm(dim=-1) for m in (movie.joints_m, walk(6)))
        torch.testing.assert_close(drawn_m, walked_m, atol=1e-5, rtol=0)


def test_a_motion_that_leaves_every_picture_is_refused():
    far = walk(2)
    far[1] += 1000
    with pytest.raises(ValueError, match="does not fit into a picture of 256x192"):
        p.draw_film(far, 30.0, SIZE, generator())
