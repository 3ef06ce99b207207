"""A resampling of maps in rectangles of the result: what lies between maps and result fits into little memory.

Each rectangle is two small matrix products, since it blends only the few rows and columns of the maps that lie under
it. With K maps the result is K times as large as a picture, and is never there as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .resampling import Taps


@dataclass(frozen=True)
class Block:
    """A rectangle of the result.

    Attributes:
        target: the rows and columns of the result that it is.
        source: the rows and columns of the maps that it blends.
        rows: `(s, n)` float32, what each of n rows of the maps gives to each of its s rows.
        columns: `(t, m)` float32, the same of columns.
    """

    target: tuple[slice, slice]
    source: tuple[slice, slice]
    rows: Tensor
    columns: Tensor

    def resize(self, maps: Tensor) -> Tensor:
        """`(N, s, t)`: this rectangle of the result of `(N, h, w)` maps."""
        return self.rows @ maps[:, self.source[0], self.source[1]] @ self.columns.T

    def add_transposed(self, values: Tensor, maps: Tensor) -> None:
        """Adds to maps `(N, h, w)` the transpose of `resize`, applied to values `(N, s, t)`."""
        maps[:, self.source[0], self.source[1]] += self.rows.T @ (values @ self.columns)


def blocks_of(rows: Taps, columns: Taps, num_pixels: int, device: torch.device) -> Iterator[Block]:
    """Rectangles of about `num_pixels` pixels, square where they can be, that together are the whole result."""
    edge = max(1, math.isqrt(num_pixels))
    width = min(edge, len(columns))
    height = min(max(1, num_pixels // width), len(rows))
    across = [_part(columns, start, width, device) for start in range(0, len(columns), width)]
    for start in range(0, len(rows), height):
        row_target, row_source, row_weights = _part(rows, start, height, device)
        for column_target, column_source, column_weights in across:
            yield Block((row_target, column_target), (row_source, column_source), row_weights, column_weights)


def _part(taps: Taps, start: int, size: int, device: torch.device) -> tuple[slice, slice, Tensor]:
    """Results of one axis from `start` on, the samples they blend, and the weights of these."""
    target = slice(start, min(start + size, len(taps)))
    part, source = taps.part(target.start, target.stop)
    return target, source, part.matrix().to(device)
