"""int8 graphs: transformers' quantizers, and the images they are calibrated on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from image_processing.image_processing_maskformer import SegmentationImageProcessor

from ..common.batching import pad_to, padded_size
from ..inference.inputs import Picture

QUANTIZERS = {"onnx": "NNCFOnnxQuantizer", "openvino": "NNCFOpenVINOQuantizer"}


def quantizer_for(format: str, calibration: Sequence[Mapping[str, Tensor]]) -> Any:
    """transformers' quantizer of a format: weights and activations in int8, their ranges measured on `calibration`."""
    exporters = importlib.import_module("transformers.exporters")
    config = exporters.NNCFQuantizationConfig(subset_size=len(calibration))
    return getattr(exporters, QUANTIZERS[format])(config, calibration_dataset=list(calibration))


def calibration_batches(
    pictures: Sequence[Picture], image_processor: SegmentationImageProcessor, count: int
) -> list[dict[str, Tensor]]:
    """Pixels of `count` pictures, spread evenly over all, one a batch, as the image processor and the model make them.

    Raises:
        ValueError: `count` is less than 1, or a picture cannot be read.
    """
    if count < 1:
        raise ValueError(f"int8 is calibrated on at least 1 image, got --calibration_images {count}.")
    count = min(count, len(pictures))
    chosen = [pictures[index * len(pictures) // count] for index in range(count)]
    batches = []
    for picture in chosen:
        try:
            pixels = image_processor(images=picture.load(), return_tensors="pt")["pixel_values"]
        except (OSError, ValueError) as error:  # which do not say of which picture
            raise ValueError(f"The picture {picture.file_name} cannot be calibrated on: {error}.") from error
        batches.append({"pixel_values": pad_to(pixels, padded_size(pixels.shape[-2:]))})
    return batches
