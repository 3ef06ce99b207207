"""Semantic inference in tiles: the class of each pixel from few queries and classes, wherever these are enough.

score(class c, pixel x) = sum over queries q of p_q(c) * m_q(x). Most queries see no object and give next to nothing to
any class. The others, the main queries, decide all pixels but those where two scores are nearly equal, and where no
object is seen. In most tiles nearly all masks are as good as constant: their least and largest values in the tile
bound the scores, and often one class is above all others before any pixel is looked at. The other tiles are open:

1. where many tiles of a neighbourhood are open, all of it is computed as one block, of all queries;
2. elsewhere, if two classes could win, these two are looked at, with the queries whose values differ most;
3. otherwise, and where that does not tell, all scores of the main queries are;
4. what others could still change is computed of all queries and classes, for the whole tile or for single pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..resampling import Block, Taps, block_at, blocks_of
from .argmax import ROUNDING, largest, winners, write_argmax
from .tiles import STEP_ELEMENTS, Tiling, all_maps

REMAINING_SCORE = 0.01  # what the queries that are not main queries may give to any class, all together
PAIR_QUERIES = 3  # queries that are looked at where two classes could win
OPEN_TILES = 0.7  # of a block's tiles: with more open ones it is faster to compute the block than to look at them
SMALL_TILE = 16  # pixels: of smaller tiles, where little is enlarged, bounds cost more than they save
OPEN_PIXELS = 1 / 4  # of a tile's pixels: with more undecided ones the whole tile is computed


@dataclass(frozen=True)
class MainQueries:
    """The queries that decide most pixels, and the classes to which they give anything worth mentioning.

    Attributes:
        queries: `(V,)` int64.
        classes: `(C,)` int64.
        probs: `(C, V)` float32, p.
        remaining: `(C, 1)` float32, the most that all other queries give to these classes.
        other_classes: no score of any other class is above it.
    """

    queries: Tensor
    classes: Tensor
    probs: Tensor
    remaining: Tensor
    other_classes: float

    @staticmethod
    def of(probs: Tensor) -> MainQueries:
        """Of probabilities `(K, Q)`, the queries without which too much remains."""
        order = probs.amax(0).argsort(descending=True)
        left = probs[:, order].flip(1).cumsum(1).amax(0).flip(0)  # (Q,), what a query and all after it can give
        queries = order[: max(1, int((left > REMAINING_SCORE).sum()))]
        given = probs[:, queries].sum(1)  # (K,)
        remaining = (probs.sum(1) - given).clamp_(min=0)
        main = (given > REMAINING_SCORE) | (given == given.amax())
        classes = main.nonzero().flatten()
        other_classes = (given + remaining)[~main].amax().item() if len(classes) < len(given) else 0.0
        return MainQueries(queries, classes, probs[classes[:, None], queries], remaining[classes, None], other_classes)

    def score_bounds(self, bounds: tuple[Tensor, Tensor]) -> ScoreBounds:
        """What bounds `(V, n)` on the queries' logits in some tiles tell, the other queries being anything."""
        low, high = (bound.sigmoid_() for bound in bounds)
        least, most = self.probs @ low, torch.addmm(self.remaining, self.probs, high)
        return ScoreBounds(low, high.sub_(low).clamp_(min=0), least, most)


@dataclass(frozen=True)
class ScoreBounds:
    """What is known of n tiles before any pixel is looked at.

    Attributes:
        low: `(V, n)` float32, the least value of each mask in each tile.
        spread: `(V, n)` float32, how much more the largest is.
        least, most: `(C, n)` float32, no score of a class is below the first or above the second.
    """

    low: Tensor
    spread: Tensor
    least: Tensor
    most: Tensor

    def of(self, columns: Tensor) -> ScoreBounds:
        """The same of fewer tiles."""
        parts = (values.index_select(1, columns) for values in (self.low, self.spread, self.least, self.most))
        return ScoreBounds(*parts)


class SemanticTiles:
    """The argmax of an image's scores.

    Args:
        probs: `(K, Q)`, p.
        logits: `(Q, h, w)`, contiguous, the masks' logits before resampling.
    """

    def __init__(self, probs: Tensor, logits: Tensor) -> None:
        self.probs, self.logits = probs, logits
        self.main = MainQueries.of(probs)

    def argmax(self, rows: Taps, columns: Taps) -> Tensor:
        """`(H, W)` int64: the class of each pixel."""
        tiling = Tiling.of(rows, columns, self.logits.device)
        canvas = tiling.canvas(torch.int64)
        if tiling.pixels_per_tile < SMALL_TILE:
            num_pixels = STEP_ELEMENTS // (len(self.logits) + len(self.main.classes))
            for block in blocks_of(rows, columns, num_pixels, self.logits.device):
                self._decide_block(canvas, block)
            return tiling.crop(canvas)
        for part, canvas_rows in tiling.parts(max(self.main.probs.shape)):
            blocks = self._decide_tiles(canvas[canvas_rows], part)
            for top, left, height, width in blocks:
                top += canvas_rows.start
                self._decide_block(canvas, block_at(rows, columns, (top, left), (height, width)))
        return tiling.crop(canvas)

    def _decide_tiles(self, canvas: Tensor, tiling: Tiling) -> list[tuple[int, int, int, int]]:
        """Writes the class of each pixel of the tiling into the canvas, but in the rectangles that it returns.

        They are top, left, height and width, in pixels from the canvas's first.
        """
        bounds = self.main.score_bounds(tiling.bounds(self.logits, self.main.queries))
        best, winner = bounds.least.max(0)  # (T,), (T,)
        tiling.fill(canvas, self.main.classes[winner])
        least = best * (1 - ROUNDING)
        rivals = (bounds.most >= least).sum(0)  # (T,), classes that could win
        unsure = least <= self.main.other_classes
        blocks, in_block = self._blocks(tiling, (rivals > 1) | unsure)
        pairs = ((rivals == 2) & ~unsure & ~in_block).nonzero().flatten()
        undecided = [(((rivals > 2) | unsure) & ~in_block).nonzero().flatten()]
        for tiles in pairs.split(tiling.step(2 + PAIR_QUERIES)):
            undecided.append(tiles[~self._decide_pairs(canvas, tiling, tiles, bounds.of(tiles))])
        for tiles in torch.cat(undecided).split(tiling.step(sum(self.main.probs.shape))):
            self._decide_all(canvas, tiling, tiles, self._decide_by_main(canvas, tiling, tiles))
        return blocks

    def _blocks(self, tiling: Tiling, is_open: Tensor) -> tuple[list[tuple[int, int, int, int]], Tensor]:
        """Blocks of neighbouring tiles of which many are open (T,) bool; `(T,)` bool, the tiles that are in one."""
        numbers_per_tile = (len(self.logits) + len(self.main.classes)) * tiling.pixels_per_tile
        edge = max(1, math.isqrt(STEP_ELEMENTS // numbers_per_tile))  # tiles each way
        grid = is_open.view(1, 1, tiling.rows.count, tiling.columns.count)
        share = F.avg_pool2d(grid.float(), edge, ceil_mode=True)  # of the tiles that exist
        busy = share > OPEN_TILES
        in_block = busy.repeat_interleave(edge, 2).repeat_interleave(edge, 3)[..., : grid.shape[2], : grid.shape[3]]
        height, width = edge * tiling.rows.size, edge * tiling.columns.size
        places = busy[0, 0].nonzero().tolist()
        return [(row * height, column * width, height, width) for row, column in places], in_block.flatten()

    def _decide_block(self, canvas: Tensor, block: Block) -> None:
        """Writes the class of each pixel of a block, by all queries; by all classes where main ones may not win."""
        masks = block.resize(self.logits).sigmoid_()  # (Q, s, t)
        size, masks = masks.shape[1:], masks.flatten(1)
        best, winner = (self.probs[self.main.classes] @ masks).max(0)  # (P,), (P,)
        classes = self.main.classes.take(winner)
        others = (best * (1 - ROUNDING) <= self.main.other_classes).nonzero().flatten()
        if len(others):
            classes[others] = (self.probs @ masks.index_select(1, others)).max(0).indices
        canvas[block.target] = classes.view(size)

    def _decide_pairs(self, canvas: Tensor, tiling: Tiling, tiles: Tensor, bounds: ScoreBounds) -> Tensor:
        """Writes the better of the two likeliest classes; `(n,)` bool, the tiles in which no other class can win."""
        main = self.main
        rivals, others = largest(bounds.most, 2)  # (k, n), (n,)
        open_scores = bounds.spread * F.embedding(rivals, main.probs).amax(0).T  # (V, n)
        queries, _ = largest(open_scores, PAIR_QUERIES)  # (v, n)
        shares = main.probs.take(rivals[:, None] * main.probs.shape[1] + queries)  # (k, v, n)
        certain = bounds.least.gather(0, rivals)  # (k, n)
        spread, low = bounds.spread.gather(0, queries), bounds.low.gather(0, queries)  # (v, n)
        still_open = bounds.most.gather(0, rivals) - certain - (shares * spread).sum(1)  # (k, n), of other queries
        masks = tiling.pixels(self.logits, main.queries.take(queries), tiles).sigmoid_()  # (v, P, n)
        scores = (certain - (shares * low).sum(1))[:, None] + shares[:, 0, None] * masks[0]  # (k, P, n)
        for number in range(1, len(masks)):
            scores.addcmul_(shares[:, number, None], masks[number])
        best, winner = winners(scores, rivals)  # (P, n), (P, n)
        tiling.put(canvas, tiles, main.classes.take(winner))
        rival = scores.add_(still_open[:, None]).masked_fill_(rivals[:, None] == winner, -torch.inf).amax(0)  # (P, n)
        rival = torch.maximum(rival, others).clamp_(min=main.other_classes)
        return (best * (1 - ROUNDING) > rival).all(0)

    def _decide_by_main(self, canvas: Tensor, tiling: Tiling, tiles: Tensor) -> Tensor:
        """Writes the winner of the main queries' scores; `(P, n)` bool, the pixels that others could change."""
        main = self.main
        masks = tiling.pixels(self.logits, main.queries[:, None].expand(-1, len(tiles)), tiles).sigmoid_()  # (V, P, n)
        scores = (main.probs @ masks.flatten(1)).unflatten(1, masks.shape[1:])  # (C, P, n)
        best, winner = scores.max(0)  # (P, n), (P, n)
        tiling.put(canvas, tiles, main.classes.take(winner))
        rival = scores.scatter_(0, winner[None], -torch.inf).add_(main.remaining[..., None]).amax(0)
        return tiling.inside(best * (1 - ROUNDING) <= rival.clamp_(min=main.other_classes), tiles)

    def _decide_all(self, canvas: Tensor, tiling: Tiling, tiles: Tensor, undecided: Tensor) -> None:
        """Writes the winner of all scores where pixels `(P, n)` bool of some tiles are undecided."""
        count = undecided.sum(0)  # (n,)
        many = count > OPEN_PIXELS * len(undecided)
        for some in tiles[many].split(tiling.step(sum(self.probs.shape))):
            masks = tiling.pixels(self.logits, all_maps(self.logits, some), some).sigmoid_()  # (Q, P, n)
            tiling.put(canvas, some, (self.probs @ masks.flatten(1)).max(0).indices.view(masks.shape[1:]))
        pixels, columns = (undecided & ~many).nonzero().T  # (m,), (m,)
        step = tiling.step_of_samples(len(self.logits))
        for pixel, tile in zip(pixels.split(step), tiles[columns].split(step), strict=True):
            masks = tiling.single_pixels(self.logits, pixel, tile).sigmoid_()  # (Q, m)
            canvas.view(-1).scatter_(0, tiling.index_of(pixel, tile), (self.probs @ masks).max(0).indices)


def argmax_of_resized_logits(probs: Tensor, logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(H, W)` int64: classes by probabilities (K, Q) and masks of resized logits (Q, h, w), contiguous."""
    return SemanticTiles(probs, logits).argmax(rows, columns)


def argmax_of_resized_scores(probs: Tensor, logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(H, W)` int64: classes by resized stride-4 scores, which are computed for one strip at a time."""
    tiling = Tiling.of(rows, columns, logits.device)
    canvas = tiling.canvas(torch.int64)
    if tiling.pixels_per_tile < SMALL_TILE:
        scores = (probs @ logits.sigmoid().flatten(1)).unflatten(1, logits.shape[1:])  # (K, h, w)
        for block in blocks_of(rows, columns, STEP_ELEMENTS // len(probs), logits.device):
            canvas[block.target] = block.resize(scores).max(0).indices
        return tiling.crop(canvas)
    for part, canvas_rows in tiling.parts(len(probs)):
        part, rows_used = part.of_own_rows()
        masks = logits[:, rows_used].sigmoid()  # (Q, h, w)
        scores = (probs @ masks.flatten(1)).unflatten(1, masks.shape[1:])  # (K, h, w)
        write_argmax(canvas[canvas_rows], part, scores, lambda values, *_: values, part.bounds(scores))
    return tiling.crop(canvas)
