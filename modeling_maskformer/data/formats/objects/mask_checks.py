"""What pycocotools takes on trust: outlines that it would crash on, or fill the memory with, are refused first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import DataError

MAX_COORDINATE = 1_000_000
MAX_OUTLINE = 10_000_000  # pixels along all edges, of which pycocotools keeps 40 bytes each


def check_polygon(polygon: Sequence[float]) -> None:
    """Raises a DataError unless these are x, y, x, y, ... of a size that can be drawn."""
    points = np.asarray(polygon, dtype=np.float64)
    if points.ndim != 1 or len(points) % 2:
        raise DataError(f"a polygon has {points.size} numbers in {points.ndim} dimensions, expected x, y, x, y, ...")
    if not (np.abs(points) <= MAX_COORDINATE).all():  # NaN is not either
        bad = points[~(np.abs(points) <= MAX_COORDINATE)][0]
        raise DataError(f"a polygon has the coordinate {bad:g}, expected pixels up to {MAX_COORDINATE}")
    points = points.reshape(-1, 2)
    outline = np.abs(points - np.roll(points, 1, axis=0)).max(1).sum()
    if outline > MAX_OUTLINE:
        raise DataError(f"the outline of a polygon is {outline:g} pixels long, expected at most {MAX_OUTLINE}")
