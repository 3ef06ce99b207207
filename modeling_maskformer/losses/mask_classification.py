"""The mask-classification loss (paper, section 3.2, equation 1): cross-entropy, focal and dice on matched pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dense import DenseMaskLoss
from .mask_losses import mask_losses
from .matching import HungarianMatcher
from .points import PointMaskLoss
from .targets import TargetMaps, average_num_masks, check_class_labels, gather_segment_ids, target_maps


class MaskFormerLoss(nn.Module):
    """Matches predictions and targets and scores them, for the last and every auxiliary output alike.

    Args:
        num_labels: K, the number of classes without "no object".
        matcher: assigns target segments to queries.
        no_object_weight: weight of "no object" in the cross-entropy (paper: 0.1).
        cross_entropy_weight, mask_weight, dice_weight: factors of the three parts (paper: 1, 20, 1).
        mask_loss: `"dense"` or `"points"`, see `MaskFormerConfig`.
        num_points, oversample_ratio, importance_sample_ratio: of the point loss, see `MaskFormerConfig`.
    """

    def __init__(
        self,
        num_labels: int,
        matcher: HungarianMatcher,
        no_object_weight: float = 0.1,
        cross_entropy_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        mask_loss: str = "dense",
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
    ):
        super().__init__()
        self.num_labels = num_labels
        self.matcher = matcher
        self.weights = {
            "loss_cross_entropy": cross_entropy_weight,
            "loss_mask": mask_weight,
            "loss_dice": dice_weight,
        }
        self.mask_loss = mask_loss
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio
        class_weights = torch.ones(num_labels + 1)
        class_weights[-1] = no_object_weight
        # transformers stores these weights in its checkpoints under this name
        self.register_buffer("empty_weight", class_weights)

    def forward(
        self,
        class_logits: Sequence[Tensor],  # layers x (B, Q, K+1)
        mask_logits: Sequence[Tensor],  # layers x (B, Q, h, w)
        class_labels: Sequence[Tensor],  # B x (S_b,)
        segment_ids: Tensor | None = None,  # (B, L, H, W)
        mask_labels: Sequence[Tensor] | None = None,  # B x (S_b, H_b, W_b)
    ) -> dict[str, Tensor]:
        """The weighted parts of the loss; their sum is the loss.

        The last layer's parts are `loss_cross_entropy`, `loss_mask` and `loss_dice`, those of auxiliary layer i end in
        `_i`. Either `segment_ids` (see `Segments`; void pixels count nowhere) or `mask_labels` (booleans or numbers,
        transformers' form) tells the masks. Computed in float32 whatever the inputs.

        Raises:
            ValueError: targets do not fit the batch, or a class id is outside the label set.
        """
        num_layers, (batch_size, _, height, width) = len(mask_logits), mask_logits[0].shape
        device = mask_logits[0].device
        class_labels = check_class_labels(class_labels, batch_size, self.num_labels)
        segment_ids = gather_segment_ids(segment_ids, mask_labels, class_labels).to(device)
        class_logits = [logits.float() for logits in class_logits]
        targets = target_maps(segment_ids, [len(labels) for labels in class_labels])
        matches = self.matcher(class_logits, mask_logits, targets, class_labels)
        num_masks = average_num_masks(class_labels, device)
        focal, dice = mask_losses(mask_logits, matches, self.mask_scores(targets, (height, width)))
        losses = {}
        for layer in reversed(range(num_layers)):
            parts = {
                "loss_cross_entropy": self.class_loss(class_logits[layer], class_labels, matches[layer]),
                "loss_mask": focal[layer] / num_masks,
                "loss_dice": dice[layer] / num_masks,
            }
            suffix = "" if layer == num_layers - 1 else f"_{layer}"
            losses |= {name + suffix: self.weights[name] * value for name, value in parts.items()}
        return losses

    def class_loss(
        self, class_logits: Tensor, class_labels: Sequence[Tensor], matches: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Cross-entropy over all queries of all images, weighted mean; unmatched queries are "no object"."""
        targets = torch.full(class_logits.shape[:2], self.num_labels, device=class_logits.device)  # (B, Q)
        for image, (queries, segments) in enumerate(matches):
            targets[image, queries.to(targets.device)] = class_labels[image][segments.to(targets.device)]
        return F.cross_entropy(class_logits.flatten(0, 1), targets.flatten(), weight=self.empty_weight.float())

    def mask_scores(self, targets: TargetMaps, size: tuple[int, int]) -> DenseMaskLoss | PointMaskLoss:
        """What scores the matched pairs of this batch, whose mask logits have this size."""
        if self.mask_loss == "dense":
            return DenseMaskLoss(targets, size)
        return PointMaskLoss(targets, self.num_points, self.oversample_ratio, self.importance_sample_ratio)
