"""Class ids in the red channel, ids of instances in the green one: the form of transformers' instance example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from ...targets import Segments
from ..errors import DataError
from ..labels.label_set import NO_LABEL, LabelSet
from .id_maps import read_colour_ids, segments_of_ids, unique_ids

LOWEST_COLOUR = 31  # a part of a colour that is not 0 is mostly higher


@dataclass
class ChannelsFormat:
    """Row -> segments; R is the class of a pixel, G the number of its instance in the image, 0 for no instance.

    Semantic: one segment per class. Panoptic: one per instance, and one per class for pixels of no instance.
    Instance: one per instance; class 0 is background.
    """

    column: str
    tasks = ("semantic", "instance", "panoptic")
    has_categories = False
    why = ""
    names = None

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        classes, instances, index = self._regions(row)
        region_labels = labels.labels_of(classes)
        if task == "instance":
            region_labels[(instances == 0) & (region_labels >= 0)] = NO_LABEL
        return segments_of_ids(index, region_labels, np.zeros(len(classes), dtype=bool), merge=task == "semantic")

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """The ids of the row's classes, True for those with instances."""
        classes, instances, _ = self._regions(row)
        found: dict[int, bool] = {}
        for class_id, instance in zip(classes.tolist(), instances.tolist(), strict=True):
            found[class_id] = found.get(class_id, False) or instance > 0
        return found

    def _regions(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(U,)` classes and `(U,)` instances, 0 for none, of the regions, and the `(H, W)` region of each pixel."""
        pairs, index = unique_ids(read_colour_ids(row[self.column], self.column))
        if len(pairs) and pairs[-1] >= 1 << 16:
            raise DataError(
                f"the picture in column '{self.column}' has a blue channel that is not 0: class ids in red and "
                "instance ids in green are expected"
            )
        return pairs & 0xFF, pairs >> 8, index


def are_colours(pictures: Sequence[PIL.Image.Image]) -> bool:
    """Whether red and green of RGB pictures without blue are parts of colours instead of class and instance ids.

    Objects of an image are numbered from 1, so that the highest number tells how many regions are expected; and where
    no picture has an object, the classes do not all have high ids.
    """
    classes: set[int] = set()
    has_objects = False
    for picture in pictures:
        pairs, _ = unique_ids(read_colour_ids(picture, ""))
        classes |= set((pairs & 0xFF).tolist())
        most_objects = int(pairs.max() >> 8)
        if most_objects > LOWEST_COLOUR and most_objects > 4 * len(pairs):
            return True
        has_objects = has_objects or most_objects > 0
    return not has_objects and min(classes - {0}, default=0) > LOWEST_COLOUR
