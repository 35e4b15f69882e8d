import sys

import emulated
import pytest

import edgepose


@pytest.fixture(scope="session")
def emulated_kernels(tmp_path_factory):
    """The CUDA kernels, compiled for the CPU."""
    return emulated.build(tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def on_emulated_gpu(emulated_kernels, monkeypatch):
    """edgepose._cuda as it would be with a GPU: its kernels emulated."""
    fake = emulated.extension(emulated_kernels)
    monkeypatch.setitem(sys.modules, "edgepose._cuda", fake)
    monkeypatch.setattr(edgepose, "_cuda", fake, raising=False)
    return fake
