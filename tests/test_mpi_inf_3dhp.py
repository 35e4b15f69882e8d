import h5py
import numpy as np
import pytest
import scipy.io
from tiny_datasets import THEIR_17, person_17, save, write_3dhp_converted, write_3dhp_test, write_3dhp_training

from edgepose.skeleton import H36M17
from edgepose.training import mpi_inf_3dhp
from edgepose.training.datasets import read_dataset
from edgepose.training.npz import load_npz


def ours(values):
    """The data set's 17 joints in our order."""
    return values[:, np.argsort(THEIR_17)]


def test_the_test_is_cut_by_activity_and_only_valid_frames_count(tmp_path):
    clips = read_dataset("mpi-inf-3dhp", write_3dhp_test(tmp_path), "test")
    first = [clip for clip in clips if clip.subject == "TS1"]
    assert {clip.action: clip.centres.tolist() for clip in first} == {
        "Standing/Walking": [0], "Sitting": [1, 3], "Miscellaneous": [4]}
    assert {clip.subject: (clip.camera, clip.image_size) for clip in clips} == {
        "TS1": ("green screen", (2048, 2048)), "TS2": ("green screen", (2048, 2048)),
        "TS3": ("no green screen", (2048, 2048)), "TS4": ("no green screen", (2048, 2048)),
        "TS5": ("outdoor", (1920, 1080)), "TS6": ("outdoor", (1920, 1080))}


def test_millimetres_become_metres_and_joints_ours(tmp_path):
    clip = read_dataset("mpi-inf-3dhp", write_3dhp_test(tmp_path), "test")[0]
    pixels, joints_mm = person_17(6, 0)
    np.testing.assert_allclose(clip.joints_m, ours(joints_mm) / 1000, rtol=1e-6)
    np.testing.assert_allclose(clip.keypoints_px, ours(pixels), rtol=1e-6)
    assert (clip.joints_m[:, H36M17.index("head"), 1] < clip.joints_m[:, H36M17.index("nose"), 1]).all()


def test_the_folder_of_the_test_may_lie_inside(tmp_path):
    write_3dhp_test(tmp_path / "mpi_inf_3dhp_test_set")
    assert len(read_dataset("mpi-inf-3dhp", tmp_path, "test", actions=["Sitting"])) == 6


def test_training_has_eight_cameras_a_sequence_and_the_rate_of_each(tmp_path):
    clips = read_dataset("mpi-inf-3dhp", write_3dhp_training(tmp_path), "training")
    assert len(clips) == 16 * 8 and {clip.camera for clip in clips} == set("01245678")
    assert {(clip.subject, clip.action): clip.fps for clip in clips}["S1", "Seq2"] == 50
    clip = next(clip for clip in clips if (clip.subject, clip.action, clip.camera) == ("S2", "Seq1", "4"))
    pixels, joints_mm = person_17(4, 204)
    np.testing.assert_allclose(clip.joints_m, ours(joints_mm) / 1000, rtol=1e-6)
    np.testing.assert_allclose(clip.keypoints_px, ours(pixels), rtol=1e-6)
    assert [clip.camera for clip in mpi_inf_3dhp.read(tmp_path, "training", "gt", cameras=[13])] == ["13"] * 16


def test_frames_without_a_picture_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setitem(mpi_inf_3dhp.SEQUENCES, ("S3", "Seq1"), (3, 50))
    clips = read_dataset("mpi-inf-3dhp", write_3dhp_training(tmp_path), "training")
    assert {len(clip.valid) for clip in clips if (clip.subject, clip.action) == ("S3", "Seq1")} == {3}


def test_converted_files_give_the_same_clips(tmp_path):
    converted = write_3dhp_converted(tmp_path / "converted")
    raw = read_dataset("mpi-inf-3dhp", write_3dhp_training(tmp_path / "raw"), "training")
    for a, b in zip(raw, read_dataset("mpi-inf-3dhp", converted, "training"), strict=True):
        assert (a.subject, a.action, a.camera, a.fps) == (b.subject, b.action, b.camera, b.fps)
        np.testing.assert_array_equal(a.joints_m, b.joints_m)
        np.testing.assert_array_equal(a.keypoints_px, b.keypoints_px)
    test = read_dataset("mpi-inf-3dhp", converted, "test")
    assert [clip.subject for clip in test] == list(mpi_inf_3dhp.TESTS) and test[0].centres.tolist() == [0, 2, 3]
    np.testing.assert_allclose(test[5].joints_m, ours(person_17(4, 5)[1]) / 1000, rtol=1e-6)


def spoiled(key, value):
    def spoil(folder):
        with h5py.File(folder / "TS3" / "annot_data.mat", "a") as file:
            del file[key]
            if value is not None:
                file[key] = value
    return spoil


@pytest.mark.parametrize("spoil, message", [
    (spoiled("univ_annot3", None), r"TS3/annot_data.mat has no 'univ_annot3'; it has activity_annotation, annot2"),
    (spoiled("annot2", np.zeros((6, 1, 28, 2))),
     r"TS3/annot_data.mat: annot2 has shape \(6, 1, 28, 2\); wanted \(F, 1, 17, 2\)"),
    (spoiled("annot2", np.zeros((5, 1, 17, 2))),
     r"annot2 and univ_annot3: keypoints_px has shape \(5, 17, 2\); wanted \(6, 17, 2\)"),
    (spoiled("valid_frame", np.ones((1, 7))), r"activity_annotation is of 6 frames, valid_frame of 7"),
    (spoiled("activity_annotation", np.full((6, 1), 9.0)), r"activity_annotation has \[9.0\]; wanted 1 to 7"),
    (lambda folder: (folder / "TS3" / "annot_data.mat").write_bytes(b"MATLAB 5.0"),
     r"TS3/annot_data.mat is no HDF5 file"),
    (lambda folder: (folder / "TS6" / "annot_data.mat").unlink(), r"TS6/annot_data.mat is missing")])
def test_what_is_wrong_with_the_test_is_named(tmp_path, spoil, message):
    spoil(write_3dhp_test(tmp_path))
    with pytest.raises(ValueError, match=message):
        read_dataset("mpi-inf-3dhp", tmp_path, "test")


@pytest.mark.parametrize("write, split, name, at, damage", [
    (write_3dhp_test, "test", "TS1/annot_data.mat", 840, b"\x7f" * 8),  # KeyError of h5py
    (write_3dhp_test, "test", "TS1/annot_data.mat", 1080, b"\x7f" * 8),  # RuntimeError
    # zlib.error of scipy
    (write_3dhp_training, "training", "S1/Seq1/annot.mat", 128, b"\x0f\0\0\0\x20\0\0\0" + b"x" * 32)])
def test_a_damaged_matlab_file_is_named_whatever_its_library_makes_of_it(tmp_path, write, split, name, at, damage):
    file = write(tmp_path) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:at] + damage + whole[at + len(damage):])
    with pytest.raises(ValueError, match=f"{name} is no .*(HDF5|Matlab) file"):
        read_dataset("mpi-inf-3dhp", tmp_path, split)


def test_what_is_wrong_with_the_training_is_named(tmp_path):
    file = write_3dhp_training(tmp_path) / "S1" / "Seq1" / "annot.mat"
    data = scipy.io.loadmat(file)
    with pytest.raises(
            ValueError, match=r"annot2 is object of shape \(14, 1\); wanted a cell of 14 cameras, 14 among them"):
        mpi_inf_3dhp.read(tmp_path, "training", "gt", cameras=[14])
    data["annot2"][2, 0] = np.zeros((4, 34))
    scipy.io.savemat(file, {key: data[key] for key in ("annot2", "univ_annot3")})
    with pytest.raises(ValueError, match=r"S1/Seq1/annot.mat: annot2, camera 2, has shape \(4, 34\); wanted \(F, 56\)"):
        read_dataset("mpi-inf-3dhp", tmp_path, "training")
    scipy.io.savemat(file, {"annot3": data["annot3"]})
    with pytest.raises(ValueError, match="S1/Seq1/annot.mat has no 'annot2'"):
        read_dataset("mpi-inf-3dhp", tmp_path, "training")
    file.write_bytes(b"something else")
    with pytest.raises(ValueError, match="S1/Seq1/annot.mat is no Matlab file"):
        read_dataset("mpi-inf-3dhp", tmp_path, "training")


@pytest.mark.parametrize("split, spoil, message", [
    ("test", lambda data: data.pop("TS4"), "data_test_3dhp.npz: data has no 'TS4'; it has TS1"),
    ("test", lambda data: data["TS2"].pop("valid"), "data, TS2 has no 'valid'; it has data_2d, data_3d"),
    ("test", lambda data: data["TS2"].update(data_3d=np.zeros((4, 16, 3))),
     r"TS2: data_3d has shape \(4, 16, 3\); wanted \(F, 17, 3\)"),
    ("training", lambda data: data.pop("S8 Seq2"), "data_train_3dhp.npz: data has no 'S8 Seq2'"),
    ("training", lambda data: data["S1 Seq1"].pop(), r"data, S1 Seq1 is list of 1; wanted \[\{camera: ...\}, fps\]"),
    ("training", lambda data: data.update({"S1 Seq1": 7}), r"data, S1 Seq1 is int; wanted \[\{camera: ...\}, fps\]"),
    ("training", lambda data: data["S1 Seq1"].__setitem__(0, []),
     "data, S1 Seq1, its first part is list; wanted a dict"),
    ("training", lambda data: data["S1 Seq1"].__setitem__(1, "fast"),
     r"data, S1 Seq1 is list of 2; wanted \[\{camera: ...\}, fps\]")])
def test_what_is_wrong_with_a_converted_file_is_named(tmp_path, split, spoil, message):
    file = write_3dhp_converted(tmp_path) / ("data_test_3dhp.npz" if split == "test" else "data_train_3dhp.npz")
    (data,) = load_npz(file, "data")
    spoil(data)
    save(file, data=data)
    with pytest.raises(ValueError, match=message):
        read_dataset("mpi-inf-3dhp", tmp_path, split)


@pytest.mark.parametrize("split, wanted", [
    ("test", "TS1/annot_data.mat to TS6/annot_data.mat, or data_test_3dhp.npz"),
    ("training", "S1/Seq1/annot.mat to S8/Seq2/annot.mat, or data_train_3dhp.npz")])
def test_an_empty_folder_is_told_what_it_wants(tmp_path, split, wanted):
    with pytest.raises(ValueError, match=wanted):
        read_dataset("mpi-inf-3dhp", tmp_path, split)
