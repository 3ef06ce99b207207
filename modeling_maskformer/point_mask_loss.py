"""Focal and dice loss at points drawn for each matched mask (Mask2Former, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from .focal_dice import block_terms, dice_loss
from .mask_losses import PairLosses
from .point_sampling import BilinearPoints, choose_points, uniform_points
from .scratch import Scratch, block_size
from .target_maps import TargetMaps


class PointMaskLoss:
    """Scores matched pairs of a batch at points that are not void; targets are looked up in the id maps there.

    Args:
        targets: the segments of the batch.
        num_points, oversample_ratio, importance_sample_ratio: see `MaskFormerConfig`. The points of an image are fewer
            by its share of void.
    """

    def __init__(
        self,
        targets: TargetMaps,
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
    ):
        self.targets = targets
        self.num_points = num_points
        # without a choice among them, candidates beyond the points would be worked out for nothing
        self.num_candidates = int(num_points * oversample_ratio) if importance_sample_ratio > 0 else num_points
        self.importance_sample_ratio = importance_sample_ratio
        self.scratch = Scratch(targets.ids.device)

    def __call__(self, mask_logits: Tensor, image: int, segments: Tensor, with_gradients: bool) -> PairLosses:
        """Losses of mask logits `(M, h, w)` against `segments` (M,) of one image of the batch."""
        points = uniform_points(self.num_candidates, mask_logits.device)
        pixels = pixels_at(points, tuple(self.targets.void.shape[-2:]))
        if self.targets.void[image].any():
            valid = ~self.targets.void[image].take(pixels)
            points, pixels = points[valid], pixels[valid]
        if len(points) == 0:
            zeros = torch.zeros_like(mask_logits)
            return PairLosses(zeros[:, 0, 0], zeros[:, 0, 0], zeros, zeros)
        ids = self.targets.ids[image].flatten(1)[:, pixels]  # (L, C)
        layers = self.targets.layers[image][segments]
        interpolation = BilinearPoints(points, tuple(mask_logits.shape[-2:]))
        masks_at_once = max(1, block_size(mask_logits.device) // len(points))
        return PairLosses.cat(
            [
                self._score(*some, interpolation, ids, with_gradients)
                for some in zip(*(rows.split(masks_at_once) for rows in (mask_logits, layers, segments)), strict=True)
            ]
        )

    def _score(
        self,
        mask_logits: Tensor,  # (M, h, w)
        layers: Tensor,  # (M,)
        segments: Tensor,  # (M,)
        interpolation: BilinearPoints,
        ids: Tensor,  # (L, C)
        with_gradients: bool,
    ) -> PairLosses:
        num_candidates = ids.shape[1]
        num_points = max(1, round(self.num_points * num_candidates / self.num_candidates))
        num_important = int(self.importance_sample_ratio * num_points)
        candidates = interpolation.values(mask_logits, self.scratch)  # (M, C)
        uncertainty = torch.abs(candidates, out=self.scratch("uncertainty", *candidates.shape))
        chosen, weights = choose_points(uncertainty, num_points - num_important, num_important)  # (M, P)
        logits = candidates.gather(1, chosen)
        masks = (ids.take(chosen + (layers * num_candidates)[:, None]) == segments[:, None] + 1).float()
        terms = block_terms(logits, masks, self.scratch, weights, with_gradients)
        dice, by_predicted, by_overlap = dice_loss(terms.predicted, terms.overlap, terms.target)
        losses = PairLosses(terms.focal / num_points, dice)
        if with_gradients:
            of_focal, of_predicted, of_overlap = terms.gradients.unbind(1)  # (M, P) each
            of_dice = of_predicted.mul_(by_predicted[:, None]).addcmul_(of_overlap, by_overlap[:, None])
            gradients = interpolation.gather(torch.stack((of_focal / num_points, of_dice)), chosen)
            losses.focal_gradient, losses.dice_gradient = gradients
        return losses


def pixels_at(points: Tensor, size: tuple[int, int]) -> Tensor:
    """`(C,)` int64, the pixel, counted row by row, of a map of `size` under each of the points `(C, 2)`."""
    height, width = size
    columns = (points[:, 0] * width).long().clamp(max=width - 1)
    rows = (points[:, 1] * height).long().clamp(max=height - 1)
    return rows * width + columns
