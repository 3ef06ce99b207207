"""From mask logits at stride 4 to pixels of the result: crop to the image, enlarge to the input, resize to the target.

A batch is padded to its largest image, so an image's own mask logits are the top left part of the map. Only that part
is used, whatever lies beside it: a result never depends on the other images of the batch.

Bilinear resizing treats rows and columns alike and separately, and each pixel blends neighbours only. So enlarging and
resizing together are one small list of taps per row and per column, which can be applied to any block of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

STRIDE = 4  # input pixels per mask logit, in each direction


@dataclass(frozen=True, eq=False)
class Taps:
    """A resampling of one axis: `out[i] = sum over j of weights[i, j] * x[first[i] + j]`.

    Attributes:
        first: `(T,)` int64, not decreasing. Samples before the first and after the last of `x` are equal to these.
        weights: `(T, n)` float32, not negative, rows sum to 1.
        length: number of samples of `x`.
    """

    first: Tensor
    weights: Tensor
    length: int

    def __len__(self) -> int:
        return len(self.first)

    def part(self, start: int, stop: int) -> tuple[Taps, slice]:
        """The results start..stop, and the samples they are made of."""
        first, weights = self.first[start:stop], self.weights[start:stop]
        used = slice(max(int(first[0]), 0), min(int(first[-1]) + weights.shape[1], self.length))
        return Taps(first - used.start, weights, used.stop - used.start), used

    def matrix(self) -> Tensor:
        """`(T, length)` float32: the resampling as a matrix."""
        samples = (self.first[:, None] + torch.arange(self.weights.shape[1])).clamp(0, self.length - 1)
        return torch.zeros(len(self), self.length).scatter_add_(1, samples, self.weights)


def linear_taps(length: int, size: int) -> Taps:
    """Two taps a sample: `length` samples resized to `size`, as `interpolate` with `align_corners=False` does.

    Positions are computed in float32 as torch computes them, to blend with the same weights.
    """
    position = (torch.arange(size, dtype=torch.float32) + 0.5) * (torch.tensor(float(length)) / size) - 0.5
    return _blend(position, length)


@lru_cache(maxsize=64)  # images mostly come in few sizes
def logits_taps(length: int, image: int, target: int) -> Taps:
    """Three taps a sample: stride-4 logits enlarged to input pixels, cropped to `image`, resized to `target`."""
    enlarge, resize = linear_taps(length, STRIDE * length), linear_taps(image, target)
    first = enlarge.first[resize.first.clamp(min=0)]  # (T,)
    weights = torch.zeros(target, 3)
    for tap in range(2):
        pixel = (resize.first + tap).clamp(0, image - 1)  # (T,)
        # Neighbouring input pixels start at the same logit or at the next one.
        columns = (enlarge.first[pixel] - first)[:, None] + torch.arange(2)  # (T, 2)
        weights.scatter_add_(1, columns, resize.weights[:, tap, None] * enlarge.weights[pixel])
    return Taps(first, weights, length)


@lru_cache(maxsize=64)
def scores_taps(length: int, image: int, target: int) -> Taps:
    """Two taps a sample: stride-4 values resized straight to the `target` pixels that the `image` pixels cover.

    Where the image is no multiple of the stride it ends inside the last stride-4 cell.
    """
    position = (torch.arange(target, dtype=torch.float32) + 0.5) * (torch.tensor(image / STRIDE) / target) - 0.5
    return _blend(position, length)


@lru_cache(maxsize=64)
def identity_taps(length: int) -> Taps:
    """One tap a sample: nothing changes."""
    return Taps(torch.arange(length), torch.ones(length, 1), length)


def _blend(position: Tensor, length: int) -> Taps:
    """Two taps around each position, counted in samples."""
    first = position.floor()
    ahead = position - first
    return Taps(first.to(torch.int64), torch.stack((1 - ahead, ahead), 1), length)


def resize(maps: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(N, H, W)`: `(N, h, w)` maps with rows and columns resampled."""
    return rows.matrix().to(maps.device) @ maps @ columns.matrix().to(maps.device).T


def crop_to_image(mask_logits: Tensor, image_size: tuple[int, int] | None) -> tuple[Tensor, tuple[int, int]]:
    """The valid part of one image's mask logits, float32, and the (height, width) of the image in input pixels.

    Args:
        mask_logits: `(Q, h, w)` of any floating dtype.
        image_size: (height, width) of the image in pixels of the model's input, without padding. None: the whole map
            is valid, and the input four times as large.

    Raises:
        ValueError: the logits are too small for an image of that size.
    """
    if image_size is None:
        image_size = (STRIDE * mask_logits.shape[-2], STRIDE * mask_logits.shape[-1])
    height, width = image_size
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    if not (0 < rows <= mask_logits.shape[-2] and 0 < columns <= mask_logits.shape[-1]):
        raise ValueError(
            f"An image of {height}x{width} input pixels has mask logits of {rows}x{columns} at stride {STRIDE}, "
            f"but the logits are {mask_logits.shape[-2]}x{mask_logits.shape[-1]}."
        )
    return mask_logits[:, :rows, :columns].float().contiguous(), (height, width)


def target_taps(logits: Tensor, image_size: tuple[int, int], target_size: tuple[int, int] | None) -> tuple[Taps, Taps]:
    """How rows and columns of the cropped `(N, h, w)` mask logits become those of the result.

    Without a target size the result has the resolution of the logits.
    """
    if target_size is None:
        return identity_taps(logits.shape[1]), identity_taps(logits.shape[2])
    return (
        logits_taps(logits.shape[1], image_size[0], target_size[0]),
        logits_taps(logits.shape[2], image_size[1], target_size[1]),
    )


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
