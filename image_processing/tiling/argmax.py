"""Which of several maps is the largest at each pixel, without computing most of them at most pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .tiles import Tiling

ROUNDING = 3e-5  # scores that differ by less than this part of them are taken as equal: float32 is not more exact
RIVALS = 3  # how many maps are looked at first where several could be the largest, before all are


def write_argmax(
    canvas: Tensor,
    tiling: Tiling,
    maps: Tensor,
    weigh: Callable[[Tensor, Tensor, Tensor], Tensor],
    bounds: tuple[Tensor, Tensor],
) -> None:
    """Writes into the canvas which of the weighed maps is the largest at each pixel, the first of equal ones.

    Args:
        canvas: integers, of the tiling.
        tiling: the tiles.
        maps: `(N, h, w)`.
        weigh: makes scores, not negative, of the values `(m, P, n)` of maps, numbered `(m, n)`, in tiles `(n,)`.
        bounds: the least and the largest score that each map has in each tile, `(N, T)` each.
    """
    least, most = bounds
    best, winner = least.max(0)  # (T,), (T,)
    tiling.fill(canvas, winner)
    open_tiles = ((most >= best * (1 - ROUNDING)).sum(0) > 1).nonzero().flatten()
    for count in (RIVALS, len(maps)):
        unsure = []
        for tiles in open_tiles.split(tiling.step(count)):
            rivals, others = largest(most.index_select(1, tiles), count)  # (k, n), (n,)
            best, winner = winners(weigh(tiling.pixels(maps, rivals, tiles), rivals, tiles), rivals)  # (P, n), (P, n)
            tiling.put(canvas, tiles, winner)
            # Where a map that was not looked at could be larger at some pixel, more are looked at.
            unsure.append(tiles[best.amin(0) * (1 - ROUNDING) <= others])
        open_tiles = torch.cat(unsure)


def winners(scores: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """The best of k scores `(k, P, n)` and whose it is, `(P, n)` each; of equal ones the first candidate's (k, n)."""
    best = scores.amax(0)
    descending = torch.arange(len(scores), 0, -1, dtype=torch.int16, device=scores.device)[:, None, None]
    first = len(scores) - ((scores == best) * descending).amax(0).to(torch.int64)
    return best, candidates.gather(0, first)


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where the `count` largest of `(M, n)` are along the first axis, ascending, and the largest of the others.

    Returns:
        `(count, n)` int64 places, fewer where M is less, and `(n,)`, minus infinity if there is no other.
    """
    if count >= len(values):
        places = torch.arange(len(values), device=values.device)[:, None].expand_as(values)
        return places, torch.full_like(values[0], -torch.inf)
    top = values.topk(count + 1, dim=0)
    return top.indices[:count].sort(0).values, top.values[count]
