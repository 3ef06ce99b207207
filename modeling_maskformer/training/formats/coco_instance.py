"""COCO's instance form: a list of objects, each with a category and a mask as polygons or run lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ...targets import Segments, segments_from_masks
from ..errors import DataError
from ..labels import LabelSet

CATEGORY_KEYS = ("category_id", "category", "label", "class_id")
MASK_KEYS = ("segmentation", "segmentations", "mask", "rle", "polygons")
CROWD_KEYS = ("iscrowd", "is_crowd")


@dataclass
class CocoInstanceFormat:
    """Row -> one segment per object; objects may overlap, crowd regions keep their flag.

    The objects are a list of dicts, a dict of lists or JSON of either.
    """

    column: str
    tasks = ("instance",)
    has_categories = True
    why = "such objects may overlap, and what lies between them is not labelled"

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        objects = self._objects(row)
        class_ids = labels.labels_of(self._get(item, CATEGORY_KEYS) for item in objects)
        is_crowd = [bool(self._get(item, CROWD_KEYS, default=False)) for item in objects]
        masks = _LazyMasks([_run_lengths(self._get(item, MASK_KEYS), size) for item in objects])
        return segments_from_masks(masks, class_ids, is_crowd, size=size).without_empty()

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """The ids of the row's categories: things."""
        return {int(self._get(item, CATEGORY_KEYS)): True for item in self._objects(row)}

    def _objects(self, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        objects = row[self.column]
        if isinstance(objects, str):
            objects = json.loads(objects)
        if isinstance(objects, Mapping):
            objects = [dict(zip(objects, values, strict=True)) for values in zip(*objects.values(), strict=True)]
        return list(objects or ())

    def _get(self, item: Mapping[str, Any], keys: Sequence[str], default: Any = None) -> Any:
        for key in keys:
            if item.get(key) is not None:
                return item[key]
        if default is None:
            raise DataError(
                f"an object in column '{self.column}' has none of {', '.join(keys)}, only {', '.join(item)}"
            )
        return default


class _LazyMasks(Sequence):
    """Masks that are decoded when asked for, so that one at a time is in memory."""

    def __init__(self, run_lengths: list[dict]) -> None:
        self.run_lengths = run_lengths

    def __len__(self) -> int:
        return len(self.run_lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        return coco_mask.decode(self.run_lengths[index])  # (H, W) uint8


def _run_lengths(segmentation: Any, size: tuple[int, int]) -> dict:
    """COCO's compressed run lengths of polygons or of either form of run lengths."""
    height, width = size
    if isinstance(segmentation, Mapping):
        if tuple(segmentation["size"]) != size:
            raise DataError(f"a mask has size {list(segmentation['size'])} but the image is {[height, width]} (H, W)")
        if isinstance(segmentation["counts"], (str, bytes)):
            return {"size": [height, width], "counts": segmentation["counts"]}
        return coco_mask.frPyObjects({"size": [height, width], "counts": list(segmentation["counts"])}, height, width)
    polygons = (
        segmentation if len(segmentation) and isinstance(segmentation[0], (list, np.ndarray)) else [segmentation]
    )
    polygons = [list(polygon) for polygon in polygons if len(polygon) >= 6]  # fewer than 3 points enclose nothing
    if not polygons:
        return coco_mask.encode(np.zeros(size, dtype=np.uint8, order="F"))
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
