import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from fake_tensorrt import FULL
from gpu_engines import a_gpu, a_source, poses, windows, write_engine
from models import tiny_lifter
from models import write_engine as write_native_engine

import edgepose
from edgepose import enginefile
from edgepose.build_engines import budgets
from edgepose.build_engines.tensorrt import rebuild
from edgepose.build_engines.windows import evaluation_windows
from edgepose.cli import main
from edgepose.metrics import mpjpe

pytestmark = pytest.mark.slow


def elsewhere(monkeypatch, path, *source, **header):
    """An engine file built on another machine, and then this one, with (gpu, trt)."""
    a_gpu(monkeypatch, "10.3")
    write_engine(path, *source, **header)
    return a_gpu(monkeypatch, "10.13", name="This GPU", capability=(9, 0), cuda=(13, 0, 0))


@pytest.mark.parametrize("source", [a_source("fp16", batch=3), a_source("int8", "strong-fp16-qdq"),
                                    a_source("fp16", "legacy-fp16", kept=["softmax"])])
def test_an_engine_of_another_machine_runs_here_once_it_is_built_again(monkeypatch, tmp_path, capsys, source):
    path = tmp_path / "a.epose"
    _, trt = elsewhere(monkeypatch, path, source)
    before, _ = enginefile.read(path)
    with pytest.raises(edgepose.EngineError, match="edgepose rebuild"):
        edgepose.load(path, trust=True)
    assert main(["rebuild", str(path)]) == 0
    assert re.search(r"built again for this machine; 0\.0\d+ mm mean, 0\.\d+ mm at most from its graph in ONNX Runtime",
                     capsys.readouterr().out)
    engine = edgepose.load(path, trust=True)
    assert np.abs(engine.run(windows(4)) - poses(windows(4))).max() < (0.05 if source.precision == "int8" else 2e-6)
    assert engine.header["machine"]["tensorrt"] == FULL["10.13"]
    assert engine.header["machine"]["compute_capability"] == "9.0"
    same = {"onnx_sha256", "batch", "rung", "keep_float32", "precision", "model", "weights_sha256", "frames"}
    assert {key: engine.header[key] for key in same} == {key: before[key] for key in same}
    assert trt.built[0]["kept"] == list(source.keep_float32) and trt.built[0]["strong"] == source.is_strong
    assert json.loads((tmp_path / "a.layers.json").read_text())["Layers"]
    assert {file.name for file in tmp_path.iterdir()} == {
        "a.epose", "a.layers.json", "10.3.0-Fake-GPU-1000.cache", "10.13.3-This-GPU.cache"}


def test_an_engine_that_is_built_again_twice_is_the_same(monkeypatch, tmp_path):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path)
    rebuild.rebuild(path)
    once = enginefile.read(path)[0]
    rebuild.rebuild(path)
    assert enginefile.read(path)[0] == once


def broken_builder(trt, tmp_path, monkeypatch):
    trt.breaks = lambda network, config: "no room"


def wrong_numbers(trt, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "in_onnxruntime", lambda onnx, x, batch: np.full((len(x), 17, 3), 9, np.float32))


def full_disk(trt, tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(enginefile.os, "fsync", full)


def no_gpu(trt, tmp_path, monkeypatch):
    trt._gpu.count = 0


@pytest.mark.parametrize("fault, message", [(broken_builder, "is as it was: .*Error Code 10: no room"),
                                            (wrong_numbers, "is as it was: over 0.5 mm mean: "),
                                            (full_disk, "No space left"), (no_gpu, "is as it was: CUDA shows no GPU")])
def test_an_engine_that_cannot_be_built_again_stays_as_it_was(monkeypatch, tmp_path, capsys, fault, message):
    path = tmp_path / "a.epose"
    _, trt = elsewhere(monkeypatch, path)
    before = path.read_bytes()
    fault(trt, tmp_path, monkeypatch)
    assert main(["rebuild", str(path)]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert path.read_bytes() == before
    assert not [file for file in tmp_path.iterdir() if "unchecked" in file.name or "layers" in file.name]


def test_without_onnxruntime_the_mean_error_must_be_that_of_the_model(monkeypatch, tmp_path):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path)

    class Shape:
        frames, skeleton, is_causal = 1, edgepose.load("ampose").skeleton, False
    x, target = evaluation_windows(Shape)
    known = float(mpjpe(poses(x) * 1e3, target * 1e3))
    elsewhere(monkeypatch, path, a_source(batch=100), mpjpe_mm=known)
    monkeypatch.setattr(rebuild, "in_onnxruntime", lambda onnx, x, batch: None)
    assert rebuild.rebuild(path).startswith(f"MPJPE {known:.2f} mm on the evaluation windows, {known:.2f} of the model")
    elsewhere(monkeypatch, path, a_source(batch=100), mpjpe_mm=known - 0.6)
    with pytest.raises(edgepose.EngineError, match="over 0.5 mm: MPJPE"):
        rebuild.rebuild(path)


def test_what_cannot_be_compared_is_said(monkeypatch, tmp_path):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path, a_source(batch=100))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert ("compared with nothing, since there is no ONNX Runtime here and the model is untrained"
            in rebuild.rebuild(path))


def test_an_engine_that_answers_nan_is_over_every_budget(monkeypatch, tmp_path):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path, a_source(batch=100))
    monkeypatch.setattr(edgepose.Engine, "run", lambda self, x: np.full((len(x), 17, 3), np.nan, np.float32))
    with pytest.raises(edgepose.EngineError, match="over 0.5 mm"):
        rebuild.rebuild(path)


@pytest.mark.parametrize("header, message", [
    ({"onnx_sha256": "0" * 64}, "the header's 'onnx_sha256' is '0+'; the graph has another"),
    ({"keep_float32": "softmax"}, "the header's 'keep_float32' is 'softmax'; it needs a list of names"),
    ({"keep_float32": [1]}, r"the header's 'keep_float32' is \[1\]"),
])
def test_a_header_that_does_not_fit_its_graph_is_refused(monkeypatch, tmp_path, header, message):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path, a_source(), **header)
    with pytest.raises(edgepose.EngineError, match=message):
        rebuild.rebuild(path)


def test_a_file_without_a_graph_says_how_it_is_built(monkeypatch, tmp_path):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path)
    header, tensors = enginefile.read(path)
    enginefile.write(path, {**header, "rung": "torch-tensorrt"}, {"payload": tensors["payload"]})
    with pytest.raises(edgepose.EngineError, match="holds no graph to build from; build it with edgepose "
                       "compile --model tiny --backend torch-tensorrt"):
        rebuild.rebuild(path)
    with pytest.raises(edgepose.EngineError,
                       match="Build it again on this machine: edgepose compile --model tiny --backend torch-tensorrt"):
        edgepose.load(path, trust=True)


def test_a_native_engine_is_not_built_again(tmp_path):
    path = write_native_engine(tmp_path / "native.epose", tiny_lifter())
    with pytest.raises(edgepose.EngineError, match="runs on the native backend; only tensorrt engines"):
        rebuild.rebuild(path)


def test_a_strong_graph_on_a_library_without_strong_types_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path)
    a_gpu(monkeypatch, "8.6")
    with pytest.raises(edgepose.EngineError,
                       match="TensorRT 8.6.2 has no strongly typed networks, which rung strong-fp16 needs"):
        rebuild.rebuild(path)


def test_budgets_hold_for_mean_distances_in_mm():
    mean, largest = budgets.errors_mm(np.zeros((1, 2, 3)), np.array([[[3e-3, 4e-3, 0], [0, 0, 0]]]))
    assert (mean, largest) == pytest.approx((2.5, 5.0))


WITHOUT_TORCH = """
import sys
sys.path.insert(0, {tests!r})
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "rich", "matplotlib"):
            raise ModuleNotFoundError(name + " is blocked", name=name)
sys.meta_path.insert(0, Blocked())
import pytest
from gpu_engines import a_gpu
patch = pytest.MonkeyPatch()
a_gpu(patch, "10.13")
from edgepose.cli import main
sys.exit(main(["rebuild", {path!r}]))
"""


def test_a_board_without_torch_builds_an_engine_again(monkeypatch, tmp_path, request):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path)
    root = request.config.rootpath
    code = WITHOUT_TORCH.format(tests=str(root / "tests"), path=str(path))
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                             env={**os.environ, "PYTHONPATH": str(root)})
    assert process.returncode == 0 and "built again for this machine" in process.stdout, process.stderr
    assert enginefile.read(path)[0]["machine"]["tensorrt"] == FULL["10.13"]


def test_several_files_are_built_again_in_turn(monkeypatch, tmp_path, capsys):
    a, b = tmp_path / "a.epose", tmp_path / "b.epose"
    elsewhere(monkeypatch, a)
    _, trt = elsewhere(monkeypatch, b)
    assert main(["rebuild", str(a), str(b), "--tactic-sources", "cudnn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [str(a), str(b)] and len(trt.built) == 2


def test_the_files_before_one_that_does_not_build_are_built_again(monkeypatch, tmp_path, capsys):
    path = tmp_path / "a.epose"
    elsewhere(monkeypatch, path)
    assert main(["rebuild", str(path), str(tmp_path / "none.epose"), str(path)]) == 1
    said = capsys.readouterr()
    assert said.out.count("built again") == 1 and "none.epose: no such file" in said.err
