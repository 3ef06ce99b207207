"""Pairwise cost of predictions and targets, and the assignment of least cost (paper, section 3.1).

All pixels here are those of the stride-4 mask logits; targets are brought down to them by nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import logging

from ..fast_on_cpu import use_cpu_path
from .assignment import Matches, assign, stays_on_device
from .focal_dice import FOCAL_ALPHA, sigmoid_and_softplus
from .kernels.triton_modules import triton_module
from .scratch import Scratch, block_size
from .targets import TargetMaps, Targets
from .totals import num_processes

logger = logging.get_logger(__name__)

NON_FINITE_COSTS = ("raise", "ignore")
LOGITS_AT_ONCE = 1 << 25  # of the plain way, which needs some 24 bytes for each


def mask_costs(mask_logits: Sequence[Tensor], maps: TargetMaps) -> tuple[Tensor, Tensor]:
    """Focal and dice cost of every prediction against every segment, `(layers, B, Q, S)` float32 each.

    Args:
        mask_logits: layers x `(B, Q, h, w)`, of any floating dtype.
        maps: the segments at any size.
    """
    maps = maps.nearest(tuple(mask_logits[0].shape[-2:]))
    if use_cpu_path(mask_logits[0]):
        return _mask_costs_on_cpu(mask_logits, maps)
    kernels = triton_module("matching", mask_logits[0])
    if kernels:
        return kernels.mask_costs(mask_logits, maps)
    masks, valid = maps.masks().flatten(2).float(), (~maps.void).flatten(1).float()  # (B, S, P), (B, P)
    layers_at_once = max(1, LOGITS_AT_ONCE // mask_logits[0].numel())
    costs = [
        _mask_costs(torch.stack(list(mask_logits[start : start + layers_at_once])).flatten(3).float(), masks, valid)
        for start in range(0, len(mask_logits), layers_at_once)
    ]
    focal, dice = (torch.cat(parts) for parts in zip(*costs, strict=True))
    return focal, dice


def _mask_costs(logits: Tensor, masks: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The costs `(l, B, Q, S)` of logits `(l, B, Q, P)` against masks `(B, S, P)`, which have no void pixels."""
    probability = logits.sigmoid()
    # focal loss of each pixel where the target is 1 and where it is 0
    positive = FOCAL_ALPHA * (1 - probability).square() * F.softplus(-logits)
    negative = (1 - FOCAL_ALPHA) * probability.square() * F.softplus(logits)
    in_masks = masks.transpose(1, 2)  # (B, P, S)
    in_image = valid[..., None]  # (B, P, 1)
    num_pixels = valid.sum(1).clamp(min=1)[:, None, None]
    focal = ((positive - negative) @ in_masks + negative @ in_image) / num_pixels
    areas = masks.sum(2)[:, None]  # (B, 1, S)
    dice = 1 - (2 * probability @ in_masks + 1) / (probability @ in_image + areas + 1)
    return focal, dice


def _mask_costs_on_cpu(mask_logits: Sequence[Tensor], maps: TargetMaps) -> tuple[Tensor, Tensor]:
    """The same for a CPU: some predictions at a time, whose maps stay in its cache.

    Each pixel adds to the one segment that it lies in. So the time does not grow with the number of segments, as that
    of a product with the masks does.
    """
    batch_size, num_queries, height, width = mask_logits[0].shape
    most = maps.layers.shape[1]
    focal, dice = torch.zeros(2, len(mask_logits), batch_size, num_queries, most)
    scratch = Scratch()
    queries_at_once = max(1, block_size() // (height * width))
    for image in range(batch_size):
        pixels = _Pixels(maps.ids[image], maps.void[image], most)
        for layer, logits in enumerate(mask_logits):
            for start in range(0, num_queries, queries_at_once):
                some = slice(start, start + queries_at_once)
                block = logits[image, some].flatten(1).float()
                focal[layer, image, some], dice[layer, image, some] = _block_costs(block, pixels, scratch)
    return focal, dice


class _Pixels:
    """The pixels of one image, its id maps `(L, h, w)` and void `(h, w)`, in the form in which sums are made."""

    def __init__(self, ids: Tensor, void: Tensor, num_segments: int):
        self.numbers = ids.flatten(1).to(torch.int64)  # (L, P)
        self.areas = sum(layer.bincount(minlength=num_segments + 1) for layer in self.numbers)[1:]  # (S,)
        valid = ~void.flatten()
        self.num_pixels = max(int(valid.sum()), 1)
        self.valid = None if valid.all() else valid.float()  # (P,)

    def sums(self, values: Tensor) -> Tensor:
        """`(Q, S)` sums of values `(Q, P)` over the pixels of each segment."""
        sums = values.new_zeros(len(values), len(self.areas) + 1)
        for layer in self.numbers:
            sums.scatter_add_(1, layer.expand_as(values), values)
        return sums[:, 1:]


def _block_costs(mask_logits: Tensor, pixels: _Pixels, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """The costs of as many predictions `(Q, P)` as a block holds."""
    probability, opposite, softplus = sigmoid_and_softplus(mask_logits, scratch)  # (Q, P) each
    # the softplus of the negative is softplus(x) - x
    positive = torch.sub(softplus, mask_logits, out=scratch("positive", *mask_logits.shape))
    positive.mul_(opposite.square_()).mul_(FOCAL_ALPHA)
    negative = softplus.mul_(torch.mul(probability, probability, out=opposite)).mul_(1 - FOCAL_ALPHA)
    if pixels.valid is not None:
        probability, negative = probability.mul_(pixels.valid), negative.mul_(pixels.valid)
    negative_sum, probability_sum = negative.sum(1, keepdim=True), probability.sum(1, keepdim=True)
    focal = pixels.sums(positive.sub_(negative)).add_(negative_sum) / pixels.num_pixels
    dice = 1 - (2 * pixels.sums(probability) + 1) / (probability_sum + pixels.areas + 1)
    return focal, dice


class HungarianMatcher:
    """Assigns to each target segment the prediction of least cost, one to one.

    Args:
        mask_weight, dice_weight: factors of these two costs, not negative; that of the class has none.
        non_finite_cost: `"raise"` an error where a cost is not finite, or `"ignore"` it: such a pair is then matched
            only if no other is left, as in transformers.
    """

    def __init__(
        self,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        non_finite_cost: str = "raise",
    ):
        for name, weight in (("mask_weight", mask_weight), ("dice_weight", dice_weight)):
            if weight < 0:
                raise ValueError(f"{name} must not be negative, got {weight}.")
        if non_finite_cost not in NON_FINITE_COSTS:
            raise ValueError(f"non_finite_cost must be one of {', '.join(NON_FINITE_COSTS)}, got {non_finite_cost!r}.")
        self.non_finite_cost = non_finite_cost
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight

    @torch.no_grad()
    def __call__(
        self,
        class_logits: Sequence[Tensor],  # layers x (B, Q, K+1)
        mask_logits: Sequence[Tensor],  # layers x (B, Q, h, w)
        targets: Targets,
    ) -> Matches:
        """The matched pairs of each layer and image, min(Q, S_b) of each.

        Where a cost is not finite and `non_finite_cost` is "raise", an error comes at once, unless the assignment
        stays on the device, or others would wait for this process: then `Matches.non_finite` says so.

        Raises:
            FloatingPointError: a cost is not finite, as when the model has diverged, and `non_finite_cost` is "raise";
                not under float16 autocast, whose gradient scaler leaves out such a step.
        """
        device, num_queries = mask_logits[0].device, mask_logits[0].shape[1]
        if max(targets.num_segments) > num_queries:
            logger.warning_once(
                f"An image has {max(targets.num_segments)} segments but the model only {num_queries} queries: "
                "the segments that fit worst are left unmatched. Raise num_queries to train on all."
            )
        with torch.autocast(device.type, enabled=False):
            costs = self.costs(class_logits, mask_logits, targets)
        finite = costs.isfinite()
        matches = assign(costs.masked_fill(~finite, torch.finfo(costs.dtype).max), targets.num_segments)
        if self.non_finite_cost == "raise":
            non_finite = (~finite & targets.present[:, None]).sum((2, 3))  # (layers, B)
            is_error = not _gradients_are_scaled(device)
            if is_error and num_processes() == 1 and not stays_on_device(costs):
                check_finite(non_finite.tolist())
            else:
                matches.non_finite, matches.is_error = non_finite, is_error
        return matches

    def costs(self, class_logits: Sequence[Tensor], mask_logits: Sequence[Tensor], targets: Targets) -> Tensor:
        """`(layers, B, Q, S)` float32, the weighted sum of the three costs."""
        focal, dice = mask_costs(mask_logits, targets.maps)
        probabilities = torch.stack(list(class_logits)).float().softmax(-1)  # (layers, B, Q, K+1)
        classes = targets.class_ids[:, None].expand(len(mask_logits), -1, mask_logits[0].shape[1], -1)
        return self.mask_weight * focal + self.dice_weight * dice - probabilities.gather(-1, classes)


def _gradients_are_scaled(device: torch.device) -> bool:
    """Whether a gradient scaler is at work, which expects infinite losses now and then, and leaves their steps out."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16


def check_finite(non_finite: Sequence[Sequence[int]]) -> None:
    """Raises a FloatingPointError where entries of a cost matrix, counted by layer and image, are not finite."""
    for layer, counts in enumerate(non_finite):
        for image, count in enumerate(counts):
            if count:
                raise FloatingPointError(
                    f"The matching cost of decoder layer {layer}, image {image} of the batch is not finite "
                    f"({count} entries): the model has diverged or an input is bad. "
                    "Lower the learning rate, clip gradients, or check the inputs."
                )
