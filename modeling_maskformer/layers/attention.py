"""Multi-head attention of the transformer encoder and decoder."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .initialized import XavierLinear


class Attention(nn.Module):
    """Multi-head attention `(B, Q, C)` x `(B, K, C)` -> `(B, Q, C)`.

    Positions enter by the caller: they are added to queries and keys, never to values.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"channels ({channels}) must be a multiple of num_heads ({num_heads}).")
        self.num_heads = num_heads
        self.dropout = dropout
        # as one (3C, C) matrix the three have fan_in + fan_out = 4C, taken alone 2C
        self.q_proj = XavierLinear(channels, channels, gain=math.sqrt(0.5))
        self.k_proj = XavierLinear(channels, channels, gain=math.sqrt(0.5))
        self.v_proj = XavierLinear(channels, channels, gain=math.sqrt(0.5))
        self.out_proj = XavierLinear(channels, channels)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, length, C / heads)

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, return_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The attended values and, if asked for, the weights `(B, heads, Q, K)` (computed step by step: slower)."""
        q = self._split_heads(self.q_proj(queries))
        k = self._split_heads(self.k_proj(keys))
        v = self._split_heads(self.v_proj(values))
        dropout = self.dropout if self.training else 0.0
        if return_weights:
            weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
            attended = F.dropout(weights, dropout) @ v
        else:
            weights = None
            attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), weights
