"""The result's pixels in small tiles, so that only what is undecided is computed pixel by pixel.

A pixel of a resized map is a weighted mean of a few samples of the map, so over a tile the map stays between the least
and the largest of the tile's samples. Where these bounds already tell the result of a whole tile, as they do inside of
segments, no pixel is interpolated. Everything works on one strip of tiles at a time, small enough to stay in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .resampling import Taps

SAMPLES_PER_TILE = 2  # a tile covers about this many samples each way
STRIP_ELEMENTS = 1 << 18  # maps x samples that are worked on at once
ROUNDING = 1e-5  # bounds closer than this share of the largest score decide nothing: float32 sums are less exact


@dataclass(frozen=True)
class TiledAxis:
    """One axis of the result, cut into n tiles of s pixels; the last tile may reach beyond the end.

    Attributes:
        samples: `(n, a)` int64, the samples that the tile's pixels blend, ascending.
        weights: `(n, s, a)` float32, the weight of each sample in each pixel.
        pixels: `(n,)` int64, pixels of each tile that exist.
    """

    samples: Tensor
    weights: Tensor
    pixels: Tensor

    @staticmethod
    def of(taps: Taps, device: torch.device) -> TiledAxis:
        size = min(len(taps), max(2, round(SAMPLES_PER_TILE * len(taps) / taps.length)))
        count = -(-len(taps) // size)
        pixel = torch.arange(count * size).clamp(max=len(taps) - 1).view(count, size)
        first = taps.first[pixel]  # (n, s)
        offset = first - first[:, :1]  # (n, s), within the tile's samples
        reach = taps.weights.shape[1]
        length = int(offset.max()) + reach
        weights = torch.zeros(count, size, length)
        weights.scatter_(2, offset[:, :, None] + torch.arange(reach), taps.weights[pixel])
        samples = (first[:, :1] + torch.arange(length)).clamp(max=taps.length - 1)
        pixels = torch.full((count,), size)
        pixels[-1] = len(taps) - (count - 1) * size
        return TiledAxis(samples.to(device), weights.to(device), pixels.to(device))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size(self) -> int:
        return self.weights.shape[1]

    def part(self, start: int, stop: int) -> TiledAxis:
        """Tiles start..stop, their samples counted from the first one they use."""
        samples = self.samples[start:stop]
        return TiledAxis(samples - samples[0, 0], self.weights[start:stop], self.pixels[start:stop])


@dataclass(frozen=True)
class Grid:
    """T tiles of P pixels, row by row, and the rows of the result that they are."""

    rows: TiledAxis
    columns: TiledAxis
    target_rows: slice

    @property
    def shape(self) -> tuple[int, int]:
        """(T, P)."""
        return len(self.rows) * len(self.columns), self.rows.size * self.columns.size

    def exists(self) -> Tensor:
        """`(T, P)` bool: False for pixels of the last tiles that lie beyond the result."""
        row, column = (
            torch.arange(axis.size, device=axis.pixels.device) < axis.pixels[:, None]
            for axis in (self.rows, self.columns)
        )
        return (row[:, None, :, None] & column[None, :, None, :]).flatten(2).flatten(0, 1)

    def pixel_counts(self) -> Tensor:
        """`(T,)` int64: pixels of each tile that exist."""
        return (self.rows.pixels[:, None] * self.columns.pixels).flatten()

    def position(self, tiles: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column in the result of pixels, numbered within their tiles."""
        y = tiles // len(self.columns) * self.rows.size + pixels // self.columns.size
        return y + self.target_rows.start, tiles % len(self.columns) * self.columns.size + pixels % self.columns.size

    def untile(self, pixels: Tensor) -> Tensor:
        """`(h, W)`: the `(T, P)` values of the tiles' pixels as rows of the result."""
        pixels = pixels.view(len(self.rows), len(self.columns), self.rows.size, self.columns.size)
        pixels = pixels.transpose(1, 2).flatten(2).flatten(0, 1)
        return pixels[: self.target_rows.stop - self.target_rows.start, : int(self.columns.pixels.sum())]


@dataclass(frozen=True)
class Strip:
    """A grid of tiles, and the samples it needs of N maps: `(h * w, N)` with w = `width`.

    A tile blends A = a * b samples, a vertically and b horizontally.
    """

    grid: Grid
    samples: Tensor
    width: int

    def bounds(self) -> tuple[Tensor, Tensor]:
        """`(T, N)` each: no pixel of the tile is below the first or above the second."""
        maps = self.samples.unflatten(0, (len(self.samples) // self.width, self.width))  # (h, w, N)
        low, high = _extremes(maps, maps, self.grid.rows.samples, 0)
        low, high = _extremes(low, high, self.grid.columns.samples, 1)
        return low.flatten(0, 1), high.flatten(0, 1)

    def values(self, tiles: Tensor, maps: Tensor) -> Tensor:
        """`(n, P, m)`: m maps at the pixels of n tiles."""
        rows, columns, places = self._blend(tiles)
        weights = (rows[:, :, None, :, None] * columns[:, None, :, None, :]).flatten(3).flatten(1, 2)  # (n, P, A)
        return weights @ self.samples[:, maps][places.flatten(1)]

    def pair_values(self, tiles: Tensor, maps: Tensor) -> Tensor:
        """`(n, P)`: one map each at the pixels of n tiles."""
        rows, columns, places = self._blend(tiles)
        patches = self.samples.flatten()[places * self.samples.shape[1] + maps[:, None, None]]  # (n, a, b)
        return (rows @ patches @ columns.mT).flatten(1)

    def _blend(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of rows (n, s, a) and columns (n, s, b), and which samples they weigh (n, a, b)."""
        row, column = tiles // len(self.grid.columns), tiles % len(self.grid.columns)
        rows, columns = self.grid.rows, self.grid.columns
        places = rows.samples[row][:, :, None] * self.width + columns.samples[column][:, None]
        return rows.weights[row], columns.weights[column], places


def strips(
    maps: Tensor,
    rows: Taps,
    columns: Taps,
    transform: Callable[[Tensor], Tensor] | None = None,
    num_maps: int | None = None,
) -> Iterator[Strip]:
    """The result of resampling `(N, h, w)` maps, in strips from top to bottom.

    With `transform`, (n, N) samples become (n, `num_maps`) ones before they are resampled.
    """
    tiled_rows, tiled_columns = TiledAxis.of(rows, maps.device), TiledAxis.of(columns, maps.device)
    per_tile_row = max(1, num_maps or len(maps)) * SAMPLES_PER_TILE * maps.shape[2]
    step = max(1, STRIP_ELEMENTS // per_tile_row)
    for start in range(0, len(tiled_rows), step):
        stop = min(start + step, len(tiled_rows))
        used = tiled_rows.samples[start:stop]
        samples = maps[:, int(used[0, 0]) : int(used[-1, -1]) + 1].flatten(1).T  # (h * w, N)
        samples = samples.contiguous() if transform is None else transform(samples)
        target_rows = slice(start * tiled_rows.size, min(stop * tiled_rows.size, len(rows)))
        yield Strip(Grid(tiled_rows.part(start, stop), tiled_columns, target_rows), samples, maps.shape[2])


def rounds(tiles: Tensor) -> Iterator[Tensor]:
    """Indices into ascending `tiles`, no tile twice in a round: all first ones, then all second ones, ..."""
    if len(tiles) == 0:
        return
    position = torch.arange(len(tiles), device=tiles.device)
    is_first = torch.ones_like(tiles, dtype=torch.bool)
    is_first[1:] = tiles[1:] != tiles[:-1]
    rank = position - torch.where(is_first, position, 0).cummax(0).values
    yield from rank.argsort(stable=True).split(torch.bincount(rank).tolist())


def _extremes(low: Tensor, high: Tensor, samples: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Least and largest values over each tile's samples along one axis."""
    least, largest = low.index_select(axis, samples[:, 0]), high.index_select(axis, samples[:, 0])
    for tap in samples.T[1:]:
        values = low.index_select(axis, tap)
        torch.minimum(least, values, out=least)
        values = values if low is high else high.index_select(axis, tap)
        torch.maximum(largest, values, out=largest)
    return least, largest
