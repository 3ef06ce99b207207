"""The mask-classification loss (paper, section 3.2, equation 1): cross-entropy, focal and dice on matched pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn

from .matching import HungarianMatcher, focal_terms
from .targets import expand_masks, segments_from_masks, void_value


def dice_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Dice loss of each row, `(M,)`; both inputs `(M, P)`, pixels that do not count are 0 in both."""
    intersection = (probabilities * masks).sum(-1)
    return 1 - (2 * intersection + 1) / (probabilities.sum(-1) + masks.sum(-1) + 1)


def focal_and_dice(mask_logits: Tensor, masks: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over M masks of the focal loss (mean over pixels) and of the dice loss: two scalars.

    Args:
        mask_logits: `(M, P)` float32.
        masks: `(M, P)` bool, the targets.
        valid: `(M, P)` or `(1, P)` bool, False at void pixels.
    """
    keep = valid.to(mask_logits.dtype)
    positive, negative = focal_terms(mask_logits)
    focal = (torch.where(masks, positive, negative) * keep).sum(-1) / keep.sum(-1).clamp(min=1)
    dice = dice_loss(mask_logits.sigmoid() * keep, masks * keep)
    return focal.sum(), dice.sum()


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
        class_logits: Tensor,  # (layers, B, Q, K+1)
        mask_logits: Tensor,  # (layers, B, Q, h, w)
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
        num_layers, batch_size = class_logits.shape[:2]
        class_labels = check_class_labels(class_labels, batch_size, self.num_labels)
        segment_ids = gather_segment_ids(segment_ids, mask_labels, class_labels).to(mask_logits.device)
        class_logits, mask_logits = class_logits.float(), mask_logits.float()
        matches = self.matcher(class_logits, mask_logits, segment_ids, class_labels)
        num_masks = average_num_masks(class_labels, mask_logits.device)
        losses = {}
        for layer in reversed(range(num_layers)):
            parts = {"loss_cross_entropy": self.class_loss(class_logits[layer], class_labels, matches[layer])}
            focal, dice = self.mask_losses(mask_logits[layer], segment_ids, class_labels, matches[layer])
            parts |= {"loss_mask": focal / num_masks, "loss_dice": dice / num_masks}
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

    def mask_losses(
        self,
        mask_logits: Tensor,  # (B, Q, h, w)
        segment_ids: Tensor,  # (B, L, H, W)
        class_labels: Sequence[Tensor],
        matches: Sequence[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """Focal and dice loss summed over all matched pairs of all images."""
        focal_sum = dice_sum = mask_logits.sum() * 0.0  # an image without segments still has a gradient: zero
        for image, (queries, segments) in enumerate(matches):
            if len(queries) == 0:
                continue
            queries, segments = queries.to(mask_logits.device), segments.to(mask_logits.device)
            logits = mask_logits[image, queries]  # (M, h, w)
            if self.mask_loss == "dense":
                focal, dice = dense_mask_losses(logits, segment_ids[image], segments, len(class_labels[image]))
            else:
                focal, dice = self.point_mask_losses(logits, segment_ids[image], segments)
            focal_sum, dice_sum = focal_sum + focal, dice_sum + dice
        return focal_sum, dice_sum

    def point_mask_losses(self, mask_logits: Tensor, ids: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Focal and dice loss at sampled points: uncertain ones and uniform ones (Mask2Former, section 3.3)."""
        points = sample_points(
            mask_logits, self.num_points, self.oversample_ratio, self.importance_sample_ratio
        )  # (M, P, 2)
        logits = logits_at(mask_logits, points)  # (M, P)
        masks, valid = targets_at(ids, segments, points)  # (M, P)
        return focal_and_dice(logits, masks, valid)


def dense_mask_losses(mask_logits: Tensor, ids: Tensor, segments: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """Focal and dice loss at every target pixel, of mask logits `(M, h, w)` enlarged to ids `(L, H, W)`."""
    logits = F.interpolate(mask_logits[:, None], size=ids.shape[-2:], mode="bilinear", align_corners=False)
    masks = expand_masks(ids, num_segments)[segments].flatten(1)  # (M, H*W)
    valid = (ids[0] != void_value(ids.dtype)).flatten()[None]  # (1, H*W)
    return focal_and_dice(logits.flatten(1), masks, valid)


@torch.no_grad()
def sample_points(
    mask_logits: Tensor, num_points: int, oversample_ratio: float, importance_sample_ratio: float
) -> Tensor:
    """`(M, num_points, 2)` points (x, y) in (0, 1): a share where logits `(M, h, w)` are near 0, the rest uniform."""
    num_masks, device = len(mask_logits), mask_logits.device
    num_important = int(importance_sample_ratio * num_points)
    uniform = torch.rand(num_masks, num_points - num_important, 2, device=device)
    if num_important == 0:
        return uniform
    candidates = torch.rand(num_masks, int(num_points * oversample_ratio), 2, device=device)
    distance = logits_at(mask_logits, candidates).abs()  # (M, candidates)
    chosen = distance.topk(num_important, dim=1, largest=False, sorted=False).indices
    important = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat((important, uniform), dim=1)


def logits_at(mask_logits: Tensor, points: Tensor) -> Tensor:
    """Logits `(M, h, w)` interpolated bilinear at points `(M, P, 2)`: `(M, P)`."""
    grid = (2 * points - 1)[:, :, None]  # (M, P, 1, 2)
    return F.grid_sample(mask_logits[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)[
        :, 0, :, 0
    ]


def targets_at(ids: Tensor, segments: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Whether points `(M, P, 2)` lie on segment `segments[m]` of ids `(L, H, W)`, and off void: `(M, P)` bool each."""
    height, width = ids.shape[-2:]
    columns = (points[..., 0] * width).long().clamp(max=width - 1)
    rows = (points[..., 1] * height).long().clamp(max=height - 1)
    at_points = ids.flatten(1)[:, rows * width + columns]  # (L, M, P)
    numbers = (segments + 1).to(ids.dtype)[:, None]  # (M, 1)
    return (at_points == numbers).any(0), at_points[0] != void_value(ids.dtype)


def check_class_labels(class_labels: Sequence[Tensor], batch_size: int, num_labels: int) -> list[Tensor]:
    """The class labels as int64 tensors, one per image.

    Raises:
        ValueError: not one tensor per image, or a class id outside `0 .. num_labels - 1`.
    """
    if len(class_labels) != batch_size:
        raise ValueError(f"class_labels has {len(class_labels)} entries, expected one per image: {batch_size}.")
    checked = [labels.to(torch.int64) for labels in class_labels]
    for image, labels in enumerate(checked):
        outside = labels[(labels < 0) | (labels >= num_labels)]
        if len(outside):
            raise ValueError(
                f"class_labels[{image}] holds class id {int(outside[0])}, "
                f"expected ids from 0 to {num_labels - 1} (the model has {num_labels} labels)."
            )
    return checked


def gather_segment_ids(
    segment_ids: Tensor | None, mask_labels: Sequence[Tensor] | None, class_labels: Sequence[Tensor]
) -> Tensor:
    """Id maps `(B, L, H, W)` of either form of target. Mask stacks of unequal size are padded with background."""
    if (segment_ids is None) == (mask_labels is None):
        raise ValueError("Pass either segment_ids or mask_labels beside class_labels, not both and not none.")
    if segment_ids is not None:
        segment_ids = segment_ids[:, None] if segment_ids.ndim == 3 else segment_ids
        if segment_ids.ndim != 4 or len(segment_ids) != len(class_labels):
            raise ValueError(
                f"segment_ids has shape {tuple(segment_ids.shape)}, expected (B, L, H, W), B = {len(class_labels)}."
            )
        return segment_ids
    if len(mask_labels) != len(class_labels):
        raise ValueError(f"mask_labels has {len(mask_labels)} entries, expected one per image: {len(class_labels)}.")
    for image, (masks, labels) in enumerate(zip(mask_labels, class_labels, strict=True)):
        if masks.ndim != 3 or len(masks) != len(labels):
            raise ValueError(
                f"mask_labels[{image}] has shape {tuple(masks.shape)}, expected ({len(labels)}, height, width): "
                f"one mask for each of the {len(labels)} entries of class_labels[{image}]."
            )
    maps = [
        segments_from_masks(masks, labels, size=tuple(masks.shape[-2:])).ids
        for masks, labels in zip(mask_labels, class_labels, strict=True)
    ]
    shape = [max(ids.shape[axis] for ids in maps) for axis in range(3)]
    dtype = max((ids.dtype for ids in maps), key=lambda dtype: dtype.itemsize)
    padded = torch.zeros(len(maps), *shape, dtype=dtype)
    for target, ids in zip(padded, maps, strict=True):
        target[: ids.shape[0], : ids.shape[1], : ids.shape[2]] = ids
    return padded


def average_num_masks(class_labels: Sequence[Tensor], device: torch.device) -> Tensor:
    """Number of target masks, averaged over all processes, at least 1."""
    num_masks = torch.tensor(float(sum(len(labels) for labels in class_labels)), device=device)
    if PartialState._shared_state:  # set up by Accelerate: asking for it otherwise would set it up
        num_masks = reduce(num_masks, reduction="mean")
    return num_masks.clamp(min=1)
