import dataclasses

import numpy as np
import pytest
import torch
from tiny_datasets import seen_by, write_h36m

from edgepose.camera import flip_left_right, normalize_screen
from edgepose.skeleton import H36M17
from edgepose.training import datasets
from edgepose.training.datasets import LabelledClip, draw_labelled, read_dataset


def clip(frames, seed=0, **changes):
    """A clip whose frames all differ; its joints' x is the number of the frame, the root is at zero."""
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(frames, 17, 3)).astype(np.float32)
    joints[:, 1:, 0] = joints[:, :1, 0] + np.arange(frames)[:, None]
    return LabelledClip(**{**dict(source=f"clip {seed}", subject="S1", action="Walking", camera="C1", split="training",
                                  image_size=(640, 480), fps=50.0, keypoints_px=rng.uniform(0, 400, (frames, 17, 2)),
                                  joints_m=joints, valid=np.ones(frames, bool), measured=np.ones(17, bool)), **changes})


def numbers(joints):
    """The number of the clip's frame in each frame of a window."""
    return np.rint(np.asarray(joints)[..., 1, 0]).astype(int)


def test_a_window_is_centred_and_repeats_the_ends_of_the_clip():
    keypoints, joints = clip(6).windows(np.array([0, 3, 5]), 5)
    np.testing.assert_array_equal(numbers(joints), [[0, 0, 0, 1, 2], [1, 2, 3, 4, 5], [3, 4, 5, 5, 5]])
    np.testing.assert_allclose(keypoints[1, 2], normalize_screen(clip(6).keypoints_px[3], (640, 480)), rtol=1e-5)
    assert keypoints.dtype == joints.dtype == np.float32 and not joints[:, :, 0].any()


def test_confidence_is_not_part_of_a_window():
    pixels = np.random.default_rng(1).uniform(0, 400, (4, 17, 3))
    keypoints, _ = clip(4, keypoints_px=pixels).windows(np.array([2]), 1)
    np.testing.assert_allclose(keypoints[0, 0], normalize_screen(pixels[2, :, :2], (640, 480)), rtol=1e-5)


def test_every_frame_that_counts_is_equally_likely_to_be_drawn():
    valid = np.array([False, True, True, True])
    _, joints = draw_labelled([clip(2), clip(4, 1, valid=valid)], 20_000, 1, torch.Generator().manual_seed(0))
    share = np.bincount(numbers(joints)[:, 0], minlength=4) / 20_000
    # Frame 0 comes from the first clip alone, since it is not valid in the second; 1 from both; 2 and 3 from the
    # second.
    assert np.abs(share - [0.2, 0.4, 0.2, 0.2]).max() < 4 * (0.4 * 0.6 / 20_000) ** 0.5  # four standard deviations


def test_drawn_windows_belong_together_and_never_leave_their_clip():
    clips = [clip(30, 0), clip(5, 1, image_size=(1920, 1080))]
    keypoints, joints = draw_labelled(clips, 200, 9, torch.Generator().manual_seed(0))
    assert keypoints.shape == (200, 9, 17, 2) and joints.shape == (200, 9, 17, 3) and keypoints.dtype == torch.float32
    for i in range(200):
        own = [c for c in clips if numbers(joints)[i, 4] < len(c.valid)
               and np.allclose(c.windows([numbers(joints)[i, 4]], 9)[0], keypoints[i], atol=1e-6)]
        assert len(own) == 1 and np.allclose(own[0].windows([numbers(joints)[i, 4]], 9)[1], joints[i], atol=1e-6)


def test_flipping_mirrors_half_of_the_windows_in_2d_and_3d_alike():
    clips = [clip(3)]
    keypoints, joints = draw_labelled(clips, 1000, 3, torch.Generator().manual_seed(0), flip=True)
    plain = [clips[0].windows([i], 3) for i in range(3)]
    mirrored = [tuple(flip_left_right(part, H36M17) for part in parts) for parts in plain]
    is_mirrored = [any(np.allclose(keypoints[i], k[0], atol=1e-6) and np.allclose(joints[i], j[0]) for k, j in mirrored)
                   for i in range(1000)]
    is_plain = [any(np.allclose(keypoints[i], k[0], atol=1e-6) and np.allclose(joints[i], j[0]) for k, j in plain)
                for i in range(1000)]
    assert all(a != b for a, b in zip(is_mirrored, is_plain)) and abs(sum(is_mirrored) - 500) < 4 * 250**0.5


def test_the_generator_decides_what_is_drawn():
    a, b, c = (draw_labelled([clip(50)], 20, 3, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert (a == b).all() and (a != c).any()


def test_a_window_with_a_missing_joint_is_not_trained_on():
    joints = clip(5).joints_m.copy()
    joints[1] = np.nan
    gap = clip(5, joints_m=joints, valid=np.arange(5) != 1)
    with pytest.raises(ValueError, match="clip 0: the 3D around frame 2 is NaN"):
        draw_labelled([dataclasses.replace(gap, valid=np.arange(5) == 2)], 1, 3, torch.Generator())
    with pytest.raises(ValueError, match="no clips"):
        draw_labelled([], 1, 3, torch.Generator())


@pytest.mark.parametrize("change, message", [
    ({"keypoints_px": np.zeros((3, 17, 2))},
     r"clip 0: keypoints_px has shape \(3, 17, 2\); wanted \(4, 17, 2\) or \(4, 17, 3\)"),
    ({"keypoints_px": np.random.default_rng(0).uniform(0, 1, (4, 17, 2))},
     "clip 0: the keypoints are all within 2 px of the corner"),
    ({"valid": np.ones((4, 1), bool)}, r"valid has shape \(4, 1\); wanted \(4,\)"),
    ({"measured": np.ones(16, bool)}, r"measured has shape \(16,\)"),
    ({"keypoints_px": np.full((4, 17, 2), np.inf)}, "clip 0: the 2D is NaN or infinite"),
    ({"joints_m": np.full((4, 17, 3), np.nan)}, "clip 0: the 3D is NaN or infinite"),
    ({"image_size": (0, 480)}, "image_size"),
    ({"split": "validation"}, "clip 0: split 'validation' at 50.0 Hz; wanted training or test"),
    ({"fps": 0.0}, "above 0 Hz")])
def test_a_clip_that_does_not_fit_together_names_its_source(change, message):
    with pytest.raises(ValueError, match=message):
        clip(4, **change)


@pytest.mark.parametrize("arguments, message", [
    (("coco", ".", "test"), "unknown data set 'coco'; there are h36m, mpi-inf-3dhp, humaneva"),
    (("h36m", ".", "validation"), "unknown split 'validation' of h36m; there are training, test"),
    (("h36m", ".", "test", "hrnet"), "h36m has no keypoints 'hrnet'; there are gt, cpn"),
    (("h36m", "nowhere", "test"), "nowhere is no folder; wanted the one where h36m lies")])
def test_what_there_is_not_is_answered_with_what_there_is(arguments, message):
    with pytest.raises(ValueError, match=message):
        read_dataset(*arguments)


def test_actions_are_selected_by_name(tmp_path):
    write_h36m(tmp_path)
    assert {c.action for c in read_dataset("h36m", tmp_path, "test", actions=["Eating"])} == {"Eating"}
    with pytest.raises(ValueError, match="h36m has no action 'Flying' in its test split; there are Walking, Eating"):
        read_dataset("h36m", tmp_path, "test", actions=["Eating", "Flying"])


def test_every_data_set_reads_and_names_its_keypoints():
    for module in datasets.DATASETS.values():
        module = datasets.import_module(f"edgepose.training.{module}")
        assert callable(module.read) and "gt" in module.KEYPOINTS


def test_the_world_is_turned_into_the_axes_of_the_camera():
    rng = np.random.default_rng(0)
    quaternion = rng.normal(size=4)
    quaternion /= np.linalg.norm(quaternion)
    points = rng.normal(size=(5, 17, 3))
    np.testing.assert_allclose(datasets.to_camera(points, quaternion, (1, 2, 3)),
                               seen_by(points, quaternion, (1000, 2000, 3000)), atol=1e-12)


def test_joints_are_assembled_by_their_names_and_means():
    names = [f"their {joint}" for joint in H36M17.joints if joint != "nose"]
    points = np.arange(len(names) * 2.0).reshape(1, -1, 2)
    sources = {joint: f"their {joint}" for joint in H36M17.joints} | {"nose": ("their thorax", "their head")}
    joints = datasets.assemble(points, names, sources)
    nose, thorax, head = (H36M17.index(joint) for joint in ("nose", "thorax", "head"))
    np.testing.assert_array_equal(joints[:, nose], (joints[:, thorax] + joints[:, head]) / 2)
    np.testing.assert_array_equal(np.delete(joints, nose, 1), points)


def test_clips_of_several_rates_are_drawn_at_the_slowest():
    clips = [clip(30, 0, fps=25.0), clip(30, 1, fps=50.0)]
    assert datasets.common_rate_hz(clips) == 25
    _, joints = draw_labelled(clips, 200, 5, torch.Generator().manual_seed(0), rate_hz=25.0)
    inside = [row for row in numbers(joints) if row.min() > 0 and row.max() < 29]
    assert {int(step) for row in inside for step in np.diff(row)} == {1, 2}
    assert all(len(set(np.diff(row))) == 1 for row in inside)


def test_a_rate_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match=r"clip 1: 60 Hz is no multiple of the set's slowest rate, 25 Hz"):
        datasets.common_rate_hz([clip(3, 0, fps=25.0), clip(3, 1, fps=60.0)])
    with pytest.raises(ValueError, match="no clips"):
        datasets.common_rate_hz([])
