"""Images to batches, and what the model puts out to segments, pictures and files. Independent of the model."""

from .image_processing_maskformer import MaskFormerImageProcessor
from .instance import instance_segmentation
from .panoptic import panoptic_segmentation
from .rle import decode_mask, encode_mask
from .semantic import semantic_scores, semantic_segmentation

__all__ = [
    "MaskFormerImageProcessor",
    "decode_mask",
    "encode_mask",
    "instance_segmentation",
    "panoptic_segmentation",
    "semantic_scores",
    "semantic_segmentation",
]
