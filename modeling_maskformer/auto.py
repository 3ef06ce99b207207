"""Registration with transformers' Auto classes."""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from image_processing import MaskFormerImageProcessor, PerPixelImageProcessor

from .configuration_maskformer import MaskFormerConfig, MaskFormerExtendedConfig
from .configuration_per_pixel import PerPixelBaselineConfig, PerPixelBaselinePlusConfig
from .modeling_maskformer import MaskFormerForInstanceSegmentation, MaskFormerModel
from .modeling_per_pixel import (
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselineModel,
    PerPixelBaselinePlusForSemanticSegmentation,
    PerPixelBaselinePlusModel,
)

PER_PIXEL = (
    (PerPixelBaselineConfig, PerPixelBaselineModel, PerPixelBaselineForSemanticSegmentation),
    (PerPixelBaselinePlusConfig, PerPixelBaselinePlusModel, PerPixelBaselinePlusForSemanticSegmentation),
)


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
    for config_class, base_class, model_class in PER_PIXEL:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, base_class, exist_ok=True)
        AutoModelForSemanticSegmentation.register(config_class, model_class, exist_ok=True)
        AutoImageProcessor.register(
            config_class, image_processor_classes={"torchvision": PerPixelImageProcessor}, exist_ok=True
        )
        # pipelines look up nothing else, and log an error about models that are not in this table
        MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES[config_class.model_type] = model_class.__name__
