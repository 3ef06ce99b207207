"""Images to batches, and what the model puts out to segments, pictures and files. Independent of the model."""

from .drawing.visualization import draw_annotation, draw_instances, draw_semantic, side_by_side
from .image_processing_maskformer import MaskFormerImageProcessor, PerPixelImageProcessor, SegmentationImageProcessor
from .instance import Instances, instance_segmentation
from .panoptic import panoptic_segmentation
from .per_pixel import per_pixel_score_strips, per_pixel_scores, per_pixel_segmentation
from .results import (
    coco_instances,
    decode_mask,
    encode_mask,
    ids_to_rgb,
    rgb_to_ids,
    save_class_map,
    save_panoptic,
)
from .semantic import semantic_score_strips, semantic_scores, semantic_segmentation

__all__ = [
    "Instances",
    "MaskFormerImageProcessor",
    "PerPixelImageProcessor",
    "SegmentationImageProcessor",
    "coco_instances",
    "decode_mask",
    "draw_annotation",
    "draw_instances",
    "draw_semantic",
    "encode_mask",
    "ids_to_rgb",
    "instance_segmentation",
    "panoptic_segmentation",
    "per_pixel_score_strips",
    "per_pixel_scores",
    "per_pixel_segmentation",
    "rgb_to_ids",
    "save_class_map",
    "save_panoptic",
    "semantic_score_strips",
    "semantic_scores",
    "semantic_segmentation",
    "side_by_side",
]
