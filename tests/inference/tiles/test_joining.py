"""Objects cut by tiles are found once, whole, and no two become one: against what the whole picture shows."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from benchmarks.mosaic import PerfectPredictor, draw_mosaic, picture_of, read
from modeling_maskformer.inference.tiles.grid import Grid
from modeling_maskformer.inference.tiles.joining import instances_of_tiles, panoptic_of_tiles
from modeling_maskformer.inference.tiles.tiled_predictor import TiledPredictor

SIZE, TILE, OVERLAP = 100, 40, 12


def blank():
    """Ground of class 0 and 1, without an object."""
    classes = np.zeros((SIZE, SIZE), dtype=np.uint8)
    classes[:, 55:] = 1
    return classes, np.zeros((SIZE, SIZE), dtype=np.int64)


def draw(boxes, label=2):
    """A picture of rectangles (top, left, bottom, right), several of which may belong to one object."""
    classes, objects = blank()
    for number, parts in enumerate(boxes, start=1):
        for top, left, bottom, right in parts:
            classes[top:bottom, left:right] = label
            objects[top:bottom, left:right] = number
    return picture_of(classes, objects)


CASES = {
    "an object in the corner of four tiles": [[(28, 28, 40, 40)]],
    "an object wholly in what four tiles share": [[(31, 31, 37, 37)]],
    "an object longer than two tiles": [[(10, 2, 20, 98)]],
    "an object as large as the picture": [[(0, 0, SIZE, SIZE)]],
    "two objects that touch at a seam": [[(5, 20, 25, 34)], [(5, 34, 25, 50)]],
    "two objects that touch along a seam": [[(20, 5, 35, 50)], [(35, 5, 50, 50)]],
    "a horseshoe whose legs are apart in one tile": [[(10, 10, 15, 40), (30, 10, 35, 40), (10, 10, 35, 15)]],
    "a comb": [[(0, 50, 90, 56), *((top, 20, top + 4, 50) for top in range(4, 90, 12))]],
    "a diagonal": [[(n, n, n + 4, n + 4) for n in range(96)]],
    "a ring around a seam, and an object inside": [
        [(20, 20, 50, 24), (20, 46, 50, 50), (20, 20, 24, 50), (46, 20, 50, 50)],
        [(30, 30, 40, 40)],
    ],
    "an object whose border is that of a tile": [[(0, 0, 40, 40)], [(0, 40, 40, 60)]],
    "many small objects": [[(top, left, top + 4, left + 4)] for top in range(1, 96, 6) for left in range(1, 96, 6)],
    "none": [],
}


@pytest.fixture(params=CASES)
def picture(request):
    return draw(CASES[request.param])


def test_instances_are_those_of_the_whole_picture(picture):
    _, objects = read(picture)
    (result,) = TiledPredictor(PerfectPredictor("instance"), TILE, OVERLAP)([picture])
    masks = [coco_mask.decode(rle).astype(bool) for rle in result["segmentation"]]
    expected = [objects == number for number in np.unique(objects[objects > 0])]
    assert sorted(mask.tobytes() for mask in masks) == sorted(mask.tobytes() for mask in expected)
    assert [info["id"] for info in result["segments_info"]] == list(range(len(expected)))
    assert {info["label_id"] for info in result["segments_info"]} <= {2}


def test_panoptic_segments_are_those_of_the_whole_picture(picture):
    classes, objects = read(picture)
    (result,) = TiledPredictor(PerfectPredictor("panoptic"), TILE, OVERLAP)([picture])
    ids = result["segmentation"].numpy()
    assert result["segmentation"].dtype == torch.int32
    true = np.where(objects > 0, 100 + objects, classes)  # each class of stuff is one segment
    pairs = np.unique(np.stack((ids.ravel(), true.ravel())), axis=1)
    assert len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1]))
    assert set(pairs[0]) == {info["id"] for info in result["segments_info"]} == set(range(1, len(pairs[0]) + 1))
    for info in result["segments_info"]:
        here = ids == info["id"]
        assert set(classes[here]) == {info["label_id"]} and info["was_fused"] == (objects[here] == 0).all()


def test_semantic_classes_are_those_of_the_whole_picture(picture):
    predictor = PerfectPredictor("semantic")
    (result,) = TiledPredictor(predictor, TILE, OVERLAP)([picture])
    np.testing.assert_array_equal(result, read(picture)[0])
    assert set(predictor.sizes) == {(TILE, TILE)}


def test_objects_of_two_classes_are_never_joined():
    classes, objects = blank()
    classes[10:20, 5:95], objects[10:20, 5:95] = 2, 1

    class Undecided(PerfectPredictor):
        def _result(self, classes, objects):
            result = super()._result(classes, objects)
            left = objects[:, 0].any()  # the object comes in from the left
            for info in result["segments_info"]:
                info["label_id"] = 3 if left else 2
            return result

    (result,) = TiledPredictor(Undecided("instance"), TILE, OVERLAP)([picture_of(classes, objects)])
    assert sorted(info["label_id"] for info in result["segments_info"]) == [2, 3]


def test_a_thing_has_the_mean_score_over_its_pixels_and_stuff_the_best():
    def score(pixels, label):
        return {0: 0.5, 1: pixels / 4000, 2: pixels / 1000}[label]

    (result,) = TiledPredictor(PerfectPredictor("panoptic", score), TILE, OVERLAP)([draw([[(2, 10, 12, 40)]])])
    found = {info["label_id"]: info["score"] for info in result["segments_info"]}
    # of tiles at columns 0, 20, 40 and 60 the first two see 30 and 20 columns of 10 rows; class 1 fills some tiles
    assert found == {2: pytest.approx((300 * 0.3 + 200 * 0.2) / 500, abs=1e-6), 0: 0.5, 1: TILE * TILE / 4000}


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_a_mosaic_of_touching_objects_of_all_lengths_is_found_as_it_is(task):
    classes, objects = draw_mosaic(200, seed=1, tries=800)
    (result,) = TiledPredictor(PerfectPredictor(task), 60, 16)([picture_of(classes, objects)])
    true = [objects == number for number in range(1, objects.max() + 1)]
    if task == "instance":
        found = [coco_mask.decode(rle).astype(bool) for rle in result["segmentation"]]
    else:
        things = [info["id"] for info in result["segments_info"] if not info["was_fused"]]
        found = [result["segmentation"].numpy() == number for number in things]
    assert len(true) > 30
    assert sorted(mask.tobytes() for mask in found) == sorted(mask.tobytes() for mask in true)


def info(number, label=2, score=0.9):
    return {"id": number, "label_id": label, "was_fused": False, "score": score}


def rle(*boxes, size=(40, 40)):
    mask = np.zeros(size, dtype=np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 1
    return coco_mask.encode(np.asfortranarray(mask))


def two_tiles():
    """Tiles at columns 0 and 28 of a picture 40 x 68: they share columns 28 to 40, the cells meet at 34."""
    grid = Grid.of((40, 68), 40, 12)
    assert [tile.columns.cell for tile in grid] == [slice(0, 34), slice(34, 68)]
    return grid, *grid


def joined(results):
    grid, *tiles = two_tiles()
    results = [
        {"segmentation": [mask for mask, _ in tile], "segments_info": [entry for _, entry in tile]} for tile in results
    ]
    return instances_of_tiles(grid, zip(tiles, results, strict=True))


def test_what_only_the_border_of_a_tile_shows_is_left_to_its_neighbour():
    # in columns 30 to 34, nearer to the middle of the left tile, which sees nothing there
    result = joined([[], [(rle((5, 2, 15, 6)), info(0))]])
    assert result["segments_info"] == []


def test_an_instance_that_one_tile_sees_keeps_its_whole_mask():
    result = joined([[(rle((5, 20, 15, 38)), info(0))], []])
    assert coco_mask.decode(result["segmentation"][0]).nonzero()[1].max() == 37


def test_masks_that_disagree_in_part_are_one_object_and_each_decides_its_own_cell():
    result = joined([[(rle((5, 20, 15, 40)), info(0))], [(rle((6, 0, 16, 12)), info(0))]])
    (mask,) = map(coco_mask.decode, result["segmentation"])
    assert mask[:, 33].nonzero()[0].tolist() == list(range(5, 15))
    assert mask[:, 34].nonzero()[0].tolist() == list(range(6, 16))


def test_masks_that_hardly_overlap_stay_two_objects():
    result = joined([[(rle((5, 20, 15, 40)), info(0))], [(rle((12, 0, 22, 30)), info(0))]])
    assert len(result["segments_info"]) == 2


def test_an_unsure_mask_that_is_cut_inside_a_sure_one_does_not_blur_it():
    sure = (rle((5, 20, 15, 40)), info(0))
    right = [(rle((5, 0, 15, 12)), info(0)), (rle((5, 0, 8, 40)), info(1, score=0.1))]
    result = joined([[sure], right])
    assert [entry["score"] for entry in result["segments_info"]] == [0.9, 0.1]
    assert coco_mask.area(result["segmentation"][0]) == 10 * 20


def test_instances_that_overlap_in_a_tile_are_each_joined_with_their_own():
    left = [(rle((5, 10, 25, 40)), info(0)), (rle((10, 20, 20, 40)), info(1, score=0.8))]
    right = [(rle((10, 0, 20, 20)), info(0, score=0.8)), (rle((5, 0, 25, 30)), info(1))]
    result = joined([left, right])
    boxes = [coco_mask.toBbox(mask).tolist() for mask in result["segmentation"]]
    assert boxes == [[10, 5, 48, 20], [20, 10, 28, 10]]
    assert [entry["score"] for entry in result["segments_info"]] == [0.9, 0.8]


def test_void_of_a_panoptic_result_stays_void():
    grid, *tiles = two_tiles()
    ids = torch.full((40, 40), -1, dtype=torch.int32)
    ids[:10] = 3
    results = [{"segmentation": ids, "segments_info": [info(3)]}, {"segmentation": 0 * ids, "segments_info": []}]
    result = panoptic_of_tiles(grid, zip(tiles, results, strict=True))
    assert result["segments_info"] == [info(1)]
    expected = torch.zeros(40, 68, dtype=torch.int32)
    expected[:10, :34] = 1
    assert torch.equal(result["segmentation"], expected)
