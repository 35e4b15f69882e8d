import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from edgepose.training.npz import entry, load_npz


def test_arrays_and_dicts_of_arrays_come_back_as_they_were(tmp_path):
    table = {"S1": {"Walking": [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 3))]},
             "fps": 50, "name": "x", "one": np.float32(3)}
    plain = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.savez_compressed(tmp_path / "a.npz", table=table, plain=plain, names=np.array(["a", "bc"]))
    loaded, array, names = load_npz(tmp_path / "a.npz", "table", "plain", "names")
    np.testing.assert_array_equal(loaded["S1"]["Walking"][0], table["S1"]["Walking"][0])
    assert loaded["S1"]["Walking"][1].shape == (0, 3) and (loaded["fps"], loaded["name"], loaded["one"]) == (50, "x", 3)
    np.testing.assert_array_equal(array, plain)
    assert names.tolist() == ["a", "bc"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_age_of_pickle_is_read(tmp_path, protocol):
    table = np.empty((), object)
    table[()] = {"a": np.arange(3.0)}
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|O", "fortran_order": False, "shape": ()})
    pickle.dump(table, member, protocol)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("data.npy", b"" + member.getvalue())
    np.testing.assert_array_equal(load_npz(tmp_path / "a.npz", "data")[0]["a"], np.arange(3.0))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_cannot_run_code(tmp_path):
    np.savez(tmp_path / "a.npz", data={"a": Evil(tmp_path / "made")})
    with pytest.raises(ValueError, match=r"a.npz is no .npz file of arrays \(it holds a posix.mkdir; "
                       r"wanted arrays, dicts and lists"):
        load_npz(tmp_path / "a.npz", "data")
    assert not (tmp_path / "made").exists()


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(ValueError, match="b.npz is missing"):
        load_npz(tmp_path / "b.npz", "data")
    np.savez(tmp_path / "a.npz", positions=np.zeros(3), fps=5)
    with pytest.raises(ValueError, match="a.npz: it has no key 'data'; it has positions, fps"):
        load_npz(tmp_path / "a.npz", "data")
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"a.npz is no .npz file of arrays \(it is cut off, of another format"):
        load_npz(tmp_path / "a.npz", "positions")


def test_a_missing_entry_is_answered_with_those_there_are():
    assert entry({"a": 1}, "a", "file") == 1
    with pytest.raises(ValueError, match="file: data has no 'b'; it has a, c"):
        entry({"a": 1, "c": 2}, "b", "file: data")
    with pytest.raises(ValueError, match="file: data is list; wanted a dict"):
        entry([1], "b", "file: data")
