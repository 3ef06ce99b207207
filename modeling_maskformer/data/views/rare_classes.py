"""A random pixel of a class, rare classes more often: what a crop is placed around."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator

from ...targets import Segments

RARITY_POWER = 0.5  # that of the repeat factors of LVIS (Gupta et al. 2019), which rise with a class's rarity


class RareClassPixels:
    """Draws a class of those present, then one of its pixels, each equally likely.

    The probability of a class is proportional to (1 / its part of the training pixels) ** 0.5.

    Args:
        class_shares: label -> part of the pixels; a class that is missing counts as the rarest of them. Empty: all
            classes are equally likely.
    """

    def __init__(self, class_shares: Mapping[int, float]) -> None:
        self.class_shares = {label: share for label, share in class_shares.items() if share > 0}
        self.smallest_share = min(self.class_shares.values(), default=1.0)

    def weight(self, label: int) -> float:
        """What the probability of a class is proportional to."""
        return (1 / self.class_shares.get(label, self.smallest_share)) ** RARITY_POWER

    def draw(self, segments: Segments, generator: Generator | None = None) -> tuple[int, int] | None:
        """(row, column) of a pixel; None where no pixel belongs to a segment."""
        areas = segments.areas().double()  # (S,)
        if not areas.any():
            return None
        class_weights = torch.tensor([self.weight(label) for label in segments.class_ids.tolist()]).double()
        class_areas = torch.bincount(segments.class_ids, weights=areas)[segments.class_ids].clamp(min=1)  # (S,)
        number = 1 + int(torch.multinomial(class_weights * areas / class_areas, 1, generator=generator))
        pixels = (segments.ids == number).any(0).nonzero()  # (P, 2)
        row, column = pixels[int(torch.randint(len(pixels), (), generator=generator))].tolist()
        return row, column
