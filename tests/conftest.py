import sys

import emulated
import pytest

import edgepose


@pytest.fixture
def on_emulated_gpu(monkeypatch):
    """edgepose._cuda as it would be with a GPU: its kernels emulated."""
    fake = emulated.extension()
    monkeypatch.setitem(sys.modules, "edgepose._cuda", fake)
    monkeypatch.setattr(edgepose, "_cuda", fake, raising=False)
    return fake
