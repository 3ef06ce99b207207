"""COCO's instance form: a list of objects, each with a category and a mask as polygons or run lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import DataError
from ..records import read_integer, read_records
from .objects_format import ObjectsFormat

CATEGORY_KEYS = ("category_id", "category", "label", "class_id")
MASK_KEYS = ("segmentation", "segmentations", "mask", "rle", "polygons")
CROWD_KEYS = ("iscrowd", "is_crowd")


@dataclass
class CocoInstanceFormat(ObjectsFormat):
    """Row -> segments of its objects; crowd regions keep their flag.

    The objects are a list of dicts, a dict of lists or JSON of either; masks are polygons (x, y, x, y, ...), or
    run lengths, compressed or not. Where the row has `width` and `height`, the image must have this size.
    """

    column: str

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        objects = read_records(row[self.column], self.column)
        return dict.fromkeys((read_integer(item, CATEGORY_KEYS, self.column) for item in objects), True)

    def _objects(self, row: Mapping[str, Any], size: tuple[int, int]) -> list[tuple[int, Any, bool]]:
        return [
            (read_integer(item, CATEGORY_KEYS, self.column), self._mask(item), self._is_crowd(item))
            for item in read_records(row[self.column], self.column)
        ]

    def _mask(self, item: Mapping[str, Any]) -> Any:
        segmentation = next((item[key] for key in MASK_KEYS if item.get(key) is not None), None)
        if segmentation is None:
            why = ": a box does not tell which of its pixels are the object" if item.get("bbox") is not None else ""
            raise DataError(
                f"an entry of column '{self.column}' has no {' or '.join(MASK_KEYS)}, only {', '.join(item)}{why}"
            )
        return segmentation

    def _is_crowd(self, item: Mapping[str, Any]) -> bool:
        given = {key: item[key] for key in CROWD_KEYS if item.get(key) is not None}
        return any(read_integer(given, (key,), self.column) != 0 for key in given)
