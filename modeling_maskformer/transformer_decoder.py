"""Image features + learned queries -> per-segment embeddings (paper, section 3.3; the decoder is DETR's)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .layers import KaimingConv2d, XavierLinear


def sine_position_embedding(
    height: int,
    width: int,
    channels: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    temperature: float = 10000.0,
) -> Tensor:
    """`(H * W, C)` position embedding: half the channels say the row, half the column, both scaled to (0, 2 pi]."""
    frequencies = temperature ** (
        -2 * torch.div(torch.arange(channels // 2, device=device), 2, rounding_mode="floor") / (channels // 2)
    )  # (C/2,)

    def encode(length: int) -> Tensor:
        position = torch.arange(1, length + 1, device=device) / (length + 1e-6) * 2 * math.pi
        angles = position[:, None] * frequencies  # (length, C/2)
        return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=2).flatten(1)

    rows = encode(height)[:, None].expand(height, width, channels // 2)
    columns = encode(width)[None].expand(height, width, channels // 2)
    return torch.cat((rows, columns), dim=2).reshape(height * width, channels).to(dtype)


@lru_cache(maxsize=64)
def _sine_position_embedding(*arguments) -> Tensor:
    # a tensor made under inference_mode could not serve a later training step
    with torch.inference_mode(False):
        return sine_position_embedding(*arguments)


def _cached_position_embedding(*arguments) -> Tensor:
    # a compiled graph holds the computation itself: it must follow the input's size
    return (
        sine_position_embedding(*arguments) if torch.compiler.is_compiling() else _sine_position_embedding(*arguments)
    )


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


class TransformerDecoderLayer(GradientCheckpointingLayer):
    """Post-norm decoder layer: self-attention of the queries, cross-attention to the image, feed-forward."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        ffn_channels: int,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
        activation: str,
    ):
        super().__init__()
        self.self_attn = Attention(channels, num_heads, attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(channels)
        self.encoder_attn = Attention(channels, num_heads, attention_dropout)
        self.encoder_attn_layer_norm = nn.LayerNorm(channels)
        self.fc1 = XavierLinear(channels, ffn_channels)
        self.fc2 = XavierLinear(ffn_channels, channels)
        self.final_layer_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.activation_dropout = nn.Dropout(activation_dropout)
        self.activation = ACT2FN[activation]

    def forward(
        self,
        hidden: Tensor,  # (B, Q, C)
        query_positions: Tensor,  # (Q, C)
        memory: Tensor,  # (B, H*W, C)
        memory_with_positions: Tensor,  # (B, H*W, C)
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        positioned = hidden + query_positions
        attended, weights = self.self_attn(positioned, positioned, hidden, return_weights)
        hidden = self.self_attn_layer_norm(hidden + self.dropout(attended))
        attended, _ = self.encoder_attn(hidden + query_positions, memory_with_positions, memory, False)
        hidden = self.encoder_attn_layer_norm(hidden + self.dropout(attended))
        expanded = self.activation_dropout(self.activation(self.fc1(hidden)))
        return self.final_layer_norm(hidden + self.dropout(self.fc2(expanded))), weights


@dataclass
class TransformerDecoderOutput:
    """What the decoder gives.

    Attributes:
        outputs: `(layers, B, Q, C)`, each layer's output through the final LayerNorm.
        hidden_states: the decoder's input and each layer's output as it enters the next layer, `(B, Q, C)` each.
        attentions: self-attention weights of each layer, `(B, heads, Q, Q)` each, or None if not asked for.
    """

    outputs: Tensor
    hidden_states: tuple[Tensor, ...]
    attentions: tuple[Tensor, ...] | None


class TransformerDecoder(nn.Module):
    """A stack of layers and one LayerNorm shared by the last and all intermediate outputs."""

    def __init__(
        self,
        channels: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        ffn_channels: int = 2048,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation: str = "relu",
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerDecoderLayer(
                channels, num_heads, ffn_channels, dropout, attention_dropout, activation_dropout, activation
            )
            for _ in range(num_layers)
        )
        self.layernorm = nn.LayerNorm(channels)

    def forward(
        self, query_positions: Tensor, memory: Tensor, memory_positions: Tensor, output_attentions: bool = False
    ) -> TransformerDecoderOutput:
        """Decodes queries `(Q, C)` against the image `(B, H*W, C)` with positions `(H*W, C)`."""
        hidden = torch.zeros_like(query_positions).expand(memory.shape[0], -1, -1)  # the paper starts from zeros
        memory_with_positions = memory + memory_positions
        hidden_states, attentions = [hidden], []
        for layer in self.layers:
            hidden, weights = layer(hidden, query_positions, memory, memory_with_positions, output_attentions)
            hidden_states.append(hidden)
            attentions.append(weights)
        outputs = self.layernorm(torch.stack(hidden_states[1:]))  # (layers, B, Q, C)
        return TransformerDecoderOutput(
            outputs, tuple(hidden_states), tuple(attentions) if output_attentions else None
        )


class TransformerModule(nn.Module):
    """The queries, the projection of the image features and the decoder (the paper's transformer module).

    Args:
        in_channels: channels of the image features (the backbone's stride-32 map).
        channels: width of the decoder.
        num_queries: N of the paper.
        decoder: maps queries and image features of width `channels`.
    """

    def __init__(self, in_channels: int, channels: int, num_queries: int, decoder: TransformerDecoder):
        super().__init__()
        self.queries_embedder = nn.Embedding(num_queries, channels)
        # a backbone that already has the decoder's width is not projected
        self.input_projection = (
            KaimingConv2d(in_channels, channels, kernel_size=1) if in_channels != channels else None
        )
        self.decoder = decoder

    def forward(self, features: Tensor, output_attentions: bool = False) -> TransformerDecoderOutput:
        """Decodes the features `(B, C_in, H/32, W/32)`."""
        if self.input_projection is not None:
            features = self.input_projection(features)
        channels, height, width = features.shape[1:]
        positions = _cached_position_embedding(height, width, channels, features.device, features.dtype)
        memory = features.flatten(2).transpose(1, 2)  # (B, H*W, C)
        return self.decoder(self.queries_embedder.weight, memory, positions, output_attentions)
