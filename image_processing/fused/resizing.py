"""Resizing inside a kernel: each pixel blends the few samples of a map that its taps name."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..resampling import LEAST_LOGIT, Taps
from ..size_tables import size_table

LEAST = tl.constexpr(LEAST_LOGIT)

# Arguments of kernels that differ from image to image: a kernel is not compiled anew for values that suit it better.
SIZES = ["maps", "num_rows", "num_columns", "image_stride", "query_stride", "row_stride"]


def resizing_arguments(maps: Tensor, rows: Taps, columns: Taps) -> dict[str, Any]:
    """The arguments of a kernel that resizes maps `(B, Q, h, w)` of any floating dtype."""
    maps = maps if maps.stride(-1) == 1 else maps.contiguous()
    row_samples, row_weights = _tap_table(rows, maps.device)
    column_samples, column_weights = _tap_table(columns, maps.device)
    return {
        "maps": maps,
        "row_samples": row_samples,
        "row_weights": row_weights,
        "column_samples": column_samples,
        "column_weights": column_weights,
        "num_rows": len(rows),
        "num_columns": len(columns),
        "image_stride": maps.stride(0),
        "query_stride": maps.stride(1),
        "row_stride": maps.stride(2),
        "ROW_TAPS": len(row_weights),
        "COLUMN_TAPS": len(column_weights),
    }


@size_table(maxsize=64)
def _tap_table(taps: Taps, device: torch.device) -> tuple[Tensor, Tensor]:
    """`(n, T)` int32 samples and `(n, T)` float32 weights, without the last taps if nowhere they have any weight."""
    num_taps = int(taps.weights.any(0).nonzero().max()) + 1  # a result of the image's own size needs two of three
    samples = taps.first + torch.arange(num_taps)[:, None]
    samples = samples.clamp(0, taps.length - 1).to(torch.int32).contiguous()
    weights = taps.weights[:, :num_taps].T.to(torch.float32).contiguous()
    return samples.to(device), weights.to(device)


@triton.jit
def resized(
    maps,  # pointers to the first sample of each map
    pixel,  # numbers of pixels of the result; broadcast with `maps`
    exists,  # whether there is such a pixel of such a map
    row_samples,
    row_weights,
    column_samples,
    column_weights,
    num_rows,
    num_columns,
    row_stride,
    ROW_TAPS: tl.constexpr,
    COLUMN_TAPS: tl.constexpr,
):
    """The values of maps at pixels of the result, float32, 0 where there is none."""
    inside = pixel < num_rows * num_columns
    row, column = pixel // num_columns, pixel % num_columns
    for i in tl.static_range(ROW_TAPS):
        row_sample = tl.load(row_samples + i * num_rows + row, mask=inside, other=0) * row_stride
        row_weight = tl.load(row_weights + i * num_rows + row, mask=inside, other=0)
        for j in tl.static_range(COLUMN_TAPS):
            sample = row_sample + tl.load(column_samples + j * num_columns + column, mask=inside, other=0)
            weight = tl.load(column_weights + j * num_columns + column, mask=inside, other=0)
            part = tl.load(maps + sample, mask=exists, other=0).to(tl.float32)
            part = tl.where(part == float("-inf"), LEAST, part) * weight
            if j == 0:
                in_row = part
            else:
                in_row += part
        if i == 0:
            value = in_row * row_weight
        else:
            value += in_row * row_weight
    return value
