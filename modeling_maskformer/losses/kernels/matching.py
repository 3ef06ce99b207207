"""Matching costs on a GPU: a prediction's pixels are read once, and neither maps of terms nor masks are written.

A program takes some predictions and some segments of an image and works through the pixels in blocks. Of each block it
makes the predictions' terms and the segments' masks, and adds the product of both to what it keeps: the sums of the
terms over every segment. The product of half-precision logits is one of half-precision terms, summed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dense import NOWHERE
from ..focal_dice import FOCAL_ALPHA
from ..targets import TargetMaps
from .focal import answer

QUERIES, PIXELS, SEGMENTS = 16, 64, 128  # of one block at most; matrix units want 16 at least of each


def mask_costs(mask_logits: Sequence[Tensor], maps: TargetMaps) -> tuple[Tensor, Tensor]:
    """Focal and dice cost `(layers, B, Q, S)` float32 each: see `matching.mask_costs`.

    Args:
        mask_logits: layers x `(B, Q, h, w)`.
        maps: the segments at this size, (h, w).
    """
    logits = torch.stack(list(mask_logits))
    num_layers, batch_size, num_queries, height, width = logits.shape
    most = maps.layers.shape[1]
    focal, dice = logits.new_empty(2, num_layers, batch_size, num_queries, most, dtype=torch.float32)
    block = max(16, min(SEGMENTS, triton.next_power_of_2(most)))
    grid = (num_layers * batch_size, triton.cdiv(num_queries, QUERIES), triton.cdiv(most, block))
    with torch.cuda.device_of(logits):
        _costs_kernel[grid](
            logits,
            maps.ids.contiguous(),
            maps.void.contiguous().view(torch.uint8),
            maps.layers.contiguous(),
            maps.masks().flatten(2).sum(2, dtype=torch.float32),
            (~maps.void).flatten(1).sum(1, dtype=torch.float32).clamp_(min=1),
            focal,
            dice,
            batch_size,
            num_queries,
            height * width,
            maps.ids.shape[1],
            most,
            HAS_ONE_LAYER=maps.ids.shape[1] == 1,
            # of float32 logits; PyTorch before 2.9 does not say it here
            PRECISION="tf32" if getattr(torch.backends.cuda.matmul, "fp32_precision", None) == "tf32" else "ieee",
            IS_HALF=logits.dtype in (torch.float16, torch.bfloat16),
            ALPHA=FOCAL_ALPHA,
            NOWHERE=NOWHERE,
            QUERIES=QUERIES,
            PIXELS=PIXELS,
            SEGMENTS=block,
        )
    return focal, dice


def try_out(device: torch.device) -> None:
    """Compiles the kernel in both precisions, or raises what keeps it from one; of 16 pixels, as masks mostly have."""
    ids = torch.zeros(1, 1, 4, 4, dtype=torch.int64, device=device)
    maps = TargetMaps(ids, ids[0] != 0, ids[0, :, 0, :1])
    for dtype in (torch.float16, torch.float32):
        mask_costs([ids.to(dtype)], maps)


@triton.jit(do_not_specialize=["batch_size", "num_queries", "num_id_layers", "num_segments"])
def _costs_kernel(
    logits,  # (layers, B, Q, P)
    ids,  # (B, L, P)
    void,  # (B, P) uint8
    layers,  # (B, S) int64
    areas,  # (B, S) float32
    valid_pixels,  # (B,) float32
    focal_costs,  # (layers, B, Q, S) float32, result
    dice_costs,  # (layers, B, Q, S) float32, result
    batch_size,
    num_queries,
    num_pixels,
    num_id_layers,
    num_segments,
    HAS_ONE_LAYER: tl.constexpr,
    PRECISION: tl.constexpr,
    IS_HALF: tl.constexpr,
    ALPHA: tl.constexpr,
    NOWHERE: tl.constexpr,
    QUERIES: tl.constexpr,
    PIXELS: tl.constexpr,
    SEGMENTS: tl.constexpr,
):
    output = tl.program_id(0)  # of a decoder layer for an image
    image = output % batch_size
    query = tl.program_id(1) * QUERIES + tl.arange(0, QUERIES)
    segment = tl.program_id(2) * SEGMENTS + tl.arange(0, SEGMENTS)
    is_query, is_segment = query < num_queries, segment < num_segments
    rows = output.to(tl.int64) * num_queries + query
    of_query = logits + rows[:, None] * num_pixels  # (QUERIES, 1)
    if HAS_ONE_LAYER:
        of_segment = ids + image.to(tl.int64) * num_pixels
    else:
        layer = tl.load(layers + image * num_segments + segment, mask=is_segment, other=0)
        of_segment = ids + ((image * num_id_layers + layer) * num_pixels)[None, :]  # (1, SEGMENTS)
    void += image.to(tl.int64) * num_pixels
    difference_sums = tl.full([QUERIES, SEGMENTS], 0.0, tl.float32)  # of focal loss inside and outside the target
    overlaps = tl.full([QUERIES, SEGMENTS], 0.0, tl.float32)
    outsides = tl.full([QUERIES, PIXELS], 0.0, tl.float32)
    probabilities = tl.full([QUERIES, PIXELS], 0.0, tl.float32)
    for start in range(0, num_pixels, PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        exists = pixel < num_pixels
        valid = (tl.load(void + pixel, mask=exists, other=1) == 0)[None, :]  # (1, PIXELS)
        logit = tl.load(of_query + pixel[None, :], mask=is_query[:, None] & valid, other=0).to(tl.float32)
        wrong, right, surprise = answer(logit, 0.0, valid, NOWHERE)  # of the answer that it lies outside
        outside = (1 - ALPHA) * wrong * wrong * surprise
        difference = tl.where(valid, ALPHA * right * right * (surprise - logit), 0.0) - outside
        outsides += outside
        probabilities += wrong
        there = exists[:, None] if HAS_ONE_LAYER else exists[:, None] & is_segment[None, :]
        owner = tl.load(of_segment + pixel[:, None], mask=there, other=0).to(tl.int32)
        inside = tl.where(owner == (segment + 1)[None, :], 1.0, 0.0)  # (PIXELS, SEGMENTS)
        if IS_HALF:
            halves = inside.to(tl.float16)
            # bfloat16 logits may be larger than float16 can be, and infinity times 0 would be a cost that is none
            difference = tl.minimum(tl.maximum(difference, -65504.0), 65504.0)
            difference_sums = tl.dot(difference.to(tl.float16), halves, difference_sums)
            overlaps = tl.dot(wrong.to(tl.float16), halves, overlaps)
        else:
            difference_sums = tl.dot(difference, inside, difference_sums, input_precision=PRECISION)
            overlaps = tl.dot(wrong, inside, overlaps, input_precision=PRECISION)
    focal = (difference_sums + tl.sum(outsides, 1)[:, None]) / tl.load(valid_pixels + image)
    area = tl.load(areas + image * num_segments + segment, mask=is_segment, other=0)[None, :]
    dice = 1 - (2 * overlaps + 1) / (tl.sum(probabilities, 1)[:, None] + area + 1)
    places = rows[:, None] * num_segments + segment[None, :]
    stored = is_query[:, None] & is_segment[None, :]
    tl.store(focal_costs + places, focal, mask=stored)
    tl.store(dice_costs + places, dice, mask=stored)
