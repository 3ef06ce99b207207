"""Focal and dice loss at points drawn for each matched mask (Mask2Former, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from .dense import NOWHERE
from .focal_dice import block_terms, dice_loss
from .mask_losses import PairLosses
from .point_sampling import BilinearPoints, choose_uncertain, uniform_points
from .scratch import Scratch, block_size
from .targets import TargetMaps

MASKS_IN_CACHE = 4  # blocks of candidates that are worked on at once, since most steps look at few of them


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
        # of the uniform and of the important points, whose gradients are needed at one time
        self.scratch, self.uniform, self.important = (Scratch(targets.ids.device) for _ in range(3))

    def __call__(self, mask_logits: Tensor, image: int, segments: Tensor, with_gradients: bool) -> PairLosses:
        """Losses of mask logits `(M, h, w)` against `segments` (M,) of one image of the batch."""
        points = uniform_points(self.num_candidates, mask_logits.device)
        pixels = pixels_at(points, tuple(self.targets.void.shape[-2:]))
        if self.targets.void[image].any():
            valid = ~self.targets.void[image].take(pixels)
            points, pixels = points[valid], pixels[valid]
        num_masks, num_candidates = len(mask_logits), len(points)
        if num_candidates == 0:
            zeros = mask_logits.new_zeros(num_masks)
            return PairLosses(zeros, zeros, (torch.zeros_like(mask_logits),), lambda saved, *_: saved[0])
        ids = self.targets.ids[image].flatten(1)[:, pixels].float()  # (L, C), exact up to 2^24
        layers = self.targets.layers[image][segments]
        interpolation = BilinearPoints(points, tuple(mask_logits.shape[-2:]))
        num_points = max(1, round(self.num_points * num_candidates / self.num_candidates))
        num_important = int(self.importance_sample_ratio * num_points)
        masks_at_once = max(1, MASKS_IN_CACHE * block_size(mask_logits.device) // num_candidates)
        focal, dice = mask_logits.new_empty(2, num_masks)
        saved: tuple[Tensor, ...] = ()
        if with_gradients:
            chosen = torch.empty(num_masks, num_important, dtype=torch.int32, device=mask_logits.device)
            saved = (chosen, *(mask_logits.new_empty(num_masks, num_points) for _ in range(2)))
        for start in range(0, num_masks, masks_at_once):
            some = slice(start, start + masks_at_once)
            candidates = interpolation.values(mask_logits[some], self.scratch)  # (M, C)
            of_some = tuple(tensor[some] for tensor in saved)
            focal[some], dice[some] = self._score(
                candidates, ids, layers[some], segments[some], num_points, num_important, of_some
            )

        def gradient(saved: tuple[Tensor, ...], focal_scale: Tensor, dice_scale: Tensor) -> Tensor:
            result = focal_scale.new_empty(num_masks, *interpolation.size)
            for start in range(0, num_masks, masks_at_once):
                some = slice(start, start + masks_at_once)
                chosen, of_focal, of_dice = (tensor[some] for tensor in saved)
                by_points = torch.mul(
                    of_focal, focal_scale[some, None], out=self.scratch("by points", *of_focal.shape)
                )
                by_points.addcmul_(of_dice, dice_scale[some, None])
                result[some] = interpolation.gather(by_points, chosen, self.scratch)
            return result

        return PairLosses(focal, dice, saved, gradient)

    def _score(
        self,
        candidates: Tensor,  # (M, C), their logits
        ids: Tensor,  # (L, C)
        layers: Tensor,  # (M,)
        segments: Tensor,  # (M,)
        num_points: int,
        num_important: int,
        saved: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        """Focal and dice loss `(M,)` at the first candidates and the least certain.

        Which these are `(M, P)`, and the derivatives of both losses at all points, go to `saved`.
        """
        with_gradients, num_uniform = len(saved) > 0, num_points - num_important
        numbers = segments[:, None] + 1.0  # (M, 1), in ids
        logits = self.uniform("logits", len(candidates), num_uniform).copy_(candidates[:, :num_uniform])
        owners = ids[layers, :num_uniform] if len(ids) > 1 else ids[:, :num_uniform]
        masks = torch.eq(owners, numbers, out=self.uniform("masks", *logits.shape))
        uniform = block_terms(logits, masks, self.uniform, with_gradients)
        parts = [(uniform, torch.ones_like(numbers), slice(num_uniform))]
        if num_important:
            chosen, found = choose_uncertain(candidates, num_important, self.scratch)  # (M, P), (M, 1)
            missing = torch.arange(num_important, device=chosen.device) >= found  # (M, P)
            logits = torch.gather(candidates, 1, chosen, out=self.important("logits", *chosen.shape))
            masks = self._masks_at(chosen, ids, layers, numbers).masked_fill_(missing, 0)
            important = block_terms(logits.masked_fill_(missing, NOWHERE), masks, self.important, with_gradients)
            # those found stand for all of them
            parts.append((important, num_important / found, slice(num_uniform, None)))
            if with_gradients:
                saved[0].copy_(chosen).masked_fill_(missing, candidates.shape[1])
        focal, predicted, overlap, target = (
            sum(getattr(terms, name) * weight[:, 0] for terms, weight, _ in parts)
            for name in ("focal", "predicted", "overlap", "target")
        )
        dice, by_predicted, by_overlap = dice_loss(predicted, overlap, target)
        if with_gradients:
            for terms, weight, places in parts:
                of_focal, of_predicted, of_overlap = terms.gradients.unbind(1)  # (M, P) each
                torch.mul(of_focal, weight / num_points, out=saved[1][:, places])
                of_predicted.mul_(by_predicted[:, None] * weight)
                torch.addcmul(of_predicted, of_overlap, by_overlap[:, None] * weight, out=saved[2][:, places])
        return focal / num_points, dice

    def _masks_at(self, chosen: Tensor, ids: Tensor, layers: Tensor, numbers: Tensor) -> Tensor:
        """`(M, P)` zeros and ones: which of the `chosen` candidates lie in the segment of id `numbers` (M, 1)."""
        if len(ids) > 1:
            owners = ids.take(chosen + layers[:, None] * ids.shape[1])
        else:
            owners = self.important("owners", *chosen.shape)
            torch.index_select(ids[0], 0, chosen.flatten(), out=owners.view(-1))
        return torch.eq(owners, numbers, out=self.important("masks", *chosen.shape))


def pixels_at(points: Tensor, size: tuple[int, int]) -> Tensor:
    """`(C,)` int64, the pixel, counted row by row, of a map of `size` under each of the points `(C, 2)`."""
    height, width = size
    columns = (points[:, 0] * width).long().clamp(max=width - 1)
    rows = (points[:, 1] * height).long().clamp(max=height - 1)
    return rows * width + columns
