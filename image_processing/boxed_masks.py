"""Masks of segments, each inside a box of its own: what is done with one costs its own pixels, not the picture's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from .run_lengths import compressed_run_lengths, decompressed

MAX_BOXES = 1 << 16  # that are looked for in one pass, one for each number from the least id to the largest


@dataclass(frozen=True)
class BoxedMask:
    """A mask of a picture, of which a box has all pixels.

    Attributes:
        pixels: `(h, w)` bool, the mask in the box.
        corner: top and left of the box.
        size: (H, W) of the picture.
    """

    pixels: np.ndarray
    corner: tuple[int, int]
    size: tuple[int, int]

    @staticmethod
    def of(mask: np.ndarray) -> BoxedMask:
        """A whole mask `(H, W)` bool in its smallest box."""
        return BoxedMask(mask, (0, 0), mask.shape).tight()

    @staticmethod
    def empty(size: tuple[int, int]) -> BoxedMask:
        """A mask without a pixel."""
        return BoxedMask(np.zeros((0, 0), dtype=bool), (0, 0), size)

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        (top, left), (height, width) = self.corner, self.pixels.shape
        return slice(top, top + height), slice(left, left + width)

    def tight(self) -> BoxedMask:
        """The same mask in its smallest box."""
        rows, columns = np.flatnonzero(self.pixels.any(1)), np.flatnonzero(self.pixels.any(0))
        if len(rows) == 0:
            return BoxedMask.empty(self.size)
        (top, left), (first, start) = self.corner, (int(rows[0]), int(columns[0]))
        pixels = self.pixels[first : rows[-1] + 1, start : columns[-1] + 1]
        return BoxedMask(pixels, (top + first, left + start), self.size)

    def sampled(self, rows: np.ndarray, columns: np.ndarray) -> BoxedMask:
        """The mask in the smaller picture that has these rows and columns alone, `(h',)` and `(w',)`, ascending."""
        (top, bottom), (left, right) = (
            np.searchsorted(places, (part.start, part.stop)).tolist()
            for places, part in zip((rows, columns), self.box, strict=True)
        )
        inside = rows[top:bottom, None] - self.corner[0], columns[left:right] - self.corner[1]
        return BoxedMask(self.pixels[inside], (top, left), (len(rows), len(columns)))


def masks_of(segmentation: Tensor | Sequence[Mapping[str, Any]], ids: Sequence[int]) -> Iterator[BoxedMask]:
    """The mask of each segment of a result.

    Args:
        segmentation: an `(H, W)` map of ids, `(n, H, W)` binary maps, or n COCO RLEs.
        ids: the n segments' ids, in the order of `segments_info`.
    """
    if not isinstance(segmentation, Tensor):
        yield from map(_decoded, segmentation)
    elif segmentation.ndim == 3:
        yield from (BoxedMask.of(mask.to(torch.bool).cpu().numpy()) for mask in segmentation)
    else:
        yield from masks_of_ids(segmentation.cpu().numpy(), ids)


def masks_of_ids(id_map: np.ndarray, ids: Sequence[int]) -> Iterator[BoxedMask]:
    """The mask of each id, from an `(H, W)` map, or from `(L, H, W)` where segments overlap; all boxes in one pass."""
    if len(ids) == 0:
        return
    layers = id_map[None] if id_map.ndim == 2 else id_map
    size = layers.shape[1:]
    values = np.unique(ids)
    if values[-1] - values[0] < MAX_BOXES:
        labels = layers  # mostly, and without a copy
        if values[0] != 1:
            labels = np.subtract(layers, int(values[0]) - 1, dtype=np.int32, casting="unsafe")
        values = np.arange(values[0], values[-1] + 1)
    else:  # pixels of other ids count for the id before theirs, whose box is too large then
        labels = np.searchsorted(values, layers, side="right")
    boxes = dict(zip(values.tolist(), ndimage.find_objects(labels, len(values)), strict=True))
    del labels
    for number in ids:
        if boxes[number] is None:
            yield BoxedMask.empty(size)
            continue
        _, rows, columns = boxes[number]
        yield BoxedMask((layers[boxes[number]] == number).any(0), (rows.start, columns.start), size)


def _decoded(rle: Mapping[str, Any]) -> BoxedMask:
    """The mask of a COCO RLE; a ValueError where its runs do not cover its size."""
    rle = compressed_run_lengths(rle)
    height, width = rle["size"]
    ends = np.cumsum(decompressed(rle["counts"]))
    stops = ends[1::2]
    starts = ends[::2][: len(stops)]
    starts, stops = starts[starts < stops], stops[starts < stops]
    if len(starts) == 0:
        return BoxedMask.empty((height, width))
    (first, start), (last, stop) = np.divmod(starts, height), np.divmod(stops - 1, height)  # columns and rows
    left, right = int(first[0]), int(last[-1]) + 1
    top, bottom = (int(start.min()), int(stop.max()) + 1) if (first == last).all() else (0, height)
    starts_in_box = (first - left) * (bottom - top) + start - top
    edges = np.stack((starts_in_box, starts_in_box + (stops - starts)), axis=1).ravel()
    runs = np.diff(edges, prepend=0, append=(right - left) * (bottom - top))
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(right - left, bottom - top).T
    return BoxedMask(pixels, (top, left), (height, width))
