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

from .configuration_maskformer import MaskFormerConfig, MaskFormerExtendedConfig
from .modeling_maskformer import MaskFormerForInstanceSegmentation, MaskFormerModel


def register() -> None:
    """Makes the Auto classes and pipelines answer this package's model types with its classes."""
    for config_class in (MaskFormerConfig, MaskFormerExtendedConfig):
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
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
