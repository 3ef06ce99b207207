"""Semantic classes by the vote of the queries' masks, looking at few queries and classes wherever that is enough."""

from __future__ import annotations

import torch
from torch import Tensor

from .contest import ROUNDING, largest, winners
from .tiles import STEP_ELEMENTS, Tiling, everyone

# Shares of the largest class probability. Weak queries together add less than this to any class, and minor classes
# have less than this of all queries together; both are looked at only where that little matters.
WEAK = 0.003
MINOR = 0.05
FEW = ((2, 3), (4, 8))  # classes, and queries, that are looked at first where several classes could win, and then
MANY = 0.1  # share of a tile's pixels from which on the tile is computed rather than its pixels


class Vote:
    """Decides score(c, x) = sum over q of p_q(c) * m_q(x) for tiles of pixels.

    What is left out always has a bound, and where the bound could change the winner, more is looked at: tiles by the
    bounds of their masks; pixels by few classes and queries; by all strong queries and major classes; by everything.

    Args:
        probs: `(K, Q)`, p.
        logits: `(Q, h, w)`, the masks' logits before resampling.
    """

    def __init__(self, probs: Tensor, logits: Tensor) -> None:
        self.probs, self.logits = probs, logits
        most = float(probs.max())
        strong = ~_weak_queries(probs, WEAK * most)  # (Q,)
        major = probs.sum(1) > MINOR * most  # (K,)
        self.strong, self.major = strong.nonzero().flatten(), major.nonzero().flatten()  # (S,), (C,)
        self.strong_logits = logits[strong]  # (S, h, w)
        self.shares = probs[major][:, strong]  # (C, S)
        rounding = ROUNDING * float(probs.sum(1).max())
        self.rest = probs[major][:, ~strong].sum(1, keepdim=True) + rounding  # (C, 1), what weak queries can add
        self.minor = float(probs[~major].sum(1).max()) if len(self.major) < len(probs) else -1.0

    def decide(self, canvas: Tensor, tiling: Tiling) -> None:
        """Writes the class of each pixel of the tiling into the canvas."""
        low, high = (bound.sigmoid_() for bound in tiling.bounds(self.strong_logits))  # (S, T), (S, T)
        floor, most = (self.shares @ low).amax(0), self.shares @ high + self.rest  # (T,), (C, T)
        possible = most >= floor
        tiling.fill(canvas, (possible * self.major.to(torch.int32)[:, None]).amax(0))
        contested = ((possible.sum(0) > 1) | (floor <= self.minor)).nonzero().flatten()
        for classes, queries in FEW:
            unsure = [
                self._decide_by_few(canvas, tiling, tiles, most[:, tiles], high[:, tiles], classes, queries)
                for tiles in contested.split(tiling.step(classes + queries))
            ]
            contested = torch.cat(unsure)
        for tiles in contested.split(tiling.step(sum(self.shares.shape))):
            self._decide_by_strong(canvas, tiling, tiles)

    def _decide_by_few(
        self, canvas: Tensor, tiling: Tiling, tiles: Tensor, most: Tensor, high: Tensor, classes: int, queries: int
    ) -> Tensor:
        """Looks at so many classes and queries, each tile's likeliest; returns the tiles where others could matter.

        Args:
            most, high: the largest score of each class (C, n) and probability of each mask (S, n) in the tiles.
        """
        rivals, others = largest(most, classes)  # (k, n), (n,)
        voices, _ = largest(high * self.shares.amax(0)[:, None], queries)  # (v, n)
        masks = tiling.pixels(self.strong_logits, voices, tiles).sigmoid_()  # (v, P, n)
        shares = self.shares[rivals[:, None], voices]  # (k, v, n)
        scores = shares[:, 0, None] * masks[0]  # (k, P, n)
        for voice in range(1, len(masks)):
            scores.addcmul_(shares[:, voice, None], masks[voice])
        best, winner = winners(scores, rivals)  # (P, n), (P, n)
        tiling.put(canvas, tiles, self.major[winner])
        # The winner must stay ahead of the other rivals with all that unheard queries can add, and of all others.
        unheard = most.gather(0, rivals) - (shares * high.gather(0, voices)).sum(1)  # (k, n)
        ahead = best - _second(scores + unheard[:, None], rivals[:, None] == winner)  # (P, n)
        return tiles[(ahead.amin(0) <= 0) | (best.amin(0) <= others.clamp(min=self.minor))]

    def _decide_by_strong(self, canvas: Tensor, tiling: Tiling, tiles: Tensor) -> None:
        """Looks at all strong queries and major classes, then at everything where that could matter."""
        masks = tiling.pixels(self.strong_logits, everyone(self.strong_logits, tiles), tiles).sigmoid_()  # (S, P, n)
        scores = (self.shares @ masks.flatten(1)).unflatten(1, masks.shape[1:])  # (C, P, n)
        major = self.major[:, None].expand(-1, len(tiles))
        best, winner = winners(scores, major)  # (P, n), (P, n)
        second = _second(scores + self.rest[:, None], major[:, None] == winner)
        unsure = second.clamp(min=self.minor) >= best  # (P, n)
        many = unsure.sum(0) > MANY * len(unsure)  # (n,)
        pixel, place = (unsure & ~many).nonzero(as_tuple=True)
        step = max(1, STEP_ELEMENTS // (16 * len(self.logits)))
        for some, where in zip(pixel.split(step), place.split(step), strict=True):
            masks = tiling.points(self.logits, tiles[where], some).sigmoid_()  # (Q, m)
            winner[some, where] = (self.probs @ masks).argmax(0)
        tiling.put(canvas, tiles, winner)
        for some in tiles[many].split(tiling.step(sum(self.probs.shape))):
            masks = tiling.pixels(self.logits, everyone(self.logits, some), some).sigmoid_()  # (Q, P, n)
            scores = (self.probs @ masks.flatten(1)).unflatten(1, masks.shape[1:])  # (K, P, n)
            tiling.put(canvas, some, winners(scores, everyone(scores, some))[1])


def _second(scores: Tensor, is_winner: Tensor) -> Tensor:
    """`(P, n)`: the best of the scores `(k, P, n)` but the winner's."""
    return scores.masked_fill_(is_winner, -torch.inf).amax(0)


def _weak_queries(probs: Tensor, negligible: float) -> Tensor:
    """`(Q,)` bool: queries that together add at most `negligible` to any class, by their probabilities (K, Q)."""
    order = probs.amax(0).argsort()
    few = probs[:, order].cumsum(1).amax(0) <= negligible
    return torch.zeros_like(few).scatter_(0, order, few)
