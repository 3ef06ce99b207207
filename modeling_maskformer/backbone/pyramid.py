"""Feature maps at other strides -> four at strides 4, 8, 16 and 32, as in ViTDet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from timm.layers import LayerNorm2d
from torch import Tensor, nn
from transformers import PreTrainedConfig, TimmBackboneConfig

STRIDES = (4, 8, 16, 32)


class Upsampling(nn.Sequential):
    """Each transposed convolution doubles the map and halves its channels; LayerNorm and GELU between them.

    Args:
        channels: of the input.
        doublings: how many; the output has `channels >> doublings` channels.
    """

    def __init__(self, channels: int, doublings: int):
        super().__init__()
        for step in range(doublings):
            if step:
                self.extend((LayerNorm2d(channels), nn.GELU()))
            self.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
            channels //= 2
        self.out_channels = channels


class FeaturePyramid(nn.Module):
    """Four maps of a backbone that lacks some of the four strides (Li et al. 2022, Exploring Plain Vision Transformer
    Backbones for Object Detection, section 3).

    Each of the four is made of the map with the nearest stride: the map itself where that is the right one,
    `Upsampling` where it is too coarse, max-pooling where it is too fine. The 1x1 and 3x3 convolutions with norms that
    follow in ViTDet are those of MaskFormer's FPN. A backbone with a single map is a plain transformer, whose last
    norm timm leaves out: a LayerNorm stands here for it.

    Args:
        strides: of the backbone's maps, finest first.
        in_channels: their channels.

    Attributes:
        channels: of the four maps, finest first.
    """

    def __init__(self, strides: Sequence[int], in_channels: Sequence[int]):
        super().__init__()
        self.norm = LayerNorm2d(in_channels[0]) if len(strides) == 1 else None
        self.sources: list[int] = []
        self.levels = nn.ModuleList()
        self.channels: list[int] = []
        for stride in STRIDES:
            # between a finer and a coarser one, the coarser: it knows more
            source = min(range(len(strides)), key=lambda i: (abs(math.log2(strides[i] / stride)), -i))
            factor = strides[source] / stride
            if factor > 1:
                level = Upsampling(in_channels[source], doublings=round(math.log2(factor)))
                self.channels.append(level.out_channels)
            else:
                pool = round(1 / factor)
                level = nn.MaxPool2d(pool, ceil_mode=True) if pool > 1 else nn.Identity()
                self.channels.append(in_channels[source])
            self.sources.append(source)
            self.levels.append(level)

    def forward(self, features: Sequence[Tensor], image_size: Sequence[int]) -> list[Tensor]:
        """Four maps `(B, C_i, ceil(H / s), ceil(W / s))` with s = 4, 8, 16, 32 of an image of `image_size` (H, W)."""
        if self.norm is not None:
            features = [self.norm(features[0])]
        maps = [level(features[source]) for level, source in zip(self.levels, self.sources, strict=True)]
        return [crop(level, image_size, stride) for level, stride in zip(maps, STRIDES, strict=True)]


def crop(feature: Tensor, image_size: Sequence[int], stride: int) -> Tensor:
    """The part of a map `(B, C, h, w)` of this stride that lies on the image, `(B, C, ceil(H / s), ceil(W / s))`."""
    height, width = (-(-length // stride) for length in image_size)
    return feature[..., :height, :width]


def needs_pyramid(backbone_config: PreTrainedConfig) -> bool:
    """Whether a backbone of this config gives other than four maps."""
    return isinstance(backbone_config, TimmBackboneConfig) and len(backbone_config.out_indices) != len(STRIDES)
