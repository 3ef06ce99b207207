"""A mask in its box is the mask, whatever it is read from, and no larger than the segment."""

import numpy as np
import pytest
import torch
from inference_cases import confident_case
from pycocotools import mask as coco_mask

from image_processing import instance_segmentation
from image_processing.boxed_masks import BoxedMask, masks_of, masks_of_ids
from image_processing.results import encode_boxed, encode_ids, encode_mask
from image_processing.tiling.instance_tiles import TiledMasks

# pycocotools' own, when it decodes under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (30, 40)


def layouts():
    """Id maps (H, W) of 0, 1, ..., among which an id may have no pixel."""
    touching = torch.arange(30)[:, None] // 10 * 4 + torch.arange(40) // 10
    holes = torch.zeros(SIZE, dtype=torch.int64)
    holes[2:20, 3:30], holes[5:9, 6:12], holes[6, 7], holes[15, 3:20] = 1, 2, 1, 0
    borders = torch.zeros(SIZE, dtype=torch.int64)
    borders[:, 5:8], borders[:, 39], borders[29, 10:30], borders[0, 0] = 1, 2, 3, 4
    generator = torch.Generator().manual_seed(0)
    return {
        "touching": touching,
        "holes": holes,
        "borders": borders,
        "noise": torch.randint(0, 4, SIZE, generator=generator),
        "one for all": torch.full(SIZE, 3),
        "one pixel": torch.nn.functional.one_hot(torch.tensor(77), 1200).view(SIZE),
    }


def whole(mask: BoxedMask) -> np.ndarray:
    pixels = np.zeros(mask.size, dtype=bool)
    pixels[mask.box] = mask.pixels
    return pixels


@pytest.mark.parametrize("name", layouts())
def test_each_form_of_a_result_gives_its_masks(name):
    ids = layouts()[name]
    numbers = [3, 0, 1, 2, 99]
    expected = torch.stack([ids == number for number in numbers])
    for form in (ids, ids.int(), ids.float(), expected, [encode_mask(mask) for mask in expected]):
        masks = list(masks_of(form, numbers))
        np.testing.assert_array_equal(np.stack(list(map(whole, masks))), expected.numpy())
        assert all(mask.tight().pixels.shape == mask.pixels.shape for mask in masks)  # no row or column too many


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_ids_may_be_any_numbers_in_any_dtype(dtype):
    ids = layouts()["touching"].numpy().astype(dtype)
    highest = np.iinfo(dtype).max
    ids[ids == 3], ids[ids == 4] = highest, np.iinfo(dtype).min
    numbers = [int(highest), 5, 0]
    for number, mask in zip(numbers, masks_of_ids(ids, numbers), strict=True):
        np.testing.assert_array_equal(whole(mask), ids == number)


def test_layers_are_one_mask_of_each_id():
    layers = torch.stack([layouts()["holes"], layouts()["borders"]]).numpy()
    for number, mask in zip(range(1, 6), masks_of_ids(layers, range(1, 6)), strict=True):
        np.testing.assert_array_equal(whole(mask), (layers == number).any(0))


@pytest.mark.parametrize("name", layouts())
def test_run_lengths_of_boxes_are_those_of_whole_masks(name):
    ids = layouts()[name]
    numbers = [*range(int(ids.max()), -1, -1), 50]
    expected = [encode_mask(ids == number) for number in numbers]
    assert encode_ids(ids, numbers) == expected
    assert [encode_boxed(BoxedMask.of((ids == number).numpy())) for number in numbers] == expected


def test_runs_of_no_length_are_no_pixels():
    counts = [0, 2, 0, 3, 20, 0, 4, 6, 0, 0, 13]
    rle = {"size": [6, 8], "counts": counts}
    (mask,) = masks_of([rle], [0])
    np.testing.assert_array_equal(whole(mask), coco_mask.decode(coco_mask.frPyObjects(rle, 6, 8)).astype(bool))
    (mask,) = masks_of([{"size": [6, 8], "counts": [20, 0, 28]}], [0])
    assert mask.pixels.size == 0 and not whole(mask).any()


def test_a_sampled_mask_is_the_sample_of_the_whole():
    ids, rows, columns = layouts()["holes"], np.arange(1, 30, 3), np.arange(0, 40, 7)
    for number, mask in zip((1, 2, 5), masks_of(ids, [1, 2, 5]), strict=True):
        sampled = mask.sampled(rows, columns)
        np.testing.assert_array_equal(whole(sampled), (ids == number).numpy()[rows[:, None], columns])


@pytest.mark.parametrize("target_size", [(96, 120), (97, 119), (40, 50), (24, 30), (7, 200)])
def test_instances_in_tiles_are_drawn_in_their_boxes(target_size):
    found = instance_segmentation(*confident_case(), target_size=target_size, threshold=0.3)
    assert isinstance(found.all_masks, TiledMasks) and len(found) > 3
    areas = 0
    for number, mask in zip(found.mask_of.tolist(), found.masks(), strict=True):
        boxed = found.all_masks.boxed(number)
        np.testing.assert_array_equal(whole(boxed), mask.numpy())
        assert encode_boxed(boxed) == encode_mask(mask)
        areas += boxed.pixels.size
    assert areas < 0.5 * len(found) * target_size[0] * target_size[1]
