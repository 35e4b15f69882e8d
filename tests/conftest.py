import shutil
import sys

import emulated
import pytest
from run_folder import run_folder

import edgepose
from edgepose.clip import CLIPS


def pytest_configure():
    run_folder()  # before pytest-xdist starts others


def pytest_collection_modifyitems(config, items):
    if "cuda_architectures" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("cuda_architectures"):
                item.add_marker(pytest.mark.skip(reason="some minutes of nvcc: runs with -m cuda_architectures"))


@pytest.fixture
def on_emulated_gpu(monkeypatch):
    """edgepose._cuda as it would be with a GPU: its kernels emulated."""
    fake = emulated.extension()
    monkeypatch.setitem(sys.modules, "edgepose._cuda", fake)
    monkeypatch.setattr(edgepose, "_cuda", fake, raising=False)
    return fake


@pytest.fixture
def recordings(tmp_path):
    """Three real clips in an archive of two folders."""
    for name, folder in zip(("balance_cam1", "balance_cam2", "balance_cam3"), ("", "b", "b/c")):
        (tmp_path / "archive" / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(CLIPS / f"{name}.npz", tmp_path / "archive" / folder)
    return tmp_path / "archive"
