"""PoseGate-Former: a transformer over the joints whose heads are gated by the pose.

Source: "PoseGate-Former" (003), sections 3.1 and 4; reported on Human3.6M with 2D ground truth 35.2 mm (protocol 1), on
HumanEva-I 12.3 mm (protocol 2, average). Weakly supervised training: training/weakly_supervised.py.

Head i gives g_i softmax(q_i k_i^T / sqrt(d)) v_i + (1 - b_i) g_i v_i (eq. 1), with a gate g and a bias b of one number
a head, from two paths of fully connected layers. Decided where the source is silent: each path reads the flattened
joints that enter its layer, Linear -> 100 -> sigmoid -> Linear -> 100 -> sigmoid -> Linear -> heads -> sigmoid; 4
encoder layers, norms first, an MLP of ratio 2 with ReLU; learned positions at the entrance. The ablations of Table 3
are values of `gate`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ..skeleton import H36M17, Skeleton
from .layers import Attention, Mlp, array, folded_linear

HIDDEN = 100  # neurons of a path's layers
GATES = ("trained", "fixed bias", "none", "fixed attention")


class GatePath(nn.Sequential):
    """The flattened joints -> one number in (0, 1) a head: (B, JC) -> (B, H)."""

    def __init__(self, inputs: int, heads: int):
        super().__init__(nn.Linear(inputs, HIDDEN), nn.Sigmoid(), nn.Linear(HIDDEN, HIDDEN), nn.Sigmoid(),
                         nn.Linear(HIDDEN, heads), nn.Sigmoid())


class GatedAttention(Attention):
    """Self-attention over joints with PoseGate-Former's gate: (B, J, C), what the gate reads (B, J, C) -> (B, J, C).

    gate: "trained"; "fixed bias", the bias is 1/n for n joints; "none", plain attention; "fixed attention", every
    weight is 1/n, and there is no gate.
    """

    def __init__(self, joints: int, channels: int, heads: int, gate: str):
        super().__init__(channels, heads)
        if gate not in GATES:
            raise ValueError(f"unknown gate {gate!r}; there are {', '.join(GATES)}")
        self.gate, self.joints = gate, joints
        self.gate_path = GatePath(joints * channels, heads) if gate in ("trained", "fixed bias") else None
        self.bias_path = GatePath(joints * channels, heads) if gate == "trained" else None

    def weights(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        if self.gate == "fixed attention":
            return torch.full((*q.shape[:-1], q.shape[-2]), 1 / q.shape[-2], dtype=q.dtype, device=q.device)
        return super().weights(q, k)

    def forward(self, x: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x)
        context = self.weights(q, k) @ v
        if self.gate_path is not None:
            gate = self.gate_path(pose.flatten(1))[..., None, None]
            bias = self.bias_path(pose.flatten(1))[..., None, None] if self.bias_path is not None else 1 / self.joints
            context = gate * context + (1 - bias) * gate * v
        return self.merge(context)

    def lower(self, plan, x, pose, norm, residual):
        """residual + attention(norm(x), pose), where x is normalised already but for the norm's gain and bias."""
        gate = None if self.gate_path is None else self._lower_gate(plan, plan.reshape(pose, 1))
        if self.gate != "fixed attention":
            return super().lower(plan, x, norm, residual, gate)
        # Queries of zero weigh all keys the same.
        w, b = folded_linear(self.qkv, norm)
        shown = np.repeat([0.0, 1.0, 1.0], w.shape[0])
        return plan.linear(plan.attention(plan.linear(x, w * shown, b * shown), self.heads), *folded_linear(self.out),
                           residual=residual)

    def _lower_gate(self, plan, pose):
        """g | b, (1, 2 heads): both paths as one, side by side."""
        w = [[array(path[i].weight).T for path in (self.gate_path, self.bias_path) if path is not None]
             for i in (0, 2, 4)]
        b = [[array(path[i].bias) for path in (self.gate_path, self.bias_path) if path is not None] for i in (0, 2, 4)]
        if self.bias_path is None:  # a constant is a sigmoid of one
            w[2].append(np.zeros((0, self.heads)))
            b[2].append(np.full(self.heads, -math.log(self.joints - 1)))
        x = plan.linear(pose, np.concatenate(w[0], axis=1), np.concatenate(b[0]), activation="sigmoid")
        for i in (1, 2):
            x = plan.linear(x, _block_diagonal(w[i]), np.concatenate(b[i]), activation="sigmoid")
        return x


def _block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    whole = np.zeros(np.sum([block.shape for block in blocks], axis=0))
    row = column = 0
    for block in blocks:
        rows, columns = block.shape
        whole[row:row + rows, column:column + columns] = block
        row, column = row + rows, column + columns
    return whole


class GatedLayer(nn.Module):
    """Transformer encoder layer with a gated attention, norms first: (B, J, C) -> (B, J, C)."""

    def __init__(self, joints: int, channels: int, heads: int, gate: str):
        super().__init__()
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = GatedAttention(joints, channels, heads, gate)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, activation="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm_attention(x), x)
        return x + self.mlp(self.norm_mlp(x))

    def lower(self, plan, x):
        x = self.attention.lower(plan, plan.normalize(x, self.norm_attention.eps), x, self.norm_attention, residual=x)
        return self.mlp.lower(plan, plan.normalize(x, self.norm_mlp.eps), self.norm_mlp, residual=x)


class PoseGateFormer(nn.Module):
    """Lifts 2D keypoints to a 3D pose: (B, T, J, 2) normalised screen -> (B, J, 3) metres from the root, camera axes.

    The T frames of a joint are concatenated; the answer is for the middle one. gate: one of GATES.
    Raises ValueError for another gate or heads that do not divide the channels.
    """

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 1, channels: int = 256, heads: int = 8,
                 depth: int = 4, gate: str = "trained"):
        super().__init__()
        self.skeleton, self.frames = skeleton, frames
        joints = len(skeleton)
        self.embed = nn.Linear(2 * frames, channels)
        self.position = nn.Parameter(torch.zeros(joints, channels))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.layers = nn.ModuleList(GatedLayer(joints, channels, heads, gate) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.transpose(1, 2).flatten(2)) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))

    def attention_weights(self, x: torch.Tensor) -> torch.Tensor:
        """The weights of each layer's heads on the joints, as in Fig. 4: (B, T, J, 2) -> (layers, B, H, J, J)."""
        maps = []
        x = self.embed(x.transpose(1, 2).flatten(2)) + self.position
        for layer in self.layers:
            q, k, _ = layer.attention.project(layer.norm_attention(x))
            maps.append(layer.attention.weights(q, k))
            x = layer(x)
        return torch.stack(maps)

    def lower(self, plan):
        x = plan.linear(plan.joint_tokens(), *folded_linear(self.embed))
        x = plan.add_constant(x, array(self.position))
        for layer in self.layers:
            x = layer.lower(plan, x)
        return plan.linear(plan.normalize(x, self.norm.eps), *folded_linear(self.head, self.norm))
