import json

import pytest
import torch
from safetensors.torch import save_file

from edgepose import zoo
from edgepose.zoo.checkpoints import (FORMAT, find_checkpoint, load_checkpoint, read_tensors, save_checkpoint,
                                      write_tensors)

META = {"model": "ampose", "frames": 9, "skeleton": "h36m17", "options": {"channels": 16}, "seed": 3,
        "figures": {"validation_mpjpe_mm": 1.5}}


@pytest.fixture
def module():
    torch.manual_seed(0)
    return zoo.build("ampose", 9, channels=16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_gives_back_the_module_and_what_was_said_of_it(tmp_path, module, dtype):
    path = tmp_path / "new" / "m.safetensors"
    save_checkpoint(path, module, META, dtype)
    loaded, metadata = load_checkpoint(path)
    assert metadata == {**META, "format": FORMAT} and not loaded.training and loaded.frames == 9
    for name, tensor in module.state_dict().items():
        stored = tensor.to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor
        assert torch.equal(loaded.state_dict()[name], stored)
    assert next(loaded.parameters()).dtype == torch.float32
    assert [file.name for file in path.parent.iterdir()] == ["m.safetensors"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.zeros(2)}, {"n": 1})

    def fails(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(path, {"a": torch.ones(2)}, {"n": 2})
    tensors, metadata = read_tensors(path)
    assert metadata == {"n": 1} and tensors["a"].tolist() == [0, 0]


def test_a_checkpoint_without_its_model_is_refused(tmp_path, module):
    with pytest.raises(ValueError, match="missing: frames, options"):
        save_checkpoint(tmp_path / "m.safetensors", module, {"model": "ampose", "skeleton": "h36m17"})


def test_a_file_of_torch_save_is_told_from_a_checkpoint(tmp_path):
    torch.save({}, tmp_path / "mine.pth")
    with pytest.raises(ValueError, match="mine.pth is a file of torch.save, not a .safetensors checkpoint.*--published "
                       ".*mine.pth"):
        find_checkpoint(str(tmp_path / "mine.pth"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*nothing.safetensors"):
        load_checkpoint(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle in a zip", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no edgepose checkpoint"):
        load_checkpoint(path)


def as_stored(**changes):
    return {key: json.dumps(value) for key, value in {**META, "format": FORMAT, **changes}.items()}


@pytest.mark.parametrize("metadata, message", [
    (None, "its format is None"),
    ({"format": "pt"}, "is no edgepose checkpoint"),
    ({"format": json.dumps(FORMAT), "model": json.dumps("ampose")}, "the metadata lacks frames, skeleton, options"),
    (as_stored(skeleton="smpl"), "unknown skeleton 'smpl'"),
    (as_stored(model="gpt"), "m.safetensors: unknown model 'gpt'"),
    (as_stored(model=["ampose"]), r"m.safetensors: the metadata's 'model' is \['ampose'\]; wanted str"),
    (as_stored(frames="9"), "m.safetensors: the metadata's 'frames' is '9'; wanted int"),
    (as_stored(frames=True), "'frames' is True"),
    (as_stored(frames=-9), "m.safetensors: model 'ampose' takes 1, 9, 27 frames, not -9"),
    (as_stored(skeleton=None), "m.safetensors: the metadata's 'skeleton' is None"),
    (as_stored(options=[["channels", 16]]), "'options' is .*; wanted dict"),
    (as_stored(options={"channels": -16}),
     "m.safetensors: option 'channels' of model 'ampose' is -16; wanted 1 or more"),
    (as_stored(options={"channels": "16"}), "m.safetensors: option 'channels' of model 'ampose' is '16'"),
    (as_stored(options={"heads": 0}), "option 'heads' .* is 0"),
    (as_stored(options={"depht": 2}), "no option 'depht'.*did you mean depth"),
    (as_stored(options="x" * 9999), "'options' is 'xxxxx.{1,60}; wanted dict")])
def test_a_foreign_safetensors_file_is_refused(tmp_path, metadata, message):
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("change, message", [
    (lambda state: state.pop("head.bias"), "does not fit model 'ampose': missing head.bias"),
    (lambda state: state.update(extra=torch.zeros(1)), "not known extra"),
    (lambda state: state.clear(), "does not fit model 'ampose': (missing [^;]+; ){5}and [0-9]+ more$"),
    (lambda state: state.update({"head.bias": torch.zeros(4)}), r"head.bias has shape \(4,\), not \(3,\)")])
def test_tensors_that_do_not_fit_are_named(tmp_path, module, change, message):
    state = dict(module.state_dict())
    change(state)
    write_tensors(tmp_path / "m.safetensors", state, {**META, "format": FORMAT})
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "m.safetensors")
