"""Checkpoints under the names that the Strided Transformer's authors gave their layers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgepose.build_engines.lifters import load_lifter
from edgepose.zoo import published

STRIDES = {27: (3, 3, 3), 351: (3, 9, 13)}


def published_state(frames=27, c=32, seed=0):
    """Random weights in the authors' layout."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"encoder.0.weight": (c, 34, 1), "encoder.0.bias": (c,), "Transformer.pos_embedding": (1, frames, c)}
    for name in ("encoder.1", "fcn.0", "fcn_1.0"):
        shapes |= {f"{name}.{key}": (c,) for key in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.num_batches_tracked"] = ()
    for name in ("fcn.1", "fcn_1.1"):
        shapes |= {f"{name}.weight": (51, c, 1), f"{name}.bias": (51,)}
    for part, taps in (("Transformer", None), ("Transformer_reduce", 3)):
        for i in range(3):
            layer = f"{part}.model.layers.{i}"
            for j in range(4):
                shapes |= {f"{layer}.self_attn.linears.{j}.weight": (c, c), f"{layer}.self_attn.linears.{j}.bias": (c,)}
            one, three = ((), ()) if taps is None else ((1,), (taps,))
            shapes |= {f"{layer}.feed_forward.w_1.weight": (2 * c, c, *one), f"{layer}.feed_forward.w_1.bias": (2 * c,),
                       f"{layer}.feed_forward.w_2.weight": (c, 2 * c, *three), f"{layer}.feed_forward.w_2.bias": (c,)}
            for j in range(2):
                shapes |= {f"{layer}.sublayer.{j}.norm.a_2": (c,), f"{layer}.sublayer.{j}.norm.b_2": (c,)}
            if taps:
                shapes[f"{part}.model.pos_embedding_{i + 1}"] = (1, frames, c)
        shapes |= {f"{part}.model.norm.a_2": (c,), f"{part}.model.norm.b_2": (c,)}
    state = {name: torch.randn(shape, generator=generator) / math.sqrt(shape[1] if len(shape) > 1 else 4)
             for name, shape in shapes.items() if shape}
    state |= {name: tensor.abs() + 0.5 for name, tensor in state.items() if name.endswith(("running_var", "a_2"))}
    state |= {name: torch.tensor(7) for name, shape in shapes.items() if not shape}
    return state


def as_the_authors_compute(state, x, frames):
    """The published forward pass, from the paper's equations 10 to 14: (B, T, 34) -> (B, 17, 3)."""
    def norm(name, y):
        deviation = y.std(-1, keepdim=True) + 1e-6
        return state[f"{name}.a_2"] * (y - y.mean(-1, keepdim=True)) / deviation + state[f"{name}.b_2"]

    def batch_norm(name, y):
        return nn.functional.batch_norm(
            y, *(state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    def attention(name, y):
        q, k, v = (nn.functional.linear(y, state[f"{name}.linears.{j}.weight"], state[f"{name}.linears.{j}.bias"])
                   .unflatten(-1, (8, -1)).transpose(1, 2) for j in range(3))
        y = ((q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v).transpose(1, 2).flatten(2)
        return nn.functional.linear(y, state[f"{name}.linears.3.weight"], state[f"{name}.linears.3.bias"])

    def conv(name, y, **options):
        return nn.functional.conv1d(y.transpose(1, 2), state[f"{name}.weight"], state[f"{name}.bias"],
                                    **options).transpose(1, 2)

    y = (torch.relu(batch_norm("encoder.1", conv("encoder.0", x).transpose(1, 2))).transpose(1, 2)
         + state["Transformer.pos_embedding"])
    for i in range(3):
        layer = f"Transformer.model.layers.{i}"
        y = y + attention(f"{layer}.self_attn", norm(f"{layer}.sublayer.0.norm", y))
        hidden = norm(f"{layer}.sublayer.1.norm", y)
        for w in ("w_1", "w_2"):
            hidden = nn.functional.linear(hidden, state[f"{layer}.feed_forward.{w}.weight"],
                                          state[f"{layer}.feed_forward.{w}.bias"])
            hidden = torch.relu(hidden) if w == "w_1" else hidden
        y = y + hidden
    for i, stride in enumerate(STRIDES[frames]):
        layer = f"Transformer_reduce.model.layers.{i}"
        y = y + state[f"Transformer_reduce.model.pos_embedding_{i + 1}"][:, :y.shape[1]]
        y = y + attention(f"{layer}.self_attn", norm(f"{layer}.sublayer.0.norm", y))
        hidden = torch.relu(conv(f"{layer}.feed_forward.w_1", norm(f"{layer}.sublayer.1.norm", y)))
        y = y[:, ::stride] + conv(f"{layer}.feed_forward.w_2", hidden, stride=stride, padding=1)
    y = batch_norm("fcn.0", y.transpose(1, 2)).transpose(1, 2)
    return conv("fcn.1", y).reshape(len(x), 17, 3)


@pytest.mark.parametrize("frames", STRIDES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_give_the_poses_of_the_published_equations(frames, prefix):
    state = published_state(frames)
    model = published.strided_transformer({prefix + name: tensor for name, tensor in state.items()})
    x = torch.randn(2, frames, 17, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x), as_the_authors_compute(state, x.flatten(2), frames), atol=1e-4, rtol=1e-4)
    assert model.sequence_head.linear.weight.shape == (51, 32)


@pytest.mark.parametrize("frames, millions", [(27, 4.01), (351, 4.34)])
def test_the_authors_layout_has_the_parameters_they_report_truncated(frames, millions):
    trained = sum(t.numel() for name, t in published_state(frames, 256).items() if "running" not in name
                  and "num_batches" not in name)
    assert int(trained / 1e4) / 100 == millions


@pytest.mark.parametrize("change, message", [
    (lambda state: state.pop("fcn.1.bias"), "missing fcn.1.bias"),
    (lambda state: state.update(extra=torch.zeros(1)), "not known extra"),
    (lambda state: state.pop("Transformer.pos_embedding"), "no Strided Transformer: wanted Transformer.pos_embedding"),
    (lambda state: state.update({"Transformer.pos_embedding": torch.zeros(1, 9, 32)}),
     "is for 9 frames; there are 27, 81, 243, 351"),
    (lambda state: state.update({"fcn.1.weight": torch.zeros(48, 32, 1)}), r"fcn.1.weight has shape \(48, 32, 1\)"),
    (lambda state: state.update({"Transformer.pos_embedding": torch.zeros(9)}),
     r"pos_embedding has shape \(9,\); wanted \(1, frames, channels\)"),
    (lambda state: state.update({"Transformer_reduce.model.pos_embedding_1": torch.tensor(1.0)}),
     r"pos_embedding_1 has shape \(\)"),
    (lambda state: state.update({"Transformer.model.layers.0.self_attn.linears.1.weight": torch.zeros(3)}),
     r"have shapes .*\(3,\).*; wanted the same"),
    (lambda state: state.update({f"extra{i}": torch.zeros(1) for i in range(1000)}),
     "^(not known extra[0-9]+; ){5}and 995 more$")])
def test_another_checkpoint_is_refused_with_the_key(change, message):
    state = published_state()
    change(state)
    with pytest.raises(ValueError, match=message):
        published.strided_transformer(state)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_pth_file_is_compiled_by_its_models_name(tmp_path, wrap):
    torch.save(wrap(published_state()), tmp_path / "no_refine.pth")
    lifter = load_lifter("strided27-dense", published=str(tmp_path / "no_refine.pth"))
    assert lifter.name == "strided27-dense" and lifter.is_trained and lifter.module.frames == 27
    with pytest.raises(
            ValueError, match="is a Strided Transformer of 27 frames: --model strided27-dense, not strided351-dense"):
        load_lifter("strided351-dense", published=str(tmp_path / "no_refine.pth"))
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: no Strided Transformer: wanted Transformer.pos_embedding "
                       "among its keys, which are conv1.weight$"):
        load_lifter("strided27-dense", published=str(tmp_path / "other.pth"))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"hello world, this is text\n" * 9,
                                     b"# weights\n", [1, 2], {}, {"a": 1}, {0: torch.zeros(1)}, {"state_dict": None},
                                     {"a": torch.zeros(1), "state": {"b": 1}}, {i: i for i in range(1000)}])
def test_a_pth_file_of_something_else_is_refused_and_nothing_in_it_runs(tmp_path, content):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(
            ValueError, match="weights.pth (is no .pth file of tensors|holds no tensors by name)") as refused:
        published.read_state(path)
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="weights.pth"):
        load_lifter("strided27-dense", published=str(path))
    with pytest.raises(FileNotFoundError):
        published.read_state(tmp_path / "none.pth")


def test_sample_layer_norm_lowers_to_the_same_numbers():
    from edgepose.zoo.layers import SampleLayerNorm, norm_constants

    norm = SampleLayerNorm(8)
    x = torch.randn(5, 8) * 3
    gain, shift = norm_constants(norm)
    standard = (x - x.mean(-1, keepdim=True)) / x.std(-1, unbiased=False, keepdim=True)
    np.testing.assert_allclose(norm(x).detach().numpy(), standard.numpy() * gain + shift, rtol=1e-5)
