"""Points at which mask losses are evaluated: uncertain ones and uniform ones (Mask2Former, section 3.3).

Mask2Former draws `oversample_ratio` times as many uniform candidates as points for each mask anew, and keeps those
where the mask is least certain. Here the candidates are one low-discrepancy sequence with a random shift, shared by
the masks of an image: each candidate is still uniform over the image, whatever the mask, so all expectations are the
same. The candidates cover the image more evenly than independent ones, and their positions are worked out once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .enlargement import fold_border
from .scratch import Scratch

PLASTIC_NUMBER = 1.32471795724474602596  # its powers make the sequence: M. Roberts, "The R2 sequence", 2018
QUANTILE_SAMPLE = 4096  # candidates that tell how certain the most uncertain share of all is


def uniform_points(num_points: int, device: torch.device | None = None) -> Tensor:
    """`(num_points, 2)` float32 points (x, y) in [0, 1), evenly spread, as is every run of consecutive ones."""
    steps = torch.arange(num_points, dtype=torch.float64, device=device)[:, None]
    step = torch.tensor([1 / PLASTIC_NUMBER, 1 / PLASTIC_NUMBER**2], dtype=torch.float64, device=device)
    shift = torch.rand(2, dtype=torch.float64).to(device)
    points = (shift + steps * step) % 1.0
    return points.float().clamp(max=1 - 2**-24)  # float32 may round up to 1


def choose_points(uncertainty: Tensor, num_uniform: int, num_important: int) -> tuple[Tensor, Tensor]:
    """Which of C candidates each of M masks is scored at, and how often each of these points counts.

    The first `num_uniform` candidates are taken as they are, then up to `num_important` of the least certain. How
    certain those are is read off a sample, so there may be a few less of them, and the rest of their places counts 0;
    together they always weigh `num_important`.

    Args:
        uncertainty: `(M, C)` distance of each candidate's logit from 0, smallest where the mask is least certain.
        num_uniform, num_important: their sum is the number of points P.

    Returns:
        Indices `(M, P)` int64 and weights `(M, P)` float32.
    """
    num_masks, num_candidates = uncertainty.shape
    device = uncertainty.device
    uniform = torch.arange(num_uniform, device=device).expand(num_masks, -1)
    if num_important == 0:
        return uniform, torch.ones(num_masks, num_uniform, device=device)
    sample = uncertainty[:, :QUANTILE_SAMPLE]
    rank = min(max(round(num_important / num_candidates * sample.shape[1]), 1), sample.shape[1])
    threshold = sample.kthvalue(rank, dim=1, keepdim=True).values
    uncertain = uncertainty <= threshold  # (M, C), at least one in each row
    found = uncertain.sum(1, keepdim=True)  # (M, 1)
    indices = uncertain.flatten().nonzero()[:, 0]  # of the uncertain candidates of all masks, in order
    places = torch.arange(num_important, device=device)
    firsts = found.cumsum(0) - found
    important = indices[firsts + torch.minimum(places, found - 1)]  # (M, P)
    important -= torch.arange(num_masks, device=device)[:, None] * num_candidates
    found.clamp_(max=num_important)
    weights = (places < found) * (num_important / found)
    ones = weights.new_ones(num_masks, num_uniform)
    return torch.cat((uniform, important), dim=1), torch.cat((ones, weights), dim=1)


class BilinearPoints:
    """Values of maps `(h, w)` at C points, interpolated as `grid_sample(padding_mode="border")` does, and back.

    Args:
        points: `(C, 2)` (x, y) in [0, 1).
        size: (h, w) of the maps.
    """

    def __init__(self, points: Tensor, size: tuple[int, int]):
        self.size = height, width = size
        positions = points * points.new_tensor([width, height]) + 0.5  # in cells of the map with its border replicated
        corners = positions.floor()
        self.columns, self.rows = (positions - corners).unbind(1)  # (C,) shares of the right and of the lower cells
        columns, rows = corners.long().unbind(1)
        corner = rows.clamp_(max=height) * (width + 2) + columns.clamp_(max=width)
        # (C,) each: the cells to the upper left, upper right, lower left and lower right of the point
        self.corners = tuple(corner + step for step in (0, 1, width + 2, width + 3))

    def values(self, maps: Tensor, scratch: Scratch) -> Tensor:
        """`(M, C)` values of maps `(M, h, w)` at all points; they lie in `scratch` until the next call."""
        padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate").flatten(1)  # (M, (h + 2) * (w + 2))
        upper, upper_right, lower, lower_right = (
            torch.index_select(padded, 1, cells, out=scratch(f"corner {number}", len(maps), len(cells)))
            for number, cells in enumerate(self.corners)
        )
        return upper.lerp_(upper_right, self.columns).lerp_(lower.lerp_(lower_right, self.columns), self.rows)

    def gather(self, values: Tensor, chosen: Tensor) -> Tensor:
        """The transpose: values `(N, M, P)` at the points `chosen` (M, P) are shared out to maps `(N, M, h, w)`."""
        height, width = self.size
        num_maps, num_masks, _ = values.shape
        tables = self.corners[0], self.columns, self.rows
        corners, columns, rows = (table.take(chosen) for table in tables)  # (M, P)
        padded = values.new_zeros(num_maps, num_masks, (height + 2) * (width + 2))
        lower, upper = values * rows, values * (1 - rows)
        for step, row in ((0, upper), (width + 2, lower)):
            right = row * columns
            for target, left_part, right_part in zip(padded, row.sub_(right), right, strict=True):
                target.scatter_add_(1, corners + step, left_part)
                target.scatter_add_(1, corners + (step + 1), right_part)
        return fold_border(padded.view(-1, height + 2, width + 2)).view(num_maps, num_masks, height, width)
