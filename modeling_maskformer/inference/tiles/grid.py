"""Where tiles lie in a picture: overlapping, evenly spread, and each with a part that it alone decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

Box = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Span:
    """The rows, or the columns, of a tile, as pixels of the picture.

    A pixel lies in the ramps of two tiles at most, between which its scores fade from one to the other.

    Attributes:
        start, stop: what the tile covers.
        cell: the part that is nearer to this tile's middle than to any other's; cells tile the picture.
        rising, falling: the ramps at both ends, half before and half behind the border of the cell. At the border of
            the picture they are empty.
    """

    start: int
    stop: int
    cell: slice
    rising: slice
    falling: slice

    @property
    def used(self) -> slice:
        """The part with a weight above 0."""
        return slice(self.rising.start, self.falling.stop)

    @property
    def closed(self) -> slice:
        """The part of `used` in which no later tile has a weight."""
        return slice(self.rising.start, self.falling.start)

    def weights(self) -> Tensor:
        """`(used,)` float32: 1, but on the ramps, where the weights of two neighbours add up to 1."""
        weights = torch.ones(self.used.stop - self.used.start)
        rising, falling = length_of(self.rising), length_of(self.falling)
        if rising:
            weights[:rising] = smooth_step(rising)
        if falling:
            weights[-falling:] -= smooth_step(falling)
        return weights


def smooth_step(length: int) -> Tensor:
    """`(length,)` float32: half a period of a cosine, from 0 to 1."""
    return 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(length) + 0.5) / length)


def spans_of(length: int, tile: int, overlap: int) -> list[Span]:
    """The spans of tiles along an axis of the picture, as few as reach, all as long as a tile or the picture.

    Neighbours share `overlap` pixels or more. They fade into each other over `overlap` pixels, or over as many as
    there are between the middles of tiles, in the middle of what they share.
    """
    if length <= tile:
        return [Span(0, length, slice(0, length), slice(0, 0), slice(length, length))]
    count = 1 + math.ceil((length - tile) / (tile - overlap))
    starts = [round(number * (length - tile) / (count - 1)) for number in range(count)]
    borders = [(right + left + tile) // 2 for left, right in pairwise(starts)]
    ramp = min([overlap, *(later - earlier for earlier, later in pairwise(borders))])
    ramps = [slice(border - ramp // 2, border - ramp // 2 + ramp) for border in borders]
    ramps = [slice(0, 0), *ramps, slice(length, length)]
    borders = [0, *borders, length]
    return [
        Span(start, start + tile, slice(*borders[number : number + 2]), *ramps[number : number + 2])
        for number, start in enumerate(starts)
    ]


@dataclass(frozen=True)
class Tile:
    """A tile of a picture: its place in the grid, and its rows and columns."""

    row: int
    column: int
    rows: Span = field(compare=False)
    columns: Span = field(compare=False)

    @property
    def box(self) -> Box:
        """What it covers."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    @property
    def cell(self) -> Box:
        """What it alone decides."""
        return self.rows.cell, self.columns.cell

    def inside(self, box: Box) -> Box:
        """A box of the picture as a box of this tile."""
        rows, columns = box
        top, left = self.rows.start, self.columns.start
        return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)


@dataclass(frozen=True)
class Grid:
    """The tiles of a picture of `size` (height, width), row by row."""

    size: tuple[int, int]
    rows: list[Span]
    columns: list[Span]

    @classmethod
    def of(cls, size: tuple[int, int], tile: int, overlap: int) -> Grid:
        """Tiles at most `tile` high and wide, of which neighbours share at least `overlap` rows or columns."""
        height, width = size
        return cls((height, width), spans_of(height, tile, overlap), spans_of(width, tile, overlap))

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        for row, rows in enumerate(self.rows):
            for column, columns in enumerate(self.columns):
                yield Tile(row, column, rows, columns)


def shared(first: Tile, second: Tile) -> Box:
    """The box that both of two neighbours cover."""
    return tuple(  # type: ignore[return-value]
        slice(max(one.start, other.start), min(one.stop, other.stop))
        for one, other in zip(first.box, second.box, strict=True)
    )


def length_of(part: slice) -> int:
    """How many pixels it has."""
    return part.stop - part.start
