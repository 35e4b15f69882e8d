"""Engine files of strangers: native ones are data; the others are programs that load() starts only if asked to."""

import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from models import engine_header, keypoints, tiny_lifter, torch_poses
from onnx import TensorProto, helper

import edgepose
from edgepose import enginefile
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_onnx import plan_to_onnx
from edgepose.cli import main
from edgepose.onnxfile import check_has_no_external_data

MODEL = tiny_lifter()
SHAPE = [1, 1, 17, 2]


def onnx_bytes(precision):
    return plan_to_onnx(*lower(MODEL, precision), None, 17, stores_int8=True).SerializeToString()


def payload_engine(path, backend, payload):
    enginefile.write(path, {**engine_header(MODEL), "backend": backend, "batch": 1, "machine": {}, "rung": "strong"},
                     {"payload": np.frombuffer(payload, np.uint8)})
    return path


@pytest.mark.parametrize("backend", ["onnx", "torchscript", "tensorrt", "cuda"])
@pytest.mark.parametrize("trust", [False, None, 0, "no"])
def test_an_engine_that_is_a_program_is_not_started_without_trust(monkeypatch, tmp_path, backend, trust):
    monkeypatch.setattr("edgepose.engine.backend", lambda name: pytest.fail("its backend was asked for"))
    path = payload_engine(tmp_path / "a.epose", backend, b"anything")
    if backend == "cuda":  # it has a plan and no payload
        plan, tensors = lower(MODEL, "fp32")
        enginefile.write(path, {**engine_header(MODEL), "backend": "cuda", "plan": plan}, tensors)
    with pytest.raises(edgepose.EngineError,
                       match=f"a.epose: an engine for the {backend} backend can do what a program can.*trust=True"):
        edgepose.load(path, **({} if trust is None else {"trust": trust}))


class Vandal(torch.nn.Module):
    def __init__(self, file):
        super().__init__()
        self.file = file

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        victim = torch.from_file(self.file, shared=True, size=12, dtype=torch.uint8)
        victim.fill_(88)
        return torch.zeros(x.size(0), 17, 3) + victim[0]


def test_a_torchscript_engine_of_a_stranger_writes_no_file(tmp_path, capsys):
    victim, buffer = tmp_path / "victim.txt", io.BytesIO()
    victim.write_text("keep me safe")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Vandal(str(victim))), buffer)
    path = payload_engine(tmp_path / "evil.epose", "torchscript", buffer.getvalue())
    for command in (["stream", "--engine", path], ["lift", "--engine", path, "--input", "x.npz", "--output", "out"],
                    ["evaluate", "--model", path], ["doctor", path]):
        assert main([*map(str, command)]) == 1
        assert "can do what a program can" in "".join(capsys.readouterr())
    assert victim.read_text() == "keep me safe"
    edgepose.load(path, trust=True).run(keypoints(MODEL, 1))
    assert victim.read_text() == "X" * 12  # the attack above was a real one


def test_a_trusted_engine_runs_in_every_command(tmp_path, recordings, capsys):
    path = str(payload_engine(tmp_path / "a.epose", "onnx", onnx_bytes("fp32")))
    x = keypoints(MODEL, 2)
    np.testing.assert_allclose(edgepose.load(path, trust=True).run(x), torch_poses(MODEL, x), atol=1e-4)
    assert main(["stream", "--engine", path, "--trust"]) == 0
    assert main(["lift", "--engine", path, "--trust", "--input", str(recordings), "--output",
                 str(tmp_path / "out"), "--processes", "1"]) == 0
    assert main(["doctor", path, "--trust"]) == 0
    assert main(["evaluate", "--model", path, "--trust"]) == 0


def external(name, dims=(12,)):
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "victim.txt"), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_with(nodes, initializers=(), **parts):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "xy")
    return helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"]), *nodes],
                                               "g", [x], [y], list(initializers)), **parts)


def in_an_initializer():
    return model_with([], [external("stolen")])


def in_a_constant():
    return model_with([helper.make_node("Constant", [], ["stolen"], value=external("stolen"))])


def in_a_branch():
    branch = helper.make_graph([helper.make_node("Constant", [], ["out"], value=external("stolen"))], "branch", [],
                               [helper.make_tensor_value_info("out", TensorProto.UINT8, [12])])
    return model_with([helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)])


def in_a_function():
    constant = helper.make_node("Constant", [], ["out"], value=external("stolen"))
    return model_with(
        [], functions=[helper.make_function("mine", "f", [], ["out"], [constant], [helper.make_opsetid("", 17)])])


def in_sparse_values():
    model = model_with([])
    model.graph.sparse_initializer.add(values=external("values"), dims=[12])
    return model


@pytest.mark.parametrize("make", [in_an_initializer, in_a_constant, in_a_branch, in_a_function, in_sparse_values])
def test_a_graph_that_reads_other_files_is_refused_trusted_or_not(monkeypatch, tmp_path, make):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim.txt").write_text("my password!")
    path = payload_engine(tmp_path / "a.epose", "onnx", make().SerializeToString())
    with pytest.raises(edgepose.EngineError, match="reads tensors from other files"):
        edgepose.load(path, trust=True)


def test_the_graphs_of_every_precision_have_no_external_data():
    for precision in ("fp32", "fp16"):
        check_has_no_external_data(onnx_bytes(precision))
    check_has_no_external_data(onnx.ModelProto().SerializeToString())


@pytest.mark.parametrize(
    "damage", [b"\x3a", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 11, b"\x3b", b"\x39\x00", b"\x3a\x05ab"])
def test_bytes_that_are_no_model_are_refused(damage):
    with pytest.raises(ValueError, match="no ONNX model"):
        check_has_no_external_data(damage)
