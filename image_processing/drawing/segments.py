"""The colours and contours of segments, painted over a picture strip by strip: what is in memory at once is bounded.

A mask is kept as bits, an eighth of its pixels' bytes, and unpacked for the rows of one strip at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..boxed_masks import BoxedMask
from .colors import Color

STRIP_ROWS = 256


class DrawnSegment:
    """What is drawn of one segment.

    Args:
        mask: its mask.
        label_id: its class.
        score: its score, None where it has none.
        color: its colour.

    Attributes:
        area: pixels of the mask.
    """

    def __init__(self, mask: BoxedMask, label_id: int, score: float | None, color: Color) -> None:
        self.label_id, self.score, self.color = label_id, score, color
        mask = mask.tight()
        self.height, self.width = mask.size
        self.rows, self.columns = mask.box
        self.area = int(np.count_nonzero(mask.pixels))
        self._bits = np.packbits(mask.pixels, axis=1)

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        """`(h, w)` bool: the mask in these rows and columns of the picture."""
        window = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        top, bottom = max(rows.start, self.rows.start), min(rows.stop, self.rows.stop)
        left, right = max(columns.start, self.columns.start), min(columns.stop, self.columns.stop)
        if top < bottom and left < right:
            bits = self._bits[top - self.rows.start : bottom - self.rows.start]
            inside = np.unpackbits(bits, axis=1, count=self.columns.stop - self.columns.start).view(bool)
            inside = inside[:, left - self.columns.start : right - self.columns.start]
            window[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = inside
        return window

    def every(self, step: int, factor: int) -> np.ndarray:
        """`(h, w)` bool: of the mask enlarged by a factor each pixel whose row and column are multiples of a step."""
        columns = np.arange(0, self.width * factor, step) // factor
        rows = np.arange(0, self.height * factor, step) // factor
        whole = slice(0, self.width)
        return np.stack([self.window(slice(row, row + 1), whole)[0, columns] for row in rows])


def paint(canvas: np.ndarray, segments: Sequence[DrawnSegment], factor: int, alpha: float) -> None:
    """Paints colours, then contours, over the picture; later segments over earlier ones.

    Args:
        canvas: `(H * factor, W * factor, 3)` uint8, changed in place.
        segments: with masks `(H, W)`.
        factor: by which the picture is larger than the masks.
        alpha: opacity of the colours.
    """
    width = contour_width(canvas)
    for top in range(0, len(canvas), STRIP_ROWS):
        strip = slice(top, min(top + STRIP_ROWS, len(canvas)))
        for segment in segments:
            mask, rows, columns = _enlarged(segment, strip, 0, factor, canvas.shape)
            blended = ((1 - alpha) * np.arange(256)[:, None] + alpha * np.array(segment.color)).astype(np.uint8)
            window = canvas[rows, columns]
            for channel in range(3):  # of each value there can be
                window[..., channel][mask] = blended[window[..., channel][mask], channel]
        for segment in segments:
            mask, rows, columns = _enlarged(segment, strip, width, factor, canvas.shape)
            edge = contour(mask, width)
            inner = slice(max(strip.start, rows.start), min(strip.stop, rows.stop))
            edge = edge[inner.start - rows.start : max(inner.start, inner.stop) - rows.start]
            canvas[inner, columns][edge] = (0.35 * np.array(segment.color)).astype(np.uint8)


def contour_width(canvas: np.ndarray) -> int:
    """Pixels of a contour in a picture of this size."""
    return max(1, round(min(canvas.shape[:2]) / 300))


def _enlarged(
    segment: DrawnSegment, strip: slice, margin: int, factor: int, shape: tuple[int, ...]
) -> tuple[np.ndarray, slice, slice]:
    """The enlarged mask in a strip and some rows around it, as far as the segment reaches, and its rows and columns.

    One pixel beyond the mask belongs to it, so that its own border is told from that of the picture.
    """
    top = max(0, strip.start - margin, segment.rows.start * factor - 1)
    bottom = max(top, min(shape[0], strip.stop + margin, segment.rows.stop * factor + 1))
    left = max(0, segment.columns.start * factor - 1)
    right = max(left, min(shape[1], segment.columns.stop * factor + 1))
    rows, columns = slice(top, bottom), slice(left, right)
    small_rows, small_columns = (slice(part.start // factor, -(-part.stop // factor)) for part in (rows, columns))
    mask = segment.window(small_rows, small_columns)
    if factor > 1:
        mask = mask.repeat(factor, 0).repeat(factor, 1)
        skipped = top - small_rows.start * factor, left - small_columns.start * factor
        mask = mask[skipped[0] : skipped[0] + bottom - top, skipped[1] : skipped[1] + right - left]
    return mask, rows, columns


def contour(mask: np.ndarray, width: int) -> np.ndarray:
    """`(H, W)` bool: pixels of the mask up to `width` from its edge; the image's own border is no edge."""
    inner = mask.copy()
    for _ in range(width):
        shrunk = inner.copy()
        shrunk[1:] &= inner[:-1]
        shrunk[:-1] &= inner[1:]
        shrunk[:, 1:] &= inner[:, :-1]
        shrunk[:, :-1] &= inner[:, 1:]
        inner = shrunk
    return mask & ~inner
