"""The assignment of least cost on a GPU: all problems at once, one program each, and the host need not wait for it.

Shortest augmenting paths, as in SciPy's `linear_sum_assignment` (D. F. Crouse, "On implementing 2D rectangular
assignment algorithms", 2016): rows are assigned one after the other; for each, Dijkstra's algorithm over reduced costs
finds the cheapest way to a free column, along which earlier assignments move. A row of the matrix is one vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ...to_device import to_device


def assign_on_device(costs: Tensor, num_segments: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`(M, layers)` int64 each, the queries and segments matched by least cost: see `assign`."""
    num_layers, batch_size, num_queries, most = costs.shape
    num_pairs = np.minimum(num_queries, num_segments)
    firsts = np.cumsum(num_pairs) - num_pairs
    counts, firsts = to_device(np.stack((num_segments, firsts)).astype(np.int64), costs.device)
    queries, segments = torch.zeros(2, num_pairs.sum(), num_layers, dtype=torch.int64, device=costs.device)
    block = max(16, triton.next_power_of_2(max(num_queries, most)))
    with torch.cuda.device_of(costs):
        _assign_kernel[(num_layers * batch_size,)](
            costs.contiguous(),
            counts,
            firsts,
            queries,
            segments,
            batch_size,
            num_layers,
            num_queries,
            most,
            BLOCK=block,
            num_warps=max(1, block // 128),
        )
    return queries, segments


def try_out(device: torch.device) -> None:
    """Assigns one pair, or raises what keeps the kernel from it."""
    assign_on_device(torch.zeros(1, 1, 1, 1, device=device), [1])


@triton.jit
def _at(vector, places, place):
    """The entry of a vector of integers at one place."""
    return tl.sum(tl.where(places == place, vector, 0), 0)


@triton.jit(do_not_specialize=["batch_size", "num_layers", "num_queries", "most"])
def _assign_kernel(
    costs,  # (layers, B, Q, S) float32
    counts,  # (B,) int64, segments of each image
    firsts,  # (B,) int64, pairs before each image's
    queries,  # (M, layers) int64, result
    segments,  # (M, layers) int64, result
    batch_size,
    num_layers,
    num_queries,
    most,
    BLOCK: tl.constexpr,
):
    problem = tl.program_id(0)
    layer, image = problem // batch_size, problem % batch_size
    count = tl.load(counts + image).to(tl.int32)
    first = tl.load(firsts + image).to(tl.int32)
    # rows are the fewer of segments and queries
    segments_are_rows = count <= num_queries
    num_rows = tl.minimum(count, num_queries)
    num_columns = tl.maximum(count, num_queries)
    row_stride = tl.where(segments_are_rows, 1, most)
    column_stride = tl.where(segments_are_rows, most, 1)
    costs += problem.to(tl.int64) * num_queries * most

    places = tl.arange(0, BLOCK)
    columns_there = places < num_columns
    # float64 as in SciPy: dual variables are sums of many costs, and replaced costs are huge
    of_rows = tl.zeros([BLOCK], tl.float64)  # dual variables
    of_columns = tl.zeros([BLOCK], tl.float64)
    row_of_column = tl.full([BLOCK], -1, tl.int32)
    column_of_row = tl.full([BLOCK], -1, tl.int32)
    for new_row in range(0, num_rows):
        distance = tl.full([BLOCK], float("inf"), tl.float64)  # of each column from the new row
        before = tl.full([BLOCK], -1, tl.int32)  # the row before each column on its shortest path
        column_done = tl.where(columns_there, 0, 1)
        row_done = tl.zeros([BLOCK], tl.int32)
        row_distance = tl.zeros([BLOCK], tl.float64)
        row = new_row
        reached = tl.sum(tl.zeros([BLOCK], tl.float64), 0)  # distance of `row`
        free_column = -1
        while free_column < 0:
            row_done = tl.where(places == row, 1, row_done)
            row_distance = tl.where(places == row, reached, row_distance)
            cost = tl.load(costs + row * row_stride + places * column_stride, mask=columns_there, other=0.0)
            dual = tl.sum(tl.where(places == row, of_rows, 0.0), 0)
            through_row = reached + cost.to(tl.float64) - dual - of_columns
            shorter = (column_done == 0) & (through_row < distance)
            distance = tl.where(shorter, through_row, distance)
            before = tl.where(shorter, row, before)
            open_distance = tl.where(column_done == 0, distance, float("inf"))
            reached = tl.min(open_distance, 0)
            # of equally near columns a free one, so that the path ends
            nearest = (column_done == 0) & (open_distance == reached)
            order = tl.where(nearest, places + tl.where(row_of_column < 0, 0, BLOCK), 2 * BLOCK)
            column = tl.min(order, 0) % BLOCK
            column_done = tl.where(places == column, 1, column_done)
            row = _at(row_of_column, places, column)
            free_column = tl.where(row < 0, column, -1)
        of_rows += tl.where(row_done == 1, reached - row_distance, 0.0)
        of_columns -= tl.where((column_done == 1) & columns_there, reached - distance, 0.0)
        column = free_column
        moving = 1
        while moving == 1:
            row = _at(before, places, column)
            row_of_column = tl.where(places == column, row, row_of_column)
            previous = _at(column_of_row, places, row)
            column_of_row = tl.where(places == row, column, column_of_row)
            column = previous
            moving = tl.where(row == new_row, 0, 1)
    results = (first + places) * num_layers + layer
    there = places < num_rows
    tl.store(queries + results, tl.where(segments_are_rows, column_of_row, places).to(tl.int64), mask=there)
    tl.store(segments + results, tl.where(segments_are_rows, places, column_of_row).to(tl.int64), mask=there)
