"""Strided Transformer: a transformer over frames, whose second half strides over them until one is left.

Sources: "Strided Transformer with strided sparse attention" (002), and the base model it changes, Li et al. 2022,
"Exploiting Temporal Contexts with Strided Transformer for 3D Human Pose Estimation" (IEEE TMM); reported by the base
model with 351 frames of CPN's 2D on Human3.6M: 43.7 mm (protocol 1), 35.2 mm (protocol 2); the paper's figures, not
measured here. Checkpoints that load (`published.py`): the base model's, 27 and 351 frames, without the authors'
`post_refine` network, which needs the camera's intrinsics and is not built: their `no_refine.pth`.

Decided where the sources are silent or differ:
- Strides: 27 frames (3, 3, 3), 351 (3, 9, 13); 81 (3, 3, 9), 243 (3, 9, 9).
- "Sparse" attention: half of the heads local, half strided, in both directions, span = sqrt(tokens)
  (layers.AttentionPattern). "Dense" is the base model. Heads alternate between the two patterns, so that neighbours in
  memory, and two threads, share the work.
- The max pooling beside a strided convolution has kernel 1 in the authors' code: it picks every s-th frame. So here.
- Positions of a strided layer are as many as its tokens (paper 002, E_2); the authors' code stores as many as frames
  and uses the first of them.
- `is_causal`: no token looks ahead, in attention, convolution or pooling: the convolutions are padded on the left, and
  each token of a strided layer stands at the last frame of its stride; the answer is for the newest frame. Each answer
  is of a whole window all the same: positions, and the grid of the strides, count from the window's first frame, so
  what one window computed is of other positions in the next. To keep keys and values in a ring buffer, both would count
  frames modulo T, and the model would be trained with windows that begin at any of them.
- The authors' LayerNorm divides by (sample deviation + eps): `norm="sample"`, for published weights only.
"""

from __future__ import annotations

import math
import torch
from torch import nn

from ..skeleton import H36M17, Skeleton
from .layers import Attention, AttentionPattern, Mlp, NormedLinear, SampleLayerNorm, array, folded_linear, norm_epsilon

STRIDES = {27: (3, 3, 3), 81: (3, 3, 9), 243: (3, 9, 9), 351: (3, 9, 13)}
ATTENTIONS = ("sparse", "dense")
NORMS = {"layer": nn.LayerNorm, "sample": SampleLayerNorm}
TAPS = 3


class VanillaLayer(nn.Module):
    """Transformer encoder layer, norms first: (B, N, C) -> (B, N, C)."""

    def __init__(self, tokens: int, channels: int, heads: int, pattern: AttentionPattern, norm: str, dropout: float):
        super().__init__()
        self.norm_attention = NORMS[norm](channels)
        self.attention = Attention(channels, heads, pattern, tokens, dropout)
        self.norm_mlp = NORMS[norm](channels)
        self.mlp = Mlp(channels, activation="relu", dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.dropout(self.attention(self.norm_attention(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attend(x)
        return x + self.dropout(self.mlp(self.norm_mlp(x)))

    def lower_attend(self, plan, x):
        return self.attention.lower(plan, plan.normalize(x, norm_epsilon(self.norm_attention)), self.norm_attention,
                                    residual=x)

    def lower(self, plan, x):
        x = self.lower_attend(plan, x)
        return self.mlp.lower(plan, plan.normalize(x, norm_epsilon(self.norm_mlp)), self.norm_mlp, residual=x)


class StridedLayer(VanillaLayer):
    """The same with positions of its own and a strided convolution in the MLP: (B, N, C) -> (B, N / stride, C)."""

    def __init__(self, tokens: int, channels: int, heads: int, pattern: AttentionPattern, norm: str, dropout: float,
                 stride: int):
        super().__init__(tokens, channels, heads, pattern, norm, dropout)
        self.position = nn.Parameter(torch.zeros(tokens, channels))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.mlp.contract = nn.Conv1d(2 * channels, channels, TAPS, stride)
        self.stride, self.tokens = stride, tokens
        # The token that the first output stands at, and the first one its convolution reads.
        self.at = stride - 1 if pattern.is_causal else 0
        self.reads_from = self.at - (TAPS - 1 if pattern.is_causal else TAPS // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attend(x + self.position)
        hidden = self.mlp.dropout(torch.relu(self.mlp.expand(self.norm_mlp(x)))).transpose(1, 2)
        before = max(0, -self.reads_from)
        hidden = nn.functional.pad(hidden[..., max(0, self.reads_from):], (before, max(0, TAPS - 1 - before)))
        merged = self.mlp.contract(hidden).transpose(1, 2)[:, :self.tokens // self.stride]
        return x[:, self.at::self.stride] + self.dropout(merged)

    def lower(self, plan, x):
        x = self.lower_attend(plan, plan.add_constant(x, array(self.position)))
        hidden = plan.linear(plan.normalize(x, norm_epsilon(self.norm_mlp)),
                             *folded_linear(self.mlp.expand, self.norm_mlp), activation="relu")
        w = array(self.mlp.contract.weight).transpose(2, 1, 0)
        rows = plan.pick(x, self.at, self.stride, self.tokens // self.stride)
        return plan.conv(hidden, w, array(self.mlp.contract.bias), self.reads_from, self.stride, residual=rows)


class Head(nn.Module):
    """BatchNorm, then a linear layer to the joints: (B, N, C) -> (B, N, J, 3)."""

    def __init__(self, channels: int, joints: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, 3 * joints)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.linear(self.norm(x.flatten(0, 1)))
        return flat.reshape(-1, x.shape[1], self.linear.out_features // 3, 3)

    def lower(self, plan, x):
        return plan.reshape(plan.linear(x, *folded_linear(self.linear, self.norm)), self.linear.out_features // 3)


class StridedTransformer(nn.Module):
    """Lifts 2D keypoints to a 3D pose: (B, T, J, 2) normalised screen -> (B, J, 3) metres from the root, camera axes.

    The answer is for the middle frame, with is_causal for the newest. frames: a key of STRIDES. depth: vanilla layers;
    there are as many strided ones as strides. attention: one of ATTENTIONS. norm: a key of NORMS. dropout: inside the
    layers; embed_dropout: after the embedding. Raises ValueError for an unknown option or heads that do not divide the
    channels.
    """

    def __init__(self, skeleton: Skeleton = H36M17, frames: int = 27, channels: int = 256, heads: int = 8,
                 depth: int = 3,
                 attention: str = "sparse", is_causal: bool = False, norm: str = "layer", dropout: float = 0.1,
                 embed_dropout: float = 0.25):
        super().__init__()
        for name, value, known in (("frames", frames, STRIDES), ("attention", attention, ATTENTIONS),
                                   ("norm", norm, NORMS)):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; there are {', '.join(map(str, known))}")
        self.skeleton, self.frames, self.is_causal = skeleton, frames, is_causal

        def pattern(tokens: int) -> AttentionPattern:
            return AttentionPattern(round(math.sqrt(tokens)) if attention == "sparse" else None, is_causal)

        self.embed = NormedLinear(2 * len(skeleton), channels)
        self.embed_dropout = nn.Dropout(embed_dropout)
        self.position = nn.Parameter(torch.zeros(frames, channels))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.vanilla = nn.ModuleList(VanillaLayer(frames, channels, heads, pattern(frames), norm, dropout)
                                     for _ in range(depth))
        self.strided = nn.ModuleList()
        tokens = frames
        for stride in STRIDES[frames]:
            self.strided.append(StridedLayer(tokens, channels, heads, pattern(tokens), norm, dropout, stride))
            tokens //= stride
        self.sequence_head = Head(channels, len(skeleton))
        self.head = Head(channels, len(skeleton))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The frames after the vanilla layers: (B, T, J, 2) -> (B, T, C)."""
        x = self.embed_dropout(self.embed(x.flatten(2))) + self.position
        for layer in self.vanilla:
            x = layer(x)
        return x

    def single(self, x: torch.Tensor) -> torch.Tensor:
        """The answer from encoded frames: (B, T, C) -> (B, J, 3)."""
        for layer in self.strided:
            x = layer(x)
        return self.head(x)[:, 0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.single(self.encode(x))

    def full_to_single(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both of training's answers: every frame's pose (B, T, J, 3), from the vanilla layers, and the one
        (B, J, 3)."""
        encoded = self.encode(x)
        return self.sequence_head(encoded), self.single(encoded)

    def lower(self, plan):
        x = plan.add_constant(self.embed.lower(plan, plan.frame_tokens()), array(self.position))
        for layer in (*self.vanilla, *self.strided):
            x = layer.lower(plan, x)
        return self.head.lower(plan, x)
