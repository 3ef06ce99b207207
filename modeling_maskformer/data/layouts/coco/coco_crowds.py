"""Crowds in COCO's files: regions of objects that nobody counted, or masks that a tool marks so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers.utils import logging

from .coco_content import CocoContent

logger = logging.get_logger(__name__)

MANY = 0.1  # part of the objects; of COCO's it is one in a hundred
WHY = "CVAT marks masks drawn with a brush like that"


def tell_crowds(contents: Sequence[CocoContent]) -> None:
    """Takes crowds for objects where there is nothing else, of which nothing would be learnt; warns of many.

    Args:
        contents: of all files of a dataset.
    """
    objects = [item for content in contents if not content.is_panoptic for item in content.annotations]
    crowds = [item for item in objects if _is_crowd(item)]
    if crowds and len(crowds) == len(objects):
        for item in crowds:
            item["iscrowd"] = 0
        logger.warning(
            f"All {len(objects)} objects are marked as crowds (iscrowd), of which nothing would be learnt: {WHY}. "
            "They are taken for single objects."
        )
    elif len(crowds) > MANY * len(objects):
        logger.warning(
            f"{len(crowds)} of {len(objects)} objects are marked as crowds (iscrowd), regions of objects that nobody "
            f"counted, which are not learnt as objects: {WHY}. Where they are single objects, set their iscrowd to 0."
        )


def _is_crowd(item: dict[str, Any]) -> bool:
    return item.get("iscrowd") not in (None, 0, "0", False)
