"""AMPose: transformer encoders and graph convolutions in alternation.

Source: Lin 2023, "AMPose: Alternately Mixed Global-Local Attention Model for 3D Human Pose Estimation" (thesis, NTU);
the same work as Lin, Chiu and Wu, ICASSP 2023. Sizes: Table 4.9; block variants: Table 4.6; orders: Table 4.7;
neighbour groups: Table 4.8; frames as channels: Table 4.5.

Decided where the source is silent:
- 8 heads, as in the pose transformers it compares with; 4 where 8 do not divide the channels (108).
- The activation of the MLP is GELU (Dosovitskiy et al. 2021, which it cites); that of the graph convolutions ReLU.
- "A plain GCN followed by a GCN with the residual": y = act(norm(conv1(x))); z = y + act(norm(conv2(y))).
- The parameter counts of Table 4.9 give the MLP ratio (2), biases in every linear, three C x C matrices and 3 C biases
  a graph convolution, BatchNorm after each, one final LayerNorm. Six of its seven rows are met exactly; for depth 5,
  512 channels they give 18.44 M where the table prints 18.38.
- "Transformer" and "ConvNeXt" blocks are drawn in a lost figure; here both are one graph convolution and an MLP of
  ratio 1, which comes nearest to Table 4.6: computed for both, with 17 joints, 17.138 M parameters and 289.71 M MACs;
  the table has 17.0 M and 289.8 M ("transformer"), 289.9 M ("ConvNeXt"). Its own block is as far off: 18.451 M and
  311.99 M, printed as 18.3 M and 312.2 M. A matrix more or less in each block would make 1.3 M parameters and 22.3 M
  MACs.
- Published results are on Human3.6M, whose licence keeps us from shipping weights trained on it: no checkpoint is
  loaded.
"""

from __future__ import annotations

import torch
from torch import nn

from ..skeleton import H36M17, Skeleton
from .layers import Encoder, GraphConv, Mlp, folded_linear, neighbour_matrices

ORDERS = ("encoder first", "graph first", "encoders then graphs", "graphs then encoders")


class GraphBlock(nn.Module):
    """AMPose's GCN block: a plain graph convolution, then one with a residual. (B, J, C) -> (B, J, C)."""

    def __init__(self, matrices, channels: int):
        super().__init__()
        self.plain = GraphConv(matrices, channels, channels)
        self.residual = GraphConv(matrices, channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.plain(x))
        return x + torch.relu(self.residual(x))

    def lower(self, plan, x):
        x = self.plain.lower(plan, x, activation="relu")
        return self.residual.lower(plan, x, activation="relu", residual=x)


class TwoResidualBlock(GraphBlock):
    """Table 4.6, "two residual": both graph convolutions have a residual."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in (self.plain, self.residual):
            x = x + torch.relu(conv(x))
        return x

    def lower(self, plan, x):
        for conv in (self.plain, self.residual):
            x = conv.lower(plan, x, activation="relu", residual=x)
        return x


class GraphTransformerBlock(nn.Module):
    """Table 4.6, "transformer": an encoder whose attention is a graph convolution. (B, J, C) -> (B, J, C)."""

    def __init__(self, matrices, channels: int):
        super().__init__()
        self.conv = GraphConv(matrices, channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, ratio=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.conv(x)
        return x + self.mlp(self.norm(x))

    def lower(self, plan, x):
        x = self.conv.lower(plan, x, activation=None, residual=x)
        return self.mlp.lower(plan, plan.normalize(x, self.norm.eps), self.norm, residual=x)


class GraphConvNextBlock(GraphTransformerBlock):
    """Table 4.6, "ConvNeXt": graph convolution, LayerNorm and MLP in a row, one residual around all. (B, J, C) ->
    same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.norm(self.conv(x)))

    def lower(self, plan, x):
        y = self.conv.lower(plan, x, activation=None)
        return self.mlp.lower(plan, plan.normalize(y, self.norm.eps), self.norm, residual=x)


BLOCKS = {"plain then residual": GraphBlock, "two residual": TwoResidualBlock,
          "transformer": GraphTransformerBlock, "convnext": GraphConvNextBlock}


class AMPose(nn.Module):
    """Lifts 2D keypoints to a 3D pose: (B, T, J, 2) normalised screen -> (B, J, 3) metres from the root, camera axes.

    The T frames of a joint are concatenated as channels, so only the embedding grows with T; the answer is for the
    middle frame. depth, channels: Table 4.9. block: a key of BLOCKS; order: one of ORDERS; groups: a key of
    layers.NEIGHBOUR_GROUPS. Raises ValueError for an unknown option or heads that do not divide the channels.
    """

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 1, depth: int = 5, channels: int = 512,
                 heads: int = 8, block: str = "plain then residual", order: str = "encoder first",
                 groups: str = "centre|closer|farther"):
        super().__init__()
        if block not in BLOCKS:
            raise ValueError(f"unknown block {block!r}; there are {', '.join(BLOCKS)}")
        if order not in ORDERS:
            raise ValueError(f"unknown order {order!r}; there are {', '.join(ORDERS)}")
        self.skeleton, self.frames = skeleton, frames
        self.embed = nn.Linear(2 * frames, channels)
        encoders = [Encoder(len(skeleton), channels, heads) for _ in range(depth)]
        graphs = [BLOCKS[block](neighbour_matrices(skeleton, groups), channels) for _ in range(depth)]
        pairs = {"encoder first": zip(encoders, graphs), "graph first": zip(graphs, encoders),
                 "encoders then graphs": (encoders, graphs), "graphs then encoders": (graphs, encoders)}[order]
        self.blocks = nn.ModuleList(module for pair in pairs for module in pair)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.transpose(1, 2).flatten(2))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def lower(self, plan):
        x = plan.linear(plan.joint_tokens(), *folded_linear(self.embed))
        for block in self.blocks:
            x = block.lower(plan, x)
        return plan.linear(plan.normalize(x, self.norm.eps), *folded_linear(self.head, self.norm))
