import numpy as np
import pytest
from tiny_datasets import aim, h36m_tables, save, seen_by, write_h36m, z_up

from edgepose.skeleton import H36M17
from edgepose.training import h36m
from edgepose.training.datasets import read_dataset


@pytest.fixture
def data(tmp_path):
    return write_h36m(tmp_path)


def test_the_split_is_by_subject_and_a_second_take_is_the_same_action(data):
    training, test = (read_dataset("h36m", data, split) for split in ("training", "test"))
    assert {clip.subject for clip in training} == {"S1", "S5", "S6", "S7", "S8"}
    assert {clip.subject for clip in test} == {"S9", "S11"}
    assert len(test) == 2 * 3 * 4 and {clip.action for clip in test} == {"Walking", "Eating"}
    assert {(clip.camera, clip.image_size) for clip in test} == {
        ("54138969", (1000, 1002)), ("55011271", (1000, 1000)), ("58860488", (1000, 1000)), ("60457274", (1000, 1002))}


def test_the_joints_are_in_metres_in_the_axes_of_each_camera(data):
    clips = [clip for clip in read_dataset("h36m", data, "test", actions=["Eating"]) if clip.subject == "S9"]
    world = z_up(7, 10 * list(h36m.EXTRINSICS).index("S9") + 2)[:5]
    for clip, camera in zip(clips, h36m.EXTRINSICS["S9"]):
        np.testing.assert_allclose(clip.joints_m, seen_by(world, *camera), atol=1e-5)
        head, foot = (clip.joints_m[:, H36M17.index(joint)] for joint in ("head", "left_ankle"))
        assert (clip.joints_m[..., 2] > 3).all() and (clip.joints_m[..., 2] < 7).all()
        assert (foot[:, 1] > head[:, 1] + 1).all()


def test_every_camera_of_every_subject_looks_level_at_the_middle_of_the_room():
    for cameras in h36m.EXTRINSICS.values():
        for orientation, position_mm in cameras:
            assert abs(np.linalg.norm(orientation) - 1) < 1e-6
            off_axis, roll = aim(orientation, position_mm)
            assert off_axis < 0.2 and roll < 0.1


def test_the_centre_of_the_picture_is_not_bent_and_its_edge_is():
    lens = h36m.LENSES[0]
    np.testing.assert_allclose(lens.project(np.array([0.0, 0, 3])), lens.centre)
    x, k, (p1, p2) = 0.4, lens.radial, lens.tangential
    bent = 1 + k[0] * x**2 + k[1] * x**4 + k[2] * x**6 + p1 * x
    np.testing.assert_allclose(lens.project(np.array([x, 0, 1.0])),
                               [lens.focal[0] * (x * bent + p1 * x**2) + lens.centre[0],
                                lens.focal[1] * p2 * x**2 + lens.centre[1]])


def test_2d_that_goes_on_after_the_3d_is_cut(data):
    assert all(len(clip.keypoints_px) == len(clip.joints_m) == 5 for clip in read_dataset("h36m", data, "test"))


def test_seventeen_joints_pass_as_already_picked(tmp_path, data):
    other = write_h36m(tmp_path / "picked", joints=17)
    for a, b in zip(read_dataset("h36m", data, "test"), read_dataset("h36m", other, "test")):
        np.testing.assert_array_equal(a.joints_m, b.joints_m)


def test_sixteen_keypoints_get_a_nose_between_thorax_and_head(tmp_path):
    positions_3d, positions_2d = h36m_tables()
    nose, thorax, head = (H36M17.index(joint) for joint in ("nose", "thorax", "head"))
    for subject in positions_2d.values():
        for views in subject.values():
            views[:] = [np.delete(view, nose, 1) for view in views]
    save(tmp_path / "data_3d_h36m.npz", positions_3d=positions_3d)
    save(tmp_path / "data_2d_h36m_cpn_ft_h36m_dbb.npz", positions_2d=positions_2d)
    clip = read_dataset("h36m", tmp_path, "test", keypoints="cpn")[0]
    np.testing.assert_allclose(clip.keypoints_px[:, nose],
                               (clip.keypoints_px[:, thorax] + clip.keypoints_px[:, head]) / 2)
    np.testing.assert_allclose(clip.keypoints_px[:, head + 1:], positions_2d["S9"]["Walking"][0][:5, head:])


def drop_camera(positions_3d, positions_2d):
    positions_2d["S9"]["Eating"].pop()


def swap_cameras(positions_3d, positions_2d):
    positions_2d["S9"]["Eating"][:2] = positions_2d["S9"]["Eating"][1::-1]


def set_2d(view):
    return lambda positions_3d, positions_2d: positions_2d["S11"]["Walking 1"].__setitem__(3, view)


@pytest.mark.parametrize("spoil, message", [
    (lambda a, b: a.pop("S11"), r"data_3d_h36m.npz: positions_3d has no 'S11'; it has S1, S5"),
    (lambda a, b: b["S9"].pop("Eating"),
     r"data_2d_h36m_gt.npz: positions_2d, S9 has no 'Eating'; it has Walking, Walking 1"),
    (drop_camera, r"S9, Eating has 3 cameras; wanted 4: 54138969"),
    (swap_cameras, r"S9, Eating, camera 54138969: the first frame's keypoints are \d+ px from where"),
    (set_2d(np.zeros((4, 17, 2))), r"S11, Walking 1, camera 60457274 has 4 frames; the 3D has 5"),
    (set_2d(np.zeros((5, 15, 2))), r"Walking 1, camera 60457274 has shape \(5, 15, 2\); wanted \(F, 17, 2 or 3\)"),
    (set_2d(np.full((5, 17, 2), np.nan)), r"camera 60457274: the 2D is NaN"),
    (set_2d(np.random.default_rng(0).uniform(-1, 1, (5, 17, 2))),
     r"camera 60457274: the keypoints are all within 2 px of the corner, as normal"),
    (set_2d([[1, 2], [3]]), r"Walking 1, camera 60457274 is a list that makes no array; wanted \(F, 17, 2 or 3\)"),
    (set_2d(np.full((5, 17, 2), "x")), r"Walking 1, camera 60457274 holds <U1; wanted numbers"),
    (set_2d(None), r"Walking 1, camera 60457274 has shape \(\); wanted"),
    (lambda a, b: a.update(S9=[a["S9"]]), r"data_3d_h36m.npz: positions_3d, S9 is list; wanted a dict"),
    (lambda a, b: b.update(S9=[b["S9"]]), r"data_2d_h36m_gt.npz: positions_2d, S9 is list; wanted a dict"),
    (lambda a, b: a["S9"].update(Eating={"C1": 0}),
     r"data_3d_h36m.npz: positions_3d, S9, Eating has shape \(\); wanted"),
    (lambda a, b: b["S9"].update(Eating={"C1": 0}),
     r"positions_2d, S9, Eating is dict; wanted a list of 4 cameras: 54138969"),
    (lambda a, b: b["S9"].update(Eating=7), r"positions_2d, S9, Eating is int; wanted a list of 4 cameras"),
    (lambda a, b: b["S9"].update(Eating=np.float32(7)),
     r"positions_2d, S9, Eating is float32; wanted a list of 4 cameras"),
    (lambda a, b: a["S9"].update(Eating=np.zeros((5, 20, 3))),
     r"S9, Eating has shape \(5, 20, 3\); wanted \(F, 32, 3\) or \(F, 17, 3\)")])
def test_what_is_wrong_with_a_file_is_named(tmp_path, spoil, message):
    tables = h36m_tables()
    spoil(*tables)
    save(tmp_path / "data_3d_h36m.npz", positions_3d=tables[0])
    save(tmp_path / "data_2d_h36m_gt.npz", positions_2d=tables[1])
    with pytest.raises(ValueError, match=message):
        read_dataset("h36m", tmp_path, "test")


def test_a_missing_file_is_named(data):
    with pytest.raises(ValueError, match="data_2d_h36m_cpn_ft_h36m_dbb.npz is missing"):
        read_dataset("h36m", data, "test", keypoints="cpn")
