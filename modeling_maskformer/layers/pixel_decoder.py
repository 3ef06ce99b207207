"""Backbone features -> per-pixel embeddings (paper, section 3.3: a lightweight FPN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution import Conv1x1, Conv3x3, cat_images, conv3x3, is_captured

NUM_GROUPS = 32
PART = 1 << 22  # numbers that are normalised at a time


class GroupNorm(nn.GroupNorm):
    """GroupNorm with 32 groups of maps `(B, C, H, W)`, which inference on a CPU writes over, if they are large.

    Fresh memory for such maps costs more than the norm itself: the system clears every page at first touch.
    """

    def __init__(self, channels: int):
        super().__init__(NUM_GROUPS, channels)

    def forward(self, maps: Tensor) -> Tensor:
        size = maps[0].numel()
        # autocast may give the result another dtype
        keeps_input = torch.is_grad_enabled() or is_captured() or torch.is_autocast_enabled("cpu")
        if keeps_input or maps.device.type != "cpu" or size <= PART:
            return super().forward(maps)
        groups = max(1, self.num_groups * PART // size)  # in a part
        step = groups * self.num_channels // self.num_groups
        for image in maps:
            parts = (image.split(step), self.weight.split(step), self.bias.split(step))
            for part, weight, bias in zip(*parts, strict=True):
                num_groups = len(part) * self.num_groups // self.num_channels
                part.copy_(F.group_norm(part[None], num_groups, weight, bias, self.eps)[0])
        return maps


class ConvNormAct(nn.Sequential):
    """3x3 convolution without bias, GroupNorm, ReLU: `(B, C_in, H, W)` -> `(B, C_out, H, W)`."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            Conv3x3(in_channels, out_channels, bias=False),
            GroupNorm(out_channels),
            nn.ReLU(inplace=True),
        )


class FPNLayer(nn.Module):
    """Adds one lateral feature map to the coarser map, enlarged by nearest, and smooths the sum."""

    def __init__(self, lateral_channels: int, channels: int):
        super().__init__()
        self.proj = nn.Sequential(Conv1x1(lateral_channels, channels), GroupNorm(channels))
        self.block = ConvNormAct(channels, channels)

    def forward(self, coarse: Tensor, lateral: Tensor) -> Tensor:
        return self.block(add_enlarged(self.proj(lateral), coarse))


def add_enlarged(fine: Tensor, coarse: Tensor) -> Tensor:
    """`fine` `(B, C, H, W)` plus `coarse` enlarged to its size by nearest; `fine` is written over."""
    height, width = coarse.shape[-2:]
    # (a compiled graph is for all sizes)
    if not torch.compiler.is_compiling() and fine.shape[-2:] == (2 * height, 2 * width):
        wide = F.interpolate(coarse, size=(height, 2 * width), mode="nearest")  # rows are added in long runs
        fine.unflatten(2, (height, 2)).add_(wide[:, :, :, None])
        return fine
    return fine.add_(F.interpolate(coarse, size=fine.shape[-2:], mode="nearest"))


class FPN(nn.Module):
    """Feature maps, finest first -> decoded maps of the same sizes but the coarsest, coarsest first."""

    def __init__(self, in_channels: Sequence[int], channels: int):
        super().__init__()
        self.stem = ConvNormAct(in_channels[-1], channels)
        self.layers = nn.Sequential(*[FPNLayer(lateral, channels) for lateral in reversed(in_channels[:-1])])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        decoded = self.stem(features[-1])  # (B, C, H/32, W/32)
        outputs = []
        for layer, lateral in zip(self.layers, reversed(features[:-1]), strict=True):
            decoded = layer(decoded, lateral)
            outputs.append(decoded)
        return outputs  # (B, C, H/16, W/16), (B, C, H/8, W/8), (B, C, H/4, W/4)


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
        self.mask_projection = Conv3x3(channels, embedding_channels)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The image features for the transformer decoder, and the FPN's maps, coarsest first.

        The last map has stride 4: `(B, C, H/4, W/4)`. The image features are the backbone's of stride 32.
        """
        return features[-1], self.fpn(features)

    def pixel_embeddings(self, decoded: Tensor) -> Tensor:
        """Per-pixel embeddings `(B, C_E, H/4, W/4)` of the finest map."""
        return self.mask_projection(decoded)

    def mask_logits(self, decoded: Tensor, mask_embeddings: Tensor) -> Tensor:
        """Mask logits `(B, Q, H/4, W/4)`, without the pixel embeddings where that is less work.

        The last convolution and the dot product with the mask embeddings `(B, Q, C_E)` are both linear: together they
        are one convolution with Q output channels for each image.
        """
        weight, bias = self.mask_projection.weight, self.mask_projection.bias
        embedding_channels, channels, height, width = weight.shape
        num_queries = mask_embeddings.shape[1]
        taps = channels * height * width
        if taps * num_queries >= taps * embedding_channels + num_queries * embedding_channels:
            return torch.einsum("bqc,bchw->bqhw", mask_embeddings, self.pixel_embeddings(decoded))
        weights = (mask_embeddings @ weight.flatten(1)).unflatten(-1, (channels, height, width))  # (B, Q, C, 3, 3)
        biases = mask_embeddings @ bias  # (B, Q)
        logits = [
            conv3x3(image[None], image_weight, image_bias)
            for image, image_weight, image_bias in zip(decoded, weights, biases, strict=True)
        ]
        return cat_images(logits).contiguous()  # queries first again, whose maps are looked at one by one
