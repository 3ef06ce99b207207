"""Semantic classes by the vote of the queries' masks, looking at few queries and classes wherever that is enough."""

from __future__ import annotations

import torch
from torch import Tensor

from .contest import ROUNDING, largest, winners
from .tiles import Tiling, everyone

# classes, and queries, that are looked at first where several classes could win, and then
FEW = ((2, 3), (4, 8), (8, 24))


class Vote:
    """Decides score(c, x) = sum over q of p_q(c) * m_q(x) for tiles of pixels.

    In most tiles nearly all masks are as good as constant: their least and largest values in the tile say what they
    give to each class. Only the few whose values differ are looked at pixel by pixel, and where what is left open
    could change the winner, more of them.

    Args:
        probs: `(K, Q)`, p.
        logits: `(Q, h, w)`, the masks' logits before resampling.
    """

    def __init__(self, probs: Tensor, logits: Tensor) -> None:
        self.probs, self.logits = probs, logits

    def decide(self, canvas: Tensor, tiling: Tiling) -> None:
        """Writes the class of each pixel of the tiling into the canvas."""
        low, high = (bound.sigmoid_() for bound in tiling.bounds(self.logits))  # (Q, T), (Q, T)
        least, most = self.probs @ low, self.probs @ high  # (K, T), (K, T)
        possible = most >= least.amax(0) * (1 - ROUNDING)
        classes = torch.arange(len(self.probs), dtype=torch.int32, device=canvas.device)
        tiling.fill(canvas, (possible * classes[:, None]).amax(0))
        contested = (possible.sum(0) > 1).nonzero().flatten()
        open_bounds = (low, high.sub_(low).clamp_(min=0), least, most)
        for num_classes, num_queries in FEW:
            unsure = [
                self._decide_by_few(canvas, tiling, tiles, open_bounds, num_classes, num_queries)
                for tiles in contested.split(tiling.step(num_classes + num_queries))
            ]
            contested = torch.cat(unsure)
        for tiles in contested.split(tiling.step(sum(self.probs.shape))):
            masks = tiling.pixels(self.logits, everyone(self.logits, tiles), tiles).sigmoid_()  # (Q, P, n)
            scores = (self.probs @ masks.flatten(1)).unflatten(1, masks.shape[1:])  # (K, P, n)
            tiling.put(canvas, tiles, scores.argmax(0))

    def _decide_by_few(
        self,
        canvas: Tensor,
        tiling: Tiling,
        tiles: Tensor,
        bounds: tuple[Tensor, Tensor, Tensor, Tensor],
        num_classes: int,
        num_queries: int,
    ) -> Tensor:
        """Looks at each tile's likeliest classes and at the queries that leave most open between these.

        Args:
            bounds: the least value of each mask (Q, T), how much more the largest is (Q, T), the least and the largest
                score of each class (K, T).

        Returns:
            The tiles in which the other classes or queries could matter.
        """
        low, spread, least, most = bounds
        rivals, others = largest(most[:, tiles], num_classes)  # (k, n), (n,)
        doubt = spread[:, tiles] * self.probs[rivals].amax(0).T  # (Q, n)
        voices, _ = largest(doubt, num_queries)  # (v, n)
        shares = self.probs[rivals[:, None], voices]  # (k, v, n)
        certain = least[rivals, tiles]  # (k, n)
        left_open = (
            most[rivals, tiles] - certain - (shares * spread[voices, tiles]).sum(1)
        )  # (k, n), by queries unheard
        masks = tiling.pixels(self.logits, voices, tiles).sigmoid_()  # (v, P, n)
        scores = (certain - (shares * low[voices, tiles]).sum(1))[:, None] + shares[:, 0, None] * masks[0]  # (k, P, n)
        for voice in range(1, len(masks)):
            scores.addcmul_(shares[:, voice, None], masks[voice])
        best, winner = winners(scores, rivals)  # (P, n), (P, n)
        tiling.put(canvas, tiles, winner)
        rival = scores.add_(left_open[:, None]).masked_fill_(rivals[:, None] == winner, -torch.inf).amax(0)  # (P, n)
        return tiles[(best * (1 - ROUNDING) <= torch.maximum(rival, others)).any(0)]
