import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from gpu_engines import a_gpu

import edgepose
from edgepose import _native, cli, gpu


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0 and f"edgepose {command}" in capsys.readouterr().out


def test_an_unknown_command_is_answered_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["fly"])
    assert stop.value.code == 2 and "compile" in capsys.readouterr().err


def test_doctor_names_the_engine_it_would_run(capsys):
    assert cli.main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert all(f"\n  {library} " in output
               for library in ("opencv-python", "av", "rerun-sdk", "scipy", "h5py", "torch"))
    assert "ampose_fp16.epose" in output and "native backend" in output and "because" in output


def test_doctor_lists_the_instruction_sets_and_what_each_gains(capsys, monkeypatch):
    assert cli.main(["doctor"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    here = dict(line for line in lines if len(line) == 2)
    for name, machines, gain, _, runs in _native.instruction_sets():
        assert here[name].startswith("runs here" if runs else "not on this CPU") and machines in here[name]
        assert gain in here[name]
    assert [name for name, *_, runs in _native.instruction_sets() if runs] == _native.isas()
    monkeypatch.setattr(_native, "instruction_sets", lambda: [("new", "CPUs to come", "all", False, False)])
    assert cli.main(["doctor"]) == 0
    assert "left out: this compiler is too old for it CPUs to come: all" in capsys.readouterr().out


def test_doctor_says_why_tensorrt_engines_do_not_run_here(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert cli.main(["doctor"]) == 0
    assert "; TensorRT engines do not run here: tensorrt is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("extension, launches", [("careful", "a frame is one launch of a CUDA graph"),
                                                 (None, "without CUDA graphs, since edgepose._cuda")])
def test_doctor_names_the_gpu_that_runs_tensorrt_engines(capsys, monkeypatch, extension, launches):
    a_gpu(monkeypatch, "10.13", extension=extension)
    assert cli.main(["doctor"]) == 0
    assert f"TensorRT 10.13.3 engines run here (Fake GPU 1000, 8.7), {launches}" in capsys.readouterr().out


def test_doctor_says_for_which_gpus_the_cuda_engine_is_built(capsys, monkeypatch):
    reason = "CUDA driver version is insufficient for CUDA runtime version"
    extension = types.SimpleNamespace(architectures=lambda: [87, 90], why_unavailable=lambda: reason)
    monkeypatch.setitem(sys.modules, "edgepose._cuda", extension)
    monkeypatch.setattr(edgepose, "_cuda", extension, raising=False)
    monkeypatch.setattr(gpu, "_has_driver", lambda: False)
    assert cli.main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "cuda engines do not run here: no NVIDIA driver; " in output
    assert "edgepose._cuda is built for sm_87, sm_90" in output
    monkeypatch.setattr(gpu, "_has_driver", lambda: True)
    assert gpu.cuda_missing() == extension.why_unavailable()


def test_doctor_says_that_a_folder_is_one(tmp_path, capsys):
    assert cli.main(["doctor", str(tmp_path)]) == 1
    assert f"{tmp_path}: a folder; wanted engine files" in capsys.readouterr().out


def test_doctor_says_when_an_engine_cannot_run(tmp_path, capsys):
    (tmp_path / "broken.epose").write_bytes(b"nothing")
    assert cli.main(["doctor", str(tmp_path / "broken.epose")]) == 1
    assert "cannot run here" in capsys.readouterr().out


def test_a_command_whose_extra_is_missing_says_which():
    blocked = ("import sys\nclass Block:\n def find_spec(self, name, path=None, target=None):\n"
               "  if name == 'torch': raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
               "sys.meta_path.insert(0, Block())\nfrom edgepose.cli import main\n"
               "sys.exit(main(['compile', '--model', 'ampose']))")
    process = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert process.returncode == 1 and "pip install 'edgepose[build]'" in process.stderr


def test_a_data_set_whose_library_is_missing_says_which_extra_has_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "TS1").mkdir()
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert cli.main(["evaluate", "--model", "ampose", "--data", "mpi-inf-3dhp", "--path", str(tmp_path)]) == 1
    assert "h5py is not installed: pip install 'edgepose[data]'" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["build_engines/compile.py", "benchmarks/run.py"])
def test_the_scripts_are_the_commands(script, request):
    process = subprocess.run([sys.executable, str(request.config.rootpath / script), "--help"],
                             capture_output=True, text=True)
    assert process.returncode == 0 and "--model" in process.stdout


@pytest.mark.parametrize("script, library, extra",
                         [("build_engines/compile.py", "torch", "build"), ("benchmarks/run.py", "rich", "bench")])
def test_a_script_whose_extra_is_missing_says_which_in_a_line(tmp_path, script, library, extra, request):
    (tmp_path / f"{library}.py").write_text(f"raise ModuleNotFoundError('not here', name='{library}')")
    path = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parents[1]), *sys.path])
    process = subprocess.run([sys.executable, str(request.config.rootpath / script)], capture_output=True,
                             text=True, env={**os.environ, "PYTHONPATH": path})
    assert process.returncode == 1
    assert process.stderr.endswith(f"{library} is not installed: pip install 'edgepose[{extra}]'\n")
    assert process.stderr.count("\n") == 1


def test_a_broken_tensorrt_does_not_keep_engines_for_the_cpu_from_being_built(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    (tmp_path / "tensorrt.py").write_text("raise RuntimeError('libnvinfer is of another version')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "libnvinfer is of another version" in gpu.tensorrt_missing()
    assert cli.main(["compile", "--model", "martinez-s", "--precision", "fp16", "--out",
                     str(tmp_path / "engines")]) == 0
    assert (tmp_path / "engines" / "martinez-s_native_fp16.epose").is_file()
