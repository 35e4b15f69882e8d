import pytest
import torch

from edgepose import zoo
from edgepose.zoo.hrnet import HRNet, conv_macs

# (name, shape) in the authors' pose_hrnet_w32_256x192.pth; W48's have 48 for 32, 96 for 64, and so on.
OFFICIAL_W32 = {
    "conv1.weight": (64, 3, 3, 3), "bn1.running_var": (64,), "conv2.weight": (64, 64, 3, 3), "bn2.num_batches_tracked": (),
    "layer1.0.conv1.weight": (64, 64, 1, 1), "layer1.0.conv3.weight": (256, 64, 1, 1), "layer1.0.bn3.bias": (256,),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1), "layer1.0.downsample.1.running_mean": (256,), "layer1.3.conv1.weight": (64, 256, 1, 1),
    "transition1.0.0.weight": (32, 256, 3, 3), "transition1.0.1.bias": (32,), "transition1.1.0.0.weight": (64, 256, 3, 3),
    "transition1.1.0.1.weight": (64,), "transition2.2.0.0.weight": (128, 64, 3, 3), "transition3.3.0.0.weight": (256, 128, 3, 3),
    "stage2.0.branches.0.0.conv1.weight": (32, 32, 3, 3), "stage2.0.branches.1.3.bn2.weight": (64,),
    "stage2.0.fuse_layers.0.1.0.weight": (32, 64, 1, 1), "stage2.0.fuse_layers.0.1.1.running_mean": (32,),
    "stage2.0.fuse_layers.1.0.0.0.weight": (64, 32, 3, 3), "stage2.0.fuse_layers.1.0.0.1.bias": (64,),
    "stage3.3.branches.2.0.conv2.weight": (128, 128, 3, 3), "stage3.3.fuse_layers.2.0.0.0.weight": (32, 32, 3, 3),
    "stage3.3.fuse_layers.2.0.1.0.weight": (128, 32, 3, 3), "stage3.0.fuse_layers.1.2.0.weight": (64, 128, 1, 1),
    "stage4.1.branches.3.3.conv2.weight": (256, 256, 3, 3), "stage4.1.fuse_layers.3.0.2.0.weight": (256, 32, 3, 3),
    "stage4.1.fuse_layers.3.0.1.0.weight": (32, 32, 3, 3), "stage4.0.fuse_layers.3.1.1.0.weight": (256, 64, 3, 3),
    "stage4.2.branches.3.0.bn1.weight": (256,), "stage4.2.fuse_layers.0.3.0.weight": (32, 256, 1, 1),
    "final_layer.weight": (17, 32, 1, 1), "final_layer.bias": (17,)}
ABSENT = ("layer1.1.downsample.0.weight", "transition2.0.0.weight", "stage2.0.fuse_layers.0.0.0.weight", "stage4.2.fuse_layers.1.0.0.0.weight",
          "stage2.1.branches.0.0.conv1.weight", "stage3.4.branches.0.0.conv1.weight", "stage4.3.branches.0.0.conv1.weight")


def test_the_names_and_shapes_are_those_of_the_authors_checkpoints():
    shapes = {name: tuple(tensor.shape) for name, tensor in HRNet(32).state_dict().items()}
    assert {name: shapes.get(name) for name in OFFICIAL_W32} == OFFICIAL_W32
    assert not [name for name in ABSENT if name in shapes]
    # Convolutions with their norms: the stem, layer1, and each transition and stage. A norm has five tensors.
    def stage(branches, modules, last_is_single=False):
        blocks = 2 * 4 * branches
        up, down = branches * (branches - 1) // 2, sum(i - j for i in range(branches) for j in range(i))
        return modules * (blocks + up + down) - last_is_single * (up + down - (branches - 1))
    pairs = 2 + 13 + (2 + stage(2, 1)) + (1 + stage(3, 4)) + (1 + stage(4, 3, last_is_single=True))
    assert len(shapes) == 6 * pairs + 2 == 1754
    assert {name: tuple(t.shape) for name, t in HRNet(48).state_dict().items()}.keys() == shapes.keys()


@pytest.mark.parametrize("name, millions, giga_256, giga_384", [("hrnet-w32", 28.5, 7.1, 16.0), ("hrnet-w48", 63.6, 14.6, 32.9)])
def test_parameters_and_multiply_adds_are_those_of_the_paper(name, millions, giga_256, giga_384):
    with torch.device("meta"):  # shapes without sums
        module = zoo.build_detector(name)
    assert round(zoo.parameters(module) / 1e6, 1) == millions
    # The paper's G is 2^30: all four figures of its Tables 1 and 2 come out so, and none with 10^9.
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
