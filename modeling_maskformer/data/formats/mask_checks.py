"""What pycocotools takes on trust: numbers that it would crash on, or fill the memory with, are refused first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError

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


def check_counts(counts: Any, size: tuple[int, int]) -> None:
    """Raises a DataError unless these run lengths, compressed or not, cover an image of `size` (H, W) exactly."""
    if isinstance(counts, (str, bytes)):
        lengths = decompressed(counts)
    else:
        lengths = np.asarray(counts)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
            raise DataError(
                f"run lengths are {lengths.dtype} in {lengths.ndim} dimensions, expected a list of integers"
            )
    lengths = lengths.tolist()  # Python's integers: none of them overflows
    total, least = sum(lengths), min(lengths, default=0)
    if least < 0 or total != size[0] * size[1]:
        raise DataError(
            f"run lengths cover {total} pixels, the least of them {least}: expected none below 0 and "
            f"{size[0] * size[1]} pixels in all for {list(size)} (H, W)"
        )


def decompressed(counts: str | bytes) -> np.ndarray:
    """The run lengths in COCO's compressed text: int64, possibly wrong ones.

    Each number is written in characters of 5 bits, least first, with a sixth bit where more follow and the last one's
    fifth bit as the sign; from the fourth number on it is the difference to the one before the last.
    """
    text = counts.encode("latin1", "replace") if isinstance(counts, str) else counts
    bits = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(bits & 32 == 0)
    digits = np.diff(ends, prepend=-1)
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or ends[-1:].tolist() != [len(bits) - 1] or digits.max() > 7:
        raise DataError("run lengths are a text that is not COCO's compressed form")
    place = np.arange(len(bits)) - np.repeat(ends - digits + 1, digits)
    numbers = np.add.reduceat((bits & 31) << 5 * place, ends - digits + 1)
    numbers -= np.where(bits[ends] & 16, np.int64(1) << 5 * digits, 0)
    for start in (1, 2):  # 1, 3, 5, ... and 2, 4, 6, ... are sums of their differences; the first stands alone
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers
