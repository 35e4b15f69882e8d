import sys

import pytest
from fake_tensorrt import FULL
from gpu_engines import a_gpu

import edgepose
from edgepose import enginefile
from edgepose.build_engines import budgets
from edgepose.build_engines.windows import evaluation_windows
from edgepose.cli import main

WRITE = ["compile", "--model", "martinez-s", "--precision", "fp16", "--out"]


@pytest.mark.parametrize("flavour, version, rung, batch",
                         [("legacy", "8.6", "legacy-fp16", 1), ("legacy", "10.3", "legacy-fp16", 1),
                          ("strong", "10.13", "strong-fp16", 2), ("strong", "11", "strong-fp16", 1)])
def test_a_board_builds_the_engine_that_was_written_for_it(monkeypatch, tmp_path, capsys, flavour,
                                                           version, rung, batch):
    assert main([*WRITE, str(tmp_path), "--for-board", flavour, "--batch", str(batch)]) == 0
    path, = tmp_path.iterdir()
    assert path.name == f"martinez-s_tensorrt_fp16{'_b2' * (batch == 2)}.epose"
    output = " ".join(capsys.readouterr().out.split())
    assert "mm mean" in output and output.endswith(f"On the board: edgepose rebuild {path.name}")
    header, tensors = enginefile.read(path)
    assert set(tensors) == {"onnx"} and (header["rung"], header["batch"], header["machine"]) == (rung, batch, {})
    _, trt = a_gpu(monkeypatch, version)
    with pytest.raises(edgepose.EngineError, match="no plan of it yet: it must be built first, on the "
                       "board that is to run it. Build it again on this machine: edgepose rebuild"):
        edgepose.load(path, trust=True)
    assert main(["rebuild", str(path)]) == 0
    engine = edgepose.load(path, trust=True)
    x, _ = evaluation_windows(engine)
    reference = edgepose.load("martinez-s").run(x)
    # The shipped engine is half precision too.
    assert budgets.errors_mm(engine.run(x), reference)[0] < 2 * budgets.BUDGETS["fp16"].mean_mm
    assert engine.header["machine"]["tensorrt"] == FULL[version] and trt.built[0]["strong"] == (flavour == "strong")


def test_a_graph_over_its_budget_is_not_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(budgets.BUDGETS, "fp16", budgets.Budget(1e-9))
    assert main([*WRITE, str(tmp_path), "--for-board", "strong"]) == 1
    assert "martinez-s_tensorrt_fp16.epose is over 1e-09 mm mean: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options, message", [
    (["--backend", "native"], "--for-board writes TensorRT engines and builds none"),
    (["--allow-rung"], "--for-board writes TensorRT engines and builds none"),
    (["--threads", "2"], "--for-board writes TensorRT engines and builds none"),
    (["--for-board", "strong-fp32-qdq"],
     "fp16 has no rung strong-fp32-qdq, only strong-fp16, legacy-fp16; --precision"),
    (["--precision", "w8"], "TensorRT does not come in w8; it comes in fp16, int8"),])
def test_a_wrong_request_is_answered(tmp_path, capsys, options, message):
    assert main([*WRITE, str(tmp_path), "--for-board", "legacy", *options]) == 1
    assert message in capsys.readouterr().err


def test_a_rung_is_written_by_its_name_where_a_board_does_not_build_the_best(tmp_path):
    assert main(["compile", "--model", "martinez-s", "--precision", "int8", "--for-board",
                 "strong-fp32-qdq", "--out", str(tmp_path)]) == 0
    header, tensors = enginefile.read(tmp_path / "martinez-s_tensorrt_int8.epose")
    assert (header["rung"], set(tensors)) == ("strong-fp32-qdq", {"onnx"})


def test_an_unbuilt_engine_says_so_where_tensorrt_is_not_installed(monkeypatch, tmp_path):
    assert main([*WRITE, str(tmp_path), "--for-board", "strong"]) == 0
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(edgepose.EngineError, match="it must be built first.*edgepose rebuild"):
        edgepose.load(tmp_path / "martinez-s_tensorrt_fp16.epose", trust=True)


def test_the_command_for_the_board_is_on_one_line_however_long_the_path(tmp_path, capsys):
    folder = tmp_path / ("long" * 50) / "[bold]"
    assert main([*WRITE, str(folder), "--for-board", "strong"]) == 0
    line, = [line for line in capsys.readouterr().out.splitlines() if line]
    assert line.startswith(f"{folder}/martinez-s")
    assert line.endswith("edgepose rebuild martinez-s_tensorrt_fp16.epose")
