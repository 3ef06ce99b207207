"""Focal and dice sums of matched pairs at their points, and the gradient, in one kernel each on a GPU.

The candidates are sorted by the cell of the mask logits in which they lie. Then neighbouring threads read neighbouring
cells, and the gradient of a cell is a sum over runs of candidates, without atomic operations.

Which candidates of a mask are least certain need not be written down. It is enough to know the largest distance from 0
among the k chosen logits, which is found by bisection: the bits of numbers that are not negative are in the order of
the numbers. Candidates at just this distance share what is left of k evenly. Each program keeps the candidates' logits
of the one mask that it works on, so that nothing grows with the number of masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dense import NOWHERE
from ..focal_dice import FOCAL_ALPHA
from ..point_sampling import Candidates
from .focal import answer, blend, derivative

CANDIDATES = 1024  # worked on side by side
CELLS = 256  # the same of the gradient
STRIP = 16  # rows of cells that one thread of the gradient goes down; it has to visit one more
SUM_WARPS, GRADIENT_WARPS = 16, 8
SUM_PROGRAMS, GRADIENT_PROGRAMS = 3, 5  # on each of the GPU's processors, as many as their registers allow


@dataclass
class SortedCandidates:
    """The C candidates of a batch in the order of the cells in which they lie.

    Attributes:
        positions: `(2, C)` float32, x and y in cells from the centre of the first one, 0 .. length - 1.
        starts: `(h * w + 1,)` int32, the first candidate with its four cells from each one to the right and below.
        ids: `(B, L, C)`, the segment's id under each point, -1 at void.
        kinds: `(B, C)` uint8: 0 at void, 2 where it is a uniform point, 1 where it may be an important one only.
        num_important: `(B,)` int64.
        most_important: of an image without void.
    """

    positions: Tensor
    starts: Tensor
    ids: Tensor
    kinds: Tensor
    num_important: Tensor
    most_important: int


def sort_candidates(candidates: Candidates, size: tuple[int, int]) -> SortedCandidates:
    """The candidates for mask logits of `size` (h, w)."""
    height, width = size
    x, y = (
        candidates.points[:, axis].mul(length).sub_(0.5).clamp_(0, length - 1)
        for axis, length in enumerate((width, height))
    )
    cells, order = (y.int() * width + x.int()).sort()
    numbers = torch.arange(height * width + 1, dtype=torch.int32, device=cells.device)
    valid = ~candidates.void
    is_uniform = valid & (valid.cumsum(1) <= candidates.num_uniform[:, None])
    return SortedCandidates(
        positions=torch.stack((x, y)).index_select(1, order),
        starts=torch.searchsorted(cells, numbers, out_int32=True),
        ids=candidates.ids.index_select(2, order),
        kinds=torch.add(valid.to(torch.uint8), is_uniform).index_select(1, order),
        num_important=candidates.num_important,
        most_important=candidates.most_important,
    )


def pair_sums(
    mask_logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor, candidates: SortedCandidates
) -> Tensor:
    """`(M, 4)` float32: the sums of focal loss, probability, probability inside the target, and target.

    The arguments are mask logits `(M, h, w)` of any floating dtype, and the image, the segment and the id map's layer
    of each pair, three int64 `(M,)`.
    """
    of_batch = (candidates.positions, candidates.ids, candidates.kinds, candidates.num_important)
    return _PairSums.apply(
        mask_logits, images, segments, layers, *of_batch, candidates.starts, candidates.most_important > 0
    )


def try_out(device: torch.device) -> None:
    """Compiles the kernels, or raises what keeps them from it."""
    logits = torch.zeros(1, 1, 1, device=device, requires_grad=True)
    number = torch.zeros(1, dtype=torch.int64, device=device)
    candidates = SortedCandidates(
        positions=logits.detach().view(1, 1).expand(2, 1),
        starts=torch.arange(2, dtype=torch.int32, device=device),
        ids=number.view(1, 1, 1),
        kinds=number.view(1, 1).to(torch.uint8),
        num_important=number,
        most_important=1,
    )
    torch.autograd.grad(pair_sums(logits, number, number, number, candidates).sum(), logits)


class _PairSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        mask_logits: Tensor,
        images: Tensor,
        segments: Tensor,
        layers: Tensor,
        positions: Tensor,
        ids: Tensor,
        kinds: Tensor,
        num_important: Tensor,
        starts: Tensor,
        has_important: bool,
    ) -> Tensor:
        arguments = (mask_logits, images, segments, layers, positions, ids, kinds)
        arguments = [tensor.contiguous() for tensor in arguments]
        num_pairs, num_candidates = len(mask_logits), positions.shape[1]
        sums = mask_logits.new_empty(num_pairs, 4, dtype=torch.float32)
        limits = mask_logits.new_empty(num_pairs, dtype=torch.int32)
        shares = mask_logits.new_empty(num_pairs, dtype=torch.float32)
        programs = _num_programs(mask_logits, SUM_PROGRAMS)
        logits = limits.new_empty(programs, num_candidates if has_important else 0)
        if num_pairs:
            with torch.cuda.device_of(mask_logits):
                _sum_kernel[(programs,)](
                    *arguments,
                    num_important,
                    logits,
                    sums,
                    limits,
                    shares,
                    *_sizes(mask_logits, ids),
                    **_constants(has_important),
                    CANDIDATES=CANDIDATES,
                    num_warps=SUM_WARPS,
                )
        ctx.save_for_backward(*arguments, starts, limits, shares)
        ctx.has_important = has_important
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, by_sums: Tensor) -> tuple[Tensor | None, ...]:
        mask_logits, *_, ids, _, _, _, _ = ctx.saved_tensors
        programs = _num_programs(mask_logits, GRADIENT_PROGRAMS)
        # what each cell gets from the candidates to its right and to its left
        parts = mask_logits.new_empty(programs, 2, *mask_logits.shape[1:], dtype=torch.float32)
        gradient = torch.empty_like(mask_logits)
        if len(mask_logits):
            with torch.cuda.device_of(mask_logits):
                _gradient_kernel[(programs,)](
                    *ctx.saved_tensors,
                    by_sums.float().contiguous(),
                    parts,
                    gradient,
                    *_sizes(mask_logits, ids),
                    **_constants(ctx.has_important),
                    CELLS=CELLS,
                    STRIP=STRIP,
                    num_warps=GRADIENT_WARPS,
                )
        return gradient, *[None] * 9


def _num_programs(mask_logits: Tensor, on_each: int) -> int:
    """At most as many as work at one time, `on_each` processor, which take pair after pair."""
    device = mask_logits.device
    # without a GPU they are interpreted, one after the other
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return min(on_each * processors, max(1, len(mask_logits)))


def _sizes(mask_logits: Tensor, ids: Tensor) -> tuple[int, ...]:
    return (*mask_logits.shape, *ids.shape[1:])


def _constants(has_important: bool) -> dict[str, float]:
    return {"ALPHA": FOCAL_ALPHA, "NOWHERE": NOWHERE, "HAS_IMPORTANT": has_important, "LARGEST": 2**31 - 1}


@triton.jit
def _interpolate(upper_left, upper_right, lower_left, lower_right, x_share, y_share):
    """The same in both kernels, to the last bit: what is chosen depends on it."""
    return blend(blend(upper_left, upper_right, x_share), blend(lower_left, lower_right, x_share), y_share)


@triton.jit
def _sample(mask_logits, positions, candidate, exists, num_candidates, height, width):
    """The logits of a mask at some candidates."""
    x = tl.load(positions + candidate, mask=exists, other=0)
    y = tl.load(positions + num_candidates + candidate, mask=exists, other=0)
    column, row = x.to(tl.int32), y.to(tl.int32)
    right_column, lower = tl.minimum(column + 1, width - 1), tl.minimum(row + 1, height - 1)
    upper_left = tl.load(mask_logits + row * width + column, mask=exists, other=0).to(tl.float32)
    upper_right = tl.load(mask_logits + row * width + right_column, mask=exists, other=0).to(tl.float32)
    lower_left = tl.load(mask_logits + lower * width + column, mask=exists, other=0).to(tl.float32)
    lower_right = tl.load(mask_logits + lower * width + right_column, mask=exists, other=0).to(tl.float32)
    x_share, y_share = x - column.to(tl.float32), y - row.to(tl.float32)
    return _interpolate(upper_left, upper_right, lower_left, lower_right, x_share, y_share)


@triton.jit
def _bits(logit, LARGEST: tl.constexpr):
    """Integers in the order of the distances from 0."""
    return logit.to(tl.int32, bitcast=True) & LARGEST


@triton.jit
def _weight(kind, bits, limit, share):
    """How often a candidate counts: as a uniform point, and as an important one."""
    important = tl.where(bits < limit, 1.0, tl.where(bits == limit, share, 0.0))
    return tl.where(kind > 0, important + tl.where(kind == 2, 1.0, 0.0), 0.0)


@triton.jit(do_not_specialize=["num_pairs", "num_layers"])
def _sum_kernel(
    mask_logits,  # (M, h, w)
    images,  # (M,) int64
    segments,  # (M,) int64
    layers,  # (M,) int64
    positions,  # (2, C) float32
    ids,  # (B, L, C)
    kinds,  # (B, C) uint8
    num_important,  # (B,) int64
    logits,  # (programs, C) int32, the bits of float32 logits, the largest integer at void
    sums,  # (M, 4) float32, result
    limits,  # (M,) int32, result: bits of the largest distance from 0 among the important points
    shares,  # (M,) float32, result: how often a candidate at this distance counts as one of them
    num_pairs,
    height,
    width,
    num_layers,
    num_candidates,
    ALPHA: tl.constexpr,
    NOWHERE: tl.constexpr,
    HAS_IMPORTANT: tl.constexpr,
    LARGEST: tl.constexpr,
    CANDIDATES: tl.constexpr,
):
    """Each program takes every so many-th pair."""
    pair = tl.program_id(0)
    logits += pair.to(tl.int64) * num_candidates
    while pair < num_pairs:
        image = tl.load(images + pair)
        of_mask = mask_logits + pair.to(tl.int64) * height * width
        of_map = ids + (image * num_layers + tl.load(layers + pair)) * num_candidates
        of_image = kinds + image * num_candidates
        number = tl.load(segments + pair).to(tl.int32) + 1
        wanted = tl.load(num_important + image).to(tl.int32)
        high, share = wanted * 0 - 1, 0.0
        if HAS_IMPORTANT:
            lowest = tl.full([CANDIDATES], LARGEST, tl.int32)
            highest = tl.full([CANDIDATES], 0, tl.int32)
            num_valid = tl.full([CANDIDATES], 0, tl.int32)
            for start in range(0, num_candidates, CANDIDATES):
                candidate = start + tl.arange(0, CANDIDATES)
                exists = candidate < num_candidates
                valid = tl.load(of_image + candidate, mask=exists, other=0) > 0
                logit = _sample(of_mask, positions, candidate, exists, num_candidates, height, width)
                bits = _bits(logit, LARGEST)
                lowest = tl.minimum(lowest, tl.where(valid, bits, LARGEST))
                highest = tl.maximum(highest, tl.where(valid, bits, 0))
                num_valid += valid.to(tl.int32)
                tl.store(logits + candidate, tl.where(valid, logit.to(tl.int32, bitcast=True), LARGEST), mask=exists)
            tl.debug_barrier()
            # the limit is in low .. high; `below` candidates lie before low, `upto` not behind high
            low, high = tl.min(lowest, 0), tl.max(highest, 0)
            below, upto = wanted * 0, tl.sum(num_valid, 0)
            while (low < high) & (upto != wanted):
                quarter, half = (high - low) >> 2, (high - low) >> 1
                limit_1, limit_2, limit_3 = low + quarter, low + half, low + half + quarter
                upto_1 = tl.full([CANDIDATES], 0, tl.int32)
                upto_2 = tl.full([CANDIDATES], 0, tl.int32)
                upto_3 = tl.full([CANDIDATES], 0, tl.int32)
                for start in range(0, num_candidates, CANDIDATES):
                    candidate = start + tl.arange(0, CANDIDATES)
                    bits = tl.load(logits + candidate, mask=candidate < num_candidates, other=LARGEST) & LARGEST
                    upto_1 += (bits <= limit_1).to(tl.int32)
                    upto_2 += (bits <= limit_2).to(tl.int32)
                    upto_3 += (bits <= limit_3).to(tl.int32)
                count_1, count_2, count_3 = tl.sum(upto_1, 0), tl.sum(upto_2, 0), tl.sum(upto_3, 0)
                # from the last part to the first, so that the first one that reaches far enough is taken
                next_low, next_below, next_high, next_upto = limit_3 + 1, count_3, high, upto
                reaches = count_3 >= wanted
                next_low, next_below = tl.where(reaches, limit_2 + 1, next_low), tl.where(reaches, count_2, next_below)
                next_high, next_upto = tl.where(reaches, limit_3, next_high), tl.where(reaches, count_3, next_upto)
                reaches = count_2 >= wanted
                next_low, next_below = tl.where(reaches, limit_1 + 1, next_low), tl.where(reaches, count_1, next_below)
                next_high, next_upto = tl.where(reaches, limit_2, next_high), tl.where(reaches, count_2, next_upto)
                reaches = count_1 >= wanted
                low, below = tl.where(reaches, low, next_low), tl.where(reaches, below, next_below)
                high, upto = tl.where(reaches, limit_1, next_high), tl.where(reaches, count_1, next_upto)
            share = (wanted - below).to(tl.float32) / tl.maximum(upto - below, 1).to(tl.float32)
            tl.store(limits + pair, high)
            tl.store(shares + pair, share)
        focal = tl.full([CANDIDATES], 0.0, tl.float32)
        wrong_sum = tl.full([CANDIDATES], 0.0, tl.float32)
        wrong_inside = tl.full([CANDIDATES], 0.0, tl.float32)
        target = tl.full([CANDIDATES], 0.0, tl.float32)
        for start in range(0, num_candidates, CANDIDATES):
            candidate = start + tl.arange(0, CANDIDATES)
            exists = candidate < num_candidates
            kind = tl.load(of_image + candidate, mask=exists, other=0)
            if HAS_IMPORTANT:
                logit = tl.load(logits + candidate, mask=exists, other=0).to(tl.float32, bitcast=True)
            else:
                logit = _sample(of_mask, positions, candidate, exists, num_candidates, height, width)
            weight = _weight(kind, _bits(logit, LARGEST), high, share)
            owner = tl.load(of_map + candidate, mask=exists, other=-1).to(tl.int32)
            inside = tl.where(owner == number, 1.0, 0.0)
            wrong, _, surprise = answer(logit, inside, weight > 0, NOWHERE)
            focal += weight * (1 - ALPHA - (1 - 2 * ALPHA) * inside) * wrong * wrong * surprise
            wrong_sum += weight * wrong
            wrong_inside += weight * inside * wrong
            target += weight * inside
        of_pair = sums + pair.to(tl.int64) * 4
        tl.store(of_pair, tl.sum(focal, 0))
        tl.store(of_pair + 1, tl.sum(wrong_sum - 2 * wrong_inside + target, 0))  # inside, the right probability
        tl.store(of_pair + 2, tl.sum(target - wrong_inside, 0))
        tl.store(of_pair + 3, tl.sum(target, 0))
        tl.debug_barrier()  # before the next pair's logits take the place of this one's
        pair += tl.num_programs(0)


@triton.jit(do_not_specialize=["num_pairs", "num_layers"])
def _gradient_kernel(
    mask_logits,  # (M, h, w)
    images,  # (M,) int64
    segments,  # (M,) int64
    layers,  # (M,) int64
    positions,  # (2, C) float32
    ids,  # (B, L, C)
    kinds,  # (B, C) uint8
    starts,  # (h * w + 1,) int32
    limits,  # (M,) int32
    shares,  # (M,) float32
    by_sums,  # (M, 4) float32
    parts,  # (programs, 2, h, w) float32
    gradient,  # (M, h, w), result
    num_pairs,
    height,
    width,
    num_layers,
    num_candidates,
    ALPHA: tl.constexpr,
    NOWHERE: tl.constexpr,
    HAS_IMPORTANT: tl.constexpr,
    LARGEST: tl.constexpr,
    CELLS: tl.constexpr,
    STRIP: tl.constexpr,
):
    """Each program takes every so many-th pair and goes down its strips of rows, `CELLS` columns at a time.

    A column of a strip looks at the candidates between its cells, and those between the cells of the row above the
    strip, and sums up what they give to the cells on their left and on their right.
    """
    pair = tl.program_id(0)
    from_right = parts + pair.to(tl.int64) * 2 * height * width
    from_left = from_right + height * width
    num_columns = tl.cdiv(height, STRIP) * width  # of all strips
    while pair < num_pairs:
        image = tl.load(images + pair)
        of_mask = mask_logits + pair.to(tl.int64) * height * width
        of_map = ids + (image * num_layers + tl.load(layers + pair)) * num_candidates
        of_image = kinds + image * num_candidates
        number = tl.load(segments + pair).to(tl.int32) + 1
        by_focal = tl.load(by_sums + pair.to(tl.int64) * 4)
        by_predicted = tl.load(by_sums + pair.to(tl.int64) * 4 + 1)
        by_overlap = tl.load(by_sums + pair.to(tl.int64) * 4 + 2)
        limit, share = -1, 0.0
        if HAS_IMPORTANT:
            limit, share = tl.load(limits + pair), tl.load(shares + pair)
        for start in range(0, num_columns, CELLS):
            strip_column = start + tl.arange(0, CELLS)
            column, first_row = strip_column % width, (strip_column // width) * STRIP
            right_column = tl.minimum(column + 1, width - 1)
            left_from_above = tl.full([CELLS], 0.0, tl.float32)
            right_from_above = tl.full([CELLS], 0.0, tl.float32)
            for step in range(STRIP + 1):
                row = first_row + step - 1
                exists = (row >= 0) & (row < height) & (strip_column < num_columns)
                lower = tl.minimum(row + 1, height - 1)
                cell = row * width + column
                upper_left = tl.load(of_mask + cell, mask=exists, other=0).to(tl.float32)
                upper_right = tl.load(of_mask + row * width + right_column, mask=exists, other=0).to(tl.float32)
                lower_left = tl.load(of_mask + lower * width + column, mask=exists, other=0).to(tl.float32)
                lower_right = tl.load(of_mask + lower * width + right_column, mask=exists, other=0).to(tl.float32)
                candidate = tl.load(starts + cell, mask=exists, other=0)
                end = tl.load(starts + cell + 1, mask=exists, other=0)
                to_upper_left = tl.full([CELLS], 0.0, tl.float32)
                to_upper_right = tl.full([CELLS], 0.0, tl.float32)
                to_lower_left = tl.full([CELLS], 0.0, tl.float32)
                to_lower_right = tl.full([CELLS], 0.0, tl.float32)
                most = tl.max(end - candidate, 0)
                for _ in range(0, most):
                    there = candidate < end
                    x_share = tl.load(positions + candidate, mask=there, other=0) - column.to(tl.float32)
                    y_share = tl.load(positions + num_candidates + candidate, mask=there, other=0) - row.to(tl.float32)
                    kind = tl.load(of_image + candidate, mask=there, other=0)
                    owner = tl.load(of_map + candidate, mask=there, other=-1).to(tl.int32)
                    logit = _interpolate(upper_left, upper_right, lower_left, lower_right, x_share, y_share)
                    weight = _weight(kind, _bits(logit, LARGEST), limit, share)
                    inside = tl.where(owner == number, 1.0, 0.0)
                    wrong, right, surprise = answer(logit, inside, weight > 0, NOWHERE)
                    of_point = weight * derivative(
                        inside, wrong, right, surprise, by_focal, by_predicted, by_overlap, ALPHA
                    )
                    to_left, to_right = of_point * (1 - x_share), of_point * x_share
                    to_upper_left += to_left * (1 - y_share)
                    to_upper_right += to_right * (1 - y_share)
                    to_lower_left += to_left * y_share
                    to_lower_right += to_right * y_share
                    candidate += 1
                writes = exists & (row >= first_row)
                tl.store(from_right + cell, left_from_above + to_upper_left, mask=writes)
                tl.store(from_left + cell + 1, right_from_above + to_upper_right, mask=writes & (column + 1 < width))
                left_from_above, right_from_above = to_lower_left, to_lower_right
        tl.debug_barrier()
        for start in range(0, height * width, CELLS):
            cell = start + tl.arange(0, CELLS)
            exists = cell < height * width
            of_cell = tl.load(from_right + cell, mask=exists, other=0)
            of_cell += tl.load(from_left + cell, mask=exists & (cell % width > 0), other=0)
            tl.store(gradient + pair.to(tl.int64) * height * width + cell, of_cell, mask=exists)
        tl.debug_barrier()  # before the next pair's parts take the place of this one's
        pair += tl.num_programs(0)
