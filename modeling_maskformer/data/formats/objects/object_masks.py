"""One mask for each object: a list of pictures, 0 where the object is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ...errors import DataError
from ...labels.label_set import NamedIds
from ...samples import why_sizes_differ
from ..binary_mask import MIDDLE, read_grey
from .objects_format import ObjectsFormat

OBJECT = 1  # the class of all objects where no column tells theirs


@dataclass
class ObjectMasksFormat(ObjectsFormat):
    """Row -> segments of its objects.

    Args:
        column: of the masks, a list of pictures; a single picture is the mask of the only object.
        class_column: of the list of their classes; None where all are of class 1.
        nearest: pixels of any grey are inside from 128 on; else a mask has two values, of which 0 is outside.
    """

    column: str
    class_column: str | None = None
    nearest: bool = False

    @property
    def names(self) -> NamedIds | None:
        return NamedIds({OBJECT: "object"}, {OBJECT: True}) if self.class_column is None else None

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        return dict.fromkeys(self._classes(row, len(self._masks(row))), True)

    def _objects(self, row: Mapping[str, Any], size: tuple[int, int]) -> list[tuple[int, Any, bool]]:
        masks = self._masks(row)
        return [
            (class_id, coco_mask.encode(self._read_mask(mask, f"{number} of {len(masks)}", size)), False)
            for number, (class_id, mask) in enumerate(zip(self._classes(row, len(masks)), masks, strict=True), start=1)
        ]

    def _masks(self, row: Mapping[str, Any]) -> list[Any]:
        value = row[self.column]
        return value if isinstance(value, list) else [] if value is None else [value]

    def _classes(self, row: Mapping[str, Any], count: int) -> list[int]:
        if self.class_column is None:
            return [OBJECT] * count
        classes = list(row[self.class_column] or ())
        if len(classes) != count:
            raise DataError(
                f"column '{self.column}' has {count} masks, and column '{self.class_column}' {len(classes)} classes: "
                "one for each mask is expected"
            )
        return classes

    def _read_mask(self, value: Any, which: str, size: tuple[int, int]) -> np.ndarray:
        """`(H, W)` uint8 in Fortran's order, 1 inside."""
        pixels = read_grey(value, self.column, self.nearest)
        if pixels.shape != size:
            mend = why_sizes_differ(pixels.shape, size, "they must have the same size")
            raise DataError(
                f"mask {which} is {pixels.shape[1]} x {pixels.shape[0]} pixels (width x height) but the image is "
                f"{size[1]} x {size[0]}: {mend}"
            )
        if self.nearest:
            return np.asfortranarray(pixels >= MIDDLE, dtype=np.uint8)
        values = np.unique(pixels)
        if len(values) > 2 or (len(values) == 2 and values[0] != 0):
            found = ", ".join(map(str, values[:5].tolist())) + (", ..." if len(values) > 5 else "")
            raise DataError(
                f"mask {which} has the values {found}: 0 and one other are expected in the mask of one object. Masks "
                "that were resized with smooth edges, or saved as JPEG, are read with --nearest_colour; a map of "
                "several classes is chosen with --mask_name"
            )
        return np.asfortranarray(pixels != 0, dtype=np.uint8)
