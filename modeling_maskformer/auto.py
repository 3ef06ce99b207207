"""Registration with transformers' Auto classes."""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForUniversalSegmentation,
)

from image_processing import MaskFormerImageProcessor

from .configuration_maskformer import MaskFormerConfig
from .modeling_maskformer import MaskFormerForInstanceSegmentation, MaskFormerModel


def register() -> None:
    """Makes the Auto classes and pipelines answer `model_type` "maskformer" with this package's classes."""
    AutoConfig.register(MaskFormerConfig.model_type, MaskFormerConfig, exist_ok=True)
    AutoModel.register(MaskFormerConfig, MaskFormerModel, exist_ok=True)
    for auto_class in (
        AutoModelForImageSegmentation,
        AutoModelForInstanceSegmentation,
        AutoModelForUniversalSegmentation,
    ):
        auto_class.register(MaskFormerConfig, MaskFormerForInstanceSegmentation, exist_ok=True)
    AutoImageProcessor.register(
        MaskFormerConfig, image_processor_classes={"torchvision": MaskFormerImageProcessor}, exist_ok=True
    )
