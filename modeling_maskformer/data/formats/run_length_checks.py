"""Whether COCO's run lengths cover their image; pycocotools reads on in memory where they end too early."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError

MAX_CHARACTERS = 7  # of one number, 5 bits each: enough for 2^31 pixels


def check_counts(counts: Sequence[int] | str | bytes, size: tuple[int, int]) -> None:
    """Raises a DataError unless the run lengths are none below 0 and add up to the (H, W) pixels of the image."""
    lengths = decompress(counts) if isinstance(counts, (str, bytes)) else np.asarray(counts, dtype=np.int64)
    if len(lengths) and lengths.min() < 0:
        raise DataError(f"a mask has a run length of {lengths.min()}: 0 or more is expected")
    if lengths.sum() != size[0] * size[1]:
        raise DataError(
            f"the run lengths of a mask add up to {lengths.sum()} but the image has {size[0] * size[1]} pixels "
            f"({size[0]} x {size[1]}, height x width)"
        )


def decompress(text: str | bytes) -> np.ndarray:
    """`(R,)` int64 run lengths of COCO's compressed form.

    A number is written in groups of 5 bits, lowest first, one character each from '0' on; bit 5 says that another
    follows, and bit 4 of the last is the sign. From the fourth on they are differences to the last but one.

    Raises:
        DataError: the text is not of that form.
    """
    text = text.encode("utf-8") if isinstance(text, str) else text
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - ord("0")  # (N,)
    ends = np.flatnonzero(codes & 0x20 == 0)  # (R,) last character of each number
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 0x3F or len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise DataError("the compressed run lengths of a mask are cut off, or hold characters that they never have")
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if place.max() >= MAX_CHARACTERS:
        raise DataError("the compressed run lengths of a mask hold a number that no image has pixels for")
    lengths = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    is_negative = codes[ends] & 0x10 != 0
    lengths -= is_negative.astype(np.int64) << (5 * (place[ends] + 1))
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths
