"""Semantic scores of tiles -> the class map of the picture, faded into each other where tiles overlap.

Scores are kept only where a later tile adds to them: on the ramp at the right of a tile until its neighbour comes, and
on the ramp below a row of tiles until the next row comes. Everything else is decided at once. So there are never more
of them than K x (ramp x width of the picture + ramp x height of a tile + a strip), where K x height x width would not
fit.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .grid import Grid, Tile, length_of

Strips = Iterable[tuple[slice, Tensor]]  # rows from the top, and their scores (K, rows, W)


def class_map_of_tiles(grid: Grid, tiles: Iterable[tuple[Tile, Strips]]) -> Tensor:
    """`(H, W)` class ids of the highest weighted mean of scores, on the CPU: uint8, or int16 above 256 classes.

    Args:
        grid: the tiles of the picture.
        tiles: each tile in the order of the grid, with the strips of its scores, which together are as large as it.
    """
    blender = None
    for tile, strips in tiles:
        for rows, scores in strips:
            if blender is None:
                blender = Blender(grid, scores)
            blender.add(tile, rows, scores)
    return blender.classes


class Blender:
    """Adds up weighted scores, and decides the classes of pixels to which no later tile adds.

    Args:
        grid: the tiles of the picture.
        like: any scores `(K, ...)`, for their number, dtype and device.

    Attributes:
        classes: `(H, W)`, complete once every tile was added.
    """

    def __init__(self, grid: Grid, like: Tensor) -> None:
        self.classes = torch.zeros(grid.size, dtype=class_id_dtype(len(like)))
        self._row_weights = [span.weights().to(like) for span in grid.rows]
        self._column_weights = [span.weights().to(like) for span in grid.columns]
        ramp_rows, ramp_columns = (length_of(spans[0].falling) for spans in (grid.rows, grid.columns))
        tallest = max(length_of(span.used) for span in grid.rows)
        # of the tile to the left, at its rows; and of the row of tiles above, at the columns that each tile closes
        self._right = like.new_zeros(len(like), tallest, ramp_columns)
        self._below = [like.new_zeros(len(like), ramp_rows, length_of(span.closed)) for span in grid.columns]

    def add(self, tile: Tile, rows: slice, scores: Tensor) -> None:
        """Adds the scores `(K, s, w)` of some rows of a tile, as wide as it. Strips come from the top, tiles in order.

        Args:
            tile: where.
            rows: which of the tile's rows.
            scores: theirs.
        """
        used = tile.rows.used
        begin, end = (min(max(row + tile.rows.start, used.start), used.stop) for row in (rows.start, rows.stop))
        if begin == end:
            return
        _, columns = tile.inside((used, tile.columns.used))
        first = begin - tile.rows.start - rows.start
        scores = scores[:, first : first + end - begin, columns] * self._column_weights[tile.column]
        scores = self._close_columns(tile, scores, slice(begin - used.start, end - used.start))
        scores *= self._row_weights[tile.row][begin - used.start : end - used.start, None]
        closed = self._close_rows(tile, scores, begin)
        self.classes[begin : begin + closed.shape[1], tile.columns.closed] = closed.argmax(0).to(self.classes)

    def _close_columns(self, tile: Tile, scores: Tensor, rows: slice) -> Tensor:
        """The columns to which no tile to the right adds, complete in this row of tiles; keeps the others."""
        rising, falling = length_of(tile.columns.rising), length_of(tile.columns.falling)
        if rising:
            scores[..., :rising] += self._right[:, rows]
        if falling:
            self._right[:, rows] = scores[..., -falling:]
        return scores[..., : scores.shape[-1] - falling]

    def _close_rows(self, tile: Tile, scores: Tensor, begin: int) -> Tensor:
        """Of rows from `begin` those to which no tile below adds, complete; keeps the others."""
        below, end = self._below[tile.column], begin + scores.shape[1]
        rising, falling = tile.rows.rising, tile.rows.falling
        if begin < rising.stop:
            stop = min(rising.stop, end)
            scores[:, : stop - begin] += below[:, begin - rising.start : stop - rising.start]
        if end > falling.start and length_of(falling):
            start = max(falling.start, begin)
            below[:, start - falling.start : end - falling.start] = scores[:, start - begin :]
            return scores[:, : start - begin]
        return scores


def class_id_dtype(num_classes: int) -> torch.dtype:
    """The smallest that holds the ids of so many classes."""
    return torch.uint8 if num_classes <= 256 else torch.int16
