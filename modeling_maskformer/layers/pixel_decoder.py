"""Backbone features -> per-pixel embeddings (paper, section 3.3: a lightweight FPN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution import WinogradConv2d
from .initialized import KaimingConv2d

NUM_GROUPS = 32


class GroupNorm(nn.GroupNorm):
    """torch's, also for groups of a single value, as of 1 x 1 maps: their normalised value is 0."""

    def forward(self, values: Tensor) -> Tensor:
        return torch.group_norm(
            values, self.num_groups, self.weight, self.bias, self.eps, torch.backends.cudnn.enabled
        )


class ConvNormAct(nn.Sequential):
    """3x3 convolution without bias, GroupNorm, ReLU: `(B, C_in, H, W)` -> `(B, C_out, H, W)`."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            WinogradConv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            GroupNorm(NUM_GROUPS, out_channels),
            nn.ReLU(),
        )


class FPNLayer(nn.Module):
    """Adds one lateral feature map to the coarser map, enlarged by nearest, and smooths the sum."""

    def __init__(self, lateral_channels: int, channels: int):
        super().__init__()
        self.proj = nn.Sequential(
            KaimingConv2d(lateral_channels, channels, kernel_size=1, bias=False), GroupNorm(NUM_GROUPS, channels)
        )
        self.block = ConvNormAct(channels, channels)

    def forward(self, coarse: Tensor, lateral: Tensor) -> Tensor:
        fine = self.proj(lateral)
        return self.block(fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest"))


class FPN(nn.Module):
    """Feature pyramid network: maps at strides 16, 8 and 4, each from the coarser one and a backbone feature."""

    def __init__(self, in_channels: Sequence[int], channels: int):
        super().__init__()
        self.stem = ConvNormAct(in_channels[-1], channels)
        self.layers = nn.ModuleList(FPNLayer(lateral, channels) for lateral in in_channels[-2::-1])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Backbone features, finest first -> FPN maps, coarsest (stride 16) first."""
        decoded = self.stem(features[-1])
        outputs = []
        for layer, lateral in zip(self.layers, features[-2::-1], strict=True):
            decoded = layer(decoded, lateral)
            outputs.append(decoded)
        return outputs  # (B, C, H/16, W/16), (B, C, H/8, W/8), (B, C, H/4, W/4)


class PixelDecoderOutput(NamedTuple):
    """What a pixel decoder gives.

    Attributes:
        memory: the image features for the transformer decoder, `(B, C, H/32, W/32)`.
        maps: the FPN's maps, coarsest first.
        pixel_embeddings: `(B, C_E, H/4, W/4)`.
    """

    memory: Tensor
    maps: list[Tensor]
    pixel_embeddings: Tensor


class PixelDecoder(nn.Module):
    """The FPN and the last convolution, which turns its finest map into per-pixel embeddings.

    Args:
        in_channels: channels of the backbone's feature maps, finest first.
        channels: channels inside the FPN, a multiple of 32.
        embedding_channels: channels of the per-pixel embeddings (the paper's C_E).
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, embedding_channels: int = 256):
        super().__init__()
        if channels % NUM_GROUPS:
            raise ValueError(f"channels must be a multiple of {NUM_GROUPS} (GroupNorm), got {channels}.")
        self.memory_channels = in_channels[-1]  # of the image features for the transformer decoder
        self.fpn = FPN(in_channels, channels)
        self.mask_projection = WinogradConv2d(channels, embedding_channels, kernel_size=3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> PixelDecoderOutput:
        """Decodes features, finest first. The memory is the backbone's own map of stride 32."""
        maps = self.fpn(features)
        return PixelDecoderOutput(features[-1], maps, self.mask_projection(maps[-1]))
