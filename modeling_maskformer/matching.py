"""Pairwise cost of predictions and targets, and the assignment of least cost (paper, section 3.1).

All pixels here are those of the stride-4 mask logits; targets are brought down to them by nearest.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers.utils import logging

from .targets import expand_masks, void_value

logger = logging.get_logger(__name__)

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0  # written as squares below


def focal_terms(mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss of each logit where the target is 1 and where it is 0: two tensors of the logits' shape."""
    probability = mask_logits.sigmoid()
    positive = FOCAL_ALPHA * (1 - probability).square() * F.softplus(-mask_logits)
    negative = (1 - FOCAL_ALPHA) * probability.square() * F.softplus(mask_logits)
    return positive, negative


def mask_costs(mask_logits: Tensor, masks: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Focal and dice cost of every prediction against every target, `(..., Q, S)` each.

    Args:
        mask_logits: `(..., Q, P)` float32 mask logits at P pixels.
        masks: `(S, P)` float32 of zeros and ones.
        valid: `(P,)` bool, False at pixels that take no part; all True by default.
    """
    positive, negative = focal_terms(mask_logits)
    probability = mask_logits.sigmoid()
    num_pixels = mask_logits.shape[-1]
    if valid is not None:
        keep = valid.to(mask_logits.dtype)
        masks, negative, probability = masks * keep, negative * keep, probability * keep
        num_pixels = keep.sum().clamp(min=1)
    targets = masks.T  # (P, S)
    # sum over the target's pixels of `positive`, over all others of `negative`
    focal = ((positive - negative) @ targets + negative.sum(-1, keepdim=True)) / num_pixels
    intersection = probability @ targets
    sums = probability.sum(-1, keepdim=True) + masks.sum(-1)
    dice = 1 - (2 * intersection + 1) / (sums + 1)
    return focal, dice


class HungarianMatcher:
    """Assigns to each target segment the prediction of least cost, one to one.

    Args:
        class_weight, mask_weight, dice_weight: factors of the three costs, not negative and not all 0.
    """

    def __init__(self, class_weight: float = 1.0, mask_weight: float = 20.0, dice_weight: float = 1.0):
        weights = {"class_weight": class_weight, "mask_weight": mask_weight, "dice_weight": dice_weight}
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"{name} must not be negative, got {weight}.")
        if not any(weights.values()):
            raise ValueError("class_weight, mask_weight and dice_weight are all 0: nothing would be matched.")
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight

    @torch.no_grad()
    def __call__(
        self,
        class_logits: Tensor,  # (layers, B, Q, K+1)
        mask_logits: Tensor,  # (layers, B, Q, h, w)
        segment_ids: Tensor,  # (B, L, H, W)
        class_labels: list[Tensor],  # B x (S_b,)
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """For each layer and image, the matched (query indices, segment indices), int64, min(Q, S_b) of each.

        Raises:
            FloatingPointError: a cost is not finite, as when the model has diverged.
        """
        height, width = mask_logits.shape[-2:]
        small_ids = nearest_downsample(segment_ids, (height, width))  # (B, L, h, w)
        probabilities = class_logits.float().softmax(-1)
        costs = []
        for image, labels in enumerate(class_labels):
            if len(labels) > mask_logits.shape[2]:
                logger.warning_once(
                    f"An image has {len(labels)} segments but the model only {mask_logits.shape[2]} queries: "
                    "the segments that fit worst are left unmatched. Raise num_queries to train on all."
                )
            masks = expand_masks(small_ids[image], len(labels)).flatten(1).float()  # (S, h*w)
            void = (small_ids[image, 0] == void_value(small_ids.dtype)).flatten()  # (h*w,)
            logits = mask_logits[:, image].flatten(2).float()  # (layers, Q, h*w)
            focal, dice = mask_costs(logits, masks, ~void if void.any() else None)  # (layers, Q, S)
            cost = self.mask_weight * focal + self.dice_weight * dice
            cost -= self.class_weight * probabilities[:, image, :, labels]
            costs.append(cost.cpu().numpy())
        return [
            [_assign(costs[image][layer], layer, image) for image in range(len(class_labels))]
            for layer in range(mask_logits.shape[0])
        ]


def nearest_downsample(segment_ids: Tensor, size: tuple[int, int]) -> Tensor:
    """Id maps `(B, L, H, W)` brought to `size`, picking the pixels that `interpolate(mode="nearest")` picks."""
    rows, columns = (
        (torch.arange(new, device=segment_ids.device) * (old / new)).long().clamp(max=old - 1)
        for old, new in zip(segment_ids.shape[-2:], size, strict=True)
    )
    return segment_ids[..., rows[:, None], columns]


def _assign(cost: np.ndarray, layer: int, image: int) -> tuple[Tensor, Tensor]:
    if not np.isfinite(cost).all():
        raise FloatingPointError(
            f"The matching cost of decoder layer {layer}, image {image} of the batch is not finite "
            f"({int((~np.isfinite(cost)).sum())} of {cost.size} entries): the model has diverged or an input is bad. "
            "Lower the learning rate, clip gradients, or check the inputs."
        )
    queries, segments = linear_sum_assignment(cost)
    return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(segments, dtype=torch.int64)
