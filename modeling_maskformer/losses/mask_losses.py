"""The masks of matched pairs, and their losses summed over each decoder layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .assignment import Matches
from .targets import TargetMaps

# Focal and dice loss (N,) each of mask logits (N, h, w), given image, segment and its layer of each, (N,) int64, and
# the id maps (B, L, H, W) and void (B, H, W) of the batch.
PairLosses = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def mask_losses(
    mask_logits: Sequence[Tensor], matches: Matches, maps: TargetMaps, pair_losses: PairLosses
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of each layer, `(layers,)` float32 each, summed over the matched pairs of all images.

    Args:
        mask_logits: layers x `(B, Q, h, w)`, of any floating dtype.
        matches: the M pairs of each layer.
        maps: the segments of the batch.
        pair_losses: `dense_losses` or `point_losses`.
    """
    masks = matched_masks(mask_logits, matches)  # (M, layers, h, w)
    if len(masks) == 0:
        zeros = masks.float().sum((0, 2, 3))  # no number, but a gradient
        return zeros, zeros
    images = matches.images[:, None].expand_as(matches.segments)  # (M, layers)
    layers = maps.layers[images, matches.segments]
    pairs = (indices.flatten() for indices in (images, matches.segments, layers))
    focal, dice = pair_losses(masks.flatten(0, 1), *pairs, maps.ids, maps.void)
    return focal.view_as(images).sum(0), dice.view_as(images).sum(0)


def matched_masks(mask_logits: Sequence[Tensor], matches: Matches) -> Tensor:
    """`(M, layers, h, w)` mask logits of the matched queries."""
    rows = matches.rows(num_queries=mask_logits[0].shape[1])  # (M, layers)
    by_layer = zip(mask_logits, rows.unbind(1), strict=True)
    return torch.stack([logits.flatten(0, 1).index_select(0, some) for logits, some in by_layer], dim=1)
