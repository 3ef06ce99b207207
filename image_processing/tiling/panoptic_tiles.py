"""Panoptic inference in tiles: which query wins each pixel, and how many pixels each query's own mask has."""

from __future__ import annotations

import torch
from torch import Tensor

from ..resampling import Taps
from .argmax import write_argmax
from .tiles import Tiling


def compete_in_tiles(logits: Tensor, scores: Tensor, rows: Taps, columns: Taps, own: float) -> tuple[Tensor, Tensor]:
    """`(H, W)` int32, the query of the largest `score * mask probability`; `(S,)` int64, pixels of logit >= `own`.

    Args:
        logits: `(S, h, w)` float32, contiguous, S > 0.
        scores: `(S,)` float32.
        rows, columns: how the maps are resampled to H x W.
        own: the least logit of a query's own mask.
    """
    tiling = Tiling.of(rows, columns, logits.device)
    canvas = tiling.canvas(torch.int32)
    own_areas = torch.zeros(len(scores), dtype=torch.int64, device=logits.device)
    for part, canvas_rows in tiling.parts(len(scores)):
        own_areas += _compete_in_part(canvas[canvas_rows], part, logits, scores, own)
    return tiling.crop(canvas), own_areas


def _compete_in_part(canvas: Tensor, tiling: Tiling, logits: Tensor, scores: Tensor, own: float) -> Tensor:
    """Writes the winners of some tiles into their canvas; returns the pixels of logit >= `own` there, `(S,)` int64."""
    low, high = tiling.bounds(logits)  # (S, T), (S, T)
    own_areas = ((low >= own).double() @ tiling.pixel_counts().double()).long()  # (S,)
    uncounted = (low < own) & (high >= own)  # (S, T), tiles that are in a query's own mask with some pixels

    def count(values: Tensor, queries: Tensor, tiles: Tensor) -> None:
        """Adds the own pixels among the values (m, P, n) of queries (m, n) in tiles (n,), once for each."""
        areas = tiling.inside(values >= own, tiles).sum(1) * uncounted[queries, tiles]  # (m, n)
        own_areas.index_add_(0, queries.flatten(), areas.flatten())
        uncounted[queries, tiles] = False

    def weigh(values: Tensor, queries: Tensor, tiles: Tensor) -> Tensor:
        count(values, queries, tiles)
        return values.sigmoid_().mul_(scores.take(queries)[:, None])

    bounds = (low.sigmoid_().mul_(scores[:, None]), high.sigmoid_().mul_(scores[:, None]))
    write_argmax(canvas, tiling, logits, weigh, bounds)
    for queries, tiles in (pair.T for pair in uncounted.nonzero().split(tiling.step(1))):
        count(tiling.pixels(logits, queries[None], tiles), queries[None], tiles)
    return own_areas
