import numpy as np
import pytest
import torch
from tiny_mocap import write_all

from edgepose.adapters import COCO17
from edgepose.pictures import detector
from edgepose.training import heatmaps as h, runs
from edgepose.training.mocap import read_motion
from edgepose.zoo.detectors import load_detector

pytestmark = pytest.mark.slow

SIZE = (96, 64)


@pytest.fixture(scope="module")
def mocap(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("mocap"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(h, "BATCH", 4)
    monkeypatch.setattr(h, "VALIDATION_PICTURES", 8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_targets_are_gaussians_of_two_pixels_around_the_keypoints():
    keypoints = torch.tensor([[[20.0, 36.0], [21.0, 40.0]]])
    targets = h.gaussian_targets(keypoints, SIZE)
    assert targets.shape == (1, 2, 24, 16) and targets[0, 0, 9, 5] == 1
    assert targets[0, 0, 9, 7] == pytest.approx(np.exp(-0.5)) and targets[0, 0, 11, 7] == pytest.approx(np.exp(-1))
    assert targets[0, 1, 10, 5] == pytest.approx(np.exp(-0.25**2 / 8))
    found = detector.decode(targets.numpy())
    assert np.abs(4 * found[..., :2] - keypoints.numpy()).max() <= 1 + 1e-6  # a quarter of a heatmap pixel


def test_keypoints_without_weight_do_not_count():
    target = torch.rand(2, 3, 4, 4, generator=generator())
    predicted = target.clone()
    predicted[0, 1] += 5.0
    predicted[1, 2] += 2.0
    weight = torch.ones(2, 3)
    weight[0, 1] = 0
    assert h.heatmap_loss(predicted, target, weight).item() == pytest.approx(4 / 5)
    assert h.heatmap_loss(predicted, target, torch.zeros(2, 3)) == 0


def dots(keypoints, size):
    """A picture with a blob of its own colour at each of three keypoints."""
    pictures = torch.zeros(len(keypoints), 3, *size)
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    for channel, joint in enumerate(("nose", "left_hip", "right_ankle")):
        kx, ky = (keypoints[:, COCO17.index(joint), axis, None, None] for axis in (0, 1))
        pictures[:, channel] = torch.exp(-((x - kx) ** 2 + (y - ky) ** 2) / 18)
    return pictures


def test_keypoints_move_with_their_picture_and_a_mirror_exchanges_sides():
    size = (96, 72)
    keypoints = torch.full((40, 17, 3), 1.0)
    keypoints[..., :2] = torch.tensor([36.0, 48.0]) + 12 * torch.randn(17, 2, generator=generator(1)).clamp(-1, 1)
    moved, points = h.move(dots(keypoints, size), keypoints, generator(2))
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(72.0), indexing="ij")
    mirrored = []
    for b in range(40):
        blobs = moved[b] / moved[b].sum((1, 2), keepdim=True)
        centres = torch.stack([(blobs * x).sum((1, 2)), (blobs * y).sum((1, 2))], -1)
        as_it_is, exchanged = (points[b, [COCO17.index(j) for j in names], :2] for names in
                               (("nose", "left_hip", "right_ankle"), ("nose", "right_hip", "left_ankle")))
        errors = [(centres - wanted).norm(dim=-1).max() for wanted in (as_it_is, exchanged)]
        # The blobs are wide: interpolation moves their centres by less than a tenth of a pixel; a few are cut at the
        # edge.
        mirrored.append(bool(errors[1] < errors[0]))
        is_whole = (h.in_picture(points[b, :, :2], size)[..., 2] == 1).all()
        is_at_edge = (centres < 12).any() or (centres > torch.tensor([60, 84])).any()
        assert min(errors) < 0.1 or not is_whole or is_at_edge
    assert 8 < sum(mirrored) < 32
    assert sum(min(points[b, :, 2]) for b in range(40)) > 20


def test_what_leaves_the_picture_or_had_no_weight_has_none_after_a_move():
    keypoints = torch.full((64, 17, 3), 1.0)
    keypoints[..., :2] = torch.tensor([32.0, 48.0])
    keypoints[:, COCO17.index("nose"), 0] = 63.5  # just at the edge
    keypoints[:, COCO17.index("left_eye"), 2] = 0
    _, points = h.move(torch.zeros(64, 3, *SIZE), keypoints, generator())
    inside = h.in_picture(points[..., :2], SIZE)[..., 2]
    nose, eyes = COCO17.index("nose"), [COCO17.index("left_eye"), COCO17.index("right_eye")]
    assert torch.equal(points[:, nose, 2], inside[:, nose]) and 0 < points[:, nose, 2].sum() < 64
    assert torch.equal(points[:, eyes, 2].sum(1), torch.ones(64))  # the eye without weight, on whichever side it is now


def test_colours_change_and_greys_stay_grey_but_for_noise(monkeypatch):
    monkeypatch.setattr(h, "NOISE", 0.0)
    grey = torch.full((16, 3, 4, 4), 0.5)
    changed = h.recolour(grey, generator())
    torch.testing.assert_close(changed[:, 0], changed[:, 1])
    assert (changed[:, 0].amin() < 0.4) and (changed[:, 0].amax() > 0.6)  # brightness
    red = torch.tensor([0.7, 0.3, 0.3])[None, :, None, None].expand(16, 3, 4, 4)
    changed = h.recolour(red, generator())
    # Contrast and hue.
    assert ((changed[:, 0] - changed[:, 1]).std() > 0.02) and ((changed[:, 1] - changed[:, 2]).abs().max() > 0.05)
    monkeypatch.setattr(h, "NOISE", 0.1)
    assert h.recolour(grey, generator()).std((1, 2, 3)).max() > 0.03


def test_training_and_run_time_normalise_alike():
    picture = torch.rand(3, 8, 6, generator=generator())
    at_run_time = detector.normalised(255 * picture.permute(1, 2, 0).numpy())
    torch.testing.assert_close(h.normalised(picture), torch.from_numpy(at_run_time))


def test_a_few_steps_on_the_same_pictures_lower_the_loss(mocap, monkeypatch):
    monkeypatch.setattr(runs, "step_generator", lambda *_: torch.Generator().manual_seed(5))
    trainer = h.DetectorTrainer("hrnet-w8", SIZE, read_motion(mocap, "training"), steps=6,
                                seed=0, precision="float32", batch=4)
    losses = [trainer.step()["loss"] for _ in range(6)]
    assert losses[1] < losses[0] and losses[-1] < 0.9 * losses[0]


class Stopped(Exception):
    pass


def test_a_stopped_and_resumed_run_gives_the_same_weights(mocap, tmp_path):
    def stop(step):
        if step.done == 2:
            raise Stopped

    options = {"size": SIZE, "every": 2, "pictures": 4}
    whole = h.train("hrnet-w8", mocap, tmp_path / "whole", 4, **options)
    with pytest.raises(Stopped):
        h.train("hrnet-w8", mocap, tmp_path / "parts", 4, report=stop, **options)
    parts = h.train("hrnet-w8", mocap, tmp_path / "parts", 4, resume=True, **options)
    (a, about_a), (b, about_b) = load_detector(str(whole)), load_detector(str(parts))
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    assert about_a == about_b and about_a["size"] == SIZE and about_a["figures"]["steps"] == 4
    with pytest.raises(ValueError, match="hrnet-w8.safetensors is there already, of an earlier run: --resume"):
        h.train("hrnet-w8", mocap, tmp_path / "parts", 4, **options)
    with pytest.raises(ValueError, match=r"is of a run with \{'seed': 0\}; this one has \{'seed': 1\}"):
        h.train("hrnet-w8", mocap, tmp_path / "parts", 4, resume=True, seed=1, **options)
    with pytest.raises(
            ValueError, match=r"is of a run with \{'precision': 'float32'\}; this one has \{'precision': 'bfloat16'\}"):
        h.train("hrnet-w8", mocap, tmp_path / "parts", 4, resume=True, precision="bfloat16", **options)


@pytest.mark.parametrize("options, error, message", [
    ({"model": "hrnet"}, ValueError, "there are hrnet-w32"),
    ({"precision": "float16"}, ValueError, "float32, bfloat16"),
    ({"resume": True}, FileNotFoundError, "hrnet-w8.state.safetensors")])
def test_a_run_that_cannot_start_says_why(mocap, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        h.train(**{"model": "hrnet-w8", "data": mocap, "out": tmp_path, "steps": 1, "size": SIZE,
                   "pictures": 4, **options})


def test_the_command_trains(mocap, tmp_path, capsys):
    assert h.main(["--path", str(mocap), "--out", str(tmp_path), "--steps", "2", "--size",
                   "64", "64", "--every", "1"]) == 0
    output = capsys.readouterr().out
    assert "step 2/2" in output and "found" in output and (tmp_path / "hrnet-w8.safetensors").is_file()
    assert "--steps 2 --size 64 64 --seed 0" in load_detector(str(tmp_path / "hrnet-w8.safetensors"))[1]["command"]


@pytest.mark.parametrize("arguments, message",
                         [(["--steps", "0"], "--steps is 0; wanted 1 or more"), (["--every", "-1"], "--every is -1"),
                          ([], "hrnet-w8.state.safetensors is there already")])
def test_the_command_tells_what_is_wrong_in_a_line(mocap, tmp_path, capsys, arguments, message):
    (tmp_path / "hrnet-w8.state.safetensors").touch()
    assert h.main(["--path", str(mocap), "--out", str(tmp_path), *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"heatmaps: {message if arguments else tmp_path / message}")
