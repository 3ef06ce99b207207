"""Maps of instance ids: each pixel is the number of its object, 0 is background."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...targets import Segments
from ..errors import DataError
from ..labels.label_set import LabelSet, NamedIds
from .channels import ChannelsFormat
from .class_map import ClassMapFormat
from .id_maps import read_ids, segments_of_ids, unique_ids

HIGHEST_OF_8_BITS = 255
OBJECT = 1  # the class of all objects where no second map tells theirs


@dataclass
class InstanceIdsFormat(ChannelsFormat):
    """Row -> segments; ids number the objects of an image, in any order, or are their colours.

    All are of class 1, or of that which most of their pixels have in a map of classes. Pixels of no object are of
    class 0, or of that in the other map; if this is one of things, they are a crowd, whose objects nobody counted.

    Args:
        column: of the instance ids: one channel, or colours (R + 256 G + 65536 B).
        class_format: reads the map of classes, such as VOC's SegmentationClass.
        least_id: lower ids are no objects; 1, or 1000 as in Cityscapes.
        void_id: marks unlabelled pixels; 255 does so in maps of 8 bits only, others may well have 255 objects.
    """

    class_format: ClassMapFormat | None = None
    void_id: int | None = None
    least_id: int = 1

    @property
    def names(self) -> NamedIds | None:
        if self.class_format is not None:
            return self.class_format.names
        return NamedIds({0: "background", OBJECT: "object"}, {0: False, OBJECT: True})

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        if self.class_format is None or task == "semantic" or labels.is_thing is None:
            return super().read(row, labels, task, size)
        classes, instances, index = self._regions(row)
        region_labels = labels.labels_of(classes)
        is_thing = (region_labels >= 0) & np.array(labels.is_thing)[region_labels.clip(min=0)]
        return segments_of_ids(index, region_labels, is_thing & (instances == 0), merge=False)

    def check_numbers(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Raises a DataError where ids number no objects but are made of classes, those of stuff too.

        Mapillary and KITTI write 256 x class + number, Cityscapes 1000 x class + number and the class alone for stuff.
        """
        if self.class_format is None or self.least_id > 1:
            return
        pairs: set[tuple[int, int]] = set()  # id and class
        for row in rows:
            try:
                class_ids, index = self.class_format.classes(row)
                ids = read_ids(row[self.column], self.column).astype(np.int64)
            except DataError:  # which is said where the sample is read
                continue
            if ids.shape == index.shape:
                both, _ = unique_ids(ids * len(class_ids) + index)
                classes = class_ids[both % len(class_ids)].tolist()
                pairs |= set(zip((both // len(class_ids)).tolist(), classes, strict=True))
        ids, classes = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
        for factor, is_stuff in ((256, ids % 256 == 0), (1000, ids < 1000)):
            made = np.where(is_stuff, ids, ids // factor) if factor == 1000 else ids // factor
            if (made == classes).all() and (ids >= factor).any() and (is_stuff & (ids > 0)).any():
                raise DataError(
                    f"The ids in column '{self.column}' are {factor} x class + number, and what is no object has such "
                    "too: each region of road or sky would be an object. Write 0 there where no object is; semantic "
                    "segmentation reads the classes alone."
                )

    def _regions(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids, index = unique_ids(read_ids(row[self.column], self.column))
        is_void = np.zeros(len(ids), dtype=bool)
        if self.void_id is not None and (ids.dtype == np.uint8 or self.void_id > HIGHEST_OF_8_BITS):
            is_void = ids == self.void_id
        instances = np.where(is_void | (ids < self.least_id), 0, ids).astype(np.int64)
        if self.class_format is None:
            return np.where(is_void, ids, np.where(instances == 0, 0, OBJECT)), instances, index
        class_ids, class_index = self.class_format.classes(row)
        if class_index.shape != index.shape:
            raise DataError(
                f"the map in column '{self.column}' is {index.shape[1]} x {index.shape[0]} pixels (width x height), "
                f"that in column '{self.class_format.column}' {class_index.shape[1]} x {class_index.shape[0]}"
            )
        parts, index = unique_ids(index.astype(np.int64) * len(class_ids) + class_index)  # of one id and one class
        number, classes = parts // len(class_ids), class_ids[parts % len(class_ids)].astype(np.int64)
        area = np.where(classes == 0, 0, np.bincount(index.ravel()))  # objects are not background
        order = np.lexsort((-area, number))
        numbers, first = np.unique(number[order], return_index=True)  # the largest part of each id
        largest = classes[order][first][np.searchsorted(numbers, number)]
        instances = instances[number]
        classes = np.where(instances > 0, largest, classes)
        if self.void_id is not None:
            classes[is_void[number]] = self.void_id
        regions, new = np.unique(np.stack([classes, instances]), axis=1, return_inverse=True)
        return regions[0], regions[1], new.reshape(-1)[index]
