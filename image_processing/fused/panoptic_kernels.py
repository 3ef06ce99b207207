"""Panoptic inference in three kernels: which queries take part, who wins each pixel, and the ids of the winners.

The host reads one small table between the second and the third, whatever the number of images. The winners are written
where the ids will be, so that nothing else has the size of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ..resampling import Taps
from .resizing import SIZES, resized, resizing_arguments

PIXELS = 256  # of one program
QUERIES = 16  # at a time
CLASSES = 32  # at a time
RELABELLED = 1024  # pixels of one program
LABELS, SCORES, AREAS, OWN_AREAS, NUMBERS = range(5)  # what the table holds of each query that takes part, in order


def compete(
    class_logits: Tensor, mask_logits: Tensor, rows: Taps, columns: Taps, threshold: float, own: float
) -> tuple[Tensor, list[tuple[list[tuple[float, int]], list[int], list[int]]]]:
    """Who wins each pixel, of logits `(B, Q, K + 1)` and `(B, Q, h, w)`; the host waits once.

    Args:
        threshold: queries whose best class is an object of a probability above this take part.
        own: the least logit of a query's own mask.

    Returns:
        `(B, H, W)` int32, the place of the winner among the image's queries that take part. Of each image these
        queries' probabilities and classes, the pixels that each has won, and those of its own mask.
    """
    batch_size, num_queries, num_logits = class_logits.shape
    class_logits = class_logits.contiguous()
    table = torch.empty(batch_size, 5 * num_queries + 1, dtype=torch.int32, device=mask_logits.device)
    winners = torch.empty(batch_size, len(rows), len(columns), dtype=torch.int32, device=mask_logits.device)
    tiles = triton.cdiv(len(rows) * len(columns), PIXELS)
    with torch.cuda.device_of(mask_logits):
        _selection_kernel[(batch_size,)](
            class_logits,
            table,
            num_queries,
            num_logits,
            float(threshold),
            QUERIES=triton.next_power_of_2(num_queries),
            CLASSES=CLASSES,
            num_warps=8,
        )
        _competition_kernel[(batch_size * tiles,)](
            table=table,
            winners=winners,
            num_queries=num_queries,
            own=own,
            tiles=tiles,
            **resizing_arguments(mask_logits, rows, columns),
            QUERIES=QUERIES,
            PIXELS=PIXELS,
        )
    found = table.cpu().numpy()
    images = []
    for count, image in zip(found[:, -1], found[:, :-1].reshape(batch_size, 5, num_queries), strict=True):
        scores = image[SCORES].view(np.float32)[:count].tolist()
        labels, areas, own_areas = image[[LABELS, AREAS, OWN_AREAS], :count].tolist()
        images.append((list(zip(scores, labels, strict=True)), areas, own_areas))
    return winners, images


def relabel(winners: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
    """`(B, H, W)` int32: the winners, replaced in place by their ids, of which each image has equally many."""
    table = torch.tensor(ids, dtype=torch.int32).to(winners.device, non_blocking=True)  # (B, S)
    tiles = triton.cdiv(winners[0].numel(), RELABELLED)
    with torch.cuda.device_of(winners):
        _label_kernel[(len(winners) * tiles,)](
            winners, table, winners[0].numel(), table.shape[1], tiles, PIXELS=RELABELLED
        )
    return winners


@triton.jit(do_not_specialize=["num_queries", "num_logits", "threshold"])
def _selection_kernel(
    class_logits,  # (B, Q, K + 1)
    table,  # (B, 5 * Q + 1) int32, result
    num_queries,
    num_logits,
    threshold,
    QUERIES: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Each program writes what the table holds of one image, with areas of 0."""
    image = tl.program_id(0).to(tl.int64)
    query = tl.arange(0, QUERIES)
    there = query < num_queries
    class_logits += image * num_queries * num_logits
    highest = tl.full([QUERIES], -1e38, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)  # of exp(logit - highest)
    label = tl.zeros([QUERIES], tl.int32)
    for first in range(0, num_logits, CLASSES):
        number = first + tl.arange(0, CLASSES)
        places = class_logits + tl.minimum(query, num_queries - 1)[:, None] * num_logits + number[None, :]
        logits = tl.load(places, mask=(number < num_logits)[None, :], other=float("-inf")).to(tl.float32)
        best, place = tl.max(logits, 1, return_indices=True)
        label = tl.where(best > highest, first + place, label)
        new_highest = tl.maximum(highest, best)
        total = total * tl.exp(highest - new_highest) + tl.sum(tl.exp(logits - new_highest[:, None]), 1)
        highest = new_highest
    score = 1 / total
    kept = there & (label != num_logits - 1) & (score > threshold)
    place = tl.cumsum(kept.to(tl.int32), 0) - 1
    table += image * (5 * num_queries + 1)
    tl.store(table + place, label, mask=kept)
    tl.store(table + num_queries + place, score.to(tl.int32, bitcast=True), mask=kept)
    tl.store(table + 2 * num_queries + query, 0, mask=there)
    tl.store(table + 3 * num_queries + query, 0, mask=there)
    tl.store(table + 4 * num_queries + place, query, mask=kept)
    tl.store(table + 5 * num_queries, tl.sum(kept.to(tl.int32), 0))


@triton.jit(do_not_specialize=["num_queries", "own", "tiles", *SIZES])
def _competition_kernel(
    table,  # (B, 5 * Q + 1) int32
    winners,  # (B, H, W) int32, result
    num_queries,
    own,
    tiles,
    maps,
    row_samples,
    row_weights,
    column_samples,
    column_weights,
    num_rows,
    num_columns,
    image_stride,
    query_stride,
    row_stride,
    ROW_TAPS: tl.constexpr,
    COLUMN_TAPS: tl.constexpr,
    QUERIES: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Each program finds the winners at some pixels of one image and adds what they have won to the table."""
    image = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = (tl.program_id(0) % tiles) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < num_rows * num_columns
    maps += image * image_stride
    table += image * (5 * num_queries + 1)
    count = tl.load(table + 5 * num_queries)
    best = tl.full([PIXELS], -1.0, tl.float32)
    winner = tl.full([PIXELS], 0, tl.int32)
    for first in range(0, count, QUERIES):
        place = first + tl.arange(0, QUERIES)
        takes_part = place < count
        query = tl.load(table + 4 * num_queries + place, mask=takes_part, other=0).to(tl.int64)
        score = tl.load(table + num_queries + place, mask=takes_part, other=0).to(tl.float32, bitcast=True)
        exists = inside[:, None] & takes_part[None, :]
        values = resized(
            (maps + query * query_stride)[None, :],
            pixel[:, None],
            exists,
            row_samples,
            row_weights,
            column_samples,
            column_weights,
            num_rows,
            num_columns,
            row_stride,
            ROW_TAPS,
            COLUMN_TAPS,
        )  # (PIXELS, QUERIES)
        own_area = tl.sum((exists & (values >= own)).to(tl.int32), 0)
        tl.atomic_add(table + 3 * num_queries + place, own_area, mask=own_area > 0, sem="relaxed")
        weighted = tl.where(exists, score[None, :] / (1 + tl.exp(-values)), -1.0)
        highest, best_place = tl.max(weighted, 1, return_indices=True)
        winner = tl.where(highest > best, first + best_place, winner)  # the first of equal ones
        best = tl.maximum(best, highest)
    for first in range(0, count, QUERIES):
        place = first + tl.arange(0, QUERIES)
        area = tl.sum((inside[:, None] & (winner[:, None] == place[None, :])).to(tl.int32), 0)
        tl.atomic_add(table + 2 * num_queries + place, area, mask=area > 0, sem="relaxed")
    tl.store(winners + image * num_rows * num_columns + pixel, winner, mask=inside)


@triton.jit(do_not_specialize=["num_pixels", "num_ids", "tiles"])
def _label_kernel(
    winners,  # (B, H, W) int32, replaced by ids
    ids,  # (B, S) int32
    num_pixels,
    num_ids,
    tiles,
    PIXELS: tl.constexpr,
):
    image = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = (tl.program_id(0) % tiles) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < num_pixels
    places = winners + image * num_pixels + pixel
    winner = tl.load(places, mask=inside, other=0)
    tl.store(places, tl.load(ids + image * num_ids + winner, mask=inside, other=0), mask=inside)
