"""The layers every model is made of. Each has forward(), for torch, and lower(), which writes the same sums as steps
of the native plan, side by side: what changes in one must change in the other, and a test compares them.

lower() folds what is constant after training: LayerNorm's gain and bias and attention's 1/sqrt(d) into the next or
the same linear, BatchNorm into the graph convolution before it. A plan is recorded on a `PlanBuilder`
(build_engines/lower.py); values passed between lower() methods are its buffers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ..skeleton import Skeleton


def array(tensor: torch.Tensor) -> np.ndarray:
    """A parameter as float64, so that folding constants costs no precision."""
    return tensor.detach().double().cpu().numpy()


def folded_linear(linear: nn.Linear, norm: nn.LayerNorm | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(w, b) of `linear` as w (k, n), b (n,), with the gain and bias of the LayerNorm before it folded in."""
    w, b = array(linear.weight).T, array(linear.bias)
    if norm is not None:
        b = b + array(norm.bias) @ w
        w = array(norm.weight)[:, None] * w
    return w, b


class Attention(nn.Module):
    """Multi-head self-attention over tokens: (B, N, C) -> (B, N, C). Vaswani et al. 2017; AMPose eq. 3.1 to 3.3.

    Raises ValueError if the heads do not divide the channels.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens, channels = x.shape[-2:]
        q, k, v = self.qkv(x).reshape(-1, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        # The scale on q, before the product: so TensorRT knows the pattern and fuses it.
        scores = (q * (channels // self.heads) ** -0.5) @ k.transpose(-2, -1)
        context = scores.softmax(-1) @ v
        return self.out(context.transpose(1, 2).reshape(-1, tokens, channels))

    def lower(self, plan, x, norm: nn.LayerNorm, residual):
        """residual + attention(norm(x)), where x is normalised already but for the norm's gain and bias."""
        w, b = folded_linear(self.qkv, norm)
        channels = w.shape[0]
        scale = np.ones(3 * channels)
        scale[:channels] = 1 / math.sqrt(channels // self.heads)
        qkv = plan.linear(x, w * scale, b * scale)
        context = plan.attention(qkv, self.heads)
        return plan.linear(context, *folded_linear(self.out), residual=residual)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them: (..., C) -> (..., C), hidden C * ratio."""

    def __init__(self, channels: int, ratio: int = 2):
        super().__init__()
        self.expand = nn.Linear(channels, ratio * channels)
        self.contract = nn.Linear(ratio * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.contract(nn.functional.gelu(self.expand(x)))

    def lower(self, plan, x, norm: nn.LayerNorm, residual):
        """residual + mlp(norm(x)), where x is normalised already but for the norm's gain and bias."""
        hidden = plan.linear(x, *folded_linear(self.expand, norm), activation="gelu")
        return plan.linear(hidden, *folded_linear(self.contract), residual=residual)


class Encoder(nn.Module):
    """Transformer encoder, norms first: (B, N, C) -> (B, N, C), with a learned position of its own. AMPose eq. 3.5-3.7."""

    def __init__(self, tokens: int, channels: int, heads: int):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(tokens, channels))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.position
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))

    def lower(self, plan, x):
        x = plan.add_constant(x, array(self.position))
        x = self.attention.lower(plan, plan.normalize(x, self.norm_attention.eps), self.norm_attention, residual=x)
        return self.mlp.lower(plan, plan.normalize(x, self.norm_mlp.eps), self.norm_mlp, residual=x)


NEIGHBOUR_GROUPS = {  # the rows of AMPose's Table 4.8, each a partition of a joint's neighbourhood
    "centre|closer|farther": (("centre",), ("closer",), ("farther",)),
    "centre|closer+farther": (("centre",), ("closer", "farther")),
    "centre|closer|farther|symmetry": (("centre",), ("closer",), ("farther",), ("symmetry",)),
    "centre|closer+farther|symmetry": (("centre",), ("closer", "farther"), ("symmetry",)),
    "centre|closer+farther+symmetry": (("centre",), ("closer", "farther", "symmetry")),
    "centre+closer+farther+symmetry": (("centre", "closer", "farther", "symmetry"),),
}


def neighbour_matrices(skeleton: Skeleton, groups: str = "centre|closer|farther") -> np.ndarray:
    """The normalised adjacency of each group of neighbours: (K, J, J) float64; row i mixes the neighbours of joint i.

    groups: a key of NEIGHBOUR_GROUPS. "closer" is the neighbour nearer the root (the parent), "farther" the children,
    "symmetry" the left/right twin.
    The source writes D_k^-1/2 A_k D_k^-1/2; A_k is directed, so the left D_k holds its row sums and the right one its
    column sums (with row sums on both sides, children without children would be divided by zero). For the symmetric
    groups that is the usual form.
    Raises ValueError for an unknown key. Source: AMPose eq. 3.9, Table 4.8; Yan et al. 2018.
    """
    if groups not in NEIGHBOUR_GROUPS:
        raise ValueError(f"unknown neighbour groups {groups!r}; there are {', '.join(NEIGHBOUR_GROUPS)}")
    joints = len(skeleton)
    adjacency = {kind: np.zeros((joints, joints)) for kind in ("centre", "closer", "farther", "symmetry")}
    adjacency["centre"] = np.eye(joints)
    for parent, joint in skeleton.bones:
        adjacency["closer"][joint, parent] = 1
        adjacency["farther"][parent, joint] = 1
    for joint, twin in enumerate(skeleton.mirror):
        if twin != joint:
            adjacency["symmetry"][joint, twin] = 1
    return np.stack([_normalised(sum(adjacency[kind] for kind in group)) for group in NEIGHBOUR_GROUPS[groups]])


def _normalised(a: np.ndarray) -> np.ndarray:
    rows, columns = a.sum(1), a.sum(0)
    return a / np.sqrt(np.where(rows > 0, rows, 1))[:, None] / np.sqrt(np.where(columns > 0, columns, 1))


class GraphConv(nn.Module):
    """Graph convolution with one weight matrix a group of neighbours: (B, J, C) -> (B, J, C'), then BatchNorm.

    Z = sum_k A_k (X Theta_k + b_k); AMPose eq. 3.9 (biases as the parameter counts of its Table 4.9 show).
    """

    def __init__(self, matrices: np.ndarray, channels: int, out_channels: int):
        super().__init__()
        self.register_buffer("adjacency", torch.from_numpy(matrices).float(), persistent=False)
        self.theta = nn.Linear(channels, len(matrices) * out_channels)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # One product for all groups, then one that mixes: the form that ONNX Runtime, OpenVINO and TorchScript run fastest.
        groups, joints, _ = self.adjacency.shape
        channels = self.norm.num_features
        z = self.theta(x).reshape(-1, joints * groups, channels)
        z = self.adjacency.permute(1, 2, 0).reshape(joints, joints * groups) @ z
        return self.norm(z.reshape(-1, channels)).reshape(-1, joints, channels)

    def lower(self, plan, x, activation: str | None, residual=None):
        """activation(norm(conv(x))) + residual."""
        norm, (groups, joints, _) = self.norm, self.adjacency.shape
        gain = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
        w, b = folded_linear(self.theta)
        w = w.reshape(w.shape[0], groups, -1).transpose(1, 0, 2) * gain
        adjacency = array(self.adjacency)
        b = np.einsum("kij,kc->ic", adjacency, b.reshape(groups, -1) * gain)
        b = b + array(norm.bias) - array(norm.running_mean) * gain
        return plan.graph_conv(x, w, b, adjacency, activation=activation, residual=residual)
