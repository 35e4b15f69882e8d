import runpy
import shutil
from importlib.metadata import distribution
from pathlib import Path

import pytest
import setuptools
from setuptools.config.pyprojecttoml import read_configuration

SETUP = Path(__file__).parent.parent / "setup.py"


@pytest.mark.parametrize("release, is_refused", [("11.4", True), ("12.0", False), ("13.0", False)])
def test_an_nvcc_that_is_too_old_stops_the_build_and_says_how_to_do_without(monkeypatch, tmp_path, release, is_refused):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.315'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("EDGEPOSE_CUDA_ARCHITECTURES", "87")
    monkeypatch.setattr(shutil, "which", lambda name: str(nvcc))
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    need_cuda = runpy.run_path(str(SETUP))["need_cuda"]
    if not is_refused:
        return need_cuda()
    with pytest.raises(
            SystemExit, match="of CUDA 11.4; edgepose._cuda needs 12 or later.*EDGEPOSE_CUDA_ARCHITECTURES=none"):
        need_cuda()


def test_every_folder_with_python_in_it_is_installed():
    settings = read_configuration(SETUP.parent / "pyproject.toml", expand=False)["tool"]["setuptools"]
    roots = {"edgepose": "edgepose", **{folder: package for package, folder in settings["package-dir"].items()}}
    found = {".".join([package, *path.parent.relative_to(SETUP.parent / folder).parts])
             for folder, package in roots.items() for path in (SETUP.parent / folder).rglob("__init__.py")}
    assert sorted(settings["packages"]) == sorted(found)


def test_pyinstaller_finds_the_hook_by_its_entry_point():
    (entry_point,) = distribution("edgepose").entry_points.select(group="pyinstaller40", name="hook-dirs")
    (folder,) = entry_point.load()()
    assert Path(folder, "hook-edgepose.py").is_file()
