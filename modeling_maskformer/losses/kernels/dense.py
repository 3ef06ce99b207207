"""Focal and dice sums of matched pairs over every pixel of their targets, and the gradient, in one pass each on a GPU.

A pixel's logit is blended from stride-4 cells where it is needed and its target is read from the id map, so nothing of
the target's size is ever written. Pixels are taken in squares of 4 x 4 between the centres of four neighbouring cells,
since all pixels of a square blend the same four cells:

    cells   0     1     2          pixel 4k + 2 + p blends cells k and k + 1,
    pixels  0123  4567  89AB       the latter with the share (2p + 1) / 8, p = 0 .. 3

The two pixels before the first and the two after the last centre take the nearest cell alone. They make one more
interval, that of the last cell and, since all positions are taken modulo the length, the first.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...targets import void_value
from ..dense import NOWHERE
from ..enlargement import STRIDE
from ..focal_dice import FOCAL_ALPHA
from .focal import answer, blend, derivative

SQUARES = 128  # worked on side by side
STEPS = 8  # times so many squares are summed up by one program
STRIP = 16  # rows of squares that one program of the gradient works through; it has to visit one more
CELLS_AT_ONCE = 1 << 25  # whose gradient is made by one launch: it needs 8 bytes a cell beside the result


class PairSums(torch.autograd.Function):
    """`(M, 4)` float32: the sums of focal loss, probability, probability inside the target, and target.

    The arguments are mask logits `(M, h, w)` at stride 4 of any floating dtype, the image, the segment and the id
    map's layer of each pair, three integer `(M,)`, and id maps `(B, L, H, W)` with void in every layer.
    """

    @staticmethod
    def forward(ctx, mask_logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor, id_maps: Tensor) -> Tensor:
        arguments = [tensor.contiguous() for tensor in (mask_logits, id_maps, images, segments, layers)]
        ctx.save_for_backward(*arguments)
        num_pairs, height, width = mask_logits.shape
        blocks = triton.cdiv(height * width, SQUARES * STEPS)
        sums = mask_logits.new_empty(num_pairs, blocks, 4, dtype=torch.float32)
        if num_pairs:
            with torch.cuda.device_of(mask_logits):
                _sum_kernel[(num_pairs * blocks,)](
                    *arguments, sums, *_sizes(*arguments[:2]), blocks, **_constants(id_maps), STEPS=STEPS
                )
        return sums.sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, by_sums: Tensor) -> tuple[Tensor | None, ...]:
        mask_logits, id_maps, *pairs = ctx.saved_tensors
        by_sums = by_sums.float().contiguous()  # (M, 4)
        num_pairs, height, width = mask_logits.shape
        blocks = triton.cdiv(triton.cdiv(height, STRIP) * width, SQUARES)
        gradient = torch.empty_like(mask_logits)
        pairs_at_once = max(1, CELLS_AT_ONCE // (height * width))
        for start in range(0, num_pairs, pairs_at_once):
            some = slice(start, start + pairs_at_once)
            logits, *numbers = (tensor[some] for tensor in (mask_logits, *pairs))
            # what each cell gets from the squares to its right and to its left
            parts = mask_logits.new_empty(2, *logits.shape, dtype=torch.float32)
            with torch.cuda.device_of(mask_logits):
                _gradient_kernel[(len(logits) * blocks,)](
                    logits,
                    id_maps,
                    *numbers,
                    by_sums[some],
                    *parts,
                    *_sizes(logits, id_maps),
                    blocks,
                    **_constants(id_maps),
                    STRIP=STRIP,
                )
            torch.add(*parts, out=gradient[some])
        return gradient, None, None, None, None


def try_out(device: torch.device) -> None:
    """Compiles the kernels, or raises what keeps them from it."""
    logits = torch.zeros(1, 1, 1, device=device, requires_grad=True)
    number = torch.zeros(1, dtype=torch.int64, device=device)
    torch.autograd.grad(PairSums.apply(logits, number, number, number, number.view(1, 1, 1, 1)).sum(), logits)


def _sizes(mask_logits: Tensor, id_maps: Tensor) -> tuple[int, ...]:
    return (*mask_logits.shape[1:], *id_maps.shape[1:])


def _constants(id_maps: Tensor) -> dict[str, float]:
    names = {"ALPHA": FOCAL_ALPHA, "NOWHERE": NOWHERE, "STRIDE": STRIDE, "SQUARES": SQUARES}
    return {"VOID": void_value(id_maps.dtype), **names}


@triton.jit
def _target(id_maps, images, segments, layers, pair, num_layers, target_height, target_width):
    """Where the pair's id map begins, and its segment's number there."""
    id_map = tl.load(images + pair).to(tl.int64) * num_layers + tl.load(layers + pair)
    return id_maps + id_map * target_height * target_width, tl.load(segments + pair).to(tl.int32) + 1


@triton.jit
def _next(index, length):
    """The cell after this one, which after the last is the first."""
    return tl.where(index + 1 < length, index + 1, 0)


@triton.jit
def _pixel(index, offset: tl.constexpr, length, STRIDE: tl.constexpr):
    """The pixel so far behind the first pixel of an interval between two cells."""
    pixel = STRIDE * index + STRIDE // 2 + offset
    return tl.where(pixel < STRIDE * length, pixel, pixel - STRIDE * length)


@triton.jit
def _share(index, offset: tl.constexpr, length, STRIDE: tl.constexpr):
    """The share of the second of two cells in that pixel."""
    return tl.where(index + 1 < length, (offset + 0.5) / STRIDE, 1.0 * (offset // (STRIDE // 2)))


@triton.jit
def _sum_kernel(
    mask_logits,
    id_maps,
    images,
    segments,
    layers,
    sums,
    height,
    width,
    num_layers,
    target_height,
    target_width,
    blocks,
    VOID: tl.constexpr,
    ALPHA: tl.constexpr,
    NOWHERE: tl.constexpr,
    STRIDE: tl.constexpr,
    SQUARES: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Each program adds up `STEPS * SQUARES` squares of one pair."""
    program = tl.program_id(0)
    pair = (program // blocks).to(tl.int64)
    id_map, number = _target(id_maps, images, segments, layers, pair, num_layers, target_height, target_width)
    mask_logits += pair * height * width
    focal = tl.full([SQUARES], 0.0, tl.float32)
    wrong_sum = tl.full([SQUARES], 0.0, tl.float32)
    wrong_inside = tl.full([SQUARES], 0.0, tl.float32)
    target = tl.full([SQUARES], 0.0, tl.float32)
    for step in range(STEPS):
        square = ((program % blocks) * STEPS + step) * SQUARES + tl.arange(0, SQUARES)
        exists = square < height * width
        row, column = square // width, square % width
        lower, right_column = _next(row, height), _next(column, width)
        upper_left = tl.load(mask_logits + row * width + column, mask=exists, other=0).to(tl.float32)
        upper_right = tl.load(mask_logits + row * width + right_column, mask=exists, other=0).to(tl.float32)
        lower_left = tl.load(mask_logits + lower * width + column, mask=exists, other=0).to(tl.float32)
        lower_right = tl.load(mask_logits + lower * width + right_column, mask=exists, other=0).to(tl.float32)
        for y in tl.static_range(STRIDE):
            pixel_row = _pixel(row, y, height, STRIDE)
            in_rows = exists & (pixel_row < target_height)
            share = _share(row, y, height, STRIDE)
            at_left, at_right = blend(upper_left, lower_left, share), blend(upper_right, lower_right, share)
            for x in tl.static_range(STRIDE):
                pixel_column = _pixel(column, x, width, STRIDE)
                counted = in_rows & (pixel_column < target_width)
                pixel = pixel_row * target_width + pixel_column
                owner = tl.load(id_map + pixel, mask=counted, other=VOID).to(tl.int32)
                inside = tl.where(owner == number, 1.0, 0.0)
                logit = blend(at_left, at_right, _share(column, x, width, STRIDE))
                wrong, _, surprise = answer(logit, inside, owner != VOID, NOWHERE)
                focal += (1 - ALPHA - (1 - 2 * ALPHA) * inside) * wrong * wrong * surprise
                wrong_sum += wrong
                wrong_inside += inside * wrong
                target += inside
    sums += program.to(tl.int64) * 4
    tl.store(sums, tl.sum(focal, 0))
    tl.store(sums + 1, tl.sum(wrong_sum - 2 * wrong_inside + target, 0))  # inside the target, the right probability
    tl.store(sums + 2, tl.sum(target - wrong_inside, 0))
    tl.store(sums + 3, tl.sum(target, 0))


@triton.jit
def _gradient_kernel(
    mask_logits,
    id_maps,
    images,
    segments,
    layers,
    by_sums,
    from_right,
    from_left,
    height,
    width,
    num_layers,
    target_height,
    target_width,
    blocks,
    VOID: tl.constexpr,
    ALPHA: tl.constexpr,
    NOWHERE: tl.constexpr,
    STRIDE: tl.constexpr,
    SQUARES: tl.constexpr,
    STRIP: tl.constexpr,
):
    """Each program goes down a strip of rows in `SQUARES` columns of squares of one pair.

    It writes what cells get from the squares above and below them on one side, so that no two programs write to the
    same place: of the squares above the strip it works out what they give to the strip's first row.
    """
    program = tl.program_id(0)
    pair = (program // blocks).to(tl.int64)
    id_map, number = _target(id_maps, images, segments, layers, pair, num_layers, target_height, target_width)
    by_focal = tl.load(by_sums + pair * 4)
    by_predicted = tl.load(by_sums + pair * 4 + 1)
    by_overlap = tl.load(by_sums + pair * 4 + 2)
    mask_logits += pair * height * width
    from_right += pair * height * width
    from_left += pair * height * width
    strip_column = (program % blocks) * SQUARES + tl.arange(0, SQUARES)
    column, first_row = strip_column % width, (strip_column // width) * STRIP
    right_column = _next(column, width)
    left_from_above = tl.full([SQUARES], 0.0, tl.float32)
    right_from_above = tl.full([SQUARES], 0.0, tl.float32)
    for step in range(STRIP + 1):
        row = first_row + step - 1
        writes = (step > 0) & (row < height)
        row = tl.where(row < 0, height - 1, row)
        exists = (row < height) & (first_row < height)
        lower = _next(row, height)
        upper_left = tl.load(mask_logits + row * width + column, mask=exists, other=0).to(tl.float32)
        upper_right = tl.load(mask_logits + row * width + right_column, mask=exists, other=0).to(tl.float32)
        lower_left = tl.load(mask_logits + lower * width + column, mask=exists, other=0).to(tl.float32)
        lower_right = tl.load(mask_logits + lower * width + right_column, mask=exists, other=0).to(tl.float32)
        to_upper_left = tl.full([SQUARES], 0.0, tl.float32)
        to_upper_right = tl.full([SQUARES], 0.0, tl.float32)
        to_lower_left = tl.full([SQUARES], 0.0, tl.float32)
        to_lower_right = tl.full([SQUARES], 0.0, tl.float32)
        for y in tl.static_range(STRIDE):
            pixel_row = _pixel(row, y, height, STRIDE)
            in_rows = exists & (pixel_row < target_height)
            share = _share(row, y, height, STRIDE)
            at_left, at_right = blend(upper_left, lower_left, share), blend(upper_right, lower_right, share)
            to_left = tl.full([SQUARES], 0.0, tl.float32)
            to_right = tl.full([SQUARES], 0.0, tl.float32)
            for x in tl.static_range(STRIDE):
                pixel_column = _pixel(column, x, width, STRIDE)
                counted = in_rows & (pixel_column < target_width)
                pixel = pixel_row * target_width + pixel_column
                owner = tl.load(id_map + pixel, mask=counted, other=VOID).to(tl.int32)
                inside = tl.where(owner == number, 1.0, 0.0)
                column_share = _share(column, x, width, STRIDE)
                logit = blend(at_left, at_right, column_share)
                wrong, right, surprise = answer(logit, inside, owner != VOID, NOWHERE)
                of_pixel = derivative(inside, wrong, right, surprise, by_focal, by_predicted, by_overlap, ALPHA)
                to_left += of_pixel * (1 - column_share)
                to_right += of_pixel * column_share
            to_upper_left += to_left * (1 - share)
            to_upper_right += to_right * (1 - share)
            to_lower_left += to_left * share
            to_lower_right += to_right * share
        writes = writes & exists
        tl.store(from_right + row * width + column, left_from_above + to_upper_left, mask=writes)
        tl.store(from_left + row * width + right_column, right_from_above + to_upper_right, mask=writes)
        left_from_above, right_from_above = to_lower_left, to_lower_right
