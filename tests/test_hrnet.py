from math import prod

import pytest
import torch
from hrnet_names import official_shapes

from edgepose import zoo
from edgepose.zoo.hrnet import HRNet, conv_macs


@pytest.mark.parametrize("width, parameters", [(32, 28_536_113), (48, 63_595_745)])
def test_the_names_and_shapes_are_those_of_the_authors_checkpoints(width, parameters):
    official = official_shapes(width)
    with torch.device("meta"):  # shapes without numbers
        shapes = {name: tuple(tensor.shape) for name, tensor in HRNet(width).state_dict().items()}
    assert shapes == official and len(official) == 1754
    trained = [prod(shape) for name, shape in official.items()
               if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert sum(trained) == parameters


@pytest.mark.parametrize("name, millions, giga_256, giga_384",
                         [("hrnet-w32", 28.5, 7.1, 16.0), ("hrnet-w48", 63.6, 14.6, 32.9)])
def test_parameters_and_multiply_adds_are_those_of_the_paper(name, millions, giga_256, giga_384):
    with torch.device("meta"):
        module = zoo.build_detector(name)
    assert round(zoo.parameters(module) / 1e6, 1) == millions
    # The paper's G is 2^30: with it all four figures of its Tables 1 and 2 agree, with 10^9 none.
    assert round(conv_macs(module, (256, 192)) / 2**30, 1) == giga_256
    assert round(conv_macs(module, (384, 288)) / 2**30, 1) == giga_384


def test_the_heatmaps_are_a_quarter_of_the_crop():
    module = zoo.build_detector("hrnet-w8").eval()
    with torch.no_grad():
        assert module(torch.zeros(2, 3, 128, 96)).shape == (2, 17, 32, 24)


def test_every_parameter_takes_part():
    module = zoo.build_detector("hrnet-w8")
    torch.nn.init.normal_(module.final_layer.weight)
    module(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert not [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]


def test_the_sum_of_an_exchange_is_over_all_branches_at_each_resolution():
    module = HRNet(width=4, modules=(1, 1, 1), blocks=1, stem=4).eval()
    exchange = module.stage3[0]
    generator = torch.Generator().manual_seed(0)
    x = [torch.rand(1, 4 * 2**i, 16 // 2**i, 16 // 2**i, generator=generator) for i in range(3)]
    with torch.no_grad():
        inner = [branch(y) for branch, y in zip(exchange.branches, x)]
        conv, norm, _ = exchange.fuse_layers[0][1]
        up = norm(conv(inner[1])).repeat_interleave(2, -1).repeat_interleave(2, -2)
        conv, norm, _ = exchange.fuse_layers[0][2]
        up2 = norm(conv(inner[2])).repeat_interleave(4, -1).repeat_interleave(4, -2)
        torch.testing.assert_close(exchange(x)[0], (inner[0] + up + up2).relu())
        assert [y.shape for y in exchange(x)] == [y.shape for y in x]


def test_an_unknown_detector_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="unknown detector 'hrnet'; there are hrnet-w32, hrnet-w48, hrnet-w8"):
        zoo.build_detector("hrnet")
