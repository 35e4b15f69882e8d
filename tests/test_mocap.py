import numpy as np
import pytest
import torch
from tiny_mocap import write_all, write_subject

from edgepose.training import mocap


@pytest.fixture
def data(tmp_path):
    return write_all(tmp_path)


def test_the_split_is_by_subject(data):
    training, validation = (mocap.read_motion(data, split) for split in ("training", "validation"))
    assert {name.split("/")[0] for name in training.clip_names} == {"cmu_001", "cmu_002"}
    assert {name.split("/")[0] for name in validation.clip_names} == {"cmu_086"}


def test_clips_lie_end_to_end(data):
    motion = mocap.read_motion(data, "training")
    assert motion.clip_bounds.tolist() == [0, 40, 49, 79]
    assert motion.positions_m.shape == (79, 17, 3) and motion.fps == 60
    with np.load(data / "cmu_002.npz") as subject:
        np.testing.assert_array_equal(motion.positions_m[49:], subject["positions"])


def test_the_clips_of_one_source_are_told_apart_by_the_name_of_their_file(tmp_path):
    for subject, clips in (("uiprmd_01", (12,)), ("cmu_001", (40, 9)), ("hdm05_bd", (20,)), ("uiprmd_02", (15, 8))):
        write_subject(tmp_path, subject, clips)
    motion = mocap.read_motion(tmp_path, "training")
    assert mocap.sources_of(motion) == ["cmu", "hdm05", "uiprmd"]
    own = mocap.only_source(motion, "uiprmd")
    assert own.clip_names == ("uiprmd_01/uiprmd_01_00", "uiprmd_02/uiprmd_02_00", "uiprmd_02/uiprmd_02_01")
    assert own.clip_bounds.tolist() == [0, 12, 27, 35] and own.fps == 60
    torch.testing.assert_close(own.positions_m, motion.positions_m[-35:], rtol=0, atol=0)
    with pytest.raises(ValueError, match="there are no clips of 'h36m'; there are cmu, hdm05, uiprmd"):
        mocap.only_source(motion, "h36m")


@pytest.mark.parametrize("frames", [1, 9, 27])
def test_windows_never_leave_their_clip(tmp_path, frames):
    for subject, clips in (("cmu_001", (40, 9)), ("cmu_002", (30,))):
        write_subject(tmp_path, subject, clips)
    motion = mocap.read_motion(tmp_path, "training")
    clip_of = torch.repeat_interleave(torch.arange(3), motion.clip_bounds.diff())
    marked = mocap.Motion(clip_of[:, None, None].expand(-1, 17, 3).float(), motion.clip_bounds, motion.clip_names, 60.0)
    windows = mocap.draw_windows(marked, 500, frames, torch.Generator().manual_seed(0))
    assert windows.shape == (500, frames, 17, 3)
    assert (windows == windows[:, :1]).all() and set(windows.unique().tolist()) == {0.0, 1.0, 2.0}


def test_windows_are_at_50_hz():
    time = torch.arange(60.0)[:, None, None].expand(-1, 17, 3) / 60
    motion = mocap.Motion(time, torch.tensor([0, 60]), ("a",), 60.0)
    window = mocap.window_at(motion, torch.tensor([0]), torch.tensor([30.5], dtype=torch.double), 9)
    np.testing.assert_allclose(window[0, :, 0, 0], 30.5 / 60 + (np.arange(9) - 4) / 50, atol=1e-6)


def test_a_window_longer_than_its_clip_repeats_the_ends():
    time = torch.arange(9.0)[:, None, None].expand(-1, 17, 3)
    window = mocap.draw_windows(mocap.Motion(time, torch.tensor([0, 9]), ("a",), 60.0), 1, 27, torch.Generator())
    assert window[0, 0, 0, 0] == 0 and window[0, -1, 0, 0] == 8 and window[0, 13, 0, 0] == 4


def test_long_clips_are_drawn_by_the_root_of_their_length():
    clip = torch.cat([torch.zeros(900), torch.ones(100)])[:, None, None].expand(-1, 17, 3)
    motion = mocap.Motion(clip, torch.tensor([0, 900, 1000]), ("cmu_001/a", "cmu_002/b"), 60.0)
    share = mocap.draw_windows(motion, 20_000, 1, torch.Generator().manual_seed(0)).mean()
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 20_000) ** 0.5  # four standard deviations


def test_each_source_has_its_share_of_the_windows():
    bounds, names = torch.tensor([0, 900, 1000, 1010, 5000]), ("cmu_001/a", "cmu_002/b", "hdm05_bd/c", "uiprmd_01/d")
    weights = mocap.clip_weights(mocap.Motion(torch.zeros(5000, 17, 3), bounds, names, 60.0))
    assert weights[:2].sum().item() == pytest.approx(mocap.SOURCE_SHARES["cmu"])
    assert weights[0] == pytest.approx(3 * weights[1].item())
    assert weights[2:].tolist() == pytest.approx([mocap.SOURCE_SHARES["hdm05"], mocap.SOURCE_SHARES["uiprmd"]])


def test_motion_is_played_faster_and_slower():
    time = torch.arange(600.0)[:, None, None].expand(-1, 17, 3) / 60
    motion = mocap.Motion(time, torch.tensor([0, 600]), ("cmu_001/a",), 60.0)
    windows = mocap.draw_windows(motion, 2000, 9, torch.Generator().manual_seed(0), (0.5, 2.0))[:, :, 0, 0]
    speed = (windows[:, -1] - windows[:, 0]) / (8 / 50)
    assert 0.5 <= speed.min() + 1e-3 and speed.max() <= 2.001 and speed.log().mean().abs() < 0.05 and speed.std() > 0.3


@pytest.mark.parametrize("prepare, split, message", [
    (lambda d: None, "training", "no clips for the training split"),
    (lambda d: None, "test", "unknown split 'test'; there are training, validation"),
    (lambda d: (write_subject(d, "cmu_001", (5,)), write_subject(d, "cmu_002", (5,), fps=50)), "training",
     "several frame rates"),
    (lambda d: np.savez(d / "cmu_001.npz", positions=np.zeros((4, 17, 3))), "training",
     "cmu_001.npz: it has no key 'clip_starts'")])
def test_errors_say_what_came_and_what_was_wanted(tmp_path, prepare, split, message):
    prepare(tmp_path)
    with pytest.raises(ValueError, match=message):
        mocap.read_motion(tmp_path, split)


@pytest.mark.parametrize("change, message", [
    (lambda a: a.update(positions=a["positions"][:, :16]),
     r"positions is not as wanted: shape \(F, 17, 3\).*\(20, 16, 3\)"),
    (lambda a: a.update(positions=1000 * a["positions"]), "positions is not as wanted: metres; pelvis and head are 7"),
    (lambda a: a["positions"].__setitem__((3, 4, 1), np.nan), "no NaN"),
    (lambda a: a.update(positions=a["positions"][:0]), "F above 0"),
    (lambda a: a.update(joint_names=a["joint_names"][::-1]), "joint_names is not as wanted: Human3.6M's order"),
    (lambda a: a.update(clip_starts=np.array([0, 8, 4])), "clip_starts is not as wanted"),
    (lambda a: a.update(clip_starts=np.array([0, 25])), "clip_starts is not as wanted"),
    (lambda a: a.update(clip_names=3), "clip_names is not as wanted: a list of text; it is int64"),
    (lambda a: a.update(joint_names={"pelvis": 0}), "joint_names is not as wanted: a list of text; it is dict"),
    (lambda a: a.update(clip_starts=0), "clip_starts is not as wanted: a list of whole numbers"),
    (lambda a: a.update(fps="60"), "fps is not as wanted"),
    (lambda a: a.update(clip_starts=["0"]), "clip_starts is not as wanted: a list of whole numbers; it is <U1"),
    (lambda a: a.update(clip_names=a["clip_names"][:0]), "clip_names is not as wanted: one a clip: 2, not 0"),
    (lambda a: a.update(fps=np.float32(0)), "fps is not as wanted"), (lambda a: a.pop("fps"), "has no key 'fps'")])
def test_a_broken_subject_is_named_with_its_key(tmp_path, change, message):
    write_subject(tmp_path, "cmu_001", (12, 8))
    path = tmp_path / "cmu_001.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=f"cmu_001.npz: .*{message}"):
        mocap.read_motion(tmp_path, "training")


def test_double_precision_is_taken_and_a_truncated_file_named(tmp_path):
    write_subject(tmp_path, "cmu_001", (12,))
    path = tmp_path / "cmu_001.npz"
    with np.load(path) as file:
        np.savez(path, **{**{key: file[key] for key in file.files}, "positions": file["positions"].astype(np.float64)})
    assert mocap.read_motion(tmp_path, "training").positions_m.dtype == torch.float32
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="cmu_001.npz"):
        mocap.read_motion(tmp_path, "training")
