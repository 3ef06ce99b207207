"""Pairwise cost of predictions and targets, and the assignment of least cost (paper, section 3.1).

All pixels here are those of the stride-4 mask logits; targets are brought down to them by nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers.utils import logging

from .focal_dice import FOCAL_ALPHA, sigmoid_and_softplus
from .scratch import Scratch, block_size
from .targets import TargetMaps

logger = logging.get_logger(__name__)

NON_FINITE_COSTS = ("raise", "ignore")


class PixelTargets:
    """The segments of one image at the size of the mask logits.

    Args:
        ids: `(L, h, w)` id maps, 0 where there is no segment, and at void.
        void: `(h, w)` bool, pixels that take no part.
        num_segments: S.
    """

    def __init__(self, ids: Tensor, void: Tensor, num_segments: int):
        self.numbers = ids.flatten(1).to(torch.int64)  # (L, P)
        layers = [layer.bincount(minlength=num_segments + 1) for layer in self.numbers]
        self.areas = torch.stack(layers).sum(0)[1:]  # (S,)
        valid = ~void.flatten()
        self.num_pixels = max(int(valid.sum()), 1)
        self.valid = None if valid.all() else valid.float()  # (P,)

    def sums(self, values: Tensor) -> Tensor:
        """`(Q, S)` sums of values `(Q, P)` over the pixels of each segment.

        Each pixel adds to the one segment that it lies in. So the time does not grow with the number of segments, as
        that of a product with a mask stack would.
        """
        sums = values.new_zeros(len(values), len(self.areas) + 1)
        for layer in self.numbers:
            sums.scatter_add_(1, layer.expand_as(values), values)
        return sums[:, 1:]


def mask_costs(mask_logits: Tensor, targets: PixelTargets, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """Focal and dice cost of every prediction `(Q, h, w)` against every segment, `(Q, S)` float32 each."""
    rows_at_once = max(1, block_size(mask_logits.device) // mask_logits[0].numel())
    costs = [_block_costs(block.flatten(1).float(), targets, scratch) for block in mask_logits.split(rows_at_once)]
    focal, dice = (torch.cat(parts) for parts in zip(*costs, strict=True))
    return focal, dice


def _block_costs(mask_logits: Tensor, targets: PixelTargets, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """The costs of as many predictions `(Q, P)` as a block holds."""
    probability, opposite, softplus = sigmoid_and_softplus(mask_logits, scratch)  # (Q, P) each
    # focal loss of each pixel where the target is 1: the softplus of the negative is softplus(x) - x
    positive = torch.sub(softplus, mask_logits, out=scratch("positive", *mask_logits.shape))
    positive.mul_(opposite.square_()).mul_(FOCAL_ALPHA)
    negative = softplus.mul_(torch.mul(probability, probability, out=opposite)).mul_(1 - FOCAL_ALPHA)
    if targets.valid is not None:
        probability, negative = probability.mul_(targets.valid), negative.mul_(targets.valid)
    negative_sum, probability_sum = negative.sum(1, keepdim=True), probability.sum(1, keepdim=True)
    focal = targets.sums(positive.sub_(negative)).add_(negative_sum) / targets.num_pixels
    dice = 1 - (2 * targets.sums(probability) + 1) / (probability_sum + targets.areas + 1)
    return focal, dice


class HungarianMatcher:
    """Assigns to each target segment the prediction of least cost, one to one.

    Args:
        class_weight, mask_weight, dice_weight: factors of the three costs, not negative and not all 0.
        non_finite_cost: `"raise"` an error where a cost is not finite, or `"ignore"` it: such a pair is then matched
            only if no other is left, as in transformers.
    """

    def __init__(
        self,
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        non_finite_cost: str = "raise",
    ):
        weights = {"class_weight": class_weight, "mask_weight": mask_weight, "dice_weight": dice_weight}
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"{name} must not be negative, got {weight}.")
        if not any(weights.values()):
            raise ValueError("class_weight, mask_weight and dice_weight are all 0: nothing would be matched.")
        if non_finite_cost not in NON_FINITE_COSTS:
            raise ValueError(f"non_finite_cost must be one of {', '.join(NON_FINITE_COSTS)}, got {non_finite_cost!r}.")
        self.non_finite_cost = non_finite_cost
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight

    @torch.no_grad()
    def __call__(
        self,
        class_logits: Sequence[Tensor],  # layers x (B, Q, K+1)
        mask_logits: Sequence[Tensor],  # layers x (B, Q, h, w)
        targets: TargetMaps,
        class_labels: list[Tensor],  # B x (S_b,)
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """For each layer and image, the matched (query indices, segment indices), int64, min(Q, S_b) of each.

        Raises:
            FloatingPointError: a cost is not finite, as when the model has diverged and `non_finite_cost`
                is "raise".
        """
        num_queries = mask_logits[0].shape[1]
        small = targets.nearest(tuple(mask_logits[0].shape[-2:]))
        scratch = Scratch(mask_logits[0].device)
        matches: list[list[tuple[Tensor, Tensor]]] = [[] for _ in mask_logits]
        for image, labels in enumerate(class_labels):
            if len(labels) > num_queries:
                logger.warning_once(
                    f"An image has {len(labels)} segments but the model only {num_queries} queries: "
                    "the segments that fit worst are left unmatched. Raise num_queries to train on all."
                )
            pixels = PixelTargets(small.ids[image], small.void[image], len(labels))
            costs = []
            for classes, masks in zip(class_logits, mask_logits, strict=True):
                focal, dice = mask_costs(masks[image], pixels, scratch)  # (Q, S)
                probabilities = classes[image].float().softmax(-1)[:, labels]
                costs.append(self.mask_weight * focal + self.dice_weight * dice - self.class_weight * probabilities)
            for layer, cost in enumerate(torch.stack(costs).cpu().numpy()):
                matches[layer].append(self.assign(cost, layer, image))
        return matches

    def assign(self, cost: np.ndarray, layer: int, image: int) -> tuple[Tensor, Tensor]:
        """The matched (query indices, segment indices) of least cost `(Q, S)`."""
        finite = np.isfinite(cost)
        if not finite.all():
            if self.non_finite_cost == "raise":
                raise FloatingPointError(
                    f"The matching cost of decoder layer {layer}, image {image} of the batch is not finite "
                    f"({int((~finite).sum())} of {cost.size} entries): the model has diverged or an input is bad. "
                    "Lower the learning rate, clip gradients, or check the inputs."
                )
            cost = np.where(finite, cost, np.finfo(cost.dtype).max)
        queries, segments = linear_sum_assignment(cost)
        return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(segments, dtype=torch.int64)
