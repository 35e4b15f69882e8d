"""Broken .npz files: each is a ValueError that names the file, wherever it is read."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.commands import lift as archive
from edgepose.clip import read_people
from edgepose.npz import read_npz
from edgepose.training.npz import load_npz

CLIP = {"coco17": np.random.default_rng(0).uniform(100, 900, (3, 17, 3)).astype(np.float32),
        "fps": np.float32(30), "image_size": np.array([1920, 1080])}
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"


def npz_bytes(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def npy_bytes(header, data=b""):
    header = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def with_member(path, data, method=zipfile.ZIP_STORED):
    """A clip whose keypoints are these bytes."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("coco17.npy", data)
        for name in ("fps", "image_size"):
            member = io.BytesIO()
            np.save(member, CLIP[name])
            file.writestr(f"{name}.npy", member.getvalue())
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read_as_numpy_reads_it(tmp_path, save):
    arrays = {"plain": np.arange(6.0).reshape(2, 3), "fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
              "text": np.array(["a", "bc"]), "scalar": np.float32(3), "empty": np.zeros((0, 17, 3)),
              "no_width": np.array("", "<U1"), "big_endian": np.arange(3, dtype=">i4")}
    (tmp_path / "a.npz").write_bytes(npz_bytes(save, **arrays))
    ours = read_npz(tmp_path / "a.npz")
    assert list(ours) == list(arrays)
    for name, array in arrays.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array)
    ours["plain"][0, 0] = 5  # the array is the caller's own, as numpy's is
    assert read_npz(tmp_path / "a.npz", ("text",))["plain"] is None


@pytest.mark.parametrize("header", [
    HEADER % "(1000000000000, 17, 3)", HEADER % "(4611686018427387904, 17, 3)", HEADER % "(-5, 17, 3)",
    HEADER % "(-1, -17, 3)", HEADER % "'x'", HEADER % ("(" * 3000 + ")" * 3000), "__import__('os').abort()",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (", "{", "", "\x00" * 40,
    "{'descr': '|O', 'fortran_order': False, 'shape': (3, 17, 3), }",
    "{'descr': 'nonsense', 'fortran_order': False, 'shape': (3,), }"])
def test_a_damaged_header_names_the_file(tmp_path, header):
    path = with_member(tmp_path / "clip.npz", npy_bytes(header, bytes(612)))
    with pytest.raises(ValueError, match="clip.npz is no .npz file of arrays"):
        read_people(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_one_bit_may_flip(tmp_path, save):
    data, path, kinds = npz_bytes(save, **CLIP), tmp_path / "clip.npz", set()
    start = data.find(b"coco17.npy") - 30
    for bit in range(8 * start, 8 * (start + 170)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            read_people(path)
        except ValueError as error:
            assert "clip.npz" in str(error)
            kinds.add(str(error)[-20:])
        assert archive._made_by_of(path) is None
    assert len(kinds) > 5


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**4), st.binary(max_size=6), st.integers(0, 8)), min_size=1, max_size=6),
       st.booleans(), st.integers(0, 10**4))
def test_any_damage_names_the_file(tmp_path_factory, cuts, is_compressed, length):
    data = bytearray(npz_bytes(np.savez_compressed if is_compressed else np.savez, **CLIP,
                               positions_3d=np.array({"S1": {"Walk": np.zeros((3, 17, 3))}})))
    for at, new, removed in cuts:
        data[at % len(data):at % len(data) + removed] = new
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(data[:length] if length < len(data) // 2 else data)
    for read in (read_people, lambda path: load_npz(path, "positions_3d")):
        try:
            read(path)
        except ValueError as error:
            assert "damaged.npz" in str(error)
    assert archive._made_by_of(path) is None


@pytest.mark.parametrize("method, offset, value, message", [
    (zipfile.ZIP_LZMA, None, 0, "packed in a way that np.savez"),
    (zipfile.ZIP_BZIP2, None, 0, "packed in a way that np.savez"),
    (zipfile.ZIP_STORED, 10, 99, "packed in a way that np.savez"), (zipfile.ZIP_STORED, 8, 1, "encrypted"),
    (zipfile.ZIP_STORED, 6, 122, "version 12.2")])
def test_an_archive_that_numpy_does_not_write_is_named(tmp_path, method, offset, value, message):
    path = with_member(tmp_path / "clip.npz", npy_bytes(HEADER % "(3, 17, 3)", CLIP["coco17"].tobytes()), method)
    if offset is not None:
        data = bytearray(path.read_bytes())
        data[data.find(b"PK\x01\x02") + offset] = value
        path.write_bytes(data)
    with pytest.raises(ValueError, match=f"clip.npz is no .npz file of arrays .*{message}"):
        read_people(path)


def test_a_bomb_is_refused_before_it_unfolds(tmp_path):
    frames = 4_000_000
    path = with_member(tmp_path / "clip.npz", npy_bytes((HEADER % f"({frames}, 17, 3)").replace("<f4", "|u1"),
                                                        bytes(51 * frames)), zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(
                ValueError, match="clip.npz is no .npz file of arrays .*would unfold from .* bytes to 204000"):
            read_people(path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_clip_that_does_not_fit_into_memory_says_so(monkeypatch, tmp_path):
    (tmp_path / "clip.npz").write_bytes(npz_bytes(**CLIP))
    monkeypatch.setattr(np, "frombuffer", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(ValueError, match="clip.npz is no .npz file of arrays that fits into memory"):
        read_people(tmp_path / "clip.npz")


@pytest.mark.parametrize(
    "made_by", ["[" * 10**5, "null", "3", "{}", '{"engine": 1, "options": 2, "edgepose": 3}', "\x00"])
def test_a_result_with_an_odd_record_is_no_result(tmp_path, made_by):
    (tmp_path / "a.npz").write_bytes(npz_bytes(made_by=made_by))
    assert archive._made_by_of(tmp_path / "a.npz") is None
