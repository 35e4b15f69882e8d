"""The command that builds wheels: its parts that need no other compiler, and the forge's configuration beside it."""

import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgepose.build_engines import wheels
from edgepose.shipped import HERE, wheel_of

PROJECT = (Path(__file__).parents[1] / "pyproject.toml").read_text()
FORGE = PROJECT.partition("[tool.cibuildwheel]")[2]


def test_an_extension_is_named_as_its_python_looks_for_it():
    assert {platform.tag: platform.suffix for platform in wheels.PLATFORMS.values()} == {
        "manylinux_2_17_x86_64": "x86_64-linux-gnu.so", "manylinux_2_17_aarch64": "aarch64-linux-gnu.so",
        "musllinux_1_2_x86_64": "x86_64-linux-musl.so", "musllinux_1_2_aarch64": "aarch64-linux-musl.so"}


def test_the_forge_builds_for_the_same_pythons():
    wanted = [f"cp{version.replace('.', '')}-*" for version in wheels.PYTHONS]
    assert re.search(r"^build = (\[.*\])$", FORGE, re.MULTILINE)[1] == str(wanted).replace("'", '"')
    images = {f"{system}-{processor}-image" for system in ("manylinux", "musllinux")
              for processor in ("x86_64", "aarch64")}
    assert images == set(re.findall(r"^(\w+linux-\w+-image) ", FORGE, re.MULTILINE))
    assert {platform.tag.split("_")[0] for platform in wheels.PLATFORMS.values()} == {"manylinux", "musllinux"}


def test_poses_that_differ_are_refused():
    poses_m = np.zeros((3, 17, 3))
    assert wheels.difference_m(poses_m, poses_m) == 0
    for other in (poses_m + 1e-4, poses_m[:2], poses_m + np.nan):
        with pytest.raises(RuntimeError, match="m apart at most"):
            wheels.difference_m(other, poses_m)


def test_a_wheel_that_is_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.whl").write_bytes(bytes(9_000_000))
    target = wheels.PLATFORMS["manylinux_2_17_x86_64"]
    monkeypatch.setattr(wheels, "run", lambda *_: f'consistent with the following platform tag:\n"{target.tag}".')
    with pytest.raises(RuntimeError, match="a.whl has 9.0 MB of at most 8.0"):
        wheels.check(tmp_path / "a.whl", target)
    (tmp_path / "a.whl").write_bytes(bytes(1_000_000))
    assert wheels.check(tmp_path / "a.whl", target) == "1.00 MB"
    monkeypatch.setattr(wheels, "run", lambda *_: 'consistent with the following platform tag:\n"linux_x86_64".')
    with pytest.raises(RuntimeError, match="wanted manylinux_2_17_x86_64"):
        wheels.check(tmp_path / "a.whl", target)


def test_a_program_that_fails_shows_what_it_said():
    with pytest.raises(RuntimeError, match="(?s)python.*broken"):
        wheels.run(sys.executable, "-c", "raise SystemExit('broken')")


@pytest.mark.slow
@pytest.mark.parametrize("name", wheels.DATA)
def test_a_wheel_of_data_has_its_own_files_and_their_licence(name, tmp_path):
    wheel = wheels.build_data(name, Path(sys.executable), tmp_path, tmp_path)
    files = {f"{folder}/{path.name}" for folder in ("weights", "clips") for path in (HERE / folder).iterdir()}
    package = name.replace("-", "_")
    with zipfile.ZipFile(wheel) as packed:
        held = {entry.removeprefix(f"{package}/") for entry in packed.namelist() if entry.startswith(f"{package}/")}
        assert held - {"__init__.py"} == {file for file in files if wheel_of(file) == name}
        assert {Path(entry).name for entry in packed.namelist()} >= {"LICENSE", "THIRD_PARTY_NOTICES.md"}
    assert wheel.name.endswith("-py3-none-any.whl")
