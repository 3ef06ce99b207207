"""Image features + learned queries -> per-segment embeddings (paper, section 3.3; the decoder is DETR's)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import Attention
from .initialized import KaimingConv2d, XavierLinear
from .position_embedding import position_embedding_of


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
        enforce_projection: project features that already have the decoder's width, too.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_queries: int,
        decoder: TransformerDecoder,
        enforce_projection: bool = False,
    ):
        super().__init__()
        self.num_queries = num_queries
        self.queries_embedder = nn.Embedding(num_queries, channels)
        # features that already have the decoder's width are not projected
        project = enforce_projection or in_channels != channels
        self.input_projection = KaimingConv2d(in_channels, channels, kernel_size=1) if project else None
        self.decoder = decoder

    def forward(self, features: Tensor, output_attentions: bool = False) -> TransformerDecoderOutput:
        """Decodes the features `(B, C_in, H/32, W/32)`."""
        if self.input_projection is not None:
            features = self.input_projection(features)
        positions = position_embedding_of(features)  # (H*W, C)
        memory = features.flatten(2).transpose(1, 2)  # (B, H*W, C)
        # called, not read: an adapter or an offloaded weight answers the call only
        queries = self.queries_embedder(torch.arange(self.num_queries, device=memory.device))
        return self.decoder(queries, memory, positions, output_attentions)
