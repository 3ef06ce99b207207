"""Class-id maps: each pixel of a single-channel picture is the id of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...targets import Segments
from ..labels.label_set import LabelSet
from ..samples import decode_mask
from .id_maps import read_id_map, segments_of_ids, unique_ids
from .palettes import check_colours


@dataclass
class ClassMapFormat:
    """Row -> one segment per class, for semantic segmentation, and for panoptic with every class as stuff.

    Args:
        column: of pictures or arrays of ids.
        palette: index -> the colour that it has wherever a picture has a palette; None: any.
    """

    column: str
    palette: Mapping[int, tuple[int, ...]] | None = field(default=None, kw_only=True)
    tasks = ("semantic", "panoptic")
    has_categories = False
    names = None
    why = (
        "a class id per pixel does not tell objects of one class apart. If each id is an object instead of a class, "
        "pass --annotation_format instance_ids"
    )

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        classes, index = self.classes(row)
        return segments_of_ids(index, labels.labels_of(classes), np.zeros(len(classes), dtype=bool), merge=True)

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """The ids of the row's classes; none of them is a thing."""
        return dict.fromkeys(self.classes(row)[0].tolist(), False)

    def classes(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """`(U,)` class ids of the regions of a row, and the `(H, W)` region of each pixel."""
        value = row[self.column]
        if self.palette and not isinstance(value, (list, np.ndarray)):
            value = decode_mask(value, self.column)
            if value.mode == "P":
                check_colours(value, self.palette, self.column)
        return unique_ids(read_id_map(value, self.column))
