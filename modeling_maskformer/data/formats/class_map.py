"""Class-id maps: each pixel of a single-channel picture is the id of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...targets import Segments
from ..labels.label_set import LabelSet
from .id_maps import read_id_map, segments_of_ids, unique_ids


@dataclass
class ClassMapFormat:
    """Row -> one segment per class, for semantic segmentation, and for panoptic with every class as stuff."""

    column: str
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
        return unique_ids(read_id_map(row[self.column], self.column))
