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
from transformers.pipelines import PIPELINE_REGISTRY

from .architectures import ARCHITECTURES
from .configuration_maskformer import MaskFormerConfig, MaskFormerExtendedConfig

# the Auto classes that answer with MaskFormer; the baselines know classes only
MASKFORMER_AUTO_CLASSES = (
    AutoModelForImageSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForUniversalSegmentation,
)

PIPELINE = "modeling_maskformer.inference.pipeline.MaskFormerPipeline"


def register() -> None:
    """Makes the Auto classes and pipelines answer this package's model types with its classes."""
    AutoConfig.register(MaskFormerExtendedConfig.model_type, MaskFormerExtendedConfig, exist_ok=True)
    for _, config_class, base_model_class, model_class, image_processor_class in ARCHITECTURES.values():
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, base_model_class, exist_ok=True)
        AutoImageProcessor.register(
            config_class, image_processor_classes={"torchvision": image_processor_class}, exist_ok=True
        )
        if config_class is MaskFormerConfig:
            for auto_class in MASKFORMER_AUTO_CLASSES:
                auto_class.register(config_class, model_class, exist_ok=True)
        else:
            AutoModelForSemanticSegmentation.register(config_class, model_class, exist_ok=True)
            # pipelines look up nothing else, and log an error about models that are not in this table
            MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES[config_class.model_type] = model_class.__name__
    # what load_model gives for an exported folder, whichever its architecture
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES["maskformer_exported"] = "ExportedSegmentationModel"
    # by its name: whoever makes no pipeline does not load it
    PIPELINE_REGISTRY.supported_tasks["image-segmentation"]["impl"] = PIPELINE
