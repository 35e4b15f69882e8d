"""The layers every model is made of. Each has forward(), for torch, and lower(), which writes the same sums as steps
of the native plan, side by side: what changes in one must change in the other, and a test compares them.

lower() folds what is constant after training: LayerNorm's gain and bias and attention's 1/sqrt(d) into the next or
the same linear, BatchNorm into the graph convolution before it. A plan is recorded on a `PlanBuilder`
(build_engines/lower.py); values passed between lower() methods are its buffers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..skeleton import Skeleton


def array(tensor: torch.Tensor) -> np.ndarray:
    """A parameter as float64, so that folding constants costs no precision."""
    return tensor.detach().double().cpu().numpy()


class SampleLayerNorm(nn.Module):
    """LayerNorm as the Strided Transformer's authors wrote it: over the sample standard deviation plus eps. (..., C) ->
    same.

    It is there for published weights alone; ours are trained with nn.LayerNorm.
    """

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + self.eps) + self.bias


def norm_constants(norm: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """(gain, shift), (C,) each, that a norm puts on a row whose mean and deviation are taken out. BatchNorm puts them
    on any row: its statistics are constants after training."""
    gain, shift = array(norm.weight), array(norm.bias)
    if isinstance(norm, nn.BatchNorm1d):
        gain = gain / np.sqrt(array(norm.running_var) + norm.eps)
        shift = shift - array(norm.running_mean) * gain
    if isinstance(norm, SampleLayerNorm):
        gain = gain * math.sqrt(1 - 1 / len(gain))
    return gain, shift


def norm_epsilon(norm: nn.Module) -> float:
    """The number added to the variance. SampleLayerNorm's 1e-6 beside a deviation is of the order of float32's own
    error: only a row of equal numbers must not be divided by zero."""
    return 1e-12 if isinstance(norm, SampleLayerNorm) else norm.eps


def folded_linear(linear: nn.Linear, norm: nn.Module | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(w, b) of `linear` as w (k, n), b (n,), with the gain and shift of the norm before it folded in."""
    w, b = array(linear.weight).T, array(linear.bias)
    if norm is not None:
        gain, shift = norm_constants(norm)
        b = b + shift @ w
        w = gain[:, None] * w
    return w, b


class NormedLinear(nn.Module):
    """Linear, then BatchNorm, then ReLU if there is an activation: (..., C) -> (..., C')."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, out_channels)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return torch.relu(self.norm(y.flatten(0, -2)).reshape(y.shape))

    def lower(self, plan, x, residual=None):
        """relu(norm(linear(x))) + residual."""
        w, b = folded_linear(self.linear)
        gain, shift = norm_constants(self.norm)
        return plan.linear(x, w * gain, b * gain + shift, activation="relu", residual=residual)


class ResidualTower(nn.Module):
    """Martinez et al. 2017: blocks of two layers [Linear, BatchNorm, ReLU, dropout], each with a skip: (..., C) ->
    same."""

    def __init__(self, channels: int, blocks: int, dropout: float):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(NormedLinear(channels, channels), nn.Dropout(dropout), NormedLinear(channels, channels),
                          nn.Dropout(dropout)) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x

    def lower(self, plan, x):
        for first, _, second, _ in self.blocks:
            x = second.lower(plan, first.lower(plan, x), residual=x)
        return x


@dataclass(frozen=True)
class AttentionPattern:
    """The tokens that a head looks at. Child et al. 2019, the strided pattern; Strided Transformer (002) eq. 4 and 5.

    span: None for all of them; else heads 0, 2, ... look at the tokens at most `span` away, heads 1, 3, ... at every
    `span`-th token. is_causal: no head looks at later tokens.
    """

    span: int | None = None
    is_causal: bool = False

    def mask(self, tokens: int, heads: int) -> torch.Tensor:
        """(heads, N, N) bool, true where the row's token looks at the column's."""
        index = torch.arange(tokens)
        apart = index[:, None] - index
        seen = torch.ones(heads, tokens, tokens, dtype=torch.bool)
        if self.span:
            seen[0::2] = apart.abs() <= self.span
            seen[1::2] = apart % self.span == 0
        return seen & (apart >= 0) if self.is_causal else seen


class Attention(nn.Module):
    """Multi-head self-attention over tokens: (B, N, C) -> (B, N, C). Vaswani et al. 2017; AMPose eq. 3.1 to 3.3.

    pattern: the tokens that the heads look at; unless they look at all, it needs N, `tokens`. dropout: of the weights.
    Raises ValueError if the heads do not divide the channels.
    """

    def __init__(self, channels: int, heads: int, pattern: AttentionPattern = AttentionPattern(), tokens: int = 0,
                 dropout: float = 0.0):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        self.heads, self.pattern = heads, pattern
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("hidden", None if pattern == AttentionPattern() else ~pattern.mask(tokens, heads),
                             persistent=False)

    def weights(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """The share of each token in each token's answer: (B, H, N, N), rows sum to 1."""
        # The scale on q, before the product: so TensorRT knows the pattern and fuses it.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        if self.hidden is not None:
            scores = scores.masked_fill(self.hidden, -math.inf)
        return scores.softmax(-1)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """q, k, v of each head: (B, N, C) -> (3, B, H, N, C/H)."""
        tokens, channels = x.shape[-2:]
        return self.qkv(x).reshape(-1, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)

    def merge(self, context: torch.Tensor) -> torch.Tensor:
        """The heads' answers as one: (B, H, N, C/H) -> (B, N, C)."""
        return self.out(context.transpose(1, 2).flatten(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x)
        return self.merge(self.dropout(self.weights(q, k)) @ v)

    def lower(self, plan, x, norm: nn.Module, residual, gate=None):
        """residual + attention(norm(x)), where x is normalised already but for the norm's gain and bias."""
        w, b = folded_linear(self.qkv, norm)
        channels = w.shape[0]
        scale = np.ones(3 * channels)
        scale[:channels] = 1 / math.sqrt(channels // self.heads)
        qkv = plan.linear(x, w * scale, b * scale)
        context = plan.attention(qkv, self.heads, self.pattern.span, self.pattern.is_causal, gate)
        return plan.linear(context, *folded_linear(self.out), residual=residual)


class Mlp(nn.Module):
    """Two linear layers with an activation, "gelu" or "relu", between them: (..., C) -> (..., C), hidden C * ratio."""

    def __init__(self, channels: int, ratio: int = 2, activation: str = "gelu", dropout: float = 0.0):
        super().__init__()
        self.activation = activation
        self.expand = nn.Linear(channels, ratio * channels)
        self.contract = nn.Linear(ratio * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.contract(self.dropout(getattr(nn.functional, self.activation)(self.expand(x))))

    def lower(self, plan, x, norm: nn.Module, residual):
        """residual + mlp(norm(x)), where x is normalised already but for the norm's gain and bias."""
        hidden = plan.linear(x, *folded_linear(self.expand, norm), activation=self.activation)
        return plan.linear(hidden, *folded_linear(self.contract), residual=residual)


class Encoder(nn.Module):
    """Transformer encoder, norms first: (B, N, C) -> (B, N, C), with a learned position of its own. AMPose eq.
    3.5-3.7."""

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
        # One product for all groups, then one that mixes: the form that ONNX Runtime, OpenVINO and TorchScript run
        # fastest.
        groups, joints, _ = self.adjacency.shape
        channels = self.norm.num_features
        z = self.theta(x).reshape(-1, joints * groups, channels)
        z = self.adjacency.permute(1, 2, 0).reshape(joints, joints * groups) @ z
        return self.norm(z.reshape(-1, channels)).reshape(-1, joints, channels)

    def lower(self, plan, x, activation: str | None, residual=None):
        """activation(norm(conv(x))) + residual."""
        gain, shift = norm_constants(self.norm)
        groups = len(self.adjacency)
        w, b = folded_linear(self.theta)
        w = w.reshape(w.shape[0], groups, -1).transpose(1, 0, 2) * gain
        adjacency = array(self.adjacency)
        b = np.einsum("kij,kc->ic", adjacency, b.reshape(groups, -1) * gain)
        return plan.graph_conv(x, w, b + shift, adjacency, activation=activation, residual=residual)
