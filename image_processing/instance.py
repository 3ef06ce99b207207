"""Instance inference: the most probable (query, class) pairs, each with its own mask; masks may overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from .panoptic import probability_to_logit
from .resampling import target_logits

NO_INSTANCE_ID = -1  # pixels of no instance; instance ids start at 0


def instance_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
) -> tuple[Tensor, list[dict]]:
    """`(n, H, W)` bool masks, best first, and one entry per mask of what it is.

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

    Returns:
        The masks, and a list of {"id" (0, 1, ...), "label_id", "was_fused" (False), "score"}.
    """
    probs = class_logits.float().softmax(-1)[:, :-1]  # (Q, K)
    class_scores, pairs = probs.flatten().topk(probs.shape[0])  # (Q,)
    possible = class_scores >= threshold  # a mean of probabilities is at most 1
    class_scores, pairs = class_scores[possible], pairs[possible]
    queries, labels = pairs // probs.shape[1], pairs % probs.shape[1]
    logits = target_logits(mask_logits[queries], image_size, target_size)  # (n, H, W)
    masks = logits > probability_to_logit(mask_threshold)
    areas = masks.flatten(1).sum(1)
    scores = class_scores * (logits.sigmoid() * masks).flatten(1).sum(1) / areas.clamp(min=1)
    order = scores.argsort(descending=True, stable=True)
    order = order[(areas[order] > 0) & (scores[order] >= threshold)]
    return masks[order], instance_entries(scores[order], labels[order])


def instance_entries(scores: Tensor, labels: Tensor) -> list[dict]:
    """One {"id", "label_id", "was_fused", "score"} per instance, ids 0, 1, ..."""
    return [
        {"id": number, "label_id": label, "was_fused": False, "score": round(score, 6)}
        for number, (score, label) in enumerate(zip(scores.tolist(), labels.tolist(), strict=True))
    ]


def instance_id_map(masks: Tensor) -> Tensor:
    """`(H, W)` int32: at each pixel the id of the best instance there (masks come best first), -1 where none is."""
    ids = torch.full(masks.shape[1:], NO_INSTANCE_ID, dtype=torch.int32, device=masks.device)
    for number in reversed(range(len(masks))):
        ids[masks[number]] = number
    return ids
