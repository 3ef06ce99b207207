"""Focal and dice loss at every pixel of the target (paper, section 3.2), a few masks at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from .enlargement import Enlargement
from .focal_dice import block_terms, dice_loss
from .mask_losses import PairLosses
from .scratch import Scratch, block_size
from .targets import TargetMaps

NOWHERE = -1e4  # a logit that adds nothing to any loss where there is no target


class DenseMaskLoss:
    """Scores matched pairs of a batch at every target pixel that is not void, logits enlarged bilinear.

    Args:
        targets: the segments of the batch, at the size at which they are compared.
        small_size: (h, w) of the mask logits.
    """

    def __init__(self, targets: TargetMaps, small_size: tuple[int, int]):
        device = targets.ids.device
        self.enlargement = Enlargement(small_size, tuple(targets.ids.shape[-2:]), device)
        self.scratch = Scratch(device)
        # numbers up to 2^24 are exact in float32, and comparing these is several times faster than integers
        self.ids = [self.enlargement.order(ids.float()) for ids in targets.ids]  # B x (L, F, N)
        self.layers = targets.layers
        num_void = targets.void.flatten(1).sum(1).tolist()
        self.num_pixels = [max(targets.void[0].numel() - count, 1) for count in num_void]
        self.void_logits = [
            self.enlargement.order(void * NOWHERE) if count else None  # (F, N)
            for void, count in zip(targets.void, num_void, strict=True)
        ]

    def __call__(self, mask_logits: Tensor, image: int, segments: Tensor, with_gradients: bool) -> PairLosses:
        """Losses of mask logits `(M, h, w)` against `segments` (M,) of one image of the batch."""
        pixels = self.enlargement.num_cells * len(self.enlargement.taps)
        masks_at_once = max(1, block_size(mask_logits.device) // pixels)
        focal, dice = mask_logits.new_empty(2, len(mask_logits))
        gradients = tuple(torch.empty_like(mask_logits) for _ in range(2 if with_gradients else 0))
        for start in range(0, len(mask_logits), masks_at_once):
            some = slice(start, start + masks_at_once)
            focal[some], dice[some], *of_some = self._score(mask_logits[some], image, segments[some], with_gradients)
            for gradient, part in zip(gradients, of_some, strict=True):
                gradient[some] = part
        return PairLosses(focal, dice, gradients, _scaled_sum)

    def _score(self, mask_logits: Tensor, image: int, segments: Tensor, with_gradients: bool) -> tuple[Tensor, ...]:
        """Focal and dice loss of as many masks as a block holds, `(M,)`, and the gradients of both, `(M, h, w)`.

        Of one mask, the block may hold a part only.
        """
        scratch, taps, num_cells = self.scratch, self.enlargement.taps, self.enlargement.num_cells
        neighbours = self.enlargement.spread(mask_logits)  # (M, K, N)
        num_masks, num_taps = neighbours.shape[:2]
        sums = neighbours.new_zeros(4, num_masks, dtype=torch.float64)
        gradients = scratch("neighbour gradients", num_masks, 3, num_taps, num_cells) if with_gradients else None
        step = max(1, block_size(mask_logits.device) // (num_masks * len(taps)))
        for start in range(0, num_cells, step):
            cells = slice(start, min(start + step, num_cells))
            shape = (num_masks, len(taps), cells.stop - start)  # (M, F, n)
            logits = torch.matmul(taps, neighbours[..., cells], out=scratch("logits", *shape))
            if self.void_logits[image] is not None:
                logits += self.void_logits[image][:, cells]
            masks = self._masks(image, segments, cells, out=scratch("masks", *shape))
            terms = block_terms(logits.flatten(1), masks.flatten(1), scratch, with_gradients=with_gradients)
            sums += torch.stack((terms.focal, terms.predicted, terms.overlap, terms.target))
            if with_gradients:
                by_pixel = terms.gradients.view(num_masks, 3, *shape[1:])  # (M, 3, F, n)
                gradients[..., cells] = torch.matmul(
                    taps.T, by_pixel, out=scratch("products", num_masks, 3, num_taps, shape[2])
                )
        return self._losses(sums, gradients, self.num_pixels[image])

    def _masks(self, image: int, segments: Tensor, cells: slice, out: Tensor) -> Tensor:
        """`(M, F, n)` zeros and ones, the pixels of each segment in some cells."""
        ids = self.ids[image][..., cells]  # (L, F, n)
        if len(ids) > 1:
            ids = ids[self.layers[image][segments]]
        return torch.eq(ids, (segments + 1.0)[:, None, None], out=out)

    def _losses(self, sums: Tensor, gradients: Tensor | None, num_pixels: int) -> tuple[Tensor, ...]:
        """The losses of sums `(4, M)` and gradients `(M, 3, K, N)` over all pixels of an image."""
        focal, predicted, overlap, target = sums.float()
        dice, by_predicted, by_overlap = dice_loss(predicted, overlap, target)
        if gradients is None:
            return focal / num_pixels, dice
        of_focal, of_predicted, of_overlap = gradients.unbind(1)  # (M, K, N) each
        of_dice = of_predicted.mul_(by_predicted[:, None, None]).addcmul_(of_overlap, by_overlap[:, None, None])
        return (
            focal / num_pixels,
            dice,
            self.enlargement.gather(of_focal) / num_pixels,
            self.enlargement.gather(of_dice),
        )


def _scaled_sum(gradients: tuple[Tensor, ...], focal_scale: Tensor, dice_scale: Tensor) -> Tensor:
    of_focal, of_dice = gradients  # (M, h, w)
    return (of_focal * focal_scale[:, None, None]).addcmul_(of_dice, dice_scale[:, None, None])
