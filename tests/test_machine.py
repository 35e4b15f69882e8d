import os
import warnings
from pathlib import Path

import pytest

from edgepose import machine
from edgepose.training import runs


def written(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("own, files, quota", [
    ("0::/", {"cpu.max": "50000 100000\n"}, 0.5),  # inside a container its own group is the top
    ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
    ("0::/a", {"a/cpu.max": "max 100000\n"}, None),
    ("3:cpu,cpuacct:/a\n0::/", {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000\n",
                                "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, 2.0),
    ("1:cpu:/a\n3:cpuset:/x", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
     None),
    # A container without its own names.
    ("1:cpu:/elsewhere", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
    ("0::/a", {"a/cpu.max": "nonsense"}, None), ("0::/a", {}, None), ("", {}, None)])
def test_a_quota_is_that_of_the_group_and_those_around_it(tmp_path, own, files, quota):
    (tmp_path / "own").write_text(own)
    assert machine.cpu_quota(written(tmp_path / "groups", files), tmp_path / "own") == quota


def test_a_system_without_groups_has_no_quota(tmp_path):
    assert machine.cpu_quota(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize("quota, expected", [(0.5, 1), (1.0, 1), (1.5, 2), (4.0, 3), (None, 3)])
def test_cores_are_no_more_than_the_quota_has_time_for(monkeypatch, quota, expected):
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert machine.cores() == expected


@pytest.mark.parametrize("flags, has", [("flags : fpu avx512_bf16 sse", True), ("Features : fp asimd bf16", True),
                                        ("flags : fpu avx512f", False)])
def test_bfloat16_without_instructions_for_it_is_warned_of(monkeypatch, flags, has):
    monkeypatch.setattr(Path, "read_text", lambda _: flags)
    assert machine.has_bfloat16() == has
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for precision, device in (("bfloat16", "cpu"), ("float32", "cpu"), ("bfloat16", "cuda")):
            runs.warn_of_emulation(precision, device)
    assert len(warned) == (not has)


def test_doctor_names_the_quota(monkeypatch, capsys):
    from edgepose.cli import main
    from edgepose.commands import doctor

    monkeypatch.setattr(doctor, "cpu_quota", lambda: 0.5)
    main(["doctor"])
    assert "a quota of 0.5 of their time" in capsys.readouterr().out
    assert Path("/proc/self/cgroup").exists() or machine.cpu_quota() is None
