"""From the model's mask logits to the pixels of a result.

The logits have a quarter of the resolution of the model's (padded) input. The original code enlarges them bilinear to
the padded input, crops to the image, and resizes bilinear to the target, mostly the size that the image had at first.
A batch is padded to its largest image, so an image's own mask logits are the top left part of the map. Only that part
is used, whatever lies beside it: a result never depends on the other images of the batch.

Bilinear resizing treats rows and columns alike and separately, and each pixel blends neighbours only. So enlarging,
cropping and resizing together are one small list of taps per row and per column, which can be applied to any strip or
rectangle of the result: with N maps the result is N times as large as a picture, and is never there as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .size_tables import size_table

STRIDE = 4  # input pixels per mask logit, in each direction
STRIP_ELEMENTS = 12 << 20  # numbers worked on at a time: 50 MB, which keep a large GPU busy and fit into its cache
CPU_STRIP_ELEMENTS = 1 << 19  # and on a CPU: 2 MB
LEAST_LOGIT = -1e4  # instead of minus infinity, which times a weight of 0 is NaN; its probability is 0 as well
CPU_COLUMNS = 64  # results of a row that a CPU makes at a time, of the few samples under them

MaskResize = Literal["logits", "scores"]


@dataclass(frozen=True, eq=False)
class Taps:
    """A resampling of one axis: `out[i] = sum over j of weights[i, j] * x[first[i] + j]`.

    Attributes:
        first: `(T,)` int64, not decreasing. Samples before the first and after the last of `x` are equal to these.
        weights: `(T, n)` float32, not negative, rows sum to 1.
        length: number of samples of `x`.
        step: samples from one result to the next.
        reach: result i blends samples around `(i + 0.5) * step - 0.5`, at most so much further off than the nearest.
        origin: of a part, its first result and its first sample in the whole.
    """

    first: Tensor
    weights: Tensor
    length: int
    step: float
    reach: float
    origin: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return self.first.shape[0]

    @property
    def changes_nothing(self) -> bool:
        """Whether the results are the samples."""
        return self.weights.shape[1] == 1

    def part(self, start: int, stop: int) -> tuple[Taps, slice]:
        """The results start..stop, and the samples they are made of."""
        result, sample = self.origin
        low = math.floor((result + start + 0.5) * self.step - 0.5 - self.reach) - sample
        high = (
            math.floor((result + stop - 0.5) * self.step - 0.5 + self.reach) - sample + min(2, self.weights.shape[1])
        )
        used = slice(min(max(low, 0), self.length - 1), max(min(high, self.length), 1))
        first, weights = self.first[start:stop] - used.start, self.weights[start:stop]
        origin = (result + start, sample + used.start)
        return Taps(first, weights, used.stop - used.start, self.step, self.reach, origin), used

    def matrix(self) -> Tensor:
        """`(T, length)` float32: the resampling as a matrix."""
        offsets = torch.arange(self.weights.shape[1], device=self.first.device)
        samples = (self.first[:, None] + offsets).clamp(0, self.length - 1)
        return self.weights.new_zeros(len(self), self.length).scatter_add(1, samples, self.weights)


ROUNDING = 0.01  # samples by which positions computed in float32 may be wrong, in the largest images


@size_table(maxsize=64)  # images mostly come in few sizes
def linear_taps(length: int, size: int) -> Taps:
    """Two taps a sample: `length` samples resized to `size`, as `interpolate` with `align_corners=False` does."""
    return _blend(size, length, length / size)


@size_table(maxsize=64)
def logits_taps(length: int, image: int, target: int) -> Taps:
    """Three taps a sample: stride-4 logits enlarged to input pixels, cropped to `image`, resized to `target`."""
    enlarge, resize = linear_taps(length, STRIDE * length), linear_taps(image, target)
    first = enlarge.first[resize.first.clamp(min=0)]  # (T,)
    weights = resize.weights.new_zeros(target, 3)
    for tap in range(2):
        pixel = (resize.first + tap).clamp(0, image - 1)  # (T,)
        # Neighbouring input pixels start at the same logit or at the next one.
        columns = (enlarge.first[pixel] - first)[:, None] + torch.arange(2, device=first.device)  # (T, 2)
        weights = weights.scatter_add(1, columns, resize.weights[:, tap, None] * enlarge.weights[pixel])
    return Taps(first, weights, length, image / target / STRIDE, 1 / STRIDE + ROUNDING)


@size_table(maxsize=64)
def scores_taps(length: int, image: int, target: int) -> Taps:
    """Two taps a sample: stride-4 values resized straight to the `target` pixels that the `image` pixels cover.

    Where the image is no multiple of the stride it ends inside the last stride-4 cell.
    """
    return _blend(target, length, image / STRIDE / target)


@size_table(maxsize=64)
def identity_taps(length: int) -> Taps:
    """One tap a sample: nothing changes."""
    return Taps(torch.arange(length, device="cpu"), torch.ones(length, 1, device="cpu"), length, 1.0, 0.0)


def _blend(size: int, length: int, step: float) -> Taps:
    """Two taps around each of `size` positions that are so many samples apart.

    Positions are computed in float32 as torch computes them, to blend with the same weights.
    """
    position = torch.arange(size, dtype=torch.float32, device="cpu").add(0.5).mul(step).sub(0.5)
    first = position.floor()
    ahead = position - first
    return Taps(first.to(torch.int64), torch.stack((1 - ahead, ahead), 1), length, step, ROUNDING)


def without_minus_infinity(maps: Tensor) -> Tensor:
    """The maps with `LEAST_LOGIT` for minus infinity; whatever is finite stays, however low, and so do NaNs."""
    return torch.nan_to_num(maps, nan=math.nan, posinf=math.inf, neginf=LEAST_LOGIT)


def resize(maps: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(..., H, W)`: `(..., h, w)` maps with rows and columns resampled."""
    return rows.matrix().to(maps.device) @ maps @ columns.matrix().to(maps.device).T


def crop_to_image(mask_logits: Tensor, image_size: tuple[int, int] | None) -> tuple[Tensor, tuple[int, int]]:
    """The valid part of mask logits of images of one size, and the (height, width) of these in input pixels.

    Args:
        mask_logits: `(..., h, w)`.
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
    return mask_logits[..., :rows, :columns], (height, width)


def target_taps(
    maps: Tensor,
    image_size: tuple[int, int],
    target_size: tuple[int, int] | None,
    mask_resize: MaskResize = "logits",
) -> tuple[Taps, Taps]:
    """How rows and columns of cropped maps `(..., h, w)` become those of the result.

    Without a target size the result has the resolution of the maps. With "logits" they are enlarged to input pixels
    and these resized; with "scores" they are resized straight to the result.
    """
    if mask_resize not in ("logits", "scores"):
        raise ValueError(f'`mask_resize` must be "logits" or "scores", got {mask_resize!r}.')
    lengths = maps.shape[-2:]
    if target_size is None:
        return identity_taps(lengths[0]), identity_taps(lengths[1])
    taps = logits_taps if mask_resize == "logits" else scores_taps
    return taps(lengths[0], image_size[0], target_size[0]), taps(lengths[1], image_size[1], target_size[1])


def strip_elements(device: torch.device) -> int:
    """How many numbers to work on at a time."""
    return CPU_STRIP_ELEMENTS if device.type == "cpu" else STRIP_ELEMENTS


def float32_products(device: torch.device) -> AbstractContextManager:
    """Products of matrices as they are without autocast, which would round them to 8 or 11 bits."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def resized_strips(
    maps: Tensor, rows: Taps, columns: Taps, numbers_per_pixel: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The resized maps of a batch, some rows at a time, or several images where these are small.

    Args:
        maps: `(B, N, h, w)` of any floating dtype.
        rows, columns: how they are resized to H x W.
        numbers_per_pixel: how many numbers the caller makes for each pixel of the result: more make thinner strips.

    Yields:
        The images, the rows from the top, and their `(b, N, s, W)` float32 maps, which the caller may change.
    """
    pixels = max(1, strip_elements(maps.device) // max(1, numbers_per_pixel))
    height = max(1, min(len(rows), pixels // len(columns)))
    images = max(1, pixels // (len(rows) * len(columns)))
    strips = _strips(rows, height, maps.device)
    across = _strips(columns, CPU_COLUMNS if maps.device.type == "cpu" else len(columns), maps.device)
    for start in range(0, maps.shape[0], images):
        for target, source, down in strips:
            part = without_minus_infinity(maps[start : start + images, :, source].float())  # (b, N, r, w), a copy
            with float32_products(maps.device):
                if not columns.changes_nothing:
                    pieces = [part[..., used] @ weights.T for _, used, weights in across]
                    part = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)  # (b, N, r, W)
                if not rows.changes_nothing:
                    part = down @ part
            yield slice(start, start + images), target, part


@size_table(maxsize=32)
def _strips(taps: Taps, size: int, device: torch.device) -> list[tuple[slice, slice, Tensor]]:
    """The results of an axis, `size` at a time: which they are, the samples they blend, and the weights of these."""
    strips = []
    for start in range(0, len(taps), size):
        target = slice(start, min(start + size, len(taps)))
        part, source = taps.part(target.start, target.stop)
        strips.append((target, source, part.matrix().to(device)))
    return strips


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
        return self.rows @ (maps[:, self.source[0], self.source[1]] @ self.columns.T)


def block_at(rows: Taps, columns: Taps, start: tuple[int, int], size: tuple[int, int]) -> Block:
    """The rectangle of the result that begins there, of that size or what there is of it."""
    (row_target, row_source, row_weights), (column_target, column_source, column_weights) = (
        _strips(taps, length, taps.first.device)[first // length]
        for taps, first, length in zip((rows, columns), start, size, strict=True)
    )
    return Block((row_target, column_target), (row_source, column_source), row_weights, column_weights)


def blocks_of(rows: Taps, columns: Taps, num_pixels: int, device: torch.device) -> Iterator[Block]:
    """Rectangles of about `num_pixels` pixels, square where they can be, that together are the whole result.

    Each blends only the few rows and columns of the maps that lie under it, which on a CPU is worth more than length.
    """
    edge = max(1, math.isqrt(num_pixels))
    width = min(edge, len(columns))
    height = min(max(1, num_pixels // width), len(rows))
    across = _strips(columns, width, device)
    for row_target, row_source, row_weights in _strips(rows, height, device):
        for column_target, column_source, column_weights in across:
            yield Block((row_target, column_target), (row_source, column_source), row_weights, column_weights)
