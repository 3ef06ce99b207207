"""COCO's panoptic form: a colour per segment (id = R + 256 G + 65536 B) and a list that gives each id a category."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...targets import Segments
from ..errors import DataError
from ..labels.label_set import NO_LABEL, VOID_LABEL, LabelSet
from .id_maps import read_ids, segments_of_ids, unique_ids
from .records import read_integer, read_records


@dataclass
class CocoPanopticFormat:
    """Row -> segments; id 0 is void.

    Semantic: one segment per class. Instance: the things. Panoptic: all; crowd regions keep their flag.
    """

    column: str
    info_column: str
    tasks = ("semantic", "instance", "panoptic")
    has_categories = True
    why = ""
    names = None

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        infos = self._infos(row)
        ids, index = unique_ids(read_ids(row[self.column], self.column))
        unknown = [raw for raw in ids.tolist() if raw != 0 and raw not in infos]
        if unknown:
            raise DataError(
                f"the picture in column '{self.column}' has pixels of segment id {unknown[0]}, which "
                f"'{self.info_column}' does not list ({len(infos)} segments)"
            )
        present = [infos.get(raw) for raw in ids.tolist()]
        region_labels = np.full(len(ids), VOID_LABEL, dtype=np.int64)
        listed = [position for position, info in enumerate(present) if info is not None]
        region_labels[listed] = labels.labels_of(present[position][0] for position in listed)
        is_crowd = np.array([info is not None and info[1] for info in present], dtype=bool)
        if task == "semantic":  # a crowd of persons is of class person
            is_crowd[:] = False
        return segments_of_ids(index, region_labels, is_crowd & (region_labels != NO_LABEL), merge=task == "semantic")

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """The ids of the row's categories; the form itself does not tell things from stuff."""
        return dict.fromkeys((category for category, _ in self._infos(row).values()), True)

    def _infos(self, row: Mapping[str, Any]) -> dict[int, tuple[int, bool]]:
        """Segment id -> (category id, crowd)."""
        return {
            read_integer(record, ("id",), self.info_column): (
                read_integer(record, ("category_id",), self.info_column),
                record.get("iscrowd") is not None and read_integer(record, ("iscrowd",), self.info_column) != 0,
            )
            for record in read_records(row[self.info_column], self.info_column)
        }
