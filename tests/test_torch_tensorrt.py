import json
import sys
import types
from importlib.machinery import ModuleSpec

import numpy as np
import onnx
import pytest
import torch
from fake_tensorrt import FULL
from gpu_engines import a_gpu
from models import keypoints, tiny_lifter, torch_poses

import edgepose
from edgepose import enginefile
from edgepose.build_engines import export
from edgepose.build_engines.tensorrt import torch_tensorrt
from edgepose.cli import main
from edgepose.enginefile import EngineError

pytestmark = pytest.mark.slow


def a_plan(trt, program, example):
    """The bytes that the fake TensorRT takes for a plan of the exported program."""
    model = onnx.load_from_string(export.to_onnx(AsLifter(program, example)))
    for value, shape in ((model.graph.input[0], example.shape),
                         (model.graph.output[0], (len(example), example.shape[2], 3))):
        for dim, size in zip(value.type.tensor_type.shape.dim, shape):
            dim.Clear()
            dim.dim_value = size
    del model.graph.value_info[:]
    return (json.dumps({"version": trt.__version__, "layers": ["all of it"]}).encode() + b"\n"
            + model.SerializeToString())


class AsLifter(torch.nn.Module):
    """The exported program, with the attributes export.to_onnx asks of a model; it is traced with two people."""

    def __init__(self, program, example):
        super().__init__()
        self.frames, self.skeleton = example.shape[1], range(example.shape[2])
        self.__dict__["program"] = program.module()  # no submodule: it refuses train()

    def forward(self, keypoints_norm):
        return self.program(keypoints_norm)


def a_torch_tensorrt(monkeypatch, trt, version="2.13.0", fails=None):
    """Install a fake torch_tensorrt of that version; returns a dict with the options of its calls."""
    asked = {}

    def record(exported_program, arg_inputs, options):
        asked.update(options, dtypes={t.dtype for t in exported_program.state_dict.values()},
                     shape=tuple(arg_inputs[0].shape))
        if fails:
            raise RuntimeError(fails)
        return a_plan(trt, exported_program, arg_inputs[0])

    def of_2_14(exported_program, inputs=None, *, arg_inputs=None, use_explicit_typing=True,
                disable_tf32=False, immutable_weights=True, require_full_compilation=False, min_block_size=5):
        return record(exported_program, arg_inputs,
                      {"use_explicit_typing": use_explicit_typing, "disable_tf32": disable_tf32,
                       "require_full_compilation": require_full_compilation, "min_block_size": min_block_size})

    def of_2_5(exported_program, inputs=None, *, arg_inputs=None, enabled_precisions=frozenset({torch.float32}),
               disable_tf32=False):
        return record(exported_program, arg_inputs,
                      {"enabled_precisions": enabled_precisions, "disable_tf32": disable_tf32})

    library = types.ModuleType("torch_tensorrt")
    library.__version__, library.dynamo, library.__spec__ = (version, types.SimpleNamespace(),
                                                             ModuleSpec("torch_tensorrt", None))
    if version != "2.1.0":
        library.dynamo.convert_exported_program_to_serialized_trt_engine = of_2_5 if version == "2.5.0" else of_2_14
    monkeypatch.setitem(sys.modules, "torch_tensorrt", library)
    monkeypatch.setattr(torch_tensorrt, "DEVICE", "cpu")
    return asked


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_types_in_the_program_decide(monkeypatch, precision):
    _, trt = a_gpu(monkeypatch)
    asked = a_torch_tensorrt(monkeypatch, trt)
    module = tiny_lifter()
    plan = torch_tensorrt.build(module, precision, 2)
    assert asked["use_explicit_typing"] and asked["disable_tf32"] and asked["require_full_compilation"]
    assert asked["min_block_size"] == 1
    assert asked["shape"] == (2, 1, 17, 2) and (torch.float16 in asked["dtypes"]) == (precision == "fp16")
    assert plan.machine["tensorrt"] == FULL["10.3"] and json.loads(plan.layers)["Layers"]
    # The module itself is unchanged.
    assert all(tensor.dtype == torch.float32 for tensor in module.state_dict().values() if tensor.is_floating_point())


@pytest.mark.parametrize("precision, allowed", [("fp32", {torch.float32}), ("fp16", {torch.float32, torch.float16})])
def test_an_older_version_is_told_the_precisions_it_may_choose_from(monkeypatch, precision, allowed):
    _, trt = a_gpu(monkeypatch)
    asked = a_torch_tensorrt(monkeypatch, trt, "2.5.0")
    torch_tensorrt.build(tiny_lifter(), precision, 2)
    assert asked["enabled_precisions"] == allowed and asked["disable_tf32"]


def test_a_version_that_gives_no_plan_is_refused(monkeypatch):
    _, trt = a_gpu(monkeypatch)
    a_torch_tensorrt(monkeypatch, trt, "2.1.0")
    with pytest.raises(EngineError, match="Torch-TensorRT 2.1.0 gives no plan of its own; 2.5 and later do"):
        torch_tensorrt.build(tiny_lifter(), "fp16", 2)


def test_what_it_does_not_convert_is_said_in_its_words(monkeypatch):
    _, trt = a_gpu(monkeypatch)
    a_torch_tensorrt(monkeypatch, trt, fails="no converter for aten.erfinv\nand a long list")
    with pytest.raises(
            EngineError, match="Torch-TensorRT 2.13.0 does not convert the model: no converter for aten.erfinv$"):
        torch_tensorrt.build(tiny_lifter(), "fp16", 2)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_compile_writes_its_plan_as_an_engine_of_the_tensorrt_backend(monkeypatch, tmp_path, precision):
    _, trt = a_gpu(monkeypatch)
    a_torch_tensorrt(monkeypatch, trt)
    assert main(["compile", "--model", "martinez-s", "--backend", "torch-tensorrt", "--precision",
                 precision, "--batch", "2", "--out", str(tmp_path)]) == 0
    engine = edgepose.load(tmp_path / f"martinez-s_torch-tensorrt_{precision}_b2.epose", trust=True)
    assert engine.backend == "tensorrt" and engine.precision == precision
    assert engine.header["rung"] == "torch-tensorrt" and engine.header["batch"] == 2
    assert set(enginefile.read(engine.path)[1]) == {"payload"}
    row, = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert row["runtime"] == "torch-tensorrt" and row["is_kept"]
    assert (tmp_path / f"{engine.path.stem}.layers.json").is_file()


def test_half_precision_lies_between_float32_keypoints_and_poses():
    model, half = tiny_lifter(), torch_tensorrt.HalfModule(tiny_lifter())
    x = keypoints(model, 3)
    y = torch_poses(half, x)
    assert y.dtype == np.float32 and 0 < np.abs(y - torch_poses(model, x)).max() < 0.02


def test_without_the_library_compile_says_what_installs_it(monkeypatch, tmp_path, capsys):
    a_gpu(monkeypatch)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    assert main(["compile", "--model", "ampose", "--backend", "torch-tensorrt", "--out", str(tmp_path)]) == 1
    assert ("--backend torch-tensorrt needs Torch-TensorRT, which is not installed: pip install "
            "'edgepose[torch-tensorrt]'" in capsys.readouterr().err)


def test_without_tensorrt_either_the_extra_that_has_all_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert main(["compile", "--model", "ampose", "--backend", "torch-tensorrt", "--out", str(tmp_path)]) == 1
    assert "PyCUDA and Torch-TensorRT: pip install 'edgepose[torch-tensorrt]'" in capsys.readouterr().err
