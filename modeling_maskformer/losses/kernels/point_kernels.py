"""The two kernels of `points`, in Triton: sums over the points of each pair, and the gradient of its mask logits."""

from __future__ import annotations

import triton
import triton.language as tl

from .focal import answer, blend, derivative


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
def sum_kernel(
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
def gradient_kernel(
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
