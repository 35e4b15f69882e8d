"""The GPU benchmark without a GPU: emulated kernels, stand-ins for TensorRT and PyCUDA, torch on the CPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import emulated
import fake_gpu
import models
import numpy as np
import pytest
import torch
from fake_tensorrt import FakeTensorRT

from edgepose import cli
from edgepose.benchmarks.gpu import folder as gpu_folder, report as gpu_report, run as gpu, runtimes as gpu_runtimes
from edgepose.zoo import checkpoints

pytestmark = pytest.mark.slow

MODEL = "tiny"
BATCHES = ["1", "3"]
SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks/gpu/suite.sh"
OPTIONS = {"depth": 1, "channels": 48, "heads": 4}  # the narrowest model whose products go into eight bits
# The random weights make half precision lose millimetres.
ERROR_MM = {"cuda-fp32": 0.01, "cuda-fp16": 3, "cuda-int8": 30, "tensorrt-fp16": 3, "tensorrt-int8": 30,
            "torch-fp32": 0.001,
            "torch-fp16": 3, "torch-compile-fp32": 0.001, "torch-compile-fp16": 3}


def run(*arguments):
    """The exit status of the command."""
    parser = gpu.argparse.ArgumentParser()
    gpu.add_arguments(parser)
    options = parser.parse_args(list(map(str, arguments)))
    return cli.reporting("gpu", lambda: gpu.main(options))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder, checkpoint = (tmp_path_factory.mktemp("prepared"),
                          tmp_path_factory.mktemp("checkpoint") / f"{MODEL}.safetensors")
    checkpoints.save_checkpoint(checkpoint, models.tiny_lifter(**OPTIONS),
                                {"model": "ampose", "frames": 1, "skeleton": "h36m17", "options": OPTIONS})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_folder, "WINDOWS", 4)
        assert run("--prepare", folder, "--models", checkpoint, "--batches", *BATCHES) == 0
    return folder


@pytest.fixture
def played(monkeypatch):
    """A GPU with everything installed; returns the options that torch.compile was called with."""
    device = fake_gpu.FakeGpu(capability=(9, 0))
    extension = emulated.extension()
    extension.capture = device.extension().capture
    fake_gpu.install(monkeypatch, device, FakeTensorRT("10.3", device), extension)
    monkeypatch.setattr(gpu_runtimes, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_runtimes, "DEVICE_MS", 1.0)
    monkeypatch.setattr(gpu, "ROUND_MS", 1.0)
    options = []
    monkeypatch.setattr(torch, "compile", lambda module, **kwargs: options.append(kwargs) or module)
    return options


def rows_of(path):
    return {(f"{row['runtime']}-{row['precision']}", row["batch"]): row for row in json.loads(path.read_text())["rows"]}


def test_every_runtime_is_a_row_with_its_time_and_its_error(prepared, played, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_report, "AIMED_AT", (MODEL,))
    file = tmp_path / "gpu.json"
    assert run("--measure", prepared, "--json", file, "--batches", *BATCHES, "--rounds", 1,
               "--runtimes", *ERROR_MM) == 0
    report, rows = json.loads(file.read_text()), rows_of(file)
    assert set(rows) == {(name, int(batch)) for name in ERROR_MM for batch in BATCHES}
    for (name, batch), row in rows.items():
        assert 0 < row["median_ms"] <= row["p90_ms"] <= row["p99_ms"] and row["calls"] >= 3 and row["run"] == 0
        assert row["poses_per_s"] == pytest.approx(batch * 1e3 / row["median_ms"])
        assert row["mean_error_mm"] <= ERROR_MM[name] and row["mean_error_mm"] <= row["max_error_mm"]
    ours = [rows[f"cuda-{precision}", 1] for precision in ("fp32", "fp16", "int8")]
    assert ours[0]["constant_bytes"] > ours[1]["constant_bytes"] > ours[2]["constant_bytes"]
    for row in ours:
        assert row["device_ms"] > 0 and row["steps"] > 3 and row["uses_tensor_cores"]
        assert row["read_ms"] == row["constant_bytes"] / 1e6
    assert rows["cuda-int8", 1]["mean_error_mm"] == pytest.approx(rows["tensorrt-int8", 1]["mean_error_mm"], rel=0.3)
    assert rows["tensorrt-fp16", 1]["rung"] == "strong-fp16" and rows["tensorrt-fp16", 1]["build_s"] > 0
    assert played == 4 * [{"mode": "reduce-overhead", "dynamic": False, "fullgraph": True}]
    half, full = ({row["precision"]: row["mean_error_mm"] for row in rows.values() if row["runtime"] == "torch"}[p]
                  for p in ("fp16", "fp32"))
    assert half > 10 * full  # so it does compute in half precision
    ratios = {aim["aim"].partition(":")[0] + (" read" if "reading" in aim["aim"] else ""): aim["ratio"]
              for aim in report["aims"]}
    assert ratios[f"{MODEL} fp16, batch 1"] == rows["tensorrt-fp16", 1]["median_ms"] / rows["cuda-fp16", 1]["median_ms"]
    assert ratios[f"{MODEL} int8, batch 1 read"] == rows["cuda-int8", 1]["device_ms"] / rows["cuda-int8", 1]["read_ms"]
    about, = report["runs"]
    assert about["torch"] == torch.__version__ and about["tensorrt"] == "10.3.0"
    assert about["devices"][0]["name"] == "Emulated GPU"
    assert "tiny         batch   3  cuda-int8" in capsys.readouterr().out


def test_where_the_gpu_has_no_memory_of_its_own_tensorrt_works_in_the_host_s(prepared, played, tmp_path):
    file = tmp_path / "gpu.json"
    assert run("--measure", prepared, "--json", file, "--batches", 1, "--rounds", 1, "--runtimes",
               "tensorrt-fp16", "tensorrt-zero-copy-fp16") == 0
    copied, shared = rows_of(file).values()
    assert shared["runtime"] == "tensorrt-zero-copy" and shared["mean_error_mm"] == copied["mean_error_mm"]
    assert "build_s" in copied and "build_s" not in shared  # both modes use one engine


def test_what_is_missing_is_a_row_that_says_why(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_runtimes.gpu, "cuda_missing", lambda: "no CUDA device")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(gpu_runtimes, "DEVICE", "xla")
    file = tmp_path / "gpu.json"
    assert run("--measure", prepared, "--json", file, "--batches", "1", "7") == 0
    rows = rows_of(file)
    assert len(rows) == 2 * len(gpu.DEFAULT) and not any(map(gpu_report.is_measured, rows.values()))
    assert rows["cuda-fp16", 1]["why"] == "no CUDA device"
    assert rows["tensorrt-int8", 7]["why"] == "tensorrt is not installed"
    assert "xla" in rows["torch-fp32", 1]["why"].lower()
    assert "tensorrt-int8   not measured: tensorrt is not installed" in capsys.readouterr().out
    # It is an error here, because it is asked for by name.
    assert run("--measure", prepared, "--batches", "1", "--runtimes", "cuda-fp16") == 1


def test_a_batch_that_was_not_prepared_is_said(prepared, played, tmp_path):
    assert run("--measure", prepared, "--json", tmp_path / "a.json", "--batches", 2, "--runtimes", "tensorrt-fp16") == 1
    assert "holds no graph of tiny in fp16 for batch 2" in rows_of(tmp_path / "a.json")["tensorrt-fp16", 2]["why"]


def test_when_the_time_is_up_the_rest_is_rows_that_say_so(prepared, tmp_path):
    assert run("--measure", prepared, "--json", tmp_path / "a.json", "--seconds", 0) == 0
    assert {row["why"] for row in rows_of(tmp_path / "a.json").values()} == {"cut: the time was up"}


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "rich"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, {tests!r})
import pytest
from gpu_engines import a_gpu
a_gpu(pytest.MonkeyPatch(), "8.6", extension=None)
import runpy
sys.argv[1:] = {arguments!r}
runpy.run_module("edgepose.benchmarks.gpu.run", run_name="__main__")
"""


def test_another_python_without_torch_adds_its_rows(prepared, tmp_path):
    file = tmp_path / "gpu.json"
    assert run("--measure", prepared, "--json", file, "--batches", 1, "--rounds", 1) == 0
    arguments = ["--measure", str(prepared), "--append", str(file), "--batches", "1", "--rounds",
                 "1", "--runtimes", "tensorrt-fp16", "torch-fp32"]
    code = WITHOUT_TORCH.format(tests=str(Path(__file__).parent), arguments=arguments)
    path = os.pathsep.join([str(Path(gpu.edgepose.__file__).parents[1]), *sys.path])
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                             env={**os.environ, "PYTHONPATH": path})
    assert process.returncode == 1, process.stderr  # torch is missing
    report, rows = json.loads(file.read_text()), rows_of(file)
    row = rows["tensorrt-fp16", 1]
    assert row["run"] == 1 and row["mean_error_mm"] < ERROR_MM["tensorrt-fp16"] and row["rung"] == "legacy-fp16"
    assert "run without CUDA graphs" in " ".join(row["said"])
    assert rows["cuda-fp16", 1]["run"] == 0 and "torch" in rows["torch-fp32", 1]["why"]
    assert report["runs"][1]["tensorrt"] == "8.6.2" and "torch" not in report["runs"][1]


def test_one_call_of_each_engine_is_what_the_sanitizer_watches(prepared, played, tmp_path, monkeypatch, capsys):
    assert run("--once", prepared) == 0
    assert ([line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
            == [f"{MODEL}_cuda_{p}.epose" for p in ("fp16", "fp32", "int8")])
    broken = shutil.copytree(prepared, tmp_path / "broken")
    windows, poses = gpu_folder.read(broken)[0].reference()
    np.savez(broken / f"{MODEL}_windows.npz", keypoints_norm=np.full_like(windows, np.nan), poses_m=poses)
    assert run("--once", broken) == 1


def measured(model, runtime, precision, median_ms, **facts):
    return {"model": model, "runtime": runtime, "precision": precision, "batch": 1, "median_ms": median_ms, **facts}


def test_an_aim_is_met_from_its_bound_on():
    rows = [measured("ampose", "cuda", "fp16", 0.02, device_ms=0.009, read_ms=0.003),
            measured("ampose", "tensorrt", "fp16", 0.04),
            measured("ampose", "cuda", "int8", 0.02, device_ms=0.0091, read_ms=0.003),
            measured("ampose", "tensorrt", "int8", 0.039),
            measured("strided27", "cuda", "fp16", 0.02, device_ms=0.01, read_ms=0.01),
            {**measured("strided27", "tensorrt", "fp16", 1.0), "batch": 16}]
    aims = gpu_report.aims(rows)
    assert [(aim["ratio"] and round(aim["ratio"], 3), aim["is_met"]) for aim in aims] == [
        (2.0, True), (3.0, True), (1.95, False), (3.033, False), (None, None), (1.0, True), (None, None), (None, None)]
    assert aims[0]["aim"] == "ampose fp16, batch 1: at least 2 x as fast as TensorRT (medians, numpy to numpy)"
    assert aims[4]["why"] == "not measured: TensorRT" and aims[6]["why"] == "not measured: the CUDA engine"
    assert gpu_report.in_words(aims[2]).endswith("1.95 x, NOT met")
    assert aims[1]["ratio_of_median"] == pytest.approx(20 / 3)


def test_a_row_that_was_measured_is_not_lost_to_one_that_was_not():
    report = gpu_report.with_run(gpu_report.new(), {},
                                 [measured("a", "cuda", "fp16", 1.0), measured("a", "torch", "fp16", 1.0)])
    again = gpu_report.with_run(
        report, {}, [{**measured("a", "cuda", "fp16", 0), "why": "none"}, measured("a", "torch", "fp16", 2.0)])
    missing = {"model": "a", "runtime": "cuda", "precision": "fp16", "batch": 1, "why": "no GPU"}
    assert ([(row["runtime"], row["run"]) for row in gpu_report.with_run(report, {}, [missing])["rows"]]
            == [("cuda", 0), ("torch", 0)])
    assert [(row["median_ms"], row["run"]) for row in again["rows"]] == [(0, 1), (2.0, 1)] and len(report["runs"]) == 1


def test_a_stage_stands_in_the_report_as_it_ended_last(tmp_path, capsys):
    file = tmp_path / "gpu.json"
    for outcome in ("failed with status 1", "ok"):
        assert gpu_report.main([str(file), "--stage", "build", outcome, "61", "the last line"]) == 0
    report = json.loads(file.read_text())
    assert report["stages"] == [{"stage": "build", "outcome": "ok", "seconds": 61, "said": "the last line"}]
    assert "gpu" in report["machine"]
    assert gpu_report.main([str(file)]) == 2


@pytest.mark.parametrize("content", ["{}", "[]", "not JSON"])
def test_a_file_that_is_no_report_is_left_as_it_is(prepared, tmp_path, capsys, content):
    file = tmp_path / "gpu.json"
    file.write_text(content)
    assert run("--measure", prepared, "--append", file) == 1
    assert f"{file} is no report of the GPU benchmark" in capsys.readouterr().err and file.read_text() == content


@pytest.mark.parametrize("arguments, message", [
    (["--measure", "nowhere"], "nowhere is not prepared"), (["--batches", "0"], "--batches is 0; wanted 1 or more"),
    (["--rounds", "0"], "--rounds is 0"), (["--json", "a.txt"], "wanted a name that ends in .json"),
    (["--prepare", "new", "--models", "amposse"], "neither a .safetensors checkpoint")])
def test_a_wrong_request_is_answered(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 1
    assert message in capsys.readouterr().err


def suite(folder, *arguments, **environment):
    """Run suite.sh in a folder of its own, with this Python."""
    root = Path(gpu.edgepose.__file__).parents[1]
    return subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, cwd=folder, timeout=120,
                          env={**os.environ, "PYTHON": sys.executable,
                               "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
                               "WORK": str(folder / "work"), "OUT": str(folder / "out"), **environment})


def test_the_suite_checks_itself_where_there_is_no_gpu(tmp_path):
    process = suite(tmp_path, "--check")
    assert process.returncode == 0, process.stdout + process.stderr
    assert "== prepare: ok" in process.stdout and "== figures: ok" in process.stdout
    assert "== build: left out: --check" in process.stdout
    assert "== kernels: ok" in process.stdout and not list(tmp_path.iterdir())
    assert suite(tmp_path, "--chek").returncode == 2


# Programs that answer at once. STATUS: the exit status where something may fail. SLEEP: seconds a measurement takes.
STUBS = {
    "nvidia-smi": 'case "$1" in *compute_cap,*) echo "Fake GPU 1000, 9.0, 580.1";; *compute_cap*) echo 9.0;; '
                  '*) echo "Fake GPU 1000";; esac',
    "compute-sanitizer": 'echo "$*" >>sanitized; echo "it says so"; [[ $2 != racecheck ]] || exit "$STATUS"',
    "ours": 'case "$*" in *gpu/report.py*) exec "$REAL" "$@";; '
            '*setup.py*) mkdir -p "$WORK/lib/edgepose"; echo "for $EDGEPOSE_CUDA_ARCHITECTURES";; '
            '*pytest*-k*) echo "some passed"; exit "$STATUS";; '
            '*--measure*) sleep "$SLEEP"; all="$*"; echo "ours:${all##*--runtimes}";; *) echo done;; esac',
    "theirs": 'case "$*" in *--measure*) all="$*"; echo "theirs:${all##*--runtimes}";; *) echo done;; esac',
}


@pytest.fixture
def fake_programs(tmp_path):
    """The environment in which the suite finds fake programs."""
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {"PYTHON": str(tmp_path / "ours"), "REAL": sys.executable, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def stages_of(folder):
    report = json.loads((folder / "out" / "gpu_fake-gpu-1000.json").read_text())
    assert report["machine"]["gpu"] == "Fake GPU 1000" and report["machine"]["compute_capability"] == "9.0"
    return {stage["stage"]: (stage["outcome"], stage["said"]) for stage in report["stages"]}


def test_a_stage_that_fails_or_takes_too_long_is_said_and_the_others_still_run(tmp_path, fake_programs):
    process = suite(tmp_path, **fake_programs, STATUS="9", SLEEP="60", TOTAL_S="12")
    assert process.returncode == 1, process.stdout + process.stderr
    stages = stages_of(tmp_path)
    assert stages["build"] == ("ok", "for 90") and stages["kernels"] == ("failed with status 9", "some passed")
    assert stages["racecheck"] == ("failed with status 9", "it says so") and stages["synccheck"] == ("ok", "it says so")
    assert stages["figures"][0].startswith("cut after ")
    assert stages["figures-compiled"] == ("left out", "the 12 s were over")


def test_a_python_of_its_own_measures_tensorrt(tmp_path, fake_programs):
    process = suite(tmp_path, **fake_programs, STATUS="0", SLEEP="0", TENSORRT_PYTHON=str(tmp_path / "theirs"),
                    PREPARED="made/elsewhere")
    assert process.returncode == 0, process.stdout + process.stderr
    stages = stages_of(tmp_path)
    assert stages["figures"] == ("ok", "ours: cuda-fp32 cuda-fp16 cuda-int8 torch-fp32 torch-fp16")
    assert stages["figures-tensorrt"] == ("ok", "theirs: tensorrt-fp16 tensorrt-int8")
    assert stages["figures-compiled"] == ("ok", "ours: torch-compile-fp16 torch-compile-fp32")
    assert "prepare" not in stages
    sanitized = (tmp_path / "work" / "sanitized").read_text().splitlines()
    assert [line.split()[1] for line in sanitized] == ["memcheck", "racecheck", "synccheck"]
    assert all(line.endswith(f"--once {tmp_path}/made/elsewhere") for line in sanitized)
