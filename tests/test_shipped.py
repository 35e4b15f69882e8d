"""Files that ship are found where they are installed, and a message says which wheel has the rest."""

import shutil
import sys

import numpy as np
import pytest

import edgepose
from edgepose import shipped
from edgepose.clip import load_clip, load_windows
from edgepose.shipped import HERE, WEIGHTS, shipped_file, wheel_of
from edgepose.zoo.checkpoints import find_checkpoint
from edgepose.zoo.detectors import load_detector


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A function that puts the files of some wheels where their installation would, and nothing else is found."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(shipped, "HERE", tmp_path / "edgepose")

    def install(*wheels):
        for path in (*WEIGHTS.iterdir(), *(HERE / "clips").iterdir()):
            name = f"{path.parent.name}/{path.name}"
            if wheel_of(name) in wheels:
                target = tmp_path / wheel_of(name).replace("-", "_") / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
                (target.parents[1] / "__init__.py").touch()

    yield install
    for name in ("edgepose_weights", "edgepose_checkpoints"):
        sys.modules.pop(name, None)


def test_every_file_that_ships_is_in_one_of_three_wheels():
    names = [f"{path.parent.name}/{path.name}" for path in (*WEIGHTS.iterdir(), *(HERE / "clips").iterdir())]
    assert {wheel_of(name) for name in names} == {"edgepose", "edgepose-weights", "edgepose-checkpoints"}
    assert set(shipped.IN_THE_RUNTIME) <= set(names)
    assert sum((HERE / name).stat().st_size for name in shipped.IN_THE_RUNTIME) < 3e6


def test_the_runtime_alone_has_the_default_engine_and_says_where_the_others_are(installed):
    installed("edgepose")
    assert edgepose.load("ampose").model == "ampose" and len(load_clip("balance_cam1").keypoints_px) == 100
    with pytest.raises(edgepose.EngineError, match="'strided27-s' is neither .* shipped are ampose; more of them are "
                                                   "in the wheel edgepose-weights: pip install edgepose-weights"):
        edgepose.load("strided27-s")
    with pytest.raises(FileNotFoundError, match="hrnet-w8.onnx is not installed .*pip install edgepose-weights"):
        edgepose.open_detector("shipped")
    for call in (lambda: find_checkpoint("ampose"), lambda: load_detector("hrnet-w8"), lambda: load_windows(9)):
        with pytest.raises(FileNotFoundError, match="pip install edgepose-checkpoints"):
            call()


def test_the_other_wheels_are_found_where_they_are_installed(installed):
    installed("edgepose", "edgepose-weights", "edgepose-checkpoints")
    assert edgepose.load("strided27-s").path.parts[-3:] == ("edgepose_weights", "weights", "strided27-s_fp16.epose")
    assert shipped_file("weights/hrnet-w8.onnx").parts[-3] == "edgepose_weights"
    assert find_checkpoint("ampose").parts[-3] == "edgepose_checkpoints"
    assert len(load_windows(9)[0]) > 100
    with pytest.raises(edgepose.EngineError, match="posemlp_int8, strided27-s. Others are built"):
        edgepose.load("strided28")


def test_an_installation_from_source_has_everything():
    assert shipped.shipped("weights/*.epose") == sorted(WEIGHTS.glob("*.epose"))
    with np.load(shipped_file("clips/evaluation.npz")) as arrays:
        assert set(arrays) >= {"keypoints_norm", "target_m"}
    assert shipped.more("weights/*.epose") == shipped.more("weights/*.safetensors") == ""
