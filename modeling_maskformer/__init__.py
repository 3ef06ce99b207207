"""MaskFormer for Hugging Face transformers. Importing this package registers it with the Auto classes."""

from importlib import import_module
from typing import Any

from image_processing import MaskFormerImageProcessor, PerPixelImageProcessor

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

# imported when they are asked for: a model alone needs no trainer
_LAZY = {
    "MaskFormerTrainer": ".training.trainer",
    "MaskFormerTrainingArguments": ".training.arguments.arguments",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)


__all__ = [
    "MaskFormerConfig",
    "MaskFormerForInstanceSegmentation",
    "MaskFormerForInstanceSegmentationOutput",
    "MaskFormerImageProcessor",
    "MaskFormerModel",
    "MaskFormerModelOutput",
    "MaskFormerPreTrainedModel",
    "MaskFormerTrainer",
    "MaskFormerTrainingArguments",
    "PerPixelBaselineConfig",
    "PerPixelBaselineForSemanticSegmentation",
    "PerPixelBaselineModel",
    "PerPixelBaselinePlusConfig",
    "PerPixelBaselinePlusForSemanticSegmentation",
    "PerPixelBaselinePlusModel",
    "PerPixelImageProcessor",
    "PerPixelSegmentationOutput",
    "Segments",
]
