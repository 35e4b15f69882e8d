"""The cuda backend: its errors without a GPU, and engines and streams on the emulated kernels."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import models
import numpy as np
import pytest

import edgepose
from edgepose import EngineError, backends, enginefile, gpu, timing
from edgepose.build_engines import build, compile as compiler
from edgepose.cli import main

pytestmark = pytest.mark.slow

try:
    from edgepose import _cuda
except ImportError:
    _cuda = None
NVCC = shutil.which("nvcc")
ARCHITECTURES = ("72", "75", "80", "86", "87", "89", "90", "100", "110", "120")
no_gpu = pytest.mark.skipif(_cuda is None or _cuda.why_unavailable() is None,
                            reason="there is a GPU, or edgepose._cuda is not built")


def write_engine(path, model, precision="fp32"):
    plan, tensors = models.lowered(model, precision)
    enginefile.write(path, {**models.engine_header(model, precision), "backend": "cuda", "plan": plan}, tensors)
    return path


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_where_nvcc_is_found_the_extension_is_built_for_what_was_asked():
    asked = os.environ.get("EDGEPOSE_CUDA_ARCHITECTURES", "").split()
    if asked == ["none"] or _cuda is None:
        pytest.skip("edgepose._cuda is not built")
    assert _cuda.architectures() and {str(number) for number in _cuda.architectures()} <= set(ARCHITECTURES)


@no_gpu
def test_without_a_gpu_the_extension_imports_and_says_what_is_missing(tmp_path):
    assert _cuda.devices() == [] and _cuda.why_unavailable()
    with pytest.raises(EngineError, match="no GPU that it runs on: " + _cuda.why_unavailable()):
        edgepose.load(write_engine(tmp_path / "tiny.epose", models.tiny_lifter()), trust=True)


@no_gpu
def test_without_a_gpu_nothing_of_the_extension_crashes():
    plan, tensors = models.lowered(models.tiny_lifter(), "fp32")
    for call in (lambda: _cuda.Plan(plan, tensors), lambda: _cuda.read_ms(1024, 1),
                 lambda: _cuda.capture(1, lambda: True)):
        with pytest.raises(RuntimeError, match="driver|device"):
            call()


def test_where_it_is_not_built_the_message_says_how_it_would_be(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "edgepose._cuda", None)
    monkeypatch.delattr(edgepose, "_cuda", raising=False)
    with pytest.raises(EngineError, match="the cuda backend needs edgepose._cuda, which is built where nvcc is found"):
        edgepose.load(write_engine(tmp_path / "tiny.epose", models.tiny_lifter()), trust=True)


def test_an_engine_and_a_stream_run_on_it_as_on_every_backend(tmp_path, on_emulated_gpu):
    model = models.randomised(models.LIFTERS["ampose, 9 frames, small"]())
    engine = edgepose.load(write_engine(tmp_path / "gpu.epose", model, "fp16"), trust=True)
    native = edgepose.load(models.write_engine(tmp_path / "cpu.epose", model, "fp16"))
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
    engine = edgepose.load(write_engine(tmp_path / "tiny.epose", model), trust=True)
    x = models.keypoints(model, 1)
    engine.run(x)
    thread = threading.Thread(target=lambda: engine.run(x))
    thread.start()
    thread.join()
    engine.run(x)
    assert len(on_emulated_gpu.context_threads) == 2 and len(set(on_emulated_gpu.context_threads)) == 2
    backends.cuda._forget_contexts()
    with pytest.raises(RuntimeError, match="forked process"):
        engine.run(x)


COMPILE = ["compile", "--model", "martinez-s", "--out"]


@pytest.fixture
def few_windows(monkeypatch):
    """The evaluation windows, few of them: the emulated kernels are slow."""
    every = build.evaluation_windows
    monkeypatch.setattr(build, "evaluation_windows",
                        lambda module: tuple(np.ascontiguousarray(part[::64]) for part in every(module)))
    monkeypatch.setattr(compiler.timing, "interleaved",
                        lambda engines, rounds, calls: dict.fromkeys(engines, timing.Timing(np.ones(1), 1.0)))


def test_compile_builds_what_runs_here_the_gpu_s_plans_among_it(tmp_path, on_emulated_gpu, few_windows):
    assert main([*COMPILE, str(tmp_path), "--precision", "fp16"]) == 0
    rows = {row["runtime"]: row for row in json.loads((tmp_path / "report.json").read_text())["rows"]}
    assert set(rows) == {"native", "cuda", "onnx"}
    assert 0 < rows["cuda"]["mean_error_mm"] <= rows["cuda"]["budget_mm"] == 0.5
    engine = edgepose.load(tmp_path / "martinez-s_cuda_fp16.epose", trust=True)
    native = edgepose.load(tmp_path / "martinez-s_native_fp16.epose")
    assert engine.backend == "cuda" and engine.header["plan"] == native.header["plan"]


def test_eight_bits_on_the_gpu_are_held_to_half_precision_there(tmp_path, on_emulated_gpu, few_windows, capsys):
    from edgepose.benchmarks.run import eight_bit_scales
    from edgepose.build_engines.lifters import load_lifter, weights_sha256

    module = load_lifter("martinez-s").module
    scales = tmp_path / "scales.json"
    scales.write_text(json.dumps({"model": "martinez-s", "weights_sha256": weights_sha256(module),
                                  **eight_bit_scales(module)}))
    command = [*COMPILE, str(tmp_path), "--backend", "cuda", "--precision", "w8", "int8", "--scales", str(scales)]
    assert main(command) == 1
    assert "no faster than fp16 (1.000 ms)" in capsys.readouterr().out  # every call takes the same time here
    assert [path.name for path in tmp_path.glob("*.epose")] == ["martinez-s_cuda_w8.epose"]
    assert main([*command, "--keep-slower"]) == 0
    assert {edgepose.load(path, trust=True).precision for path in tmp_path.glob("*.epose")} == {"w8", "int8"}


@no_gpu
def test_without_a_gpu_compile_says_why_and_builds_the_rest(tmp_path, few_windows, capsys):
    assert main([*COMPILE, str(tmp_path), "--backend", "cuda"]) == 1
    assert f"cuda engines cannot be built here: {gpu.cuda_missing()}" in capsys.readouterr().err
    assert main([*COMPILE, str(tmp_path), "--precision", "fp16"]) == 0 and not list(tmp_path.glob("*cuda*"))


def test_doctor_says_whether_its_engines_run_here(on_emulated_gpu, monkeypatch, capsys):
    main(["doctor"])
    monkeypatch.setattr(on_emulated_gpu, "why_unavailable", lambda: "no CUDA device")
    main(["doctor"])
    with_gpu, without = (line for line in capsys.readouterr().out.splitlines() if line.startswith("GPU"))
    assert "; cuda engines run here; " in with_gpu and "; cuda engines do not run here: no CUDA device; " in without


def test_where_it_is_not_built_compile_says_how_it_would_be(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "edgepose._cuda", None)
    monkeypatch.delattr(edgepose, "_cuda", raising=False)
    assert main([*COMPILE, str(tmp_path), "--backend", "cuda"]) == 1
    assert "edgepose._cuda is not built here: it needs nvcc" in capsys.readouterr().err


def test_options_of_the_cpu_are_refused(tmp_path, on_emulated_gpu):
    path = write_engine(tmp_path / "tiny.epose", models.tiny_lifter())
    with pytest.raises(EngineError, match="isa='avx2' is for native engines; this one runs on the cuda backend"):
        edgepose.load(path, isa="avx2", trust=True)


@pytest.mark.cuda_architectures
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_compile_for(architecture):
    if NVCC is None:
        pytest.skip("needs nvcc")
    codes = subprocess.run([NVCC, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout
    if f"sm_{architecture}" not in codes.split():
        pytest.skip(f"this nvcc does not compile for sm_{architecture}")
    subprocess.run([NVCC, "-std=c++17", f"-arch=sm_{architecture}", "-cubin", "-o", os.devnull, "csrc/cuda/engine.cu"],
                   cwd=Path(__file__).parents[1], check=True)
