"""A timm model as a backbone for images of any size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from transformers import TimmBackbone, TimmBackboneConfig
from transformers.modeling_outputs import BackboneOutput

from ..common.batching import pad_to, padded_size
from .depthwise import speed_up_depthwise
from .pyramid import crop
from .same_padding import pad_in_whole_numbers
from .timm_models import channels_first, map_size, nominal_stride, size_settings, timm_size_rule


class AnySizeTimmBackbone(TimmBackbone):
    """transformers' timm backbone, with its parameter names, whose maps fit images of any size.

    What is done to that end depends on the model (`SizeRule`, found by trying):
    - Most convolutional networks take any size: nothing.
    - Some take multiples of a patch, a window or 32, or drop the border of other sizes (ViT, Swin, MaxViT, ConvNeXt):
      zeros are added below and right of the image. By a setting of timm ViTs then resize their position embeddings.
    - Some take one size only (Hiera, BEiT, MViTv2): the image is cut into tiles of that size.
    What zeros added is cut off the maps again. Maps of cells that are not a power of two wide (the 14 pixels of
    DINOv2) are resized bilinearly to the next one.

    Attributes:
        channels: of the maps, finest first.
        strides: pixels per cell of the maps, powers of two.
    """

    def __init__(self, config: TimmBackboneConfig):
        super().__init__(config, **size_settings(config.backbone, config.output_stride))
        pad_in_whole_numbers(self._backbone)
        speed_up_depthwise(self._backbone)
        self.size_rule = timm_size_rule(config.backbone, config.output_stride)
        self.cells = self._backbone.feature_info.reduction()
        self.strides = [nominal_stride(cell) for cell in self.cells]

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        """`feature_maps`: `(B, C_i, ceil(H / s_i), ceil(W / s_i))` of pixels `(B, 3, H, W)`, s_i the strides."""
        image_size = pixel_values.shape[-2:]
        pixels = self._pad(pixel_values)
        if self.size_rule.is_tiled:
            features = self._run_tiles(pixels)
        else:
            features = channels_first(self._backbone, self._backbone(pixels))
        maps = []
        for feature, cell, stride in zip(features, self.cells, self.strides, strict=True):
            size = map_size(pixels.shape[-2:], cell)
            if tuple(feature.shape[-2:]) != size:  # convolutions without padding (Inception)
                feature = F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
            if cell != stride:
                feature = F.interpolate(feature, scale_factor=cell / stride, mode="bilinear", align_corners=False)
            maps.append(crop(feature, image_size, stride))
        return BackboneOutput(feature_maps=tuple(maps))

    def _pad(self, pixel_values: Tensor) -> Tensor:
        """Zeros below and right, up to a size that the model takes and that its coarsest map covers."""
        multiple = self.size_rule.multiple
        if multiple == 1 and self.cells == self.strides:
            return pixel_values
        covered = padded_size(pixel_values.shape[-2:], max(self.strides))
        return pad_to(pixel_values, padded_size(covered, multiple))

    def _run_tiles(self, pixels: Tensor) -> list[Tensor]:
        """The maps of pixels `(B, 3, n T, m T)`, of which each tile of T x T pixels is computed on its own."""
        tile = self.size_rule.multiple
        rows, columns = (length // tile for length in pixels.shape[-2:])
        tiles = pixels.unflatten(3, (columns, tile)).unflatten(2, (rows, tile))  # (B, 3, n, T, m, T)
        tiles = tiles.permute(0, 2, 4, 1, 3, 5)
        features = channels_first(self._backbone, self._backbone(tiles.flatten(0, 2)))
        maps = []
        for feature in features:
            feature = feature.unflatten(0, tiles.shape[:3]).permute(0, 3, 1, 4, 2, 5)  # (B, C, n, t, m, t)
            maps.append(feature.flatten(4, 5).flatten(2, 3))
        return maps
