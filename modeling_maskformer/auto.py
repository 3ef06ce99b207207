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
from transformers import MaskFormerConfig as TransformersMaskFormerConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
from transformers.pipelines import PIPELINE_REGISTRY

from .architectures import ARCHITECTURES
from .configuration_maskformer import MaskFormerConfig, MaskFormerExtendedConfig

# the Auto classes that answer with MaskFormer, and with the baselines, which know classes only
MASKFORMER_AUTO_CLASSES = (
    AutoModelForImageSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForUniversalSegmentation,
)
BASELINE_AUTO_CLASSES = (AutoModelForSemanticSegmentation,)

PIPELINE = "modeling_maskformer.inference.pipeline.MaskFormerPipeline"


def register() -> None:
    """Makes the Auto classes and pipelines answer this package's model types with its classes."""
    AutoConfig.register(MaskFormerExtendedConfig.model_type, MaskFormerExtendedConfig, exist_ok=True)
    for _, config_class, base_model_class, model_class, image_processor_class in ARCHITECTURES.values():
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        # one answer to every `backend` and `use_fast`: of a batch, transformers' own would not crop the padding
        processors = dict.fromkeys(("torchvision", "pil"), image_processor_class)
        auto_classes = MASKFORMER_AUTO_CLASSES if config_class is MaskFormerConfig else BASELINE_AUTO_CLASSES
        config_classes = [config_class]
        if config_class is MaskFormerConfig:  # one that somebody imported from transformers asks for this, too
            config_classes.append(TransformersMaskFormerConfig)
        for each in config_classes:
            AutoModel.register(each, base_model_class, exist_ok=True)
            AutoImageProcessor.register(each, image_processor_classes=processors, exist_ok=True)
            for auto_class in auto_classes:
                auto_class.register(each, model_class, exist_ok=True)
        if auto_classes is BASELINE_AUTO_CLASSES:
            # pipelines look up nothing else, and log an error about models that are not in this table
            MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES[config_class.model_type] = model_class.__name__
    # what load_model gives for an exported folder, whichever its architecture
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES["maskformer_exported"] = "ExportedSegmentationModel"
    # by its name: whoever makes no pipeline does not load it
    PIPELINE_REGISTRY.supported_tasks["image-segmentation"]["impl"] = PIPELINE
