"""The mask-classification loss (paper, section 3.2, equation 1): cross-entropy, focal and dice on matched pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..to_device import to_device
from .dense import dense_losses
from .mask_losses import PairLosses, mask_losses
from .matching import HungarianMatcher, Matches, check_finite
from .points import point_losses
from .targets import Targets, check_batch_size, read_targets
from .totals import from_bits, mean_over_processes, num_processes

LEAST = 1e-6  # divides a sum over nothing; a number of masks averaged over processes is more


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
        self._unread: Tensor | None = None  # (layers, B), what was not finite in the last step
        class_weights = torch.ones(num_labels + 1)
        class_weights[-1] = no_object_weight
        # transformers stores these weights in its checkpoints under this name
        self.register_buffer("empty_weight", class_weights)

    def prepare(
        self,
        batch_size: int,
        class_labels: Sequence[Tensor],
        segment_ids: Tensor | None = None,
        mask_labels: Sequence[Tensor] | None = None,
        device: torch.device | None = None,
    ) -> Targets:
        """The targets, checked and on the device of the predictions, by default that of this module.

        Called before the model's forward pass it waits for an empty queue, and once: what is wrong with the targets
        and what was not finite in the last step come to the host with one copy. For the arguments see `forward`.

        Raises:
            ValueError: targets do not fit the batch, or a class id is outside the label set.
            FloatingPointError: see `forward`.
        """
        check_batch_size(class_labels, batch_size)
        device = self.empty_weight.device if device is None else device
        targets, findings = read_targets(class_labels, segment_ids, mask_labels, self.num_labels, device)
        unread, self._unread = self._unread, None
        on_device = [numbers.flatten().to(device) for numbers in (findings.numbers, unread) if numbers is not None]
        numbers = torch.cat(on_device).tolist()
        if unread is not None:
            num_found, width = findings.numbers.numel(), unread.shape[1]
            numbers, counts = numbers[:num_found], numbers[num_found:]
            check_finite([counts[start : start + width] for start in range(0, len(counts), width)])
        findings.check([numbers[start : start + 5] for start in range(0, len(numbers), 5)])
        return targets

    def forward(
        self,
        class_logits: Sequence[Tensor],  # layers x (B, Q, K+1)
        mask_logits: Sequence[Tensor],  # layers x (B, Q, h, w)
        class_labels: Sequence[Tensor] | Targets,  # B x (S_b,)
        segment_ids: Tensor | None = None,  # (B, L, H, W)
        mask_labels: Sequence[Tensor] | None = None,  # B x (S_b, H_b, W_b)
        normalizers: Tensor | None = None,  # (2,)
    ) -> dict[str, Tensor]:
        """The weighted parts of the loss; their sum is the loss.

        The last layer's parts are `loss_cross_entropy`, `loss_mask` and `loss_dice`, those of auxiliary layer i end in
        `_i`. Either `segment_ids` (see `Segments`; void pixels count nowhere) or `mask_labels` (booleans or numbers,
        transformers' form) tells the masks; all on any device. What `prepare` made of them may come as `class_labels`
        instead. Computed in float32 whatever the inputs.

        The cross-entropy is divided by the weights of all queries' classes, the mask losses by the number of masks,
        each averaged over all processes: so the mean of their gradients is that of one process with all images. Where
        a step has several batches, `normalizers` are the means over these too of what `self.normalizers` gives, which
        may come `as_bits`.

        Raises:
            ValueError: targets do not fit the batch, or a class id is outside the label set.
            FloatingPointError: a matching cost is not finite, and the matcher's `non_finite_cost` is "raise". Where
                the host would have to wait for the device to know, all losses are NaN and the error comes with the
                next targets. Under float16 autocast they are NaN, too, but there is no error: a gradient scaler leaves
                out such a step. Nor is there one with several processes, which would wait for the one that raises it.
        """
        class_logits, mask_logits = list(class_logits), list(mask_logits)
        batch_size, device = len(mask_logits[0]), mask_logits[0].device
        targets = class_labels
        if not isinstance(targets, Targets):
            targets = self.prepare(batch_size, class_labels, segment_ids, mask_labels, device)
        matches = self.matcher(class_logits, mask_logits, targets)
        focal, dice = mask_losses(mask_logits, matches, targets.maps, self.pair_losses())
        cross_entropy, class_weight = self.class_losses(class_logits, targets, matches)
        if normalizers is None:
            num_masks = torch.full((1,), float(sum(targets.num_segments)), device=device)
            normalizers = mean_over_processes(torch.cat((num_masks, class_weight)))
        normalizers = from_bits(normalizers)
        num_masks, class_weight = normalizers[0].clamp(min=LEAST), normalizers[1:]
        parts = {
            "loss_cross_entropy": cross_entropy / class_weight,
            "loss_mask": focal / num_masks,
            "loss_dice": dice / num_masks,
        }  # (layers,) each
        finite = self._nan_unless_finite(matches)
        by_name = {name: (self.weights[name] * finite * values).unbind() for name, values in parts.items()}
        suffixes = [*(f"_{layer}" for layer in range(len(mask_logits) - 1)), ""]
        return {
            name + suffixes[layer]: values[layer]
            for layer in reversed(range(len(mask_logits)))
            for name, values in by_name.items()
        }

    def normalizers(self, class_labels: Sequence[Tensor], num_queries: int) -> Tensor:
        """`(2,)`, what the losses of a batch are divided by: its number of masks, and the weights of its queries.

        The weights are known before the queries are matched, but where an image has more segments than queries and
        classes weigh differently: then their mean is taken. Does not wait for the device.
        """
        weights, counts = self.empty_weight.float(), [len(labels) for labels in class_labels]
        labels = to_device(torch.cat([torch.as_tensor(labels) for labels in class_labels]), weights.device).long()
        shares = np.repeat([min(1.0, num_queries / max(count, 1)) for count in counts], counts).astype(np.float32)
        matched = weights[labels.clamp(0, self.num_labels - 1)] * to_device(shares, weights.device)
        unmatched = sum(max(num_queries - count, 0) for count in counts)
        return torch.stack((torch.full_like(weights[0], sum(counts)), matched.sum() + unmatched * weights[-1]))

    def class_losses(self, class_logits: list[Tensor], targets: Targets, matches: Matches) -> tuple[Tensor, Tensor]:
        """`(layers,)` each, cross-entropy summed over all queries, and their weights; unmatched are "no object"."""
        logits = torch.stack(class_logits).float().flatten(1, 2)  # (layers, B * Q, K+1)
        classes = torch.full(logits.shape[:2], self.num_labels, device=logits.device)
        matched = targets.class_ids[matches.images[:, None], matches.segments]  # (M, layers)
        classes.scatter_(1, matches.rows(num_queries=class_logits[0].shape[1]).T, matched.T)
        weights = self.empty_weight.float()
        losses = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight=weights, reduction="none")
        return losses.view_as(classes).sum(1), weights[classes].sum(1)

    def pair_losses(self) -> PairLosses:
        """The mask loss chosen by `mask_loss`."""
        if self.mask_loss == "dense":
            return dense_losses
        return partial(
            point_losses,
            num_points=self.num_points,
            oversample_ratio=self.oversample_ratio,
            importance_sample_ratio=self.importance_sample_ratio,
        )

    def _nan_unless_finite(self, matches: Matches) -> Tensor | float:
        """A factor of the loss, 1 or NaN; keeps for the next `prepare` what it has to raise an error about."""
        if matches.non_finite is None:
            return 1.0
        if matches.is_error and num_processes() == 1:
            self._unread = matches.non_finite
        return torch.where(matches.non_finite.any(), torch.nan, 1.0)
