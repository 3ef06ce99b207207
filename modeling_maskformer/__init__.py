"""MaskFormer for Hugging Face transformers. Importing this package registers it with the Auto classes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    "AugmentationArguments": ".training.arguments.augmentation_arguments",
    "DataArguments": ".training.arguments.data_arguments",
    "MaskFormerTrainer": ".training.trainer",
    "MaskFormerTrainingArguments": ".training.arguments.arguments",
    "ModelArguments": ".training.arguments.model_arguments",
    "Predictor": ".inference.predictor",
    "RunArguments": ".training.arguments.run_arguments",
    "TiledPredictor": ".inference.tiles.tiled_predictor",
    "load_model": ".inference.loading",
    "open_dataset": ".data.datasets",
    "prepare_training": ".training.run",
    "run_training": ".training.run",
}
if TYPE_CHECKING:
    from .data.datasets import open_dataset
    from .inference.loading import load_model
    from .inference.predictor import Predictor
    from .inference.tiles.tiled_predictor import TiledPredictor
    from .training.arguments.arguments import MaskFormerTrainingArguments
    from .training.arguments.augmentation_arguments import AugmentationArguments
    from .training.arguments.data_arguments import DataArguments
    from .training.arguments.model_arguments import ModelArguments
    from .training.arguments.run_arguments import RunArguments
    from .training.run import prepare_training, run_training
    from .training.trainer import MaskFormerTrainer


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "AugmentationArguments",
    "DataArguments",
    "MaskFormerConfig",
    "MaskFormerForInstanceSegmentation",
    "MaskFormerForInstanceSegmentationOutput",
    "MaskFormerImageProcessor",
    "MaskFormerModel",
    "MaskFormerModelOutput",
    "MaskFormerPreTrainedModel",
    "MaskFormerTrainer",
    "MaskFormerTrainingArguments",
    "ModelArguments",
    "PerPixelBaselineConfig",
    "PerPixelBaselineForSemanticSegmentation",
    "PerPixelBaselineModel",
    "PerPixelBaselinePlusConfig",
    "PerPixelBaselinePlusForSemanticSegmentation",
    "PerPixelBaselinePlusModel",
    "PerPixelImageProcessor",
    "PerPixelSegmentationOutput",
    "Predictor",
    "RunArguments",
    "Segments",
    "TiledPredictor",
    "load_model",
    "open_dataset",
    "prepare_training",
    "run_training",
]
