"""Focal and dice loss: plain, and of a block of pixels with the gradients, from one evaluation of the exponential.

The latter is for a CPU: everything is written into buffers that the caller keeps, so that a block stays in the
processor's cache from the first operation to the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .scratch import Scratch

FOCAL_ALPHA = 0.25
LARGEST_EXPONENT = 80.0  # exp of it is still finite in float32


def focal_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Focal loss of each logit against boolean masks of the same shape; its gamma of 2 is a square."""
    wrong_logits = torch.where(masks, -logits, logits)  # of the answer that the target says is wrong
    alpha = torch.where(masks, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    return alpha * wrong_logits.sigmoid().square() * F.softplus(wrong_logits)


def sigmoid_and_softplus(logits: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, Tensor]:
    """Sigmoid of `logits` and of their negative, and softplus; accurate at both ends."""
    exponential = torch.clamp(logits, max=LARGEST_EXPONENT, out=scratch("exponential", *logits.shape)).exp_()
    softplus = torch.log1p(exponential, out=scratch("softplus", *logits.shape))
    torch.maximum(softplus, logits, out=softplus)  # beyond the largest exponent they are equal
    negative = torch.add(exponential, 1, out=scratch("negative", *logits.shape)).reciprocal_()
    return exponential.mul_(negative), negative, softplus


@dataclass
class BlockTerms:
    """What a block of P pixels adds to the losses of M masks.

    Attributes:
        focal: `(M,)` sum of the focal loss.
        predicted: `(M,)` sum of the predicted probabilities.
        overlap: `(M,)` sum of the predicted probabilities inside the target.
        target: `(M,)` number of pixels of the target.
        gradients: `(M, 3, P)` derivatives of focal, predicted and overlap by the logits; None if not wanted.
    """

    focal: Tensor
    predicted: Tensor
    overlap: Tensor
    target: Tensor
    gradients: Tensor | None


def block_terms(
    mask_logits: Tensor,
    masks: Tensor,
    scratch: Scratch,
    with_gradients: bool = True,
) -> BlockTerms:
    """The sums and gradients of P pixels of M masks.

    Args:
        mask_logits: `(M, P)` float32, overwritten. A logit of -1e30 outside the mask adds nothing anywhere.
        masks: `(M, P)` float32 of zeros and ones.
        scratch: keeps the buffers; the gradients lie in it until the next call.
        with_gradients: whether the gradients are computed.
    """
    num_masks, num_pixels = masks.shape
    # the logit of the wrong answer: then one formula holds inside and outside the target
    mask_logits.addcmul_(mask_logits, masks, value=-2)
    wrong, right, softplus = sigmoid_and_softplus(mask_logits, scratch)  # (M, P) each
    gradients = scratch("gradients", num_masks, 3, num_pixels) if with_gradients else None
    if with_gradients:
        by_focal, by_predicted, by_overlap = gradients.unbind(1)
        torch.mul(wrong, right, out=by_predicted)  # the derivative of the sigmoid
        torch.mul(by_predicted, masks, out=by_overlap)
    square = torch.mul(wrong, wrong, out=right)
    if with_gradients:
        # with w = wrong: (w^2 softplus)' = w (2 w' softplus + w^2); the mask gives its sign and alpha
        torch.addcmul(square, softplus, by_predicted, value=2, out=by_focal).mul_(wrong)
        by_focal.mul_(torch.add(1 - FOCAL_ALPHA, masks, alpha=-1, out=scratch("alpha", *masks.shape)))
    focal = square.mul_(softplus)
    target = masks.sum(-1)
    focal_sum, wrong_sum = focal.sum(-1), wrong.sum(-1)
    focal_inside, wrong_inside = focal.mul_(masks).sum(-1), wrong.mul_(masks).sum(-1)
    return BlockTerms(
        focal=(1 - FOCAL_ALPHA) * focal_sum - (1 - 2 * FOCAL_ALPHA) * focal_inside,
        predicted=wrong_sum - 2 * wrong_inside + target,
        overlap=target - wrong_inside,
        target=target,
        gradients=gradients,
    )


def dice_loss(predicted: Tensor, overlap: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dice loss of each mask from the sums over its pixels, and its derivatives by `predicted` and by `overlap`."""
    numerator, denominator = 2 * overlap + 1, predicted + target + 1
    return 1 - numerator / denominator, numerator / denominator.square(), -2 / denominator
