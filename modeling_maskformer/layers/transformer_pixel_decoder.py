"""The second pixel decoder: transformer encoder layers on the stride-32 feature, before the FPN (DETR's encoder)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import Attention
from .initialized import KaimingConv2d, XavierLinear
from .pixel_decoder import PixelDecoder, PixelDecoderOutput
from .position_embedding import position_embedding_of


class TransformerEncoderLayer(GradientCheckpointingLayer):
    """Post-norm encoder layer: self-attention of the pixels `(B, H*W, C)`, feed-forward."""

    def __init__(self, channels: int, num_heads: int, ffn_channels: int, dropout: float):
        super().__init__()
        self.self_attn = Attention(channels, num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(channels)
        self.fc1 = XavierLinear(channels, ffn_channels)
        self.fc2 = XavierLinear(ffn_channels, channels)
        self.final_layer_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, positions: Tensor) -> Tensor:
        positioned = hidden + positions
        attended, _ = self.self_attn(positioned, positioned, hidden)
        hidden = self.self_attn_layer_norm(hidden + self.dropout(attended))
        expanded = self.dropout(self.fc1(hidden).relu())
        return self.final_layer_norm(hidden + self.dropout(self.fc2(expanded)))


class TransformerEncoder(nn.Module):
    """Encoder layers on a feature map `(B, C, H, W)`, which keeps its shape."""

    def __init__(self, channels: int, num_layers: int, num_heads: int, ffn_channels: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(channels, num_heads, ffn_channels, dropout) for _ in range(num_layers)
        )

    def forward(self, feature: Tensor) -> Tensor:
        positions = position_embedding_of(feature)  # (H*W, C)
        hidden = feature.flatten(2).transpose(1, 2)  # (B, H*W, C)
        for layer in self.layers:
            hidden = layer(hidden, positions)
        return hidden.transpose(1, 2).unflatten(2, feature.shape[-2:])


class TransformerPixelDecoder(PixelDecoder):
    """The original's choice for panoptic segmentation with ResNets; its encoder's output is the decoder's memory too.

    Args:
        in_channels: channels of the backbone's feature maps, finest first.
        channels: channels of the encoder and of the FPN, a multiple of 32.
        embedding_channels: channels of the per-pixel embeddings.
        num_layers, num_heads, ffn_channels, dropout: of the encoder.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        embedding_channels: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        ffn_channels: int = 2048,
        dropout: float = 0.1,
    ):
        super().__init__([*in_channels[:-1], channels], channels, embedding_channels)
        self.memory_channels = channels
        self.input_projection = KaimingConv2d(in_channels[-1], channels, kernel_size=1)
        self.encoder = TransformerEncoder(channels, num_layers, num_heads, ffn_channels, dropout)

    def forward(self, features: Sequence[Tensor]) -> PixelDecoderOutput:
        """Decodes features, finest first. The memory is the encoded map of stride 32."""
        encoded = self.encoder(self.input_projection(features[-1]))
        return super().forward([*features[:-1], encoded])
