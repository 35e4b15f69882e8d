"""Engine files are written whole or not at all, whatever happens to the writer and the disk."""

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest
from test_enginefile import HEADER, TENSORS, same, small_file

from edgepose import EngineError, enginefile


class FullDisk:
    """An open file on a disk with `room` bytes left."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, data):
        self._file.write(data[:self._room])
        if len(data) > self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self):
        self._file.flush()

    def fileno(self):
        return self._file.fileno()


@pytest.mark.parametrize("room", [0, 1, 500])
@pytest.mark.parametrize("before", [None, b"the old engine"])
def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(tmp_path, monkeypatch, room, before):
    path = tmp_path / "a.epose"
    if before:
        path.write_bytes(before)
    monkeypatch.setattr(enginefile, "open", lambda *a, **k: FullDisk(open(*a, **k), room), raising=False)
    with pytest.raises(OSError, match=r"cannot write \d+ bytes to .*a.epose: No space left on device") as full:
        small_file(path)
    assert full.value.errno == errno.ENOSPC
    assert [file.name for file in tmp_path.iterdir()] == (["a.epose"] if before else [])
    assert before is None or path.read_bytes() == before


WRITER = """
import os, signal, sys
from pathlib import Path
from edgepose import enginefile
def killed(_):
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = killed
enginefile.write_atomically(Path(sys.argv[1]), bytes(10**6))
"""


def test_what_a_killed_writer_left_is_gone_after_the_next(tmp_path):
    path = tmp_path / "a.epose"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", WRITER, path]).returncode == -signal.SIGKILL
        assert not path.exists() and len(list(tmp_path.iterdir())) == 1
    enginefile.write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("has_locks", [True, False])
def test_writers_of_one_file_each_write_a_whole_one(tmp_path, monkeypatch, has_locks):
    if not has_locks:  # like some network file systems
        monkeypatch.setattr(enginefile, "_lock", lambda _: False)
    path, contents = tmp_path / "a.json", [bytes([n]) * 300_000 for n in range(4 if has_locks else 1)]
    enginefile.write_atomically(path, contents[0])

    def write(data):
        for _ in range(25):
            enginefile.write_atomically(path, data)

    writers = [threading.Thread(target=write, args=(data,)) for data in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fails_only_when_synced_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.epose"
    path.write_bytes(b"the old engine")

    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="a.epose: Input/output error"):
        small_file(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.epose"] and path.read_bytes() == b"the old engine"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_is_full_is_an_error_with_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(enginefile, "open", lambda *a, **k: open("/dev/full", "wb"), raising=False)
    with pytest.raises(OSError, match="a.epose: No space left on device"):
        small_file(tmp_path / "a.epose")
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_is_there_at_once_and_whole(tmp_path, monkeypatch):
    path, seen = small_file(tmp_path / "a.epose"), []
    replace = os.replace

    def watch(source, target):
        seen.append((same(enginefile.read(target), HEADER, TENSORS), same(enginefile.read(source), HEADER, {})))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    small_file(path, HEADER, {})
    assert seen == [(True, True)] and same(enginefile.read(path), HEADER, {})


def test_a_folder_in_the_place_of_the_file_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "a.epose").mkdir()
    with pytest.raises(EngineError, match="a.epose: no such file"):
        enginefile.read(tmp_path / "a.epose")
    with pytest.raises(OSError, match="cannot write .*a.epose"):
        small_file(tmp_path / "a.epose")
    assert [file.name for file in tmp_path.iterdir()] == ["a.epose"]


def test_a_file_in_the_place_of_the_folder_is_an_error_with_the_path(tmp_path):
    (tmp_path / "folder").write_bytes(b"a file")
    with pytest.raises(OSError, match="cannot write .*folder/a.epose"):
        small_file(tmp_path / "folder" / "a.epose")
    with pytest.raises(EngineError, match="a.epose: no such file"):
        enginefile.read(tmp_path / "folder" / "a.epose")
