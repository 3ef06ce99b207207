"""Semantic classes by the vote of the queries' masks, looking at few queries and classes wherever that is enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..resampling import Taps
from .argmax import ROUNDING, largest, winners, write_argmax
from .tiles import Tiling, everyone

# what the queries that are not heard at first may give to any class, all together
QUIET = 0.01
# classes, and queries, that are looked at where several classes could win: of the queries heard first, and then of all
FEW_OF_LOUD = ((2, 3),)
FEW_OF_ALL = ((4, 8), (8, 24))


@dataclass(frozen=True)
class Voices:
    """Some of the queries, and the classes to which they give anything worth mentioning.

    Attributes:
        queries: `(V,)` int64.
        classes: `(C,)` int64.
        probs: `(C, V)` float32, p.
        unheard: `(C, 1)` float32, the most that all other queries give to these classes.
        others: no score of any other class is above it.
    """

    queries: Tensor
    classes: Tensor
    probs: Tensor
    unheard: Tensor
    others: float

    @staticmethod
    def of(probs: Tensor, queries: Tensor) -> Voices:
        """Of all probabilities `(K, Q)`, those of some queries."""
        given = probs[:, queries].sum(1)  # (K,)
        unheard = (probs.sum(1) - given).clamp_(min=0)
        heard = (given > QUIET) | (given == given.amax())
        classes = heard.nonzero().flatten()
        others = (given + unheard)[~heard].amax().item() if len(classes) < len(given) else 0.0
        return Voices(queries, classes, probs[classes[:, None], queries], unheard[classes, None], others)

    def hear(self, bounds: tuple[Tensor, Tensor]) -> Hearing:
        """What bounds `(V, n)` on the queries' logits in some tiles tell, the other queries being anything."""
        low, high = (bound.sigmoid_() for bound in bounds)
        least, most = self.probs @ low, torch.addmm(self.unheard, self.probs, high)
        return Hearing(low, high.sub_(low).clamp_(min=0), least, most)


@dataclass(frozen=True)
class Hearing:
    """What voices tell of n tiles before any pixel is looked at.

    Attributes:
        low: `(V, n)` float32, the least value of each mask in each tile.
        spread: `(V, n)` float32, how much more the largest is.
        least, most: `(C, n)` float32, no score of a class is below the first or above the second.
    """

    low: Tensor
    spread: Tensor
    least: Tensor
    most: Tensor

    def of(self, columns: Tensor) -> Hearing:
        """The same of fewer tiles."""
        return Hearing(*(values.index_select(1, columns) for values in (self.low, self.spread, self.least, self.most)))


class Vote:
    """Decides score(c, x) = sum over q of p_q(c) * m_q(x) for tiles of pixels.

    In most tiles nearly all masks are as good as constant: their least and largest values in the tile say what they
    give to each class. Only the few whose values differ are looked at pixel by pixel, and where what is left open
    could change the winner, more of them. Most queries see no object and can give next to nothing to any class: they
    are heard only where the others do not decide.

    Args:
        probs: `(K, Q)`, p.
        logits: `(Q, h, w)`, the masks' logits before resampling.
    """

    def __init__(self, probs: Tensor, logits: Tensor) -> None:
        self.logits = logits
        order = probs.amax(0).argsort(descending=True)
        left = probs[:, order].flip(1).cumsum(1).amax(0).flip(0)  # (Q,), what a query and all after it can give
        self.loud = Voices.of(probs, order[: max(1, int((left > QUIET).sum()))])
        self.all = Voices.of(probs, torch.arange(len(logits), device=logits.device))
        every = torch.arange(len(probs), device=logits.device)
        self.every_class = Voices(self.all.queries, every, probs, torch.zeros_like(probs[:, :1]), -torch.inf)

    @property
    def maps(self) -> int:
        """How many numbers are worked on for each tile."""
        return max(self.loud.probs.shape)

    def decide(self, canvas: Tensor, tiling: Tiling) -> None:
        """Writes the class of each pixel of the tiling into the canvas."""
        hearing = self.loud.hear(tiling.bounds(self.logits, self.loud.queries))
        best, winner = hearing.least.max(0)  # (T,), (T,)
        tiling.fill(canvas, self.loud.classes[winner])
        least = best * (1 - ROUNDING)
        contested = ((hearing.most >= least).sum(0) > 1).logical_or_(least <= self.loud.others).nonzero().flatten()
        contested = self._decide_by_few(canvas, tiling, contested, self.loud, hearing.of(contested), FEW_OF_LOUD)
        unsure = [contested[:0]]
        for tiles in contested.split(tiling.step_of_samples(len(self.logits))):
            hearing = self.all.hear(tiling.bounds_of(self.logits, tiles))
            unsure.append(self._decide_by_few(canvas, tiling, tiles, self.all, hearing, FEW_OF_ALL))
        tiles = torch.cat(unsure)
        for voices in (self.all, self.every_class):
            tiles = self._decide_by_all(canvas, tiling, tiles, voices)

    def _decide_by_all(self, canvas: Tensor, tiling: Tiling, tiles: Tensor, voices: Voices) -> Tensor:
        """Computes all scores of the classes of voices of all queries; the tiles in which other classes could win."""
        unsure = [tiles[:0]]
        for some in tiles.split(tiling.step(sum(voices.probs.shape))):
            masks = tiling.pixels(self.logits, everyone(self.logits, some), some).sigmoid_()  # (Q, P, n)
            best, winner = (voices.probs @ masks.flatten(1)).unflatten(1, masks.shape[1:]).max(0)  # (P, n), (P, n)
            tiling.put(canvas, some, voices.classes.take(winner))
            unsure.append(some[(best * (1 - ROUNDING) <= voices.others).any(0)])
        return torch.cat(unsure)

    def _decide_by_few(
        self,
        canvas: Tensor,
        tiling: Tiling,
        tiles: Tensor,
        voices: Voices,
        hearing: Hearing,
        few: Iterable[tuple[int, int]],
    ) -> Tensor:
        """Looks at the likeliest classes of some tiles, and at the queries that leave most open between these.

        Returns:
            The tiles in which other classes or queries could matter, however many were looked at.
        """
        columns = torch.arange(len(tiles), device=tiles.device)
        for num_classes, num_queries in few:
            unsure = [columns[:0]]
            for some in columns.split(tiling.step(num_classes + num_queries)):
                sure = self._look(canvas, tiling, tiles[some], voices, hearing.of(some), (num_classes, num_queries))
                unsure.append(some[~sure])
            columns = torch.cat(unsure)
        return tiles[columns]

    def _look(
        self, canvas: Tensor, tiling: Tiling, tiles: Tensor, voices: Voices, hearing: Hearing, few: tuple[int, int]
    ) -> Tensor:
        """Writes the winner of the likeliest classes; `(n,)` bool, the tiles in which that is the winner of all."""
        rivals, others = largest(hearing.most, few[0])  # (k, n), (n,)
        doubt = hearing.spread * F.embedding(rivals, voices.probs).amax(0).T  # (V, n)
        heard, _ = largest(doubt, few[1])  # (v, n)
        shares = voices.probs.take(rivals[:, None] * voices.probs.shape[1] + heard)  # (k, v, n)
        certain = hearing.least.gather(0, rivals)  # (k, n)
        spread, low = hearing.spread.gather(0, heard), hearing.low.gather(0, heard)  # (v, n)
        left_open = hearing.most.gather(0, rivals) - certain - (shares * spread).sum(1)  # (k, n), by those not heard
        masks = tiling.pixels(self.logits, voices.queries.take(heard), tiles).sigmoid_()  # (v, P, n)
        scores = (certain - (shares * low).sum(1))[:, None] + shares[:, 0, None] * masks[0]  # (k, P, n)
        for number in range(1, len(masks)):
            scores.addcmul_(shares[:, number, None], masks[number])
        best, winner = winners(scores, rivals)  # (P, n), (P, n)
        tiling.put(canvas, tiles, voices.classes.take(winner))
        rival = scores.add_(left_open[:, None]).masked_fill_(rivals[:, None] == winner, -torch.inf).amax(0)  # (P, n)
        rival = torch.maximum(rival, others).clamp_(min=voices.others)
        return (best * (1 - ROUNDING) > rival).all(0)


def argmax_of_resized_logits(probs: Tensor, logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(H, W)` int64: classes, deciding whole tiles where bounds on the mask logits suffice."""
    tiling = Tiling.of(rows, columns, logits.device)
    canvas = tiling.canvas(torch.int64)
    vote = Vote(probs, logits)
    for part, canvas_rows in tiling.parts(vote.maps):
        vote.decide(canvas[canvas_rows], part)
    return tiling.crop(canvas)


def argmax_of_resized_scores(probs: Tensor, logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(H, W)` int64: classes by resized stride-4 scores, which are computed for one strip at a time."""
    tiling = Tiling.of(rows, columns, logits.device)
    canvas = tiling.canvas(torch.int64)
    for part, canvas_rows in tiling.parts(len(probs)):
        part, rows_used = part.of_own_rows()
        masks = logits[:, rows_used].sigmoid()  # (Q, h, w)
        scores = (probs @ masks.flatten(1)).unflatten(1, masks.shape[1:])  # (K, h, w)
        write_argmax(canvas[canvas_rows], part, scores, lambda values, *_: values, part.bounds(scores))
    return tiling.crop(canvas)
