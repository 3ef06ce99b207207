"""The architectures that the paper compares: what `--architecture` calls each, and its classes."""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedConfig, PreTrainedModel

from image_processing.image_processing_maskformer import (
    MaskFormerImageProcessor,
    PerPixelImageProcessor,
    SegmentationImageProcessor,
)

from .configuration_maskformer import MaskFormerConfig
from .configuration_per_pixel import PerPixelBaselineConfig, PerPixelBaselinePlusConfig
from .modeling_maskformer import MaskFormerForInstanceSegmentation, MaskFormerModel
from .modeling_per_pixel import (
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselineModel,
    PerPixelBaselinePlusForSemanticSegmentation,
    PerPixelBaselinePlusModel,
)


class ArchitectureClasses(NamedTuple):
    """One architecture: its name and the classes that make it.

    Attributes:
        name: what `--architecture` calls it.
        config_class: its configuration; `config_class.model_type` stands in its checkpoints.
        base_model_class: without loss, what `AutoModel` gives.
        model_class: with loss, what is trained.
        image_processor_class: makes its batches and reads its outputs.
    """

    name: str
    config_class: type[PreTrainedConfig]
    base_model_class: type[PreTrainedModel]
    model_class: type[PreTrainedModel]
    image_processor_class: type[SegmentationImageProcessor]


_TABLE = (
    ArchitectureClasses(
        "maskformer",
        MaskFormerConfig,
        MaskFormerModel,
        MaskFormerForInstanceSegmentation,
        MaskFormerImageProcessor,
    ),
    ArchitectureClasses(
        "per_pixel",
        PerPixelBaselineConfig,
        PerPixelBaselineModel,
        PerPixelBaselineForSemanticSegmentation,
        PerPixelImageProcessor,
    ),
    ArchitectureClasses(
        "per_pixel_plus",
        PerPixelBaselinePlusConfig,
        PerPixelBaselinePlusModel,
        PerPixelBaselinePlusForSemanticSegmentation,
        PerPixelImageProcessor,
    ),
)
ARCHITECTURES: dict[str, ArchitectureClasses] = {architecture.name: architecture for architecture in _TABLE}


def architecture_of(config: PreTrainedConfig) -> ArchitectureClasses | None:
    """The architecture whose config this is; None if it is of none, as subclasses of their configs are."""
    return next((entry for entry in ARCHITECTURES.values() if type(config) is entry.config_class), None)
