"""Ways to write segments down: each file turns the annotation of one row into `Segments`."""

from .channels import ChannelsFormat
from .choice import FORMATS, choose_format
from .class_map import ClassMapFormat
from .coco_instance import CocoInstanceFormat
from .coco_panoptic import CocoPanopticFormat

__all__ = [
    "FORMATS",
    "ChannelsFormat",
    "ClassMapFormat",
    "CocoInstanceFormat",
    "CocoPanopticFormat",
    "choose_format",
]
