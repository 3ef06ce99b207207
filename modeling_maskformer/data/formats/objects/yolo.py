"""YOLO's segmentation form: a line of text for each object, `class x y x y ...`, in parts of width and height."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DataError
from .objects_format import ObjectsFormat

NUMBERS_OF_A_BOX = 4  # centre, width and height of YOLO's detection form
# Coordinates are rounded, and objects at the border may reach a little over it.
TOLERANCE = 0.01


@dataclass
class YoloFormat(ObjectsFormat):
    """Row -> segments of its objects."""

    column: str

    def _objects(self, row: Mapping[str, Any], size: tuple[int, int]) -> list[tuple[int, list, bool]]:
        lines = enumerate((row[self.column] or "").split("\n"), start=1)
        objects = [_read_line(line.split(), number) for number, line in lines if line.strip()]
        scale = np.array([size[1], size[0]])  # (x, y)
        return [(class_id, [(points * scale).ravel().tolist()], False) for class_id, points in objects]


def is_box(line: str) -> bool:
    """Whether a line is of YOLO's detection form: a class, and centre, width and height of a box."""
    return len(line.split()) == 1 + NUMBERS_OF_A_BOX


def _read_line(words: list[str], number: int) -> tuple[int, np.ndarray]:
    """The class, and `(P, 2)` points, x and y in [0, 1]."""
    try:
        class_id, numbers = float(words[0]), np.array(words[1:], dtype=np.float64)
    except ValueError:
        raise DataError(f"line {number} of the label file holds '{' '.join(words)[:60]}', not numbers") from None
    if len(numbers) < 6 or len(numbers) % 2 or not class_id.is_integer():
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
