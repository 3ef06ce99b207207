"""The result's pixels in small tiles, so that only what is undecided is computed pixel by pixel.

A pixel of a resized map is a weighted mean of a few samples of the map, so over a tile the map stays between the least
and the largest of the tile's samples. Where these bounds already tell the result of a whole tile, as they do inside of
segments, no pixel is interpolated. Tiles are the last axis of every tensor: operations run along many tiles at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..resampling import Taps
from ..size_tables import size_table

SAMPLES_PER_TILE = 2  # a tile covers about this many samples each way
STEP_ELEMENTS = 1 << 19  # numbers per step of the work: enough for long loops, and 2 MB


@dataclass(frozen=True)
class TiledAxis:
    """One axis of the result, cut into n tiles of s pixels; the last tile may reach beyond the end.

    Attributes:
        samples: `(a, n)` int64, the samples that the tile's pixels blend, ascending.
        weights: `(s, a, n)` float32, the weight of each sample in each pixel; `(s, a, 1)` where all tiles are alike.
        length: pixels of the result. Pixels beyond the end are some mean of the last samples.
    """

    samples: Tensor
    weights: Tensor
    length: int

    @staticmethod
    @size_table(maxsize=64)  # images mostly come in few sizes
    def of(taps: Taps, device: torch.device) -> TiledAxis:
        size = min(len(taps), max(2, round(SAMPLES_PER_TILE * len(taps) / taps.length)))
        count = -(-len(taps) // size)
        pixel = torch.arange(count * size).clamp(max=len(taps) - 1).view(count, size)
        first = taps.first[pixel]  # (n, s)
        offset = first - first[:, :1]  # (n, s), within the tile's samples
        reach = taps.weights.shape[1]
        weights = torch.zeros(count, size, int(offset.max()) + reach)
        weights.scatter_(2, offset[:, :, None] + torch.arange(reach), taps.weights[pixel])
        weights = weights[:, :, : int(weights.any(0).any(0).nonzero().max()) + 1]  # without taps of no weight
        samples = (first[:, :1] + torch.arange(weights.shape[2])).clamp(0, taps.length - 1)
        beyond = (torch.arange(count * size) >= len(taps)).view(count, size)
        if bool(((weights == weights[0]).all(2) | beyond).all()):
            weights = weights[:1]
        return TiledAxis(
            samples.T.contiguous().to(device), weights.permute(1, 2, 0).contiguous().to(device), len(taps)
        )

    @property
    def count(self) -> int:
        """n."""
        return self.samples.shape[1]

    @property
    def size(self) -> int:
        """s."""
        return self.weights.shape[0]

    def part(self, start: int, stop: int) -> TiledAxis:
        """Tiles start..stop."""
        length = min(self.length, stop * self.size) - start * self.size
        weights = self.weights if self.weights.shape[2] == 1 else self.weights[:, :, start:stop]
        return TiledAxis(self.samples[:, start:stop], weights, length)

    def weights_of(self, places: Tensor) -> Tensor:
        """`(s, a, n)`, or `(s, a, 1)` where all tiles are alike: the weights of n tiles."""
        return self.weights if self.weights.shape[2] == 1 else self.weights.index_select(2, places)

    def weights_at(self, pixels: Tensor, places: Tensor) -> Tensor:
        """`(m, a)`: the weights of m pixels, each given by its place in its tile and by its tile."""
        tiles = torch.zeros_like(places) if self.weights.shape[2] == 1 else places
        return self.weights[pixels, :, tiles]

    def exists(self, places: Tensor) -> Tensor:
        """`(s, n)` bool: False for pixels of n tiles that lie beyond the end."""
        return torch.arange(self.size, device=places.device)[:, None] + places * self.size < self.length


@dataclass(frozen=True)
class Tiling:
    """T tiles of P pixels, numbered row by row, and what N maps are in them.

    Maps are `(N, h, w)`, contiguous; `tiles` are `(n,)` numbers of tiles. A canvas is an image of whole tiles.
    """

    rows: TiledAxis
    columns: TiledAxis

    @staticmethod
    def of(rows: Taps, columns: Taps, device: torch.device) -> Tiling:
        """The tiles of a result whose rows and columns are resampled so."""
        return Tiling(TiledAxis.of(rows, device), TiledAxis.of(columns, device))

    @property
    def pixels_per_tile(self) -> int:
        """P."""
        return self.rows.size * self.columns.size

    @property
    def width(self) -> int:
        """Pixels of a canvas's row."""
        return self.columns.count * self.columns.size

    def parts(self, maps: int) -> Iterator[tuple[Tiling, slice]]:
        """Strips of tiles small enough for bounds of so many maps, and the rows of a canvas that they are."""
        step = max(1, 2 * STEP_ELEMENTS // (max(1, maps) * self.columns.count))
        for start in range(0, self.rows.count, step):
            stop = min(start + step, self.rows.count)
            part = Tiling(self.rows.part(start, stop), self.columns)
            yield part, slice(start * self.rows.size, stop * self.rows.size)

    def of_own_rows(self) -> tuple[Tiling, slice]:
        """The same tiles for maps that have only the rows which these tiles blend, and what rows these are."""
        samples = self.rows.samples
        used = slice(int(samples[0, 0]), int(samples[-1, -1]) + 1)
        return Tiling(replace(self.rows, samples=samples - used.start), self.columns), used

    def step(self, maps: int) -> int:
        """How many tiles to look at in one go, for the pixels of so many maps."""
        return max(1, STEP_ELEMENTS // (max(1, maps) * self.pixels_per_tile))

    def step_of_samples(self, maps: int) -> int:
        """How many tiles to look at in one go, for the samples of so many maps."""
        return max(1, STEP_ELEMENTS // (max(1, maps) * len(self.rows.samples) * len(self.columns.samples)))

    def bounds(self, maps: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(N, T)` each: no pixel of the tile is below the first or above the second; of `which` maps, or of all."""
        tiling, used = self.of_own_rows()
        maps = maps[:, used]
        step = max(1, STEP_ELEMENTS // 2 // (maps.shape[1] * maps.shape[2]))
        bounds = []
        groups = maps.split(step) if which is None else (maps.index_select(0, some) for some in which.split(step))
        for some in groups:
            low, high = _extremes(some, some, tiling.rows.samples, 1)
            bounds.append(_extremes(low, high, tiling.columns.samples, 2))
        low, high = (torch.cat(bound).flatten(1) for bound in zip(*bounds, strict=True))
        return low, high

    def pixels(self, maps: Tensor, which: Tensor, tiles: Tensor) -> Tensor:
        """`(m, P, n)`: for each of n tiles the pixels of m maps, given by `which` (m, n)."""
        row, column = self._places(tiles)
        values = self._samples(maps, which, row, column)  # (m, a, b, n)
        rows, columns = self.rows.weights_of(row), self.columns.weights_of(column)  # (s, a, n), (s', b, n)
        blended = rows[:, 0, None] * values[:, None, 0]  # (m, s, b, n)
        for tap in range(1, rows.shape[1]):
            blended.addcmul_(rows[:, tap, None], values[:, None, tap])
        pixels = blended[:, :, 0, None] * columns[:, 0]  # (m, s, s', n)
        for tap in range(1, columns.shape[1]):
            pixels.addcmul_(blended[:, :, tap, None], columns[:, tap])
        return pixels.flatten(1, 2)

    def single_pixels(self, maps: Tensor, pixels: Tensor, tiles: Tensor) -> Tensor:
        """`(N, m)`: all maps at m pixels, each the `pixels` (m,)-th of its tile."""
        row, column = self._places(tiles)
        values = self._samples(maps, all_maps(maps, tiles), row, column)  # (N, a, b, m)
        down = pixels.div(self.columns.size, rounding_mode="floor")
        rows = self.rows.weights_at(down, row)  # (m, a)
        columns = self.columns.weights_at(pixels - down * self.columns.size, column)  # (m, b)
        return (values * (rows.T[:, None] * columns.T)).sum((1, 2))

    def inside(self, pixels: Tensor, tiles: Tensor) -> Tensor:
        """`(..., P, n)` bool pixels of n tiles without those that lie beyond the result."""
        if self.rows.length == self.rows.count * self.rows.size and self.columns.length == self.width:
            return pixels
        row, column = self._places(tiles)
        return pixels & (self.rows.exists(row)[:, None] & self.columns.exists(column)).flatten(0, 1)

    def pixel_counts(self) -> Tensor:
        """`(T,)` int64: pixels that exist in each tile."""
        rows, columns = (
            axis.exists(torch.arange(axis.count, device=axis.samples.device)).sum(0)
            for axis in (self.rows, self.columns)
        )
        return (rows[:, None] * columns).flatten()

    def canvas(self, dtype: torch.dtype) -> Tensor:
        """A canvas, not filled."""
        size = (self.rows.count * self.rows.size, self.width)
        return torch.empty(size, dtype=dtype, device=self.rows.samples.device)

    def fill(self, canvas: Tensor, values: Tensor) -> None:
        """Gives the pixels of each tile its value, `(T,)`."""
        tiles = canvas.view(self.rows.count, self.rows.size, self.columns.count, self.columns.size)
        tiles.copy_(values.view(self.rows.count, 1, self.columns.count, 1))

    def put(self, canvas: Tensor, tiles: Tensor, values: Tensor) -> None:
        """Writes the pixels `(P, n)` of some tiles."""
        canvas.view(-1).scatter_(0, self.index(tiles).flatten(), values.flatten().to(canvas.dtype))

    def index(self, tiles: Tensor) -> Tensor:
        """`(P, n)` int64: where the tiles' pixels are in a flattened canvas."""
        row, column = self._places(tiles)
        down = torch.arange(self.rows.size, device=tiles.device)[:, None] * self.width
        offsets = (down + torch.arange(self.columns.size, device=tiles.device)).flatten()  # (P,)
        return offsets[:, None] + (row * self.rows.size * self.width + column * self.columns.size)

    def index_of(self, pixels: Tensor, tiles: Tensor) -> Tensor:
        """`(m,)` int64: where m pixels are in a flattened canvas, each the `pixels` (m,)-th of its tile."""
        row, column = self._places(tiles)
        down = pixels.div(self.columns.size, rounding_mode="floor")
        across = pixels - down * self.columns.size
        return (row * self.rows.size + down) * self.width + column * self.columns.size + across

    def crop(self, canvas: Tensor) -> Tensor:
        """`(H, W)`: the part of a canvas that is the result."""
        return canvas[: self.rows.length, : self.columns.length].contiguous()

    def _places(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of each tile."""
        row = tiles.div(self.columns.count, rounding_mode="floor")
        return row, tiles - row * self.columns.count

    def _samples(self, maps: Tensor, which: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """`(m, a, b, n)`: what the pixels of n tiles are blended of."""
        rows = self.rows.samples.index_select(1, row)  # (a, n)
        places = rows[:, None] * maps.shape[2] + self.columns.samples.index_select(1, column)  # (a, b, n)
        index = which[:, None, None] * (maps.shape[1] * maps.shape[2]) + places
        return maps.flatten().index_select(0, index.flatten()).view(index.shape)


def all_maps(maps: Tensor, tiles: Tensor) -> Tensor:
    """`(N, n)`: the numbers of all maps, for each tile."""
    return torch.arange(len(maps), device=tiles.device)[:, None].expand(-1, len(tiles))


def _extremes(low: Tensor, high: Tensor, samples: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Least and largest values over each tile's samples `(a, n)` along one axis.

    Where the last samples are one and the same, neighbours before them count too.
    """
    reach = min(len(samples), low.shape[axis])
    first = samples[0].clamp(max=low.shape[axis] - reach)  # (n,)
    width = 1  # of the runs whose extremes are known
    while 2 * width <= reach:
        count = low.shape[axis] - width
        low, high = (
            extreme(values.narrow(axis, 0, count), values.narrow(axis, width, count))
            for extreme, values in ((torch.minimum, low), (torch.maximum, high))
        )
        width *= 2
    least, largest = low.index_select(axis, first), high.index_select(axis, first)
    if width < reach:
        last = first + (reach - width)
        least = torch.minimum(least, low.index_select(axis, last))
        largest = torch.maximum(largest, high.index_select(axis, last))
    return least, largest
