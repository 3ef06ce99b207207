"""Bilinear enlargement of stride-4 maps to the pixels of a target: plain, and in pieces for a processor's cache."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 4  # input pixels per cell of mask and class logits, in each direction


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps `(M, h, w)` -> `(M, H, W)`, bilinear.

    Maps at stride 4 of the target are enlarged 4 times and cropped: where H or W is no multiple of 4, the image ends
    inside the last cell. Maps of any other size are stretched to that of the target.
    """
    large = F.interpolate(maps[:, None], size=size_before_crop(tuple(maps.shape[-2:]), size), mode="bilinear")
    return large[:, 0, : size[0], : size[1]]


def enlargement_matrix(length: int, large: int, size: int) -> Tensor:
    """`(size, length)` float32: one axis enlarged to `large` pixels and cropped to `size`, as a matrix."""
    return F.interpolate(torch.eye(length)[None], size=large, mode="linear")[0].T[:size]


def size_before_crop(small: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The size to which maps of a small size are enlarged before they are cropped to `size`."""
    return tuple(STRIDE * length for length in small) if is_at_stride(small, size) else size


def is_at_stride(small: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether maps of a small size have a cell for every 4 x 4 pixels, the last of which may be incomplete."""
    return all(length == -(-pixels // STRIDE) for length, pixels in zip(small, size, strict=True))


class Enlargement:
    """The same on a CPU, in pieces that stay in its cache.

    Enlarging by a whole factor f (4 in MaskFormer) is a small matrix product: each cell of the small map becomes f * f
    pixels, and each of these is a fixed mix of the cell and its 8 neighbours. So the pixels are kept in the order
    "position within the cell, cell": a loss is a sum over pixels, and the order of a sum is free.

    Pixels have the shape `(F, N)`: F pixels to a cell and N cells for whole factors, 1 and H * W otherwise. The
    enlarged map is `taps @ spread(maps)`, its transpose `gather(taps.T @ pixels)`; both products may be made for some
    of the N cells at a time.

    Attributes:
        large: (H, W), before the crop.
        taps: `(F, K)` float32, the share of each of K neighbours in each pixel of a cell.
        num_cells: N.
    """

    def __init__(self, small: tuple[int, int], size: tuple[int, int]):
        self.small, self.large = small, size_before_crop(small, size)
        large = self.large
        factors = [new // old for new, old in zip(large, small, strict=True)]
        self.whole = all(old * factor == new for new, old, factor in zip(large, small, factors, strict=True))
        if self.whole:
            rows, columns = (_taps(factor) for factor in factors)  # (f, 3) each
            self.taps = torch.einsum("ri,cj->rcij", rows, columns).reshape(factors[0] * factors[1], 9)
            self.num_cells = small[0] * small[1]
        else:
            self.taps = torch.ones(1, 1)
            self.num_cells = large[0] * large[1]

    def order(self, maps: Tensor, beyond: float = 0.0) -> Tensor:
        """Maps of the target's size with their pixels in this object's order: `(..., F, N)`.

        What the crop would take off has the value `beyond`.
        """
        if tuple(maps.shape[-2:]) != self.large:
            maps = F.pad(maps, (0, self.large[1] - maps.shape[-1], 0, self.large[0] - maps.shape[-2]), value=beyond)
        if not self.whole:
            return maps.flatten(-2)[..., None, :]
        (height, width), (large_height, large_width) = self.small, self.large
        cells = maps.unflatten(-1, (width, large_width // width)).unflatten(-3, (height, large_height // height))
        return cells.movedim((-3, -1), (-4, -3)).flatten(-2).flatten(-3, -2)  # (..., h, fy, w, fx) before

    def spread(self, maps: Tensor) -> Tensor:
        """Small maps `(M, h, w)` -> `(M, K, N)`, the neighbours of each cell."""
        if not self.whole:
            large = F.interpolate(maps[:, None], size=self.large, mode="bilinear", align_corners=False)
            return large.flatten(2)
        height, width = self.small
        padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        shifted = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
        return torch.stack(shifted, dim=1).flatten(2)

    def gather(self, neighbours: Tensor) -> Tensor:
        """The transpose of `spread`: `(M, K, N)` -> `(M, h, w)`."""
        height, width = self.small
        if not self.whole:
            large = neighbours.view(-1, 1, *self.large)
            shape = [len(large), 1, height, width]
            return torch.ops.aten.upsample_bilinear2d_backward(large, list(self.large), shape, False)[:, 0]
        padded = neighbours.new_zeros(len(neighbours), height + 2, width + 2)
        for tap, values in enumerate(neighbours.view(-1, 9, height, width).unbind(1)):
            y, x = divmod(tap, 3)
            padded[:, y : y + height, x : x + width] += values
        return fold_border(padded)


def fold_border(padded: Tensor) -> Tensor:
    """The transpose of replicating the border: `(M, h + 2, w + 2)`, overwritten, -> its middle `(M, h, w)`."""
    padded[:, 1] += padded[:, 0]
    padded[:, -2] += padded[:, -1]
    padded[:, :, 1] += padded[:, :, 0]
    padded[:, :, -2] += padded[:, :, -1]
    return padded[:, 1:-1, 1:-1]


def _taps(factor: int) -> Tensor:
    """`(factor, 3)` shares of the previous, this and the next cell in each pixel of a cell, along one axis."""
    position = (torch.arange(factor) + 0.5) / factor - 0.5  # in cells, from the cell's centre
    return torch.stack(((-position).clamp(min=0), 1 - position.abs(), position.clamp(min=0)), dim=1)
