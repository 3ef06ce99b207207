"""Colour masks with a table: each pixel has exactly the colour of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...targets import Segments
from ..errors import DataError
from ..labels import LabelSet
from .id_maps import read_colour_ids, segments_of_ids, unique_ids


@dataclass
class ColourMapFormat:
    """Row -> one segment per class, as of class maps.

    Args:
        column: of RGB pictures.
        colours: R + 256 G + 65536 B -> class id.
    """

    column: str
    colours: dict[int, int]
    tasks = ("semantic", "panoptic")
    has_categories = False
    why = "a colour per class does not tell objects of one class apart"

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        classes, index = self._classes(row)
        return segments_of_ids(index, labels.labels_of(classes), np.zeros(len(classes), dtype=bool), merge=True)

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """The ids of the row's classes; none of them is a thing."""
        return dict.fromkeys(self._classes(row)[0], False)

    def _classes(self, row: Mapping[str, Any]) -> tuple[list[int], np.ndarray]:
        """The class id of each of U colours, and the `(H, W)` index of each pixel's colour among them."""
        colours, index = unique_ids(read_colour_ids(row[self.column], self.column))
        other = [colour for colour in colours.tolist() if colour not in self.colours]
        if other:
            red, green, blue = other[0] & 0xFF, other[0] >> 8 & 0xFF, other[0] >> 16
            raise DataError(
                f"the picture in column '{self.column}' has {len(other)} colours that the table of classes lacks, the "
                f"first is {red} {green} {blue} (red, green, blue): masks that were resized with smooth edges, or "
                "saved as JPEG, have such, and cannot be used"
            )
        return [self.colours[colour] for colour in colours.tolist()], index
