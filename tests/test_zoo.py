import numpy as np
import pytest
import torch

from edgepose import zoo
from edgepose.skeleton import H36M16, H36M17
from edgepose.zoo import ampose, layers, posegate


@pytest.mark.parametrize("name, millions", [("ampose-s", 0.67), ("ampose", 0.93), ("ampose-5x128", 1.17),
                                            ("ampose-m", 3.70), ("ampose-4x384", 8.31), ("ampose-6x512", 22.13)])
def test_parameters_are_those_of_table_4_9_truncated(name, millions):
    assert int(zoo.parameters(zoo.build(name, skeleton=H36M16)) / 1e4) / 100 == millions


def test_the_main_model_has_the_parameters_the_other_six_rows_imply():
    assert zoo.parameters(zoo.build("ampose-l", skeleton=H36M16)) == 14 * 5 * 512**2 + 37 * 5 * 512 + 8 * 512 + 3


@pytest.mark.parametrize("block, parameters, macs, table", [
    ("plain then residual", 18_451_459, 311_994_880, 312.2), ("two residual", 18_451_459, 311_994_880, 312.2),
    ("transformer", 17_138_179, 289_712_640, 289.8), ("convnext", 17_138_179, 289_712_640, 289.9)])
def test_blocks_have_the_parameters_and_macs_nearest_to_table_4_6(block, parameters, macs, table):
    module = zoo.build("ampose-l", block=block)
    assert (zoo.parameters(module), zoo.macs(module)) == (parameters, macs)
    assert abs(macs / 1e6 - table) < 0.21  # one matrix more or less in each block would be 22.3
    # A position for each encoder.
    assert zoo.parameters(zoo.build("ampose-l", skeleton=H36M16, block=block)) == parameters - 5 * 512


@pytest.mark.parametrize("frames", [1, 9, 27])
def test_frames_change_the_embedding_alone(frames):
    one, many = (zoo.parameters(zoo.build("ampose", frames=f)) for f in (1, frames))
    assert many - one == 2 * (frames - 1) * 128
    assert zoo.build("ampose", frames=frames)(torch.randn(3, frames, 17, 2)).shape == (3, 17, 3)


def test_martinez_has_the_published_parameters():
    assert round(zoo.parameters(zoo.build("martinez", skeleton=H36M16)) / 1e6, 2) == 4.29


def test_dln_has_two_towers_of_eight_layers():
    inputs, outputs, c = 34, 51, 1024
    tower = inputs * c + c + 8 * (c * c + 3 * c)
    towers = 2 * (tower + c * outputs + outputs)
    assert zoo.parameters(zoo.build("dln")) == towers + inputs * c + c + outputs * outputs + outputs


@pytest.mark.parametrize("frames, strides", [(27, (3, 3, 3)), (81, (3, 3, 9)), (243, (3, 9, 9)), (351, (3, 9, 13))])
def test_strided_models_have_the_parameters_and_macs_of_their_layers(frames, strides):
    c, tokens = 256, frames
    attention, mlp, norms = 4 * (c * c + c), 2 * c * c + 2 * c + 2 * c * c + c, 4 * c
    parameters = 34 * c + 3 * c + frames * c + 3 * (attention + mlp + norms) + 2 * (2 * c + c * 51 + 51)
    macs = frames * 34 * c + frames * 3 * 8 * c * c + c * 51
    for stride in strides:
        parameters += tokens * c + attention + mlp + 4 * c * c + norms  # two taps more
        macs += tokens * 6 * c * c + tokens // stride * 6 * c * c
        tokens //= stride
    model = zoo.build(f"strided{frames}")
    assert tokens == 1 and zoo.parameters(model) == parameters and zoo.macs(model) == macs
    assert zoo.parameters(zoo.build(f"strided{frames}-dense")) == parameters


def test_sparse_attention_is_half_local_and_half_strided():
    apart = np.arange(9)[:, None] - np.arange(9)
    local, strided = layers.AttentionPattern(3).mask(9, 4).numpy()[:2]
    assert (local == (abs(apart) <= 3)).all() and (strided == (apart % 3 == 0)).all()
    causal_local, causal_strided = layers.AttentionPattern(3, is_causal=True).mask(9, 4).numpy()[2:]
    assert (causal_local == ((0 <= apart) & (apart <= 3))).all()
    assert (causal_strided == ((apart >= 0) & (apart % 3 == 0))).all()
    spans = [layer.attention.pattern.span
             for layer in (*zoo.build("strided351").vanilla, *zoo.build("strided351").strided)]
    assert spans == [19, 19, 19, 19, 11, 4]


def test_the_gate_of_posegate_is_equation_1():
    torch.manual_seed(0)
    attention = posegate.GatedAttention(17, 16, 2, "trained").eval()
    x, pose = torch.randn(1, 17, 16), torch.randn(1, 17, 16)
    q, k, v = attention.project(x)
    g, b = attention.gate_path(pose.flatten(1))[0], attention.bias_path(pose.flatten(1))[0]
    assert ((0 < g) & (g < 1) & (0 < b) & (b < 1)).all()
    heads = [g[h] * torch.softmax(q[0, h] @ k[0, h].T / 8**0.5, -1) @ v[0, h] + (1 - b[h]) * g[h] * v[0, h]
             for h in range(2)]
    torch.testing.assert_close(attention(x, pose)[0], attention.out(torch.cat(heads, -1)))


def test_fixed_attention_takes_the_mean_of_the_joints():
    attention = posegate.GatedAttention(17, 16, 2, "fixed attention").eval()
    x = torch.randn(1, 17, 16)
    expected = attention.out(attention.qkv(x)[..., 32:].mean(1, keepdim=True).expand(-1, 17, -1))
    torch.testing.assert_close(attention(x, x), expected)


def test_attention_maps_are_the_weights_of_each_head():
    maps = zoo.build("posegate-s").eval().attention_weights(torch.randn(2, 1, 17, 2))
    assert maps.shape == (4, 2, 8, 17, 17)
    torch.testing.assert_close(maps.sum(-1), torch.ones(4, 2, 8, 17))


@pytest.mark.parametrize("skeleton", [H36M17, H36M16])
def test_the_three_groups_partition_the_neighbourhood(skeleton):
    centre, closer, farther = layers.neighbour_matrices(skeleton) > 0
    assert (centre == np.eye(len(skeleton), dtype=bool)).all()
    for joint, parent in enumerate(skeleton.parents):
        assert [i for i in range(len(skeleton)) if closer[joint, i]] == ([] if parent == -1 else [parent])
        assert [i for i in range(len(skeleton)) if farther[joint, i]] == [c for p, c in skeleton.bones if p == joint]
    assert (closer == farther.T).all()


@pytest.mark.parametrize("groups", layers.NEIGHBOUR_GROUPS)
def test_neighbour_groups_commute_with_the_mirror(groups):
    matrices, mirror = layers.neighbour_matrices(H36M17, groups), list(H36M17.mirror)
    np.testing.assert_array_equal(matrices[:, mirror][:, :, mirror], matrices)


def test_a_symmetric_group_is_normalised_by_its_degrees():
    both = layers.neighbour_matrices(H36M17, "centre|closer+farther")[1]
    hip, knee, pelvis = (H36M17.index(j) for j in ("right_hip", "right_knee", "pelvis"))
    assert both[hip, knee] == pytest.approx(1 / 2) and both[hip, pelvis] == pytest.approx(1 / 6**0.5)


def test_a_graph_convolution_sees_its_neighbours_and_nobody_else():
    torch.manual_seed(0)
    conv = layers.GraphConv(layers.neighbour_matrices(H36M17), 4, 5).eval()
    x = torch.randn(1, 17, 4)
    moved = x.clone()
    moved[0, H36M17.index("left_knee")] += 1
    changed = (conv(moved) != conv(x)).any(-1)[0]
    assert {H36M17.joints[j] for j in range(17) if changed[j]} == {"left_hip", "left_knee", "left_ankle"}


@pytest.mark.parametrize("order, first, last", [
    ("encoder first", layers.Encoder, ampose.GraphBlock), ("graph first", ampose.GraphBlock, layers.Encoder),
    ("encoders then graphs", layers.Encoder, ampose.GraphBlock),
    ("graphs then encoders", ampose.GraphBlock, layers.Encoder)])
def test_orders_are_those_of_table_4_7(order, first, last):
    blocks = zoo.build("ampose", order=order).blocks
    assert len(blocks) == 8 and isinstance(blocks[0], first) and isinstance(blocks[-1], last)
    assert isinstance(blocks[1], first) == ("then" in order)


@pytest.mark.parametrize("call, message", [
    (lambda: zoo.build("amposse"), "unknown model 'amposse'; there are ampose, "),
    (lambda: zoo.build("amposse"), "did you mean ampose"),
    (lambda: zoo.build(["ampose"]), r"unknown model \['ampose'\]"),
    (lambda: zoo.build("ampose", frames=3), "takes 1, 9, 27 frames, not 3"),
    (lambda: zoo.build("strided27", 81), "takes 27 frames, not 81"),
    (lambda: zoo.build("strided27", attention="no"), "unknown attention 'no'; there are sparse, dense"),
    (lambda: zoo.build("strided27", norm="no"), "unknown norm"),
    (lambda: zoo.build("posegate", gate="no"), "unknown gate 'no'; there are trained, "),
    (lambda: zoo.build("ampose", heads=3), "3 heads do not divide 128"),
    (lambda: zoo.build("ampose", width=3),
     "model 'ampose' has no option 'width'; it has depth, channels, heads, block, order, groups"),
    (lambda: zoo.build("ampose-refined", chanels=3), "has no option 'chanels'; .*did you mean channels"),
    (lambda: zoo.build("ampose", depth=-1), "option 'depth' of model 'ampose' is -1; wanted 1 or more"),
    (lambda: zoo.build("ampose", heads=0), "option 'heads' of model 'ampose' is 0"),
    (lambda: zoo.build("ampose", channels="64"),
     "option 'channels' of model 'ampose' is '64'; wanted a whole number, 1 or more"),
    (lambda: zoo.build("martinez", dropout=2),
     "option 'dropout' of model 'martinez' is 2; wanted a number from 0 to 1"),
    (lambda: zoo.build("strided27", is_causal=1), "'is_causal' of model 'strided27' is 1; wanted True or False"),
    (lambda: zoo.build("posegate", gate=None), "option 'gate' of model 'posegate' is None; wanted text"),
    (lambda: zoo.build("ampose", block="no"), "unknown block"),
    (lambda: zoo.build("ampose", order="no"), "unknown order"),
    (lambda: zoo.build("ampose", groups="no"), "unknown neighbour groups")])
def test_a_wrong_option_is_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("name", ["ampose-refined", "posegate-s", "martinez-s", "dln-s", "strided27-s"])
def test_a_model_can_be_given_the_options_it_names(name):
    options = zoo.options_of(name)
    assert set(zoo.MODELS[name].options) <= set(options) and not {"skeleton", "frames"} & set(options)
    assert zoo.macs(zoo.build(name, **options)) == zoo.macs(zoo.build(name))
