"""Tiles reach every pixel, overlap as asked for, and fade into each other with weights that add up to 1."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_maskformer.inference.tiles.grid import Grid, shared, spans_of


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 400), tile=st.integers(2, 60), share=st.floats(0, 1))
def test_spans_overlap_as_asked_and_their_weights_add_up_to_one(length, tile, share):
    overlap = max(1, round(share * (tile - 1)))
    spans = spans_of(length, tile, overlap)
    assert all(span.stop - span.start == min(tile, length) for span in spans)
    assert spans[0].start == 0 and spans[-1].stop == length
    total, cells, kept = torch.zeros(length), [], torch.zeros(length, dtype=torch.int64)
    for number, span in enumerate(spans):
        assert span.start <= span.used.start and span.used.stop <= span.stop
        assert span.start <= span.cell.start < span.cell.stop <= span.stop
        assert number == 0 or spans[number - 1].stop - span.start >= overlap
        total[span.used] += span.weights()
        cells += range(span.cell.start, span.cell.stop)
        kept[span.closed] += 1
    torch.testing.assert_close(total, torch.ones(length))
    assert cells == list(range(length))  # each pixel in one cell
    assert torch.equal(kept, torch.ones_like(kept))  # and closed by one tile


def test_no_tile_more_than_needed_is_made():
    assert [len(spans_of(length, 10, 4)) for length in (9, 10, 11, 16, 17, 22, 23)] == [1, 1, 2, 2, 3, 3, 4]


def test_neighbours_share_what_both_cover():
    grid = Grid.of((25, 20), 10, 3)
    tiles = list(grid)
    assert len(grid) == len(tiles) == 4 * 3
    below = next(tile for tile in tiles if (tile.row, tile.column) == (1, 0))
    assert shared(tiles[0], below) == (slice(5, 10), slice(0, 10)) == shared(below, tiles[0])
    assert below.inside((slice(5, 10), slice(0, 10))) == (slice(0, 5), slice(0, 10))


@pytest.mark.parametrize("size", [(7, 40), (40, 7)])
def test_a_picture_narrower_than_a_tile_has_tiles_as_narrow(size):
    assert {
        (tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start) for tile in Grid.of(size, 16, 4)
    } == {(min(size[0], 16), min(size[1], 16))}
