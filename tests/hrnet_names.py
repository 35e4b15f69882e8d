"""Names and shapes in the files that HRNet's authors published, from the rules of the architecture, not from our code.

Sun et al. 2019, section 3 and Fig. 1, and the names of the authors' own model: pose_hrnet_w32_256x192.pth and its like.
"""

import torch

JOINTS, STEM, BLOCKS = 17, 64, 4
MODULES = {2: 1, 3: 4, 4: 3}  # stage -> modules; a stage has as many branches as its number


def _norm(name, channels):
    of_channels = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{key}": (channels,) for key in of_channels}, f"{name}.num_batches_tracked": ()}


def _convolutions(prefix, *sizes):
    """conv1, bn1, conv2, bn2, ... of a block. sizes: (channels, channels out, kernel) each."""
    shapes = {}
    for i, (channels, out, kernel) in enumerate(sizes, 1):
        shapes |= {f"{prefix}conv{i}.weight": (out, channels, kernel, kernel), **_norm(f"{prefix}bn{i}", out)}
    return shapes


def _pair(prefix, channels, out, kernel=3):
    """A convolution and its norm, the first two of a sequence."""
    return {f"{prefix}.0.weight": (out, channels, kernel, kernel), **_norm(f"{prefix}.1", out)}


def official_shapes(width):
    """Name -> shape of every tensor of the model whose branch of highest resolution has `width` channels."""
    branch = [width, 2 * width, 4 * width, 8 * width]
    shapes = _convolutions("", (3, STEM, 3), (STEM, STEM, 3))
    wide = 4 * STEM
    for i in range(4):
        shapes |= _convolutions(f"layer1.{i}.", (wide if i else STEM, STEM, 1), (STEM, STEM, 3), (STEM, wide, 1))
    shapes |= _pair("layer1.0.downsample", STEM, wide, kernel=1)  # only the first changes the number of channels
    shapes |= _pair("transition1.0", wide, branch[0]) | _pair("transition1.1.0", wide, branch[1])
    shapes |= _pair("transition2.2.0", branch[1], branch[2]) | _pair("transition3.3.0", branch[2], branch[3])
    for stage, modules in MODULES.items():
        for module in range(modules):
            prefix = f"stage{stage}.{module}"
            for i in range(stage):
                for block in range(BLOCKS):
                    shapes |= _convolutions(f"{prefix}.branches.{i}.{block}.", *[(branch[i], branch[i], 3)] * 2)
            is_last = stage == 4 and module == modules - 1  # it gives the highest resolution alone
            for to in range(1 if is_last else stage):
                for source in range(stage):
                    fuse = f"{prefix}.fuse_layers.{to}.{source}"
                    if source > to:  # narrowed, then enlarged without parameters
                        shapes |= _pair(fuse, branch[source], branch[to], kernel=1)
                    for step in range(to - source):  # each step halves the size; the last one widens
                        shapes |= _pair(f"{fuse}.{step}", branch[source],
                                        branch[to if step == to - source - 1 else source])
    return shapes | {"final_layer.weight": (JOINTS, width, 1, 1), "final_layer.bias": (JOINTS,)}


def official_state(width, seed=0):
    """Random weights with those names; the sums of 108 blocks stay in bounds and depend on the crop."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in official_shapes(width).items():
        if len(shape) == 4:
            state[name] = torch.randn(shape, generator=generator) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        else:
            low, high = ((0.5, 1.0) if name.endswith("running_var") else (0.3, 0.6) if name.endswith("weight")
                         else (-0.02, 0.02))
            state[name] = torch.empty(shape).uniform_(low, high, generator=generator)
    return state
