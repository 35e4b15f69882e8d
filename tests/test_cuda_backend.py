"""The cuda backend: what it says without a GPU, and engines and streams on the emulated kernels."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import emulated
import models
import numpy as np
import pytest

import edgepose
from edgepose import EngineError, backends, enginefile

_cuda = pytest.importorskip("edgepose._cuda", reason="edgepose._cuda is not built: no nvcc")
NVCC = shutil.which("nvcc")
ARCHITECTURES = ("72", "75", "80", "86", "87", "89", "90", "100", "110", "120")
no_gpu = pytest.mark.skipif(_cuda.why_unavailable() is None, reason="there is a GPU")


def write_engine(path, model, precision="fp32"):
    plan, tensors = models.lowered(model, precision)
    enginefile.write(path, {**models.engine_header(model, precision), "backend": "cuda", "plan": plan}, tensors)
    return path


@pytest.fixture
def on_emulated_gpu(monkeypatch):
    """edgepose._cuda as it would be with a GPU: its kernels emulated."""
    class Context:
        def __init__(self, plan):
            self.plan = plan
            made.append(threading.get_ident())

        def run(self, x, y):
            emulated.module().run(*self.plan, x, y, 2, True, 0)

    made = []
    fake = SimpleNamespace(why_unavailable=lambda: None, Plan=lambda plan, tensors: (plan, tensors), Context=Context)
    monkeypatch.setattr(edgepose, "_cuda", fake)
    return made


@no_gpu
def test_without_a_gpu_the_extension_imports_and_says_what_is_missing(tmp_path):
    assert _cuda.devices() == [] and _cuda.why_unavailable()
    with pytest.raises(EngineError, match="no GPU that it runs on: " + _cuda.why_unavailable()):
        edgepose.load(write_engine(tmp_path / "tiny.epose", models.tiny_lifter()))


@no_gpu
def test_without_a_gpu_nothing_of_the_extension_crashes():
    plan, tensors = models.lowered(models.tiny_lifter(), "fp32")
    for call in (lambda: _cuda.Plan(plan, tensors), lambda: _cuda.read_ms(1024, 1), lambda: _cuda.capture(1, lambda: True)):
        with pytest.raises(RuntimeError, match="driver|device"):
            call()


def test_where_it_is_not_built_the_message_says_how_it_would_be(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "edgepose._cuda", None)
    monkeypatch.delattr(edgepose, "_cuda", raising=False)
    with pytest.raises(EngineError, match="the cuda backend needs edgepose._cuda, which is built where nvcc is found"):
        edgepose.load(write_engine(tmp_path / "tiny.epose", models.tiny_lifter()))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_engine_and_a_stream_run_on_it_as_on_every_backend(tmp_path, on_emulated_gpu, precision):
    model = models.randomised(models.LIFTERS["ampose, 9 frames, small"]())
    engine = edgepose.load(write_engine(tmp_path / "gpu.epose", model, precision))
    native = edgepose.load(models.write_engine(tmp_path / "cpu.epose", model, precision))
    x = models.keypoints(model, 3)
    close = {"atol": 5e-3 * np.abs(native.run(x)).max()}
    np.testing.assert_allclose(engine.run(x), native.run(x), rtol=0, **close)
    streams = [edgepose.Stream(e, layout="coco17", image_size=(640, 480)) for e in (engine, native)]
    keypoints = np.random.default_rng(0).uniform(100, 400, (17, 2))
    poses = [stream.push(keypoints, 0.0) for stream in streams]
    np.testing.assert_allclose(poses[0].joints_m, poses[1].joints_m, rtol=0, **close)
    assert engine.backend == "cuda" and engine.isa is None


def test_every_thread_has_a_context_and_a_fork_is_refused(tmp_path, on_emulated_gpu):
    model = models.tiny_lifter()
    engine = edgepose.load(write_engine(tmp_path / "tiny.epose", model))
    x = models.keypoints(model, 1)
    engine.run(x)
    thread = threading.Thread(target=lambda: engine.run(x))
    thread.start()
    thread.join()
    engine.run(x)
    assert len(on_emulated_gpu) == 2 and len(set(on_emulated_gpu)) == 2
    backends.cuda._forget_contexts()
    with pytest.raises(RuntimeError, match="forked process"):
        engine.run(x)


def test_options_of_the_cpu_are_refused(tmp_path, on_emulated_gpu):
    path = write_engine(tmp_path / "tiny.epose", models.tiny_lifter())
    with pytest.raises(EngineError, match="isa='avx2' is for native engines; this one runs on the cuda backend"):
        edgepose.load(path, isa="avx2")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_compile_for(architecture, tmp_path):
    if int(architecture) in _cuda.architectures():
        return  # compiled for it when the extension was built
    if NVCC is None:
        pytest.skip("needs nvcc")
    if f"sm_{architecture}" not in subprocess.run([NVCC, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split():
        pytest.skip(f"this nvcc does not compile for sm_{architecture}")
    subprocess.run([NVCC, "-std=c++17", f"-arch=sm_{architecture}", "-cubin", "-o", os.devnull, "csrc/cuda/engine.cu"],
                   cwd=Path(__file__).parents[1], check=True)
