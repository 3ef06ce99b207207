"""Class maps of tiles equal those of a plain weighted sum, of which strips alone are ever held."""

import pytest
import torch

from modeling_maskformer.inference.tiles import blending
from modeling_maskformer.inference.tiles.blending import class_map_of_tiles
from modeling_maskformer.inference.tiles.grid import Grid


def strips_of(scores, rows):
    return ((slice(top, min(top + rows, scores.shape[1])), scores[:, top : top + rows]) for top in range(0, 99, rows))


def scores_of_tiles(grid, num_classes=5):
    return [
        (tile, torch.rand(num_classes, *(part.stop - part.start for part in tile.box), dtype=torch.float64))
        for tile in grid
    ]


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [((37, 50), 16, 5), ((17, 64), 16, 15), ((60, 16), 16, 8), ((33, 33), 16, 1)]
)
@pytest.mark.parametrize("rows", [1, 7, 99])
def test_the_class_is_that_of_the_highest_weighted_mean(size, tile, overlap, rows):
    grid = Grid.of(size, tile, overlap)
    tiles = scores_of_tiles(grid)
    total = torch.zeros(5, *size, dtype=torch.float64)
    for place, scores in tiles:
        used = place.rows.used, place.columns.used
        weights = place.rows.weights()[:, None] * place.columns.weights()
        rows_used, columns_used = place.inside(used)
        total[:, used[0], used[1]] += weights.double() * scores[:, rows_used, columns_used]
    classes = class_map_of_tiles(grid, [(place, strips_of(scores, rows)) for place, scores in tiles])
    assert classes.dtype == torch.uint8
    assert torch.equal(classes.long(), total.argmax(0))


def test_scores_change_gradually_from_one_tile_to_the_next():
    # the left tile is sure of class 0 and the right one of class 1: the border lies in the middle of what they share
    grid = Grid.of((4, 24), 16, 8)
    left, right = grid
    sure = torch.zeros(2, 2, 4, 16)
    sure[0, 0] = sure[1, 1] = 1
    classes = class_map_of_tiles(grid, [(left, strips_of(sure[0], 4)), (right, strips_of(sure[1], 4))])
    assert classes[0].tolist() == [0] * 12 + [1] * 12
    assert left.columns.weights()[-4:].diff().max() < 0  # falling all the way


def test_only_ramps_of_scores_are_kept():
    grid = Grid.of((400, 300), 50, 10)
    blender = blending.Blender(grid, torch.zeros(5, 1))
    kept = blender._right.numel() + sum(part.numel() for part in blender._below)
    assert kept <= 5 * 10 * (300 + 50)


def test_many_classes_have_ids_of_16_bits():
    grid = Grid.of((20, 20), 16, 4)
    classes = class_map_of_tiles(grid, [(t, strips_of(s, 5)) for t, s in scores_of_tiles(grid, num_classes=300)])
    assert classes.dtype == torch.int16 and classes.max() > 255
