"""Instance inference: the most probable (query, class) pairs, each with its own mask; masks may overlap.

`_cut_masks` cuts masks out of the resized logits. On a CPU `tiling/instance_tiles.py` does, where a mask is or may be,
on an NVIDIA GPU `fused/instance_kernels.py`, without keeping them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from . import fused, tiling
from .panoptic import probability_to_logit
from .resampling import Taps, crop_to_image, resized_strips, target_taps
from .selection import maps_of, selected_first
from .tiling.instance_tiles import cut_masks_in_tiles

NO_INSTANCE_ID = -1  # pixels of no instance; instance ids start at 0


def instance_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
) -> Instances:
    """The instances of one image, best first.

    Of all pairs of a query and a class, the Q most probable are considered. A pair's mask are the pixels where the
    query's resized mask logits are above the threshold; its score is the class probability times the mean mask
    probability over the mask. Pairs with an empty mask or a score below `threshold` are left out.

    Args:
        class_logits: `(Q, K + 1)`, the last class is "no object".
        mask_logits: `(Q, h, w)` at stride 4, possibly with padding at the bottom and at the right.
        image_size: (height, width) of the image in input pixels, without padding. None: there is no padding.
        target_size: (H, W) of the result. None: the resolution of the (cropped) logits.
        threshold: the least score.
        mask_threshold: pixels of a mask have a probability above this; 0.5 is a logit above 0.
    """
    return instance_segmentations(
        class_logits[None], mask_logits[None], image_size, target_size, threshold, mask_threshold
    )[0]


def instance_segmentations(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
) -> list[Instances]:
    """`instance_segmentation` of images of one size, of logits `(B, Q, K + 1)` and `(B, Q, h, w)`.

    A device is waited for twice, whatever the number of images and queries; where there are kernels for it, once.
    """
    least = probability_to_logit(mask_threshold)
    if fused.use_kernels(mask_logits):
        from .fused.instance_kernels import find_instances  # needs Triton

        logits, image_size = crop_to_image(mask_logits, image_size)
        rows, columns = target_taps(logits, image_size, target_size)
        return [
            Instances(_infos(scores, labels), masks, mask_of)
            for scores, labels, masks, mask_of in find_instances(class_logits, logits, rows, columns, threshold, least)
        ]
    probs = class_logits.float().softmax(-1)[..., :-1]  # (B, Q, K)
    num_queries, num_classes = probs.shape[1:]
    class_scores, pairs = probs.flatten(1).topk(num_queries)  # (B, Q) each
    possible = class_scores >= threshold  # a mean of probabilities is at most 1
    queries, labels = pairs.div(num_classes, rounding_mode="floor"), pairs % num_classes
    logits, image_size = crop_to_image(mask_logits, image_size)
    rows, columns = target_taps(logits, image_size, target_size)

    # A query whose mask several classes have is cut out once: masks are numbered 0, 1, ... by their queries.
    numbers = torch.arange(num_queries, device=queries.device)
    used = ((queries[:, :, None] == numbers) & possible[:, :, None]).any(1)  # (B, Q)
    counts = used.sum(1).tolist()
    first = selected_first(used, max(1, *counts))  # (B, S)
    mask_of = (used.cumsum(1) - 1).gather(1, queries).clamp(min=0)  # (B, Q), of each pair
    logits = maps_of(logits, first)  # (B, S, h, w)
    if tiling.use_tiles(logits):
        masks, areas, sums = _cut_masks_in_tiles(logits.float(), counts, rows, columns, least)
    else:
        masks, areas, sums = _cut_masks(logits, rows, columns, least)

    scores = class_scores * (sums / areas.clamp(min=1)).gather(1, mask_of)  # (B, Q)
    found = possible & (areas.gather(1, mask_of) > 0) & (scores >= threshold)
    order = scores.where(found, -1.0).argsort(dim=1, descending=True, stable=True)
    table = torch.stack((scores, labels.to(scores.dtype), found.to(scores.dtype))).gather(2, order.expand(3, -1, -1))
    results = []
    for image, (scores_, labels_, found_) in enumerate(zip(*table.tolist(), strict=True)):
        count = int(sum(found_))
        segments_info = _infos(scores_[:count], labels_[:count])
        own = order[image, :count]
        results.append(Instances(segments_info, masks[image], mask_of[image].index_select(0, own)))
    return results


def _infos(scores: Sequence[float], labels: Sequence[float]) -> list[dict]:
    """The entries of an image's instances, best first."""
    return [
        {"id": number, "label_id": int(label), "was_fused": False, "score": round(score, 6)}
        for number, (score, label) in enumerate(zip(scores, labels, strict=True))
    ]


class Masks(Protocol):
    """The masks of S queries of an image of H x W pixels, in some form."""

    def select(self, numbers: Tensor) -> Tensor:
        """`(n, H, W)` bool: the masks of these numbers, `(n,)` int64."""

    def first(self, numbers: Tensor) -> Tensor:
        """`(H, W)` int32: the place in `numbers` of the first whose mask has a pixel, -1 where none has."""


@dataclass(frozen=True)
class WholeMasks:
    """Masks as they are, `(S, H, W)` bool."""

    pixels: Tensor

    def select(self, numbers: Tensor) -> Tensor:
        return self.pixels.index_select(0, numbers)

    def first(self, numbers: Tensor) -> Tensor:
        if len(numbers) == 0:
            return numbers.new_full(self.pixels.shape[1:], NO_INSTANCE_ID, dtype=torch.int32)
        inside, place = self.select(numbers).view(torch.uint8).max(0)  # (H, W), the first of equal ones
        return place.to(torch.int32).masked_fill_(inside == 0, NO_INSTANCE_ID)


@dataclass(frozen=True)
class Instances:
    """The instances of an image, best first.

    Attributes:
        segments_info: n entries {"id" (0, 1, ...), "label_id", "was_fused" (False), "score"}.
        all_masks: the masks of the queries.
        mask_of: `(n,)` int64, the mask of each instance; two instances share one where a query has two classes.
    """

    segments_info: list[dict]
    all_masks: Masks
    mask_of: Tensor

    def __len__(self) -> int:
        return len(self.segments_info)

    def mask(self, number: int) -> Tensor:
        """`(H, W)` bool, the whole mask of an instance."""
        return self.all_masks.select(self.mask_of[number : number + 1])[0]

    def masks(self) -> Tensor:
        """`(n, H, W)` bool, all masks; they may overlap."""
        return self.all_masks.select(self.mask_of)

    def id_map(self) -> Tensor:
        """`(H, W)` int32, the id of the best instance at each pixel, -1 where there is none."""
        return self.all_masks.first(self.mask_of)


def _cut_masks(logits: Tensor, rows: Taps, columns: Taps, least: float) -> tuple[list[WholeMasks], Tensor, Tensor]:
    """Where resized maps `(B, S, h, w)` are above `least`.

    Returns:
        The masks of each image; `(B, S)` int64 areas; `(B, S)` float32 sums of the probabilities inside.
    """
    size = (*logits.shape[:2], len(rows), len(columns))
    masks = torch.empty(size, dtype=torch.bool, device=logits.device)
    areas = torch.zeros(size[:2], dtype=torch.int64, device=logits.device)
    sums = torch.zeros(size[:2], dtype=torch.float32, device=logits.device)
    for images, strip, values in resized_strips(logits, rows, columns, 2 * logits.shape[1]):  # (b, S, s, W)
        inside = values > least
        masks[images, :, strip] = inside
        areas[images] += inside.sum((2, 3))
        sums[images] += values.sigmoid_().mul_(inside).sum((2, 3))
    return [WholeMasks(pixels) for pixels in masks], areas, sums


def _cut_masks_in_tiles(
    logits: Tensor, counts: list[int], rows: Taps, columns: Taps, least: float
) -> tuple[list[Masks], Tensor, Tensor]:
    """What `_cut_masks` gives, one image after the other; of each the first queries count."""
    areas, sums = logits.new_zeros(logits.shape[:2], dtype=torch.int64), logits.new_zeros(logits.shape[:2])
    masks = []
    for image, count in enumerate(counts):
        found, areas[image, :count], sums[image, :count] = cut_masks_in_tiles(
            logits[image, :count], rows, columns, least
        )
        masks.append(found)
    return masks, areas, sums
