"""HRNet for one person: a crop of a picture -> 17 heatmaps at a quarter of its size.

Sun, Xiao, Liu, Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019, Table 1: W32
28.5 M parameters and 7.1 GMACs, W48 63.6 M and 14.6 at 256 x 192 (their G is 2^30: 7.64e9 and 15.69e9). The names of
the parameters are those of the authors' code, so their checkpoints (pose_hrnet_w32_256x192.pth and its like) load.
Differences: `stem`, `modules` and `blocks` are options, for a network small enough to ship; at their defaults it is the
paper's.
"""

from __future__ import annotations

import torch
from torch import nn

STRIDE = 4  # a heatmap's pixel (i, j) is the crop's pixel (4 i, 4 j), as in the authors' code
EXPANSION = 4  # a bottleneck before the first stage puts out so many times its inner channels


def _conv(channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out_channels)]


class BasicBlock(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))): (B, C, H, W) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, channels)
        self.conv2, self.bn2 = _conv(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Bottleneck(nn.Module):
    """A residual block that is narrow inside: (B, C, H, W) -> (B, 4 inner, H, W)."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, inner, 1)
        self.conv2, self.bn2 = _conv(inner, inner)
        self.conv3, self.bn3 = _conv(inner, EXPANSION * inner, 1)
        self.downsample = (nn.Sequential(*_conv(channels, EXPANSION * inner, 1)) if channels != EXPANSION * inner
                           else nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        return (self.downsample(x) + self.bn3(self.conv3(y))).relu()


def _resampled(source: int, target: int, channels: tuple[int, ...]) -> nn.Module:
    """The layers that bring branch `source` to the resolution and width of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(*_conv(channels[source], channels[target], 1),
                             nn.Upsample(scale_factor=2 ** (source - target)))
    halvings = [nn.Sequential(*_conv(channels[source], channels[source], stride=2), nn.ReLU())
                for _ in range(target - source - 1)]
    return nn.Sequential(*halvings, nn.Sequential(*_conv(channels[source], channels[target], stride=2)))


class Exchange(nn.Module):
    """One module of a stage: blocks on each branch, then every branch becomes the sum of all (or the first alone).

    x: a list of (B, C_i, H / 2^i, W / 2^i); returns as many, or one.
    """

    def __init__(self, channels: tuple[int, ...], blocks: int, only_first: bool):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(nn.ModuleList(_resampled(source, target, channels)
                                                       for source in range(len(channels)))
                                         for target in range(1 if only_first else len(channels)))

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        x = [branch(y) for branch, y in zip(self.branches, x)]
        return [sum(layer(y) for layer, y in zip(row, x)).relu() for row in self.fuse_layers]


class HRNet(nn.Module):
    """(B, 3, H, W) normalised RGB -> (B, keypoints, H / 4, W / 4) heatmaps; H and W are multiples of 32.

    width: channels of the branch of highest resolution; each next one has twice as many. modules: of the stages 2 to 4,
    2 to 4 branches wide. blocks: in each branch of a module. stem: channels before the first stage.
    """

    def __init__(self, width: int = 32, modules: tuple[int, int, int] = (1, 4, 3), blocks: int = 4, stem: int = 64,
                 keypoints: int = 17):
        super().__init__()
        self.conv1, self.bn1 = _conv(3, stem, stride=2)
        self.conv2, self.bn2 = _conv(stem, stem, stride=2)
        self.layer1 = nn.Sequential(*(Bottleneck(EXPANSION * stem if i else stem, stem) for i in range(4)))
        channels = tuple(width * 2**i for i in range(4))
        first = nn.Sequential(*_conv(EXPANSION * stem, channels[0]), nn.ReLU())
        self.transition1 = nn.ModuleList([first, self._halved(EXPANSION * stem, channels[1])])
        self.transition2 = nn.ModuleList([*(nn.Identity() for _ in range(2)), self._halved(channels[1], channels[2])])
        self.transition3 = nn.ModuleList([*(nn.Identity() for _ in range(3)), self._halved(channels[2], channels[3])])
        for stage, count in zip((2, 3, 4), modules):
            self.add_module(f"stage{stage}", nn.Sequential(*(
                Exchange(channels[:stage], blocks, only_first=stage == 4 and i == count - 1) for i in range(count))))
        self.final_layer = nn.Conv2d(channels[0], keypoints, 1)
        # Heatmaps are nearly empty, so they start so, as in the authors' code.
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.bias)

    @staticmethod
    def _halved(channels: int, out_channels: int) -> nn.Module:
        return nn.Sequential(nn.Sequential(*_conv(channels, out_channels, stride=2), nn.ReLU()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        branches = [self.layer1(x)]
        for transition, stage in ((self.transition1, self.stage2), (self.transition2, self.stage3),
                                  (self.transition3, self.stage4)):
            # A new branch grows from the last one; the others go on as they are.
            branches = stage([layer(branches[min(i, len(branches) - 1)]) for i, layer in enumerate(transition)])
        return self.final_layer(branches[0])


def conv_macs(module: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-accumulates of the convolutions for one crop of (height, width), counted while the module runs on
    one."""
    counted = 0

    def count(conv: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d)]
    training = module.training
    with torch.no_grad():
        module.eval()(torch.zeros(1, 3, *size, device=next(module.parameters()).device))
    module.train(training)
    for hook in hooks:
        hook.remove()
    return counted
