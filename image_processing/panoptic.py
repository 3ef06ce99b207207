"""Panoptic inference: each pixel belongs to one segment or to none. (Section 3.4 of the paper, "general inference")"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from .resampling import Taps, crop_to_image, target_taps
from .tiling.argmax import contest
from .tiling.tiles import Tiling

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
    scores, labels = class_logits.float().softmax(-1).max(-1)  # (Q,), (Q,)
    kept = ((labels != class_logits.shape[-1] - 1) & (scores > threshold)).nonzero().flatten()  # (S,)
    scores, labels = scores[kept], labels[kept]
    logits, image_size = crop_to_image(mask_logits.index_select(0, kept), image_size)  # (S, h, w)
    rows, columns = target_taps(logits, image_size, target_size)
    if len(scores) == 0:
        return torch.full((len(rows), len(columns)), VOID_ID, dtype=torch.int32, device=logits.device), []
    owners, own_areas = compete(logits, scores, rows, columns, probability_to_logit(mask_threshold))
    areas = torch.bincount(owners.flatten(), minlength=len(scores))  # (S,)
    ids, segments_info = number_segments(
        scores.tolist(),
        labels.tolist(),
        areas.tolist(),
        own_areas.tolist(),
        overlap_mask_area_threshold,
        label_ids_to_fuse,
    )
    ids_of = torch.tensor(ids, dtype=torch.int32, device=owners.device)
    return ids_of.index_select(0, owners.flatten()).view(owners.shape), segments_info


def compete(logits: Tensor, scores: Tensor, rows: Taps, columns: Taps, own: float) -> tuple[Tensor, Tensor]:
    """`(H, W)` int32, the query of the largest `score * mask probability`; `(S,)` int64, pixels of logit >= `own`.

    Args:
        logits: `(S, h, w)` float32.
        scores: `(S,)` float32.
        rows, columns: how the maps are resampled to H x W.
        own: the least logit of a query's own mask.
    """
    tiling = Tiling.of(rows, columns, logits.device)
    canvas = tiling.canvas(torch.int32)
    own_areas = torch.zeros(len(scores), dtype=torch.int64, device=logits.device)

    for part, canvas_rows in tiling.parts(len(scores)):
        own_areas += _compete_in_part(canvas[canvas_rows], part, logits, scores, own)
    return tiling.crop(canvas), own_areas


def _compete_in_part(canvas: Tensor, tiling: Tiling, logits: Tensor, scores: Tensor, own: float) -> Tensor:
    """Writes the winners of some tiles into their canvas; returns the pixels of logit >= `own` there, `(S,)` int64."""
    low, high = tiling.bounds(logits)  # (S, T), (S, T)
    own_areas = ((low >= own).double() @ tiling.pixel_counts().double()).long()  # (S,)
    uncounted = (low < own) & (high >= own)  # (S, T), tiles that are in a query's own mask with some pixels

    def count(values: Tensor, queries: Tensor, tiles: Tensor) -> None:
        """Adds the own pixels among the values (m, P, n) of queries (m, n) in tiles (n,), once for each."""
        areas = tiling.inside(values >= own, tiles).sum(1) * uncounted[queries, tiles]  # (m, n)
        own_areas.index_add_(0, queries.flatten(), areas.flatten())
        uncounted[queries, tiles] = False

    def weigh(values: Tensor, queries: Tensor, tiles: Tensor) -> Tensor:
        count(values, queries, tiles)
        return values.sigmoid_().mul_(scores.take(queries)[:, None])

    bounds = (low.sigmoid_().mul_(scores[:, None]), high.sigmoid_().mul_(scores[:, None]))
    contest(canvas, tiling, logits, weigh, bounds)
    for queries, tiles in (pair.T for pair in uncounted.nonzero().split(tiling.step(1))):
        count(tiling.pixels(logits, queries[None], tiles), queries[None], tiles)
    return own_areas


def number_segments(
    scores: list[float],
    labels: list[int],
    areas: list[int],
    own_areas: list[int],
    overlap_mask_area_threshold: float,
    label_ids_to_fuse: Collection[int],
) -> tuple[list[int], list[dict]]:
    """The segment id of each query (0: dropped) and the entries of the segments, from what each query has won.

    Args:
        scores, labels: the S queries' probabilities and classes.
        areas: pixels that each query won.
        own_areas: pixels of each query's own mask.
        overlap_mask_area_threshold: the least share of its own mask that a segment has.
        label_ids_to_fuse: classes that have one segment at most.
    """
    ids: list[int] = []
    segments_info: list[dict] = []
    fused: dict[int, dict] = {}
    for score, label, area, own_area in zip(scores, labels, areas, own_areas, strict=True):
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
