"""YOLO's segmentation form: a line of text for each object, `class x y x y ...`, in parts of width and height."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...targets import Segments
from ..errors import DataError
from ..labels import LabelSet
from .coco_instance import draw_layers, run_lengths_of

NUMBERS_OF_A_BOX = 4  # centre, width and height of YOLO's detection form
# Coordinates are rounded, and objects at the border may reach a little over it.
TOLERANCE = 0.01


@dataclass
class YoloFormat:
    """Row -> one segment per object; objects may overlap."""

    column: str
    tasks = ("instance",)
    has_categories = True
    why = "such objects may overlap, and what lies between them is not labelled"

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        objects = self._objects(row)
        class_ids = labels.labels_of(class_id for class_id, _ in objects)
        scale = np.array([size[1], size[0]])  # (x, y)
        run_lengths = [run_lengths_of([(points * scale).ravel().tolist()], size) for _, points in objects]
        ids = draw_layers(run_lengths, size)
        return Segments(ids, torch.from_numpy(class_ids), [False] * len(objects)).without_empty()

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """The ids of the row's classes: things."""
        return dict.fromkeys((class_id for class_id, _ in self._objects(row)), True)

    def _objects(self, row: Mapping[str, Any]) -> list[tuple[int, np.ndarray]]:
        """Class and `(P, 2)` points of each object, x and y in [0, 1]."""
        lines = enumerate((row[self.column] or "").split("\n"), start=1)
        return [_read_line(line.split(), number) for number, line in lines if line.strip()]


def _read_line(words: list[str], number: int) -> tuple[int, np.ndarray]:
    try:
        class_id, numbers = float(words[0]), np.array(words[1:], dtype=np.float64)
    except ValueError:
        raise DataError(f"line {number} of the label file holds '{' '.join(words)[:60]}', not numbers") from None
    if len(numbers) == NUMBERS_OF_A_BOX:
        raise DataError(
            f"line {number} of the label file is a box (class, x, y, width, height), which tells no mask: outlines of "
            "three points or more are expected"
        )
    if len(numbers) < 6 or len(numbers) % 2 or class_id != int(class_id):
        raise DataError(
            f"line {number} of the label file has {len(words)} numbers: a class, and x and y of three points or more "
            "are expected"
        )
    if not (numbers >= -TOLERANCE).all() or not (numbers <= 1 + TOLERANCE).all():
        raise DataError(
            f"line {number} of the label file has coordinates from {numbers.min():g} to {numbers.max():g}: parts of "
            "the image's width and height, from 0 to 1, are expected"
        )
    return int(class_id), numbers.clip(0, 1).reshape(-1, 2)
