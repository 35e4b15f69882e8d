import json
import sys

import models
import numpy as np
import pytest
import torch

from edgepose import zoo
from edgepose.benchmarks import peers, run
from edgepose.build_engines.plan_module import PlanModule
from edgepose.cli import main

pytestmark = pytest.mark.slow


def needs(*libraries):
    for library in libraries:
        pytest.importorskip(library, reason=f"needs {library}: pip install 'edgepose[peers]'")


def windows(model, people):
    return np.random.default_rng(0).uniform(-0.5, 0.5,
                                            (people, model.frames, len(model.skeleton), 2)).astype(np.float32)


def pose_m(model, x):
    with torch.inference_mode():
        return model(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("name", ["ampose-s", "ampose-refined", "strided27-s", "posegate-s", "dln-s", "martinez-s"])
def test_ncnn_lifts_a_model_of_each_family_as_torch_does(name, tmp_path):
    needs("ncnn", "pnnx")
    model = models.randomised(zoo.build(name)).eval()
    x = windows(model, 3)
    original, wanted, file = x.copy(), pose_m(model, x), tmp_path / "lifter.param"
    peers.write_ncnn(model, file)
    for threads in (1, 2):
        lift = peers.open_ncnn(file, threads)
        for _ in range(2):
            np.testing.assert_allclose(lift(x), wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))
    np.testing.assert_array_equal(x, original)


def test_a_layer_that_ncnn_lacks_is_named(tmp_path, monkeypatch):
    needs("pnnx")

    class EverySecondJoint(PlanModule):
        def forward(self, keypoints_norm):
            return super().forward(keypoints_norm)[:, ::2]
    monkeypatch.setattr(peers, "PlanModule", EverySecondJoint)
    with pytest.raises(peers.NotConverted, match="no layer of ncnn for Tensor.slice$"):
        peers.write_ncnn(zoo.build("martinez-s").eval(), tmp_path / "lifter.param")
    assert not list(tmp_path.iterdir())


def test_operators_of_torch_are_found_among_the_layers_of_ncnn():
    layers = ("Input in0 0 1 in0\ntorch.unbind a.b 1 3 0\nInnerProduct c.d 1 1\nTensor.slice e 1 1\n"
              "torch.unbind f 1 3\naten::sort g 1 1\n")
    assert peers.unknown_layers("7767517\n5 5\n" + layers) == ["Tensor.slice", "aten::sort", "torch.unbind"]


def test_a_model_that_executorch_cannot_export_says_why(tmp_path):
    needs("executorch.exir")

    class Undecided(torch.nn.Module):
        frames, skeleton = 1, zoo.build("martinez-s").skeleton

        def forward(self, x):
            return x if x.sum() > 0 else -x
    with pytest.raises(peers.NotConverted, match="ExecuTorch's exporter: .*data-dependent"):
        peers.write_executorch(Undecided(), tmp_path / "lifter.pte")


@pytest.mark.parametrize("runtime, libraries", [("ncnn", ("ncnn", "pnnx")), ("executorch", ("executorch.exir",))])
def test_a_peer_is_a_row_like_any_other(runtime, libraries, tmp_path):
    needs(*libraries)
    file = tmp_path / "bench.json"
    assert main(["bench", "--models", "martinez-s", "--rounds", "1", "--batch", "1", "3", "--threads",
                 "2", "1", "--precisions", "fp32", "--runtimes", "native", runtime, "--json", str(file)]) == 0
    rows = [row for row in json.loads(file.read_text())["rows"] if row["runtime"] == runtime]
    assert [(row["threads"], row["batch"]) for row in rows] == [(2, 1), (2, 3), (1, 1), (1, 3)]
    for row in rows:
        assert row["max_error_mm"] < 0.01 and row["load_ms"] > 0 and row["rss_mb"] > 10


def refuse(module, file):
    raise peers.NotConverted("no layer for Tensor.slice")


def test_a_model_that_a_peer_cannot_have_is_left_out_aloud(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(peers.RUNTIMES, "ncnn", (".param", refuse, peers.open_ncnn))
    monkeypatch.setattr(run, "PRECISIONS", {name: run.PRECISIONS[name] for name in ("native", "ncnn")})
    file = tmp_path / "bench.json"
    assert main(["bench", "--models", "martinez-s", "--rounds", "1", "--batch", "1", "2", "--precisions",
                 "fp32", "--json", str(file)]) == 0
    assert [row["runtime"] for row in json.loads(file.read_text())["rows"]] == ["native", "native"]
    assert capsys.readouterr().out.count("ncnn cannot run martinez-s: no layer for Tensor.slice: left out") == 1
    assert main(["bench", "--models", "martinez-s", "--runtimes", "native", "ncnn", "--precisions", "fp32"]) == 1
    assert "edgepose bench: no layer for Tensor.slice" in capsys.readouterr().err


@pytest.mark.parametrize("runtime, library, name",
                         [("ncnn", "pnnx", "pnnx"), ("executorch", "executorch", "ExecuTorch")])
def test_a_peer_that_is_not_installed_is_left_out_or_asked_for(runtime, library, name, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(run, "PRECISIONS", {name: run.PRECISIONS[name] for name in ("native", runtime)})
    assert main(["bench", "--models", "martinez-s", "--rounds", "1", "--precisions", "fp32"]) == 0
    assert f"{runtime} is not installed: left out" in capsys.readouterr().out
    assert main(["bench", "--models", "martinez-s", "--runtimes", runtime, "--precisions", "fp32"]) == 1
    assert f"needs {name}, which is not installed: pip install 'edgepose[peers]'" in capsys.readouterr().err
