"""Sine position embedding of an image's pixels (DETR's, normalised)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_position_embedding(
    height: int,
    width: int,
    channels: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`(H * W, C)` position embedding: half the channels say the row, half the column, both scaled to (0, 2 pi]."""
    channel = torch.arange(channels // 2, device=device, dtype=torch.float32)
    frequencies = 10000.0 ** (-2 * channel.div(2, rounding_mode="floor") / (channels // 2))  # (C/2,)

    def encode(length: int) -> Tensor:
        position = torch.arange(1, length + 1, device=device, dtype=torch.float32) / (length + 1e-6) * 2 * math.pi
        angles = position[:, None] * frequencies  # (length, C/2)
        return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=2).flatten(1)

    rows = encode(height)[:, None].expand(height, width, channels // 2)
    columns = encode(width)[None].expand(height, width, channels // 2)
    return torch.cat((rows, columns), dim=2).reshape(height * width, channels).to(dtype)


def position_embedding_of(feature: Tensor) -> Tensor:
    """`(H * W, C)` position embedding of a feature map `(B, C, H, W)`, on its device and of its dtype."""
    channels, height, width = feature.shape[1:]
    return sine_position_embedding(height, width, channels, feature.device, feature.dtype)
