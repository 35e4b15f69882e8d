import pytest
from tiny_mocap import write_all

from edgepose.build_engines import publish_detector as p
from edgepose.pictures.detector import HRNetDetector
from edgepose.shipped import WEIGHTS
from edgepose.zoo.detectors import load_detector, save_detector

pytestmark = pytest.mark.slow

pytest.importorskip("onnxruntime", reason="the detectors run in onnxruntime")


def test_what_ships_is_written_with_its_figures(tmp_path, monkeypatch):
    for name, value in (("PICTURES", 4), ("FILMS", 2), ("FRAMES", 3), ("SIZE", (64, 96))):
        monkeypatch.setattr(p, name, value)
    # A detector that sees somebody everywhere: it has figures, and they are bad.
    module, metadata = load_detector("hrnet-w8", untrained=True)
    module.final_layer.bias.data += 0.5
    save_detector(tmp_path / "run" / "tiny.safetensors", module,
                  {**metadata, "size": [64, 64], "command": "train it", "data": "motion"})
    path = p.publish_detector(tmp_path / "run" / "tiny.safetensors", write_all(tmp_path / "mocap"),
                              tmp_path, "begun twice")
    _, metadata = load_detector(str(path))
    assert metadata["figures"]["films: frames with somebody, %"] == 100
    assert (metadata["figures"]["films: MPJPE mm, from perfect keypoints"]
            < metadata["figures"]["films: MPJPE mm, the mean pose"])
    assert metadata["figures"]["crops: mean error, % of the crop's height"] > 5
    assert HRNetDetector(path.with_suffix(".onnx")).size == (64, 64)
    card = path.with_suffix(".md").read_text()
    assert all(f"| {what} | {value} |" in card for what, value in metadata["figures"].items())
    assert "rendered people only" in card and "begun twice" in card and "train it" in card and "64x64" in card


def test_the_card_that_ships_has_the_figures_of_the_weights():
    _, metadata = load_detector("hrnet-w8")
    card = (WEIGHTS / "hrnet-w8.md").read_text()
    assert all(f"| {what} | {value} |" in card for what, value in metadata["figures"].items())
    assert metadata["note"] in card
