import numpy as np
import pytest
import torch
from hrnet_names import official_shapes, official_state

from edgepose import zoo
from edgepose.build_engines import compile_detector as detectors
from edgepose.cli import main
from edgepose.pictures.detector import HRNetDetector
from edgepose.shipped import WEIGHTS
from edgepose.zoo.detectors import load_detector, save_detector

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip("onnxruntime", reason="the detectors run in onnxruntime")


@pytest.fixture(scope="module")
def module():
    module, _ = load_detector("hrnet-w8", untrained=True)
    torch.nn.init.normal_(module.final_layer.weight, generator=torch.Generator().manual_seed(1))
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.running_mean, -0.2, 0.2)
    return module


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3},
                                  lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
                                  lambda state: {"state_dict": {f"module.{name}": tensor
                                                                for name, tensor in state.items()}},
                                  lambda state: {name: t for name, t in state.items()
                                                 if not name.endswith("num_batches_tracked")}])
def test_the_authors_files_load_in_every_wrapping(tmp_path, module, wrap):
    torch.save(wrap(module.state_dict()), tmp_path / "official.pth")
    loaded, metadata = load_detector("hrnet-w8", tmp_path / "official.pth")
    crops = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(crops), module(crops)) and metadata["model"] == "hrnet-w8"


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("width", [32, 48])
def test_every_tensor_of_the_authors_models_arrives_where_it_belongs(tmp_path, width, prefix):
    # Tensors of one number each, a different one for each name, make small files; a BatchNorm's step counter is not
    # used.
    numbers = {name: float(i) for i, name in enumerate(official_shapes(width), 1)}
    torch.save({prefix + name: torch.tensor(numbers[name]).expand(shape)
                for name, shape in official_shapes(width).items()}, tmp_path / "a.pth")
    module, _ = load_detector(f"hrnet-w{width}", tmp_path / "a.pth")
    arrived = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert not [name for name, tensor in arrived.items()
                if tensor.min() != numbers[name] or tensor.max() != numbers[name]]
    assert arrived.keys() == {name for name in numbers if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name, change, message", [
    ("stage4.2.fuse_layers.0.3.0.weight", None, "missing stage4.2.fuse_layers.0.3.0.weight"),
    ("stage4.2.fuse_layers.1.0.0.0.weight", (64, 32, 3, 3), "stage4.2.fuse_layers.1.0.0.0.weight"),
    ("final_layer.weight", (16, 32, 1, 1), r"final_layer.weight has shape \(16, 32, 1, 1\), not \(17, 32, 1, 1\)")])
def test_an_official_file_with_one_tensor_amiss_is_refused(tmp_path, name, change, message):
    shapes = {**official_shapes(32), name: change}
    torch.save({key: torch.tensor(0.0).expand(shape) for key, shape in shapes.items() if shape is not None},
               tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        load_detector("hrnet-w32", tmp_path / "a.pth")


def test_the_authors_w32_gives_the_same_heatmaps_in_onnx(tmp_path):
    state = official_state(32)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "pose_hrnet_w32.pth")
    module, metadata = load_detector("hrnet-w32", tmp_path / "pose_hrnet_w32.pth")
    assert metadata == {"model": "hrnet-w32", "size": (256, 192)}
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.named_parameters())
    assert detectors.export_detector(module, (64, 64), tmp_path / "a.onnx") < 1e-5


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content, message", [
    (Evil(), "no .pth file of tensors"), ([1, 2], "no tensors by name"), ({}, "no tensors by name"),
    ({"a": torch.zeros(1)}, "missing conv1.weight"),
    ({0: torch.zeros(1)}, "no tensors by name.*0: Tensor"), ({"state_dict": {"a": 1}}, "no tensors by name"),
    ({"conv1.weight": torch.zeros(64, 3, 3, 3)},
     r"missing bn1.weight.*conv1.weight has shape \(64, 3, 3, 3\), not \(32, 3, 3, 3\)|and \d+ more"),
    (b"nothing", "no .pth file of tensors")])
def test_a_file_that_is_no_checkpoint_is_refused_and_nothing_in_it_is_run(tmp_path, capsys, content, message):
    path = tmp_path / "a.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        load_detector("hrnet-w8", path)
    assert "executed" not in capsys.readouterr().out


def test_a_checkpoint_comes_back_with_its_metadata(tmp_path, module):
    save_detector(tmp_path / "a.safetensors", module, {"model": "hrnet-w8", "size": [64, 96], "seed": 3})
    loaded, metadata = load_detector(str(tmp_path / "a.safetensors"))
    assert metadata["size"] == (64, 96) and metadata["seed"] == 3
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), module.parameters()))
    with pytest.raises(ValueError, match="by their names, not for .*a.safetensors"):
        load_detector(str(tmp_path / "a.safetensors"), "official.pth")
    for wrong, wanted in (({"size": "64x96"}, "'size' is '64x96'; wanted list"),
                          ({"size": [64]}, "the crops are 64; wanted height and width"),
                          ({"size": [64, -96]}, "the crops are 64x-96"), ({"size": [64, "96"]}, "the crops are 64x96"),
                          ({"model": None}, "'model' is None; wanted str"),
                          ({"model": "ampose"}, "unknown detector 'ampose'; there are hrnet-w32")):
        save_detector(tmp_path / "b.safetensors", module, {"model": "hrnet-w8", "size": [64, 96], **wrong})
        with pytest.raises(ValueError, match=f"b.safetensors: .*{wanted}"):
            load_detector(str(tmp_path / "b.safetensors"))
    with pytest.raises(ValueError, match="missing: size"):
        save_detector(tmp_path / "b.safetensors", module, {"model": "hrnet-w8"})
    with pytest.raises(
            ValueError, match="random weights are for hrnet-w32, .* by their names, not for .*a.safetensors"):
        load_detector(str(tmp_path / "a.safetensors"), untrained=True)
    with pytest.raises(ValueError, match="no checkpoint of a detector"):
        load_detector(str(WEIGHTS / "ampose.safetensors"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_onnx_file_gives_the_heatmaps_of_torch(tmp_path, module, precision):
    error = detectors.export_detector(module, (64, 96), tmp_path / "a.onnx", precision)
    # float32 through some 60 convolutions; each half-precision weight is off by 2^-11.
    assert error < {"fp32": 1e-5, "fp16": 1e-2}[precision] and (precision == "fp32" or error > 1e-6)
    detector = HRNetDetector(tmp_path / "a.onnx")
    assert detector.size == (64, 96)
    crop = np.random.default_rng(0).normal(size=(3, 64, 96)).astype(np.float32)
    with torch.no_grad():
        wanted = module(torch.from_numpy(crop)[None])[0].numpy()
    assert np.abs(detector.heatmaps(crop) - wanted).max() <= detectors.BUDGET[precision] * np.abs(wanted).max()


def test_a_file_over_its_budget_is_refused_and_not_written(tmp_path, module, monkeypatch):
    honest = detectors.detector_onnx
    # A module with other weights.
    monkeypatch.setattr(detectors, "detector_onnx", lambda _, *rest: honest(zoo.build_detector("hrnet-w8"), *rest))
    with pytest.raises(ValueError, match="refused.*budget of fp32"):
        detectors.export_detector(module, (64, 64), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_size_that_does_not_halve_five_times_is_refused(tmp_path, module):
    with pytest.raises(ValueError, match="crops are 100x96; wanted height and width in multiples of 32"):
        detectors.export_detector(module, (100, 96), tmp_path / "a.onnx")


def test_the_command_compiles_a_detector(tmp_path, capsys, module):
    save_detector(tmp_path / "mine.safetensors", module, {"model": "hrnet-w8", "size": [64, 64]})
    assert main(["compile-detector", str(tmp_path / "mine.safetensors"), "--out", str(tmp_path),
                 "--precision", "fp32"]) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "hrnet-w8_64x64.onnx").is_file() and "hrnet-w8_64x64.onnx" in said and "MB" in said
    assert main(["compile-detector", "hrnet-w8", "--untrained", "--size", "96", "64", "--out",
                 str(tmp_path), "--precision", "fp16"]) == 0
    assert "untrained" in capsys.readouterr().out
    assert HRNetDetector(tmp_path / "hrnet-w8-untrained_96x64_fp16.onnx").size == (96, 64)
    assert main(["compile-detector", "hrnet-w32", "--out", str(tmp_path)]) == 1
    assert "--published FILE.pth" in capsys.readouterr().err
    assert main(["compile-detector", "hrnet-w8", "--untrained", "--size", "50", "64", "--out", str(tmp_path)]) == 1
    assert "multiples of 32" in capsys.readouterr().err
    torch.save(module.state_dict(), tmp_path / "official.pth")
    assert main(["compile-detector", "hrnet-w8", "--published", str(tmp_path / "official.pth"),
                 "--size", "64", "96", "--out", str(tmp_path), "--precision", "fp32"]) == 0
    assert HRNetDetector(tmp_path / "hrnet-w8_64x96.onnx").size == (64, 96)
    assert main(["compile-detector", "hrnet-w8", "--untrained", "--published", "a.pth", "--out", str(tmp_path)]) == 1
    assert "--published and --untrained exclude each other" in capsys.readouterr().err
    assert main(["compile-detector", "hrnet-w9", "--out", str(tmp_path)]) == 1
    assert ("'hrnet-w9' is neither a .safetensors checkpoint nor one of hrnet-w32, hrnet-w48, hrnet-w8; "
            "did you mean hrnet-w8" in capsys.readouterr().err)
    assert main(["compile-detector", str(WEIGHTS / "ampose.safetensors"), "--out", str(tmp_path)]) == 1
    assert "ampose.safetensors is no checkpoint of a detector" in capsys.readouterr().err


def test_the_shipped_onnx_file_is_that_of_the_shipped_weights():
    module, metadata = load_detector("hrnet-w8")
    detector = HRNetDetector(WEIGHTS / "hrnet-w8.onnx")
    assert detector.size == metadata["size"]
    crop = np.random.default_rng(0).normal(size=(3, *detector.size)).astype(np.float32)
    with torch.no_grad():
        wanted = module(torch.from_numpy(crop)[None])[0].numpy()
    assert np.abs(detector.heatmaps(crop) - wanted).max() <= detectors.BUDGET["fp16"] * np.abs(wanted).max()
    assert all((WEIGHTS / f"hrnet-w8.{suffix}").stat().st_size <= 2e6 for suffix in ("onnx", "safetensors"))
