"""Points at which mask losses are evaluated: uncertain ones and uniform ones (Mask2Former, section 3.3).

Mask2Former draws `oversample_ratio` times as many uniform candidates as points for each mask anew, and keeps those
where the mask is least certain. Here the candidates are one low-discrepancy sequence with a random shift, shared by
all masks of a batch: each candidate is still uniform over the image, whatever the mask, so all expectations are the
same. The candidates cover the image more evenly than independent ones, and their positions are worked out once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..targets import VOID
from ..to_device import to_device
from .enlargement import size_before_crop
from .scratch import Scratch

PLASTIC_NUMBER = 1.32471795724474602596  # its powers make the sequence: M. Roberts, "The R2 sequence", 2018


def uniform_points(num_points: int) -> Tensor:
    """`(num_points, 2)` float32 points (x, y) in [0, 1), evenly spread, as is every run of consecutive ones."""
    steps = torch.arange(num_points, dtype=torch.float64)[:, None]
    step = torch.tensor([1 / PLASTIC_NUMBER, 1 / PLASTIC_NUMBER**2], dtype=torch.float64)
    points = (torch.rand(2, dtype=torch.float64) + steps * step) % 1.0
    return points.float().clamp(max=1 - 2**-24)  # float32 may round up to 1


def pixels_at(points: Tensor, size: tuple[int, int]) -> Tensor:
    """`(C,)` int64, the pixel, counted row by row, of a map of `size` under each of the points `(C, 2)`."""
    height, width = size
    columns = (points[:, 0] * width).long().clamp(max=width - 1)
    rows = (points[:, 1] * height).long().clamp(max=height - 1)
    return rows * width + columns


@dataclass
class Candidates:
    """C points of a batch, among which those are chosen at which its masks are scored.

    Attributes:
        points: `(C, 2)` float32 (x, y) in [0, 1), in the maps of mask logits.
        ids: `(B, L, C)`, the segment's id under each point, -1 at void.
        num_uniform, num_important: `(B,)` int64, how many points of each kind an image has: fewer by its share of
            void.
        most_uniform, most_important: of an image without void.
    """

    points: Tensor
    ids: Tensor
    num_uniform: Tensor
    num_important: Tensor
    most_uniform: int
    most_important: int

    @cached_property
    def grid(self) -> Tensor:
        """`(C, 2)`, the points as `sample` wants them."""
        return 2 * self.points - 1

    @cached_property
    def void(self) -> Tensor:
        """`(B, C)` bool."""
        return self.ids[:, 0] == VOID

    @cached_property
    def num_points(self) -> Tensor:
        """`(B,)` int64, at least 1."""
        return self.num_uniform + self.num_important

    @cached_property
    def first(self) -> Tensor:
        """`(B, most_uniform)` int64, the uniform points; where an image has fewer, a candidate at void."""
        places = torch.arange(self.most_uniform, device=self.void.device)
        ranks = (places + 1).expand(len(self.void), -1).contiguous()
        first = torch.searchsorted((~self.void).long().cumsum(1), ranks).clamp(max=len(self.points) - 1)
        return torch.where(places < self.num_uniform[:, None], first, self.void.long().argmax(1, keepdim=True))

    @cached_property
    def penalty(self) -> Tensor:
        """`(B, C)`, what makes any choice of the `most_important` least certain candidates one without void.

        As many candidates at void as an image has points too few come before all others, the rest never.
        """
        surplus = (self.most_important - self.num_important)[:, None]
        of_void = torch.where(self.void.long().cumsum(1) <= surplus, -torch.inf, torch.inf)
        return torch.where(self.void, of_void, 0.0)


def draw_candidates(
    ids: Tensor,
    void: Tensor,
    small: tuple[int, int],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> Candidates:
    """Candidates of a batch.

    Args:
        ids, void: id maps `(B, L, H, W)` and bool `(B, H, W)`.
        small: (h, w) of the mask logits.
        num_points, oversample_ratio, importance_sample_ratio: see `MaskFormerConfig`.
    """
    # without a choice among them, candidates beyond the points would be worked out for nothing
    num_candidates = int(num_points * oversample_ratio) if importance_sample_ratio > 0 else num_points
    most_important = int(importance_sample_ratio * num_points)
    most_uniform = num_points - most_important
    points, size = uniform_points(num_candidates), tuple(void.shape[-2:])
    pixels = to_device(pixels_at(points, size), ids.device)
    height, width = (length / before for length, before in zip(size, size_before_crop(small, size), strict=True))
    points *= torch.tensor([width, height])  # of the maps, whose last cells may reach beyond the image
    in_void = void.flatten(1).index_select(1, pixels)  # (B, C)
    numbers = ids.flatten(2).index_select(2, pixels)  # (B, L, C)
    numbers = numbers.to(torch.promote_types(ids.dtype, torch.int16)).masked_fill(in_void[:, None], VOID)
    share = (~in_void).float().mean(1)
    of_image = (num_points * share).round().clamp(min=1)  # (B,)
    num_important = (importance_sample_ratio * of_image).floor().clamp(max=most_important)
    num_uniform = (of_image - num_important).clamp(max=most_uniform)
    return Candidates(
        points=to_device(points, ids.device),
        ids=numbers,
        num_uniform=num_uniform.long(),
        num_important=num_important.long(),
        most_uniform=most_uniform,
        most_important=most_important,
    )


def sample(maps: Tensor, grid: Tensor) -> Tensor:
    """`(N, P)` values of maps `(N, h, w)`, bilinear, at points `(N, P, 2)` (x, y) between -1 and 1."""
    return F.grid_sample(maps[:, None], grid[:, :, None], padding_mode="border", align_corners=False)[:, 0, :, 0]


class BilinearPoints:
    """Values of maps `(h, w)` at C points as `sample` has them, and back, for a CPU.

    What belongs to one cell or point in all maps is laid side by side: then a point reads four rows, and a cell those
    of the points around it, instead of numbers here and there.

    Args:
        points: `(C, 2)` (x, y) in [0, 1).
        size: (h, w) of the maps.
    """

    def __init__(self, points: Tensor, size: tuple[int, int]):
        self.size = height, width = size
        positions = points * points.new_tensor([width, height]) - 0.5  # in cells
        corners = positions.floor()
        shares = (positions - corners)[:, :, None]  # (C, 2, 1), of the right and of the lower cells
        by_column, by_row = torch.cat((1 - shares, shares), 2).unbind(1)  # (C, 2) each
        columns, rows = (corners.long()[:, :, None] + torch.arange(2)).unbind(1)
        cells = rows.clamp_(0, height - 1)[:, :, None] * width + columns.clamp_(0, width - 1)[:, None]
        self.cells = cells.flatten(1).int()  # (C, 4), the cells around each point
        self.shares = (by_row[:, :, None] * by_column[:, None]).flatten(1)  # (C, 4), what they give to it

    def values(self, maps: Tensor, scratch: Scratch) -> Tensor:
        """`(M, C)` values of maps `(M, h, w)` at all points; they lie in `scratch` until the next call."""
        cells = scratch("cells", self.size[0] * self.size[1], len(maps)).copy_(maps.flatten(1).T)
        values = F.embedding_bag(self.cells, cells, per_sample_weights=self.shares, mode="sum")  # (C, M)
        return scratch("values", len(maps), len(values)).copy_(values.T)

    def gather(self, values: Tensor, chosen: Tensor, scratch: Scratch) -> Tensor:
        """The transpose: values at some points are shared out to maps `(M, h, w)`.

        Args:
            values: `(M, N + P)`, at the first N points and at the chosen ones, which may be among these.
            chosen: `(M, P)` integers, of each map's points no one twice.
            scratch: keeps the buffers.
        """
        num_masks, num_first = len(values), values.shape[1] - chosen.shape[1]
        at_points = scratch("at points", len(self.cells), num_masks).zero_()
        masks = torch.arange(num_masks)[:, None]
        places = scratch("places", *chosen.shape, dtype=torch.int64)
        torch.add(masks, chosen, alpha=num_masks, out=places)
        at_points.view(-1).scatter_(0, places.flatten(), values[:, num_first:].flatten())
        at_points[:num_first] += values[:, :num_first].T
        points, starts, shares = self._points_of_cells
        cells = F.embedding_bag(points, at_points, starts, per_sample_weights=shares, mode="sum")  # (h * w, M)
        return cells.T.unflatten(1, self.size)

    @cached_property
    def _points_of_cells(self) -> tuple[Tensor, Tensor, Tensor]:
        """The points around each cell, one cell after the other, where each cell's start, and what they give to it."""
        cells, order = self.cells.flatten().sort()
        numbers = torch.arange(self.size[0] * self.size[1], dtype=torch.int32)
        starts = torch.searchsorted(cells, numbers, out_int32=True)
        return (order // 4).int(), starts, self.shares.flatten()[order]
