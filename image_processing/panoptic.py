"""Panoptic inference: each pixel belongs to one segment or to none. (Section 3.4 of the paper, "general inference")

Queries that are sure of an object compete for each pixel by p_q * m_q, its class probability times its mask
probability. A query that wins too few pixels of its own mask is dropped.

`_compete` is the competition. On a CPU `tiling/panoptic_tiles.py` decides it without looking at most pixels, on an
NVIDIA GPU `fused/panoptic_kernels.py` without writing resized masks.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

from . import fused, tiling
from .resampling import Taps, crop_to_image, resized_strips, target_taps
from .selection import maps_of, selected_first
from .tiling.panoptic_tiles import compete_in_tiles

VOID_ID = 0  # pixels of no segment; segment ids start at 1


def panoptic_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    threshold: float = 0.8,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    label_ids_to_fuse: Collection[int] = (),
) -> tuple[Tensor, list[dict]]:
    """`(H, W)` int32 segment ids, 0 where there is no segment, and one entry per id of what the segment is.

    Queries compete for each pixel by `p_q * m_q`. A query whose pixels are too few of its own mask is dropped, its
    pixels become void. Ids are 1, 2, ... in the order of the queries and of the list.

    Args:
        class_logits: `(Q, K + 1)`, the last class is "no object".
        mask_logits: `(Q, h, w)` at stride 4, possibly with padding at the bottom and at the right.
        image_size: (height, width) of the image in input pixels, without padding. None: there is no padding.
        target_size: (H, W) of the result. None: the resolution of the (cropped) logits.
        threshold: a query takes part if its top class is an object of probability above this.
        mask_threshold: pixels of a query's own mask have a probability of at least this, before any weighting.
        overlap_mask_area_threshold: a segment needs this share of the query's own mask.
        label_ids_to_fuse: classes of stuff: all segments of one of them are one segment, with the best of the scores.

    Returns:
        The map, and a list of {"id", "label_id", "was_fused" (the class is in `label_ids_to_fuse`), "score"}.
    """
    return panoptic_segmentations(
        class_logits[None],
        mask_logits[None],
        image_size,
        target_size,
        threshold,
        mask_threshold,
        overlap_mask_area_threshold,
        label_ids_to_fuse,
    )[0]


def panoptic_segmentations(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    threshold: float = 0.8,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    label_ids_to_fuse: Collection[int] = (),
) -> list[tuple[Tensor, list[dict]]]:
    """`panoptic_segmentation` of images of one size, of logits `(B, Q, K + 1)` and `(B, Q, h, w)`.

    A device is waited for twice, and once more to take the ids, whatever the number of images and queries; where there
    are kernels for it, once.
    """
    own = probability_to_logit(mask_threshold)
    rule = (overlap_mask_area_threshold, label_ids_to_fuse)
    if fused.use_kernels(mask_logits):
        from .fused.panoptic_kernels import compete, relabel  # needs Triton

        logits, image_size = crop_to_image(mask_logits, image_size)
        rows, columns = target_taps(logits, image_size, target_size)
        winners, competitions = compete(class_logits, logits, rows, columns, threshold, own)
        ids, infos = _number_images(competitions, rule)
        return list(zip(relabel(winners, ids), infos, strict=True))
    scores, labels = class_logits.float().softmax(-1).max(-1)  # (B, Q), (B, Q)
    kept = (labels != class_logits.shape[-1] - 1) & (scores > threshold)  # (B, Q)
    logits, image_size = crop_to_image(mask_logits, image_size)
    rows, columns = target_taps(logits, image_size, target_size)
    queries = [
        [(score, int(label)) for score, label, keep in zip(*image, strict=True) if keep]
        for image in torch.stack((scores, labels.float(), kept.float()), dim=1).tolist()
    ]
    counts = [len(image) for image in queries]
    if max(counts) == 0:
        void = torch.full((len(rows), len(columns)), VOID_ID, dtype=torch.int32, device=logits.device)
        return [(void.clone(), []) for _ in counts]

    first = selected_first(kept, max(counts))  # (B, S)
    logits, scores = maps_of(logits, first), scores.gather(1, first)  # (B, S, h, w), (B, S)
    if tiling.use_tiles(logits):
        winners, areas, own_areas = _compete_in_tiles(logits.float(), scores, counts, rows, columns, own)
    else:
        scores = scores.where(kept.gather(1, first), -1.0)  # where others have more queries: these win nothing
        winners, areas, own_areas = _compete(logits, scores, rows, columns, own)

    competitions = zip(queries, *torch.stack((areas, own_areas)).tolist(), strict=True)
    ids, infos = _number_images(competitions, rule)
    table = torch.tensor(ids, dtype=torch.int32, device=winners.device)  # (B, S)
    places = winners + max(counts) * torch.arange(len(ids), dtype=torch.int32, device=winners.device)[:, None, None]
    maps = table.flatten().index_select(0, places.flatten()).view(places.shape)
    return list(zip(maps, infos, strict=True))


def _compete(logits: Tensor, scores: Tensor, rows: Taps, columns: Taps, own: float) -> tuple[Tensor, Tensor, Tensor]:
    """Who wins each pixel by `score * mask probability`, the first of equal ones.

    Args:
        logits: `(B, S, h, w)`.
        scores: `(B, S)` float32.
        rows, columns: how the maps are resampled to H x W.
        own: the least logit of a query's own mask.

    Returns:
        `(B, H, W)` int32 winners; `(B, S)` int64, the pixels each has won, and the pixels of its own mask.
    """
    batch_size, num_queries = scores.shape
    winners = torch.empty(batch_size, len(rows), len(columns), dtype=torch.int32, device=logits.device)
    areas = torch.zeros(batch_size, num_queries, dtype=torch.int64, device=logits.device)
    own_areas = torch.zeros_like(areas)
    numbers = torch.arange(num_queries, device=logits.device)[:, None, None]
    for images, strip, masks in resized_strips(logits, rows, columns, 2 * num_queries):  # (b, S, s, W)
        own_areas[images] += (masks >= own).sum((2, 3))
        winner = masks.sigmoid_().mul_(scores[images, :, None, None]).argmax(1)  # (b, s, W)
        areas[images] += (winner[:, None] == numbers).sum((2, 3))
        winners[images, strip] = winner
    return winners, areas, own_areas


def _compete_in_tiles(
    logits: Tensor, scores: Tensor, counts: list[int], rows: Taps, columns: Taps, own: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What `_compete` gives, one image after the other; of each the first queries count."""
    winners = logits.new_zeros(len(counts), len(rows), len(columns), dtype=torch.int32)
    areas, own_areas = logits.new_zeros(2, *scores.shape, dtype=torch.int64)
    for image, count in enumerate(counts):
        if count:
            winners[image], own_areas[image, :count] = compete_in_tiles(
                logits[image, :count], scores[image, :count], rows, columns, own
            )
            areas[image] = torch.bincount(winners[image].flatten(), minlength=scores.shape[1])
    return winners, areas, own_areas


def _number_images(
    competitions: Iterable[tuple[Sequence[tuple[float, int]], Sequence[int], Sequence[int]]],
    rule: tuple[float, Collection[int]],
) -> tuple[list[list[int]], list[list[dict]]]:
    """What `number_segments` gives for each image, all lists of ids of one length, of at least 1."""
    numbered = [number_segments(*image, *rule) for image in competitions]
    most = max(1, *(len(ids) for ids, _ in numbered))
    return [ids + [VOID_ID] * (most - len(ids)) for ids, _ in numbered], [infos for _, infos in numbered]


def number_segments(
    queries: Sequence[tuple[float, int]],
    areas: Sequence[int],
    own_areas: Sequence[int],
    overlap_mask_area_threshold: float,
    label_ids_to_fuse: Collection[int],
) -> tuple[list[int], list[dict]]:
    """The segment id of each query (0: dropped) and the entries of the segments, from what each query has won.

    Args:
        queries: the queries' probabilities and classes.
        areas: pixels that each query won; there may be more, of queries that do not count.
        own_areas: pixels of each query's own mask.
        overlap_mask_area_threshold: the least share of its own mask that a segment has.
        label_ids_to_fuse: classes that have one segment at most.
    """
    ids: list[int] = []
    segments_info: list[dict] = []
    fused: dict[int, dict] = {}
    for (score, label), area, own_area in zip(queries, areas, own_areas, strict=False):
        score = round(score, 6)
        if area == 0 or own_area == 0 or area / own_area < overlap_mask_area_threshold:
            ids.append(VOID_ID)
            continue
        if label in fused:
            fused[label]["score"] = max(fused[label]["score"], score)
            ids.append(fused[label]["id"])
            continue
        entry = {"id": len(segments_info) + 1, "label_id": label, "was_fused": label in label_ids_to_fuse}
        entry["score"] = score
        segments_info.append(entry)
        ids.append(entry["id"])
        if entry["was_fused"]:
            fused[label] = entry
    return ids, segments_info


def probability_to_logit(probability: float) -> float:
    """The logit whose sigmoid is `probability`; minus infinity for 0, infinity for 1."""
    if not 0 <= probability <= 1:
        raise ValueError(f"`mask_threshold` is a probability in [0, 1], got {probability}.")
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))
