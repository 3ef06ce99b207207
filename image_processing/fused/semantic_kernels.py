"""Semantic inference in one kernel: resize, sigmoid, sum over the queries and argmax over the classes.

A program goes through the queries of some pixels in blocks and adds up the scores of many classes by a product of
matrices. Tensor cores multiply float16, which has too few bits and too small a range, so

- a query's probabilities are divided by its largest one, and its mask multiplied by it; what comes out is divided by
  the largest of all queries at the pixel so far, as attention does with its softmax. No argmax is changed by that, the
  best score is at least 1, and what is too small for float16 is too small to matter;
- each factor is split into two float16, `high + low`, which together have 22 bits:

      p * m = p_high * m_high + p_high * m_low + p_low * m_high + (what is too small to matter)

These are three products at twice the speed of TF32, of which three would be needed as well.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..resampling import Taps
from .resizing import SIZES, resized, resizing_arguments

PIXELS = 64  # of one program
QUERIES = 32  # at a time
MOST_CLASSES = 256  # at a time
LEAST = tl.constexpr(1e-37)  # what divides may not be smaller


def class_maps(class_logits: Tensor, mask_logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(B, H, W)` int64, the class of each pixel, of logits `(B, Q, K + 1)` and `(B, Q, h, w)`."""
    batch_size, num_queries, num_logits = class_logits.shape
    relative, largest = relative_probabilities(class_logits)
    main, extra = class_blocks(num_logits - 1)
    classes = torch.empty(batch_size, len(rows), len(columns), dtype=torch.int64, device=mask_logits.device)
    tiles = triton.cdiv(len(rows) * len(columns), PIXELS)
    with torch.cuda.device_of(mask_logits):
        _class_kernel[(batch_size * tiles,)](
            relative=relative,
            largest=largest,
            classes=classes,
            num_queries=num_queries,
            num_classes=num_logits - 1,
            tiles=tiles,
            **resizing_arguments(mask_logits, rows, columns),
            ALL_QUERIES=relative.shape[2],
            ALL_CLASSES=relative.shape[3],
            QUERIES=QUERIES,
            MAIN=main,
            EXTRA=extra,
            PIXELS=PIXELS,
            num_warps=4,
            num_stages=1,
        )
    return classes


def class_blocks(num_classes: int) -> tuple[int, int]:
    """How many classes are scored at a time, in two blocks whose lengths are powers of two, the second 0 or more.

    One block of 256 for 150 classes would cost half as much again as 128 and 32.
    """
    whole = max(16, triton.next_power_of_2(num_classes))
    if whole > MOST_CLASSES:
        return MOST_CLASSES, 0
    main = whole // 2
    extra = max(16, triton.next_power_of_2(max(num_classes - main, 1)))
    return (main, extra) if main >= 16 and main + extra < whole else (whole, 0)


def relative_probabilities(class_logits: Tensor) -> tuple[Tensor, Tensor]:
    """How probable a class is to a query beside its best one, from logits `(B, Q, K + 1)`, and how probable that is.

    Returns:
        `(B, 2, Q, K)` float16, high and low parts, both lengths filled up with zeros to blocks; `(B, Q)` float32.
    """
    batch_size, num_queries, num_logits = class_logits.shape
    class_logits = class_logits.contiguous()
    block = sum(class_blocks(num_logits - 1))
    all_queries = triton.cdiv(num_queries, QUERIES) * QUERIES
    all_classes = triton.cdiv(num_logits - 1, block) * block
    relative = class_logits.new_empty(batch_size, 2, all_queries, all_classes, dtype=torch.float16)
    largest = class_logits.new_empty(batch_size, all_queries, dtype=torch.float32)
    with torch.cuda.device_of(class_logits):
        _probability_kernel[(batch_size * all_queries,)](
            class_logits,
            relative,
            largest,
            num_queries,
            num_logits,
            all_queries,
            ALL_CLASSES=all_classes,
            BLOCK=triton.next_power_of_2(max(num_logits, all_classes)),
        )
    return relative, largest


@triton.jit
def _split(factor):
    """Two float16 whose sum is the factor, but for 1e-8 and 1e-7 of it."""
    high = factor.to(tl.float16)
    return high, (factor - high.to(tl.float32)).to(tl.float16)


@triton.jit(do_not_specialize=["num_queries", "num_logits", "all_queries"])
def _probability_kernel(
    class_logits,  # (B, Q, K + 1)
    relative,  # (B, 2, all_queries, ALL_CLASSES) float16, result
    largest,  # (B, all_queries) float32, result
    num_queries,
    num_logits,
    all_queries,
    ALL_CLASSES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each program writes the probabilities of one query."""
    image, query = (tl.program_id(0) // all_queries).to(tl.int64), tl.program_id(0) % all_queries
    number = tl.arange(0, BLOCK)
    class_logits += (image * num_queries + tl.minimum(query, num_queries - 1)) * num_logits
    logit = tl.load(class_logits + number, mask=number < num_logits, other=float("-inf")).to(tl.float32)
    is_class = number < num_logits - 1
    best = tl.max(tl.where(is_class, logit, -1e38), 0)
    probability = tl.where(query < num_queries, 1 / tl.sum(tl.exp(logit - best), 0), 0.0)
    tl.store(largest + image * all_queries + query, probability)
    high, low = _split(tl.where(is_class & (query < num_queries), tl.exp(logit - best), 0.0))
    relative += (image * 2 * all_queries + query) * ALL_CLASSES + number
    tl.store(relative, high, mask=number < ALL_CLASSES)
    tl.store(relative + all_queries * ALL_CLASSES, low, mask=number < ALL_CLASSES)


@triton.jit
def _add_products(scores, high, low, places, to_low, CLASSES: tl.constexpr):
    """Scores `(PIXELS, CLASSES)` and what these queries add; `places` `(QUERIES, 1)` is where their classes begin."""
    places += tl.arange(0, CLASSES)[None, :]
    of_classes = tl.load(places)  # (QUERIES, CLASSES)
    scores = tl.dot(low, of_classes, scores)
    scores = tl.dot(high, of_classes, scores)
    return tl.dot(high, tl.load(places + to_low), scores)


@triton.jit
def _better(best, winner, scores, first_class, num_classes, CLASSES: tl.constexpr):
    """The best score and its class `(PIXELS,)` after these classes, the first of equal ones."""
    scores = tl.where((first_class + tl.arange(0, CLASSES) < num_classes)[None, :], scores, -1.0)
    highest, place = tl.max(scores, 1, return_indices=True)
    winner = tl.where(highest > best, first_class + place, winner)
    return tl.maximum(best, highest), winner


@triton.jit(do_not_specialize=["num_queries", "num_classes", "tiles", *SIZES])
def _class_kernel(
    relative,  # (B, 2, ALL_QUERIES, ALL_CLASSES) float16
    largest,  # (B, ALL_QUERIES) float32
    classes,  # (B, H, W) int64, result
    num_queries,
    num_classes,
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
    ALL_QUERIES: tl.constexpr,
    ALL_CLASSES: tl.constexpr,
    QUERIES: tl.constexpr,
    MAIN: tl.constexpr,
    EXTRA: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Each program decides some pixels of one image."""
    image = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = (tl.program_id(0) % tiles) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < num_rows * num_columns
    maps += image * image_stride
    relative += image * 2 * ALL_QUERIES * ALL_CLASSES
    largest += image * ALL_QUERIES
    best = tl.full([PIXELS], -1.0, tl.float32)
    winner = tl.full([PIXELS], 0, tl.int32)
    for first_class in range(0, num_classes, MAIN + EXTRA):
        scores = tl.zeros([PIXELS, MAIN], tl.float32)
        if EXTRA > 0:
            more_scores = tl.zeros([PIXELS, EXTRA], tl.float32)
        unit = tl.full([PIXELS], LEAST, tl.float32)  # of the scores
        for first_query in range(0, num_queries, QUERIES):
            query = first_query + tl.arange(0, QUERIES)
            values = resized(
                (maps + query.to(tl.int64) * query_stride)[None, :],
                pixel[:, None],
                (query < num_queries)[None, :] & inside[:, None],
                row_samples,
                row_weights,
                column_samples,
                column_weights,
                num_rows,
                num_columns,
                row_stride,
                ROW_TAPS,
                COLUMN_TAPS,
            )
            masks = tl.load(largest + query)[None, :] / (1 + tl.exp(-values))  # (PIXELS, QUERIES)
            new_unit = tl.maximum(unit, tl.max(masks, 1))
            high, low = _split(masks / new_unit[:, None])
            shrink = (unit / new_unit)[:, None]
            unit = new_unit
            places = relative + query[:, None] * ALL_CLASSES + first_class
            scores = _add_products(scores * shrink, high, low, places, ALL_QUERIES * ALL_CLASSES, MAIN)
            if EXTRA > 0:
                places += MAIN
                more_scores = _add_products(more_scores * shrink, high, low, places, ALL_QUERIES * ALL_CLASSES, EXTRA)
        best, winner = _better(best, winner, scores, first_class, num_classes, MAIN)
        if EXTRA > 0:
            best, winner = _better(best, winner, more_scores, first_class + MAIN, num_classes, EXTRA)
    classes += image * num_rows * num_columns
    tl.store(classes + pixel, winner.to(tl.int64), mask=inside)
