"""MaskFormer for Hugging Face transformers. Importing this package registers it with the Auto classes."""

from .auto import register
from .configuration_maskformer import MaskFormerConfig
from .configuration_per_pixel import PerPixelBaselineConfig, PerPixelBaselinePlusConfig
from .modeling_maskformer import (
    MaskFormerForInstanceSegmentation,
    MaskFormerForInstanceSegmentationOutput,
    MaskFormerModel,
    MaskFormerModelOutput,
    MaskFormerPreTrainedModel,
)
from .modeling_per_pixel import (
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselineModel,
    PerPixelBaselinePlusForSemanticSegmentation,
    PerPixelBaselinePlusModel,
    PerPixelSegmentationOutput,
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
    "PerPixelBaselineConfig",
    "PerPixelBaselineForSemanticSegmentation",
    "PerPixelBaselineModel",
    "PerPixelBaselinePlusConfig",
    "PerPixelBaselinePlusForSemanticSegmentation",
    "PerPixelBaselinePlusModel",
    "PerPixelSegmentationOutput",
    "Segments",
]
