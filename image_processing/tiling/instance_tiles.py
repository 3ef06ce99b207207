"""Masks of instances in tiles: only tiles in which a mask is, or may be, are looked at, and kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..boxed_masks import BoxedMask
from ..resampling import Taps
from .tiles import Tiling


@dataclass(frozen=True)
class MaskPart:
    """Tiles of masks: pair i is the tile `tiles[i]` of the mask `masks[i]`, and `pixels[:, i]` its pixels.

    Attributes:
        tiles: `(n,)` int64.
        masks: `(n,)` int64, ascending.
        pixels: `(P, n)` bool.
    """

    tiles: Tensor
    masks: Tensor
    pixels: Tensor


@dataclass(frozen=True)
class TiledMasks:
    """The masks of S queries of an image of H x W pixels, as the tiles that have any pixel; drawn on demand."""

    tiling: Tiling
    parts: list[MaskPart]
    count: int

    def select(self, numbers: Tensor) -> Tensor:
        """`(n, H, W)` bool: the masks of these numbers, `(n,)` int64."""
        size = (len(numbers), self.tiling.rows.length, self.tiling.columns.length)
        masks = numbers.new_zeros(size, dtype=torch.bool)
        for mask, number in zip(masks, numbers.tolist(), strict=True):
            boxed = self.boxed(number)
            mask[boxed.box] = torch.from_numpy(boxed.pixels)
        return masks

    def boxed(self, number: int) -> BoxedMask:
        """The mask of this number in the box of its tiles."""
        found = []
        for part in self.parts:
            own = slice(*np.searchsorted(part.masks.numpy(), (number, number + 1)))
            found.append((part.tiles[own], part.pixels[:, own]))
        tiles, pixels = (torch.cat(parts, dim=-1) for parts in zip(*found, strict=True))
        rows, columns = self.tiling.rows, self.tiling.columns
        if len(tiles) == 0:
            return BoxedMask.empty((rows.length, columns.length))
        row, column = tiles.div(columns.count, rounding_mode="floor"), tiles % columns.count
        top, bottom, left, right = (int(end) for place in (row, column) for end in (place.min(), place.max() + 1))
        box = Tiling(rows.part(top, bottom), columns.part(left, right))
        canvas = box.canvas(torch.bool).zero_()
        box.put(canvas, (row - top) * (right - left) + column - left, pixels)
        corner = top * rows.size, left * columns.size
        return BoxedMask(box.crop(canvas).numpy(), corner, (rows.length, columns.length))

    def first(self, numbers: Tensor) -> Tensor:
        """`(H, W)` int32: the place in `numbers` of the first whose mask has a pixel, -1 where none has."""
        none = len(numbers)
        places = torch.arange(none, dtype=torch.int32, device=numbers.device)
        ranks = places.new_full((self.count,), none).scatter_reduce_(0, numbers, places, "amin")
        canvas = self.tiling.canvas(torch.int32).fill_(none)
        for part in self.parts:
            found = torch.where(part.pixels, ranks[part.masks], none).flatten()
            canvas.view(-1).scatter_reduce_(0, self.tiling.index(part.tiles).flatten(), found, "amin")
        ids = self.tiling.crop(canvas)
        return ids.masked_fill_(ids == none, -1)


def cut_masks_in_tiles(logits: Tensor, rows: Taps, columns: Taps, least: float) -> tuple[TiledMasks, Tensor, Tensor]:
    """Where each resampled `(S, h, w)` map is above `least`: masks, areas (S,), sums of probabilities inside (S,)."""
    tiling = Tiling.of(rows, columns, logits.device)
    areas = logits.new_zeros(len(logits), dtype=torch.int64)
    sums = logits.new_zeros(len(logits), dtype=torch.float64)
    parts = []
    for part, canvas_rows in tiling.parts(len(logits)):
        _, high = part.bounds(logits)  # (S, T)
        first_tile = canvas_rows.start // tiling.rows.size * tiling.columns.count
        for masks, tiles in (pair.T for pair in (high > least).nonzero().split(tiling.step(1))):
            values = part.pixels(logits, masks[None], tiles)[0]  # (P, n)
            pixels = part.inside(values > least, tiles)
            areas.index_add_(0, masks, pixels.sum(0))
            sums.index_add_(0, masks, (values.sigmoid_() * pixels).sum(0).double())
            parts.append(MaskPart(tiles + first_tile, masks, pixels))
    return TiledMasks(tiling, parts, len(logits)), areas, sums
