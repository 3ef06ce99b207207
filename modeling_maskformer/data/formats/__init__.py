"""Ways to write segments down: each file turns the annotation of one row into `Segments`."""

from .binary_mask import BinaryMaskFormat
from .channels import ChannelsFormat
from .class_map import ClassMapFormat
from .coco_panoptic import CocoPanopticFormat
from .colour_map import ColourMapFormat
from .detect_format import FORMATS, PixelValues, choose_format
from .instance_ids import InstanceIdsFormat
from .objects.coco_instance import CocoInstanceFormat
from .objects.object_masks import ObjectMasksFormat
from .objects.yolo import YoloFormat

__all__ = [
    "FORMATS",
    "BinaryMaskFormat",
    "ChannelsFormat",
    "ClassMapFormat",
    "CocoInstanceFormat",
    "CocoPanopticFormat",
    "ColourMapFormat",
    "InstanceIdsFormat",
    "ObjectMasksFormat",
    "PixelValues",
    "YoloFormat",
    "choose_format",
]
