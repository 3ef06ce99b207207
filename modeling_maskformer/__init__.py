"""MaskFormer for Hugging Face transformers. Importing this package registers it with the Auto classes."""

from .auto import register
from .configuration_maskformer import MaskFormerConfig
from .modeling_maskformer import (
    MaskFormerForInstanceSegmentation,
    MaskFormerForInstanceSegmentationOutput,
    MaskFormerModel,
    MaskFormerModelOutput,
    MaskFormerPreTrainedModel,
)
from .targets import Segments

register()

__all__ = [
    "MaskFormerConfig",
    "MaskFormerForInstanceSegmentation",
    "MaskFormerForInstanceSegmentationOutput",
    "MaskFormerModel",
    "MaskFormerModelOutput",
    "MaskFormerPreTrainedModel",
    "Segments",
]
