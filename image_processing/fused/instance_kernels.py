"""Instance inference in kernels that resize where they look: first areas and scores, then only what is asked for.

The host reads one small table of areas, sums and class scores, whatever the number of images, and chooses the
instances. Their masks are never kept: an id map or the binary masks are made of the mask logits when they are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ..resampling import Taps
from .resizing import SIZES, resized, resizing_arguments

PIXELS = 1024  # of one program that measures a mask
DRAWN = 512  # pixels of one program that draws
UNIT = tl.constexpr(float(1 << 24))  # sums are counted in integers of this part of one: their order does not matter


@dataclass(frozen=True)
class ResizedMasks:
    """Where resized maps are above a least value, drawn on demand; the masks are numbered as the queries.

    Attributes:
        logits: `(1, Q, h, w)`.
        rows, columns: how they are resized to H x W.
        least: pixels of a mask are above this.
    """

    logits: Tensor
    rows: Taps
    columns: Taps
    least: float

    def select(self, numbers: Tensor) -> Tensor:
        """`(n, H, W)` bool: the masks of these numbers, `(n,)` int64."""
        masks = torch.empty(
            len(numbers), len(self.rows), len(self.columns), dtype=torch.bool, device=self.logits.device
        )
        if len(numbers):
            self._draw(_mask_kernel, numbers, masks.view(torch.uint8), len(numbers))
        return masks

    def first(self, numbers: Tensor) -> Tensor:
        """`(H, W)` int32: the place in `numbers` of the first whose mask has a pixel, -1 where none has."""
        ids = torch.empty(len(self.rows), len(self.columns), dtype=torch.int32, device=self.logits.device)
        self._draw(_id_kernel, numbers, ids, 1)
        return ids

    def _draw(self, kernel: triton.JITFunction, numbers: Tensor, result: Tensor, num_results: int) -> None:
        tiles = triton.cdiv(len(self.rows) * len(self.columns), DRAWN)
        with torch.cuda.device_of(self.logits):
            kernel[(num_results * tiles,)](
                queries=numbers,
                result=result,
                num_queries=len(numbers),
                least=self.least,
                tiles=tiles,
                **resizing_arguments(self.logits, self.rows, self.columns),
                PIXELS=DRAWN,
            )


def find_instances(
    class_logits: Tensor, mask_logits: Tensor, rows: Taps, columns: Taps, threshold: float, least: float
) -> Iterator[tuple[list[float], list[int], ResizedMasks, Tensor]]:
    """The instances of each image, best first, of logits `(B, Q, K + 1)` and `(B, Q, h, w)`; the host waits once.

    Args:
        threshold: the least score.
        least: pixels of a mask have a logit above this.

    Yields:
        Scores and classes of the instances; the masks of the queries; `(n,)` int64, the query of each instance.
    """
    class_logits, threshold = class_logits.contiguous(), float(threshold)
    batch_size, num_queries, num_logits = class_logits.shape
    numbers = batch_size * num_queries
    device = mask_logits.device
    # One piece of memory, for one copy to the host: pairs and sums of 8 bytes, class scores and areas of 4.
    table = torch.empty(24 * numbers, dtype=torch.uint8, device=device)
    pairs, sums, class_scores, areas = _parts(table, (torch.int64, torch.int64, torch.float32, torch.int32), numbers)
    probabilities = torch.empty(batch_size, num_queries * (num_logits - 1), dtype=torch.float32, device=device)
    best = torch.empty(numbers, dtype=torch.float32, device=device)
    tiles = triton.cdiv(len(rows) * len(columns), PIXELS)
    with torch.cuda.device_of(mask_logits):
        _probability_kernel[(numbers,)](
            class_logits, probabilities, best, areas, sums, num_logits, BLOCK=triton.next_power_of_2(num_logits)
        )
        _area_kernel[(numbers * tiles,)](
            best=best,
            areas=areas,
            sums=sums,
            num_queries=num_queries,
            threshold=threshold,
            least=least,
            tiles=tiles,
            **resizing_arguments(mask_logits, rows, columns),
            PIXELS=PIXELS,
        )
    shape = (batch_size, num_queries)
    torch.topk(probabilities, num_queries, out=(class_scores.view(shape), pairs.view(shape)))

    parts = _parts(table.cpu(), (torch.int64, torch.int64, torch.float32, torch.int32), numbers)
    pairs, sums, class_scores, areas = (part.view(shape).numpy() for part in parts)
    queries, labels = np.divmod(pairs, num_logits - 1)
    means = sums / np.float32(UNIT.value) / np.maximum(areas, 1)  # (B, Q) float64
    scores = class_scores * np.take_along_axis(means, queries, axis=1).astype(np.float32)
    found = (class_scores >= threshold) & (np.take_along_axis(areas, queries, axis=1) > 0) & (scores >= threshold)
    orders = np.argsort(-np.where(found, scores, -1), axis=1, kind="stable")
    orders = [order[: of_image.sum()] for order, of_image in zip(orders, found, strict=True)]
    chosen = np.concatenate([of_image[order] for of_image, order in zip(queries, orders, strict=True)])
    chosen = torch.from_numpy(chosen).to(device, non_blocking=True).split([len(order) for order in orders])
    for image, (order, of_image) in enumerate(zip(orders, chosen, strict=True)):
        masks = ResizedMasks(mask_logits[image : image + 1], rows, columns, least)
        yield scores[image, order].tolist(), labels[image, order].tolist(), masks, of_image


def _parts(table: Tensor, dtypes: tuple[torch.dtype, ...], count: int) -> list[Tensor]:
    """Pieces of `count` numbers each, one after the other, of a table of bytes."""
    pieces = table.split([count * dtype.itemsize for dtype in dtypes])
    return [piece.view(dtype) for piece, dtype in zip(pieces, dtypes, strict=True)]


@triton.jit(do_not_specialize=["areas", "sums", "num_logits"])
def _probability_kernel(
    class_logits,  # (B, Q, K + 1)
    probabilities,  # (B, Q * K) float32, result
    best,  # (B * Q,) float32, the largest of each query's, result
    areas,  # (B * Q,) int32, set to 0
    sums,  # (B * Q,) int64, set to 0
    num_logits,
    BLOCK: tl.constexpr,
):
    """Each program writes what one query gives to the classes."""
    query = tl.program_id(0).to(tl.int64)
    number = tl.arange(0, BLOCK)
    logits = tl.load(class_logits + query * num_logits + number, mask=number < num_logits, other=float("-inf"))
    logits = logits.to(tl.float32)
    shares = tl.exp(logits - tl.max(logits, 0))
    shares = shares / tl.sum(shares, 0)
    is_class = number < num_logits - 1
    tl.store(probabilities + query * (num_logits - 1) + number, shares, mask=is_class)
    tl.store(best + query, tl.max(tl.where(is_class, shares, 0.0), 0))
    tl.store(areas + query, 0)
    tl.store(sums + query, tl.zeros([], tl.int64))


@triton.jit(do_not_specialize=["areas", "sums", "num_queries", "threshold", "least", "tiles", *SIZES])
def _area_kernel(
    best,  # (B * Q,) float32
    areas,  # (B * Q,) int32, added to
    sums,  # (B * Q,) int64, added to
    num_queries,
    threshold,
    least,
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
    PIXELS: tl.constexpr,
):
    """Each program measures some pixels of one query's mask, unless no class of it can reach the threshold."""
    number = tl.program_id(0) // tiles
    pixel = (tl.program_id(0) % tiles) * PIXELS + tl.arange(0, PIXELS)
    if tl.load(best + number) >= threshold:
        image, query = (number // num_queries).to(tl.int64), (number % num_queries).to(tl.int64)
        exists = pixel < num_rows * num_columns
        values = resized(
            maps + image * image_stride + query * query_stride,
            pixel,
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
        )
        inside = exists & (values > least)
        area = tl.sum(inside.to(tl.int32), 0)
        if area > 0:
            total = tl.sum(tl.where(inside, 1 / (1 + tl.exp(-values)), 0.0), 0)
            tl.atomic_add(areas + number, area, sem="relaxed")
            tl.atomic_add(sums + number, (total * UNIT).to(tl.int64), sem="relaxed")


@triton.jit(do_not_specialize=["queries", "num_queries", "least", "tiles", *SIZES])
def _id_kernel(
    queries,  # (n,) int64
    result,  # (H, W) int32
    num_queries,
    least,
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
    PIXELS: tl.constexpr,
):
    """Each program finds the first mask at each of some pixels."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    exists = pixel < num_rows * num_columns
    owner = tl.full([PIXELS], -1, tl.int32)
    for place in range(0, num_queries):
        values = resized(
            maps + tl.load(queries + place) * query_stride,
            pixel,
            exists & (owner < 0),
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
        owner = tl.where((owner < 0) & (values > least), place, owner)
    tl.store(result + pixel, owner, mask=exists)


@triton.jit(do_not_specialize=["queries", "num_queries", "least", "tiles", *SIZES])
def _mask_kernel(
    queries,  # (n,) int64
    result,  # (n, H, W) uint8
    num_queries,
    least,
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
    PIXELS: tl.constexpr,
):
    """Each program writes some pixels of one mask."""
    place = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = (tl.program_id(0) % tiles) * PIXELS + tl.arange(0, PIXELS)
    exists = pixel < num_rows * num_columns
    values = resized(
        maps + tl.load(queries + place) * query_stride,
        pixel,
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
    )
    tl.store(result + place * num_rows * num_columns + pixel, (values > least).to(tl.uint8), mask=exists)
