"""Backbone and pixel decoder: what every architecture stands on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..backbone import (
    STRIDES,
    AnySizeTimmBackbone,
    FeaturePyramid,
    build_backbone,
    dilate_last_stage,
    needs_pyramid,
    timm_out_indices,
)
from ..fast_on_cpu import use_cpu_path
from ..layers.pixel_decoder import PixelDecoder, PixelDecoderOutput
from ..layers.transformer_pixel_decoder import TransformerPixelDecoder
from .batching import SIZE_DIVISOR


class PixelLevelModule(nn.Module):
    """Backbone and pixel decoder: pixels `(B, 3, H, W)` -> features, finest first; what the pixel decoder gives.

    Args:
        encoder: the backbone.
        decoder: the pixel decoder.
        pyramid: what makes the four feature maps of the backbone's, where these are others.

    Attributes:
        size_divisor: images are padded to multiples of this: 32, or what the backbone needs where that is more.
    """

    def __init__(self, encoder: nn.Module, decoder: PixelDecoder, pyramid: FeaturePyramid | None = None):
        super().__init__()
        self.encoder = encoder
        self.pyramid = pyramid
        self.decoder = decoder
        multiple = encoder.size_rule.multiple if isinstance(encoder, AnySizeTimmBackbone) else 1
        self.size_divisor = multiple if multiple % SIZE_DIVISOR == 0 else SIZE_DIVISOR

    def forward(self, pixel_values: Tensor) -> tuple[list[Tensor], PixelDecoderOutput]:
        features = self.extract_features(pixel_values)
        return features, self.decoder(features)

    def extract_features(self, pixel_values: Tensor) -> list[Tensor]:
        """Four feature maps, finest first: `(B, C_i, ceil(H / s_i), ceil(W / s_i))` with s = 4, 8, 16, 32."""
        if not self.training and use_cpu_path(pixel_values):
            # all maps follow this order, in which convolutions are faster on a CPU; gradients gain nothing by it
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        features = list(self.encoder(pixel_values).feature_maps)
        if self.pyramid is not None:
            return self.pyramid(features, pixel_values.shape[-2:])
        if not isinstance(self.encoder, AnySizeTimmBackbone):  # whose strides are known before there are pixels
            check_strides(features, pixel_values, self.encoder.config.model_type)
        return features


def check_strides(features: Sequence[Tensor], pixel_values: Tensor, backbone: str) -> None:
    """Raises a ValueError unless the maps, of pixels in multiples of 32, have the strides that masks are read with."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    height, width = pixel_values.shape[-2:]
    sizes = [tuple(maps.shape[-2:]) for maps in features]
    if sizes != [(height // stride, width // stride) for stride in STRIDES]:
        found = ", ".join(f"{rows}x{columns}" for rows, columns in sizes)
        raise ValueError(
            f"The backbone {backbone!r} gives maps of {found} for pixels of {height}x{width}, expected the strides "
            f"{', '.join(map(str, STRIDES))}: another patch size or out_features in backbone_config, or a model of "
            "timm (timm_backbone), has them."
        )


def check_timm_strides(encoder: AnySizeTimmBackbone) -> None:
    """Raises a ValueError unless the finest of four maps has the stride that masks are read with."""
    if encoder.strides[0] != STRIDES[0]:
        config = encoder.config
        raise ValueError(
            f"The feature maps {config.out_indices} of the timm model {config.backbone!r} have the strides "
            f"{', '.join(map(str, encoder.strides))}, but masks are read at stride {STRIDES[0]}, the finest of the "
            f"four: set out_indices of backbone_config to {timm_out_indices(config.backbone, config.output_stride)}, "
            "or leave it out."
        )


def build_pixel_decoder(in_channels: Sequence[int], config: PreTrainedConfig) -> PixelDecoder:
    """The FPN, with transformer encoder layers before it where the config asks for them."""
    sizes = (in_channels, config.fpn_feature_size, config.mask_feature_size)
    if config.pixel_decoder_layers == 0:
        return PixelDecoder(*sizes)
    encoder = config.decoder_config
    return TransformerPixelDecoder(
        *sizes,
        num_layers=config.pixel_decoder_layers,
        num_heads=encoder.encoder_attention_heads,
        ffn_channels=encoder.encoder_ffn_dim,
        dropout=encoder.dropout,
    )


def build_pixel_level_module(config: PreTrainedConfig) -> PixelLevelModule:
    """Backbone and pixel decoder of a config, whichever architecture stands on them.

    Raises:
        ValueError: the backbone does not have the feature maps that the config asks for, or masks need.
    """
    encoder = build_backbone(config.backbone_config)
    if config.last_stage_dilations is not None:
        dilate_last_stage(encoder, config.last_stage_dilations)
    pyramid = FeaturePyramid(encoder.strides, encoder.channels) if needs_pyramid(encoder.config) else None
    if pyramid is None and isinstance(encoder, AnySizeTimmBackbone):
        check_timm_strides(encoder)
    channels = encoder.channels if pyramid is None else pyramid.channels
    return PixelLevelModule(encoder, build_pixel_decoder(channels, config), pyramid)
