"""Points at which mask losses are evaluated: uncertain ones and uniform ones (Mask2Former, section 3.3).

Mask2Former draws `oversample_ratio` times as many uniform candidates as points for each mask anew, and keeps those
where the mask is least certain. Here the candidates are one low-discrepancy sequence with a random shift, shared by
the masks of an image: each candidate is still uniform over the image, whatever the mask, so all expectations are the
same. The candidates cover the image more evenly than independent ones, and their positions are worked out once.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from .scratch import Scratch

PLASTIC_NUMBER = 1.32471795724474602596  # its powers make the sequence: M. Roberts, "The R2 sequence", 2018
QUANTILE_SAMPLE = 1024  # candidates that tell how certain the most uncertain share of all is


def uniform_points(num_points: int, device: torch.device | None = None) -> Tensor:
    """`(num_points, 2)` float32 points (x, y) in [0, 1), evenly spread, as is every run of consecutive ones."""
    steps = torch.arange(num_points, dtype=torch.float64, device=device)[:, None]
    step = torch.tensor([1 / PLASTIC_NUMBER, 1 / PLASTIC_NUMBER**2], dtype=torch.float64, device=device)
    shift = torch.rand(2, dtype=torch.float64).to(device)
    points = (shift + steps * step) % 1.0
    return points.float().clamp(max=1 - 2**-24)  # float32 may round up to 1


def choose_uncertain(logits: Tensor, count: int, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """The `count` least certain of C candidates for each of M masks, or nearly as many.

    How certain those are is read off a sample of the candidates, so there may be more, of which the first are taken,
    or less.

    Args:
        logits: `(M, C)` logits of the candidates; a mask is least certain where its logit is nearest to 0.
        count: at least 1.
        scratch: keeps the buffers; the indices lie in it until the next call.

    Returns:
        Indices `(M, count)` int64, and how many of them were found, `(M, 1)` int64, at least 1. The places of those
        that were not found repeat the last that was.
    """
    num_masks, num_candidates = logits.shape
    uncertainty = torch.abs(logits, out=scratch("uncertainty", *logits.shape))
    sample = uncertainty[:, :QUANTILE_SAMPLE]
    rank = min(max(round(count / num_candidates * sample.shape[1]), 1), sample.shape[1])
    threshold = sample.kthvalue(rank, dim=1, keepdim=True).values
    certain = torch.gt(uncertainty, threshold, out=scratch("certain", *uncertainty.shape, dtype=torch.bool))
    uncertain = certain.logical_not_()  # (M, C), at least one in each row: NaN is not certain
    found = uncertain.count_nonzero(1)[:, None]  # (M, 1)
    indices = uncertain.flatten().nonzero()[:, 0]  # of the uncertain candidates of all masks, in order
    firsts = found.cumsum(0) - found
    places = torch.minimum(torch.arange(count, device=found.device), found - 1).add_(firsts)
    chosen = scratch("chosen", num_masks, count, dtype=torch.int64)
    torch.index_select(indices, 0, places.flatten(), out=chosen.view(-1))
    chosen -= torch.arange(num_masks, device=found.device)[:, None] * num_candidates
    return chosen, found.clamp_(max=count)


class BilinearPoints:
    """Values of maps `(h, w)` at C points, interpolated as `grid_sample(padding_mode="border")` does, and back.

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
        columns, rows = (corners.long()[:, :, None] + torch.arange(2, device=points.device)).unbind(1)
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
            chosen: `(M, P)` integers, of each map's points no one twice; C stands for no point.
            scratch: keeps the buffers.
        """
        num_masks, num_first = len(values), values.shape[1] - chosen.shape[1]
        at_points = scratch("at points", len(self.cells) + 1, num_masks).zero_()
        masks = torch.arange(num_masks, device=values.device)[:, None]
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
        numbers = torch.arange(self.size[0] * self.size[1], device=cells.device, dtype=torch.int32)
        starts = torch.searchsorted(cells, numbers, out_int32=True)
        return (order // 4).int(), starts, self.shares.flatten()[order]
