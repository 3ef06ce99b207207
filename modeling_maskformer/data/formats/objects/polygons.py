"""COCO's polygons: lists of x, y, x, y, ... of which those of fewer than three points enclose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import DataError

MIN_NUMBERS = 6  # of the three points of a triangle


def read_polygons(segmentation: Sequence[Any]) -> list[list[float]]:
    """The polygons that enclose something, of a list of them or of one.

    Raises:
        DataError: points are written as pairs, or a coordinate is missing.
    """
    if not isinstance(segmentation, (list, tuple, np.ndarray)):
        raise DataError(f"a mask is neither polygons nor run lengths, but {str(segmentation)[:60]!r}")
    polygons = list_of_polygons(segmentation)
    if any(isinstance(number, str) for polygon in polygons for number in polygon):
        raise DataError("a mask is neither polygons nor run lengths: a polygon has texts instead of numbers")
    if are_pairs(polygons):
        raise DataError(
            "a polygon is written as pairs, [[x, y], [x, y], ...]: a list of polygons [x, y, x, y, ...] is expected"
        )
    odd = next((len(polygon) for polygon in polygons if len(polygon) % 2), None)
    if odd is not None:
        raise DataError(f"a polygon has {odd} numbers: x and y of each point are expected, an even number")
    return [list(polygon) for polygon in polygons if len(polygon) >= MIN_NUMBERS]


def list_of_polygons(segmentation: Sequence[Any]) -> list[Sequence[Any]]:
    """A list of polygons as it is, a single polygon as a list of one."""
    is_list = len(segmentation) == 0 or isinstance(segmentation[0], (list, np.ndarray))
    return list(segmentation) if is_list else [segmentation]


def are_pairs(polygons: Sequence[Sequence[Any]]) -> bool:
    """Whether these are the points of one polygon, or polygons made of points, instead of lists of numbers."""
    is_nested = any(len(polygon) and isinstance(polygon[0], (list, np.ndarray)) for polygon in polygons)
    return is_nested or (len(polygons) >= 3 and all(len(polygon) == 2 for polygon in polygons))
