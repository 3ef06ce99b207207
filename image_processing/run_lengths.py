"""COCO's run-length encodings, checked and in the one form that pycocotools reads.

pycocotools takes lengths on trust: it would write beyond the mask, or end the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

MAX_PIXELS = 1 << 30  # of a mask, which has a byte for each


def compressed_run_lengths(rle: Mapping[str, Any]) -> dict[str, Any]:
    """The RLE with its counts as bytes; they come as bytes, as text (from JSON) or as a list of runs.

    Raises:
        ValueError: it is none, or its runs do not cover its size exactly.
    """
    if not isinstance(rle, Mapping) or not {"size", "counts"} <= rle.keys():
        raise ValueError("run lengths are a dictionary of `size`, (height, width), and `counts`")
    size, counts = _checked_size(rle["size"]), rle["counts"]
    check_counts(counts, tuple(size))
    if isinstance(counts, (str, bytes)):
        return {"size": size, "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
    return coco_mask.frPyObjects({"size": size, "counts": list(counts)}, *size)


def _checked_size(size: Any) -> list[int]:
    values = size.tolist() if isinstance(size, np.ndarray) else size
    is_size = isinstance(values, (list, tuple)) and len(values) == 2
    if not is_size or not all(isinstance(length, (int, np.integer)) and length >= 0 for length in values):
        raise ValueError(f"the `size` of run lengths is (height, width), got {size!r}")
    if int(values[0]) * int(values[1]) > MAX_PIXELS:
        raise ValueError(f"the `size` of run lengths is {size!r}, at most {MAX_PIXELS} pixels are expected")
    return [int(length) for length in values]


def check_counts(counts: Any, size: tuple[int, int]) -> None:
    """Raises a ValueError unless these run lengths, compressed or not, cover an image of `size` (H, W) exactly."""
    if isinstance(counts, (str, bytes)):
        lengths = decompressed(counts)
    else:
        try:
            lengths = np.asarray(counts)
        except ValueError:  # lists of several lengths in it
            lengths = np.asarray(counts, dtype=object)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
            raise ValueError(
                f"run lengths are {lengths.dtype} in {lengths.ndim} dimensions, expected a list of integers"
            )
    lengths = lengths.tolist()  # Python's integers: none of them overflows
    total, least = sum(lengths), min(lengths, default=0)
    if least < 0 or total != size[0] * size[1]:
        raise ValueError(
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
        raise ValueError("run lengths are a text that is not COCO's compressed form")
    place = np.arange(len(bits)) - np.repeat(ends - digits + 1, digits)
    numbers = np.add.reduceat((bits & 31) << 5 * place, ends - digits + 1)
    numbers -= np.where(bits[ends] & 16, np.int64(1) << 5 * digits, 0)
    for start in (1, 2):  # 1, 3, 5, ... and 2, 4, 6, ... are sums of their differences; the first stands alone
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers
