import numpy as np
import pytest
import torch

from edgepose import zoo
from edgepose.skeleton import H36M16, H36M17
from edgepose.zoo import ampose, layers


@pytest.mark.parametrize("name, millions", [("ampose-s", 0.67), ("ampose", 0.93), ("ampose-5x128", 1.17), ("ampose-m", 3.70),
                                            ("ampose-4x384", 8.31), ("ampose-6x512", 22.13)])
def test_parameters_are_those_of_table_4_9_truncated(name, millions):
    assert int(zoo.parameters(zoo.build(name, skeleton=H36M16)) / 1e4) / 100 == millions


def test_the_main_model_has_the_parameters_the_other_six_rows_imply():
    assert zoo.parameters(zoo.build("ampose-l", skeleton=H36M16)) == 14 * 5 * 512**2 + 37 * 5 * 512 + 8 * 512 + 3


@pytest.mark.parametrize("block, millions", [("plain then residual", 312.2), ("two residual", 312.2), ("transformer", 289.8),
                                             ("convnext", 289.9)])
def test_macs_are_those_of_table_4_6(block, millions):
    assert zoo.macs(zoo.build("ampose-l", block=block)) / 1e6 == pytest.approx(millions, rel=0.002)


@pytest.mark.parametrize("frames", [1, 9, 27])
def test_frames_change_the_embedding_alone(frames):
    one, many = (zoo.parameters(zoo.build("ampose", frames=f)) for f in (1, frames))
    assert many - one == 2 * (frames - 1) * 128
    assert zoo.build("ampose", frames=frames)(torch.randn(3, frames, 17, 2)).shape == (3, 17, 3)


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
    ("encoders then graphs", layers.Encoder, ampose.GraphBlock), ("graphs then encoders", ampose.GraphBlock, layers.Encoder)])
def test_orders_are_those_of_table_4_7(order, first, last):
    blocks = zoo.build("ampose", order=order).blocks
    assert len(blocks) == 8 and isinstance(blocks[0], first) and isinstance(blocks[-1], last)
    assert isinstance(blocks[1], first) == ("then" in order)


@pytest.mark.parametrize("call, message", [
    (lambda: zoo.build("amposse"), "unknown model 'amposse'; there are ampose, "),
    (lambda: zoo.build("ampose", frames=3), "takes 1, 9, 27 frames, not 3"),
    (lambda: zoo.build("ampose", heads=3), "3 heads do not divide 128"),
    (lambda: zoo.build("ampose", block="no"), "unknown block"),
    (lambda: zoo.build("ampose", order="no"), "unknown order"),
    (lambda: zoo.build("ampose", groups="no"), "unknown neighbour groups")])
def test_a_wrong_option_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
