"""Working in strips and tiles is an arrangement of the work: it changes no result."""

import pytest
import torch
from inference_cases import all_cases, confident_case
from torch.nn.functional import interpolate

from image_processing import instance_segmentation, panoptic_segmentation, semantic, semantic_segmentation, tiles
from image_processing.resampling import crop_to_image, linear_taps, logits_taps, resize, target_taps

CASES = ("random", "padded image", "much smaller target", "trained", "trained, many queries", "one pixel")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mask_resize", ["logits", "scores"])
def test_results_do_not_depend_on_the_size_of_strips(monkeypatch, name, mask_resize):
    case = all_cases()[name]
    options = {"threshold": 0.2, "mask_threshold": 0.4}

    def results():
        found = instance_segmentation(*case, **options)
        ids, info = panoptic_segmentation(*case, **options)
        return semantic_segmentation(*case, mask_resize), found.masks(), found.id_map(), found.segments_info, ids, info

    expected = results()
    monkeypatch.setattr(tiles, "STRIP_ELEMENTS", 1)
    monkeypatch.setattr(semantic, "PIXEL_ELEMENTS", 1)
    for actual, same in zip(results(), expected, strict=True):
        assert torch.equal(actual, same) if isinstance(actual, torch.Tensor) else actual == same


@pytest.mark.parametrize("name", CASES)
def test_no_pixel_lies_outside_the_bounds_of_its_tile(name):
    _, mask_logits, image_size, target_size = all_cases()[name]
    logits, image_size = crop_to_image(mask_logits, image_size)
    rows, columns = target_taps(logits, image_size, target_size)
    whole = resize(logits, rows, columns)
    for strip in tiles.strips(logits, rows, columns):
        low, high = strip.bounds()  # (T, N)
        for number in range(len(logits)):
            shape = strip.grid.shape
            least = strip.grid.untile(low[:, number, None].expand(shape))
            largest = strip.grid.untile(high[:, number, None].expand(shape))
            part = whole[number, strip.grid.target_rows]
            assert (least <= part + 1e-5).all() and (part <= largest + 1e-5).all()


def test_all_ways_to_a_pixel_agree():
    logits = confident_case()[1]
    rows, columns = logits_taps(24, 90, 137), logits_taps(30, 119, 73)
    whole = resize(logits[:, :23], logits_taps(23, 90, 137), columns)
    assert whole.shape == (20, 137, 73)
    for strip in tiles.strips(logits[:, :23], logits_taps(23, 90, 137), columns):
        every = torch.arange(strip.grid.shape[0])
        values = strip.values(every, torch.tensor([3, 17]))  # (T, P, 2)
        pairs = strip.pair_values(every, torch.full_like(every, 17))  # (T, P)
        for number, part in ((3, values[..., 0]), (17, values[..., 1]), (17, pairs)):
            torch.testing.assert_close(strip.grid.untile(part), whole[number, strip.grid.target_rows])
        exists = strip.grid.untile(strip.grid.exists())
        assert exists.all() and strip.grid.exists().sum() == strip.grid.pixel_counts().sum() == exists.numel()
        place, pixel = strip.grid.exists().nonzero(as_tuple=True)
        y, x = strip.grid.position(place, pixel)
        torch.testing.assert_close(pairs[place, pixel], whole[17, y, x])
    assert len(rows) == 137


@pytest.mark.parametrize("sizes", [(7, 28), (28, 7), (13, 13), (640, 481), (1, 5), (5, 1), (501, 2004)])
def test_taps_are_torchs_bilinear_resizing(sizes):
    length, size = sizes
    values = torch.randn(1, 1, length, 1)
    expected = interpolate(values, size=(size, 1), mode="bilinear", align_corners=False)[0, 0, :, 0]
    actual = linear_taps(length, size).matrix() @ values[0, 0, :, 0]
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)  # float32 positions of some hundred pixels


@pytest.mark.parametrize("target", [1, 9, 29, 57, 116, 500])
def test_two_steps_of_resizing_are_one_list_of_taps(target):
    values = torch.randn(1, 1, 8, 1)
    enlarged = interpolate(values, scale_factor=(4, 1), mode="bilinear", align_corners=False)[:, :, :29]
    expected = interpolate(enlarged, size=(target, 1), mode="bilinear", align_corners=False)[0, 0, :, 0]
    taps = logits_taps(8, 29, target)
    torch.testing.assert_close(taps.matrix() @ values[0, 0, :, 0], expected, atol=1e-5, rtol=1e-5)
    for start, stop in ((0, target), (target // 3, target), (target // 2, target // 2 + 1)):
        part, samples = taps.part(start, stop)
        torch.testing.assert_close(
            part.matrix() @ values[0, 0, samples, 0], expected[start:stop], atol=1e-5, rtol=1e-5
        )


def test_rounds_hold_each_tile_once():
    numbers = torch.tensor([2, 2, 2, 5, 7, 7])
    assert [numbers[pairs].tolist() for pairs in tiles.rounds(numbers)] == [[2, 5, 7], [2, 7], [2]]
    assert [pairs.tolist() for pairs in tiles.rounds(numbers)] == [[0, 3, 4], [1, 5], [2]]
    assert list(tiles.rounds(numbers[:0])) == []
