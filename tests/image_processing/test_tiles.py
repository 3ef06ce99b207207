"""Working in strips and tiles is an arrangement of the work: it changes no result."""

import pytest
import torch
from inference_cases import all_cases, confident_case
from torch.nn.functional import interpolate

from image_processing import instance_segmentation, panoptic_segmentation, semantic_segmentation
from image_processing.resampling import crop_to_image, linear_taps, logits_taps, resize, target_taps
from image_processing.tiling import tiles
from image_processing.tiling.argmax import largest, winners
from image_processing.tiling.tiles import Tiling

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
    monkeypatch.setattr(tiles, "STEP_ELEMENTS", 1)
    for actual, same in zip(results(), expected, strict=True):
        if isinstance(actual, torch.Tensor):
            assert torch.equal(actual, same)
        else:
            assert [entry["score"] for entry in actual] == pytest.approx([entry["score"] for entry in same], abs=2e-6)
            assert [entry["label_id"] for entry in actual] == [entry["label_id"] for entry in same]


@pytest.mark.parametrize("name", CASES)
def test_no_pixel_lies_outside_the_bounds_of_its_tile(name):
    _, mask_logits, image_size, target_size = all_cases()[name]
    logits, image_size = crop_to_image(mask_logits, image_size)
    rows, columns = target_taps(logits, image_size, target_size)
    whole = resize(logits, rows, columns)
    tiling = Tiling.of(rows, columns, logits.device)
    low, high = tiling.bounds(logits)  # (N, T), (N, T)
    for number in range(len(logits)):
        least, largest = tiling.canvas(torch.float32), tiling.canvas(torch.float32)
        tiling.fill(least, low[number])
        tiling.fill(largest, high[number])
        assert (tiling.crop(least) <= whole[number] + 1e-5).all()
        assert (whole[number] <= tiling.crop(largest) + 1e-5).all()


@pytest.mark.parametrize(
    "sizes", [((90, 119), (137, 73)), ((92, 120), (92, 120)), ((92, 120), (46, 200)), (None, None)]
)
def test_pixels_of_tiles_are_those_of_the_whole_map(sizes):
    logits, image_size = crop_to_image(confident_case()[1][:, :23], sizes[0])
    rows, columns = target_taps(logits, image_size, sizes[1])
    whole = resize(logits, rows, columns)
    tiling = Tiling.of(rows, columns, logits.device)
    tiles = torch.arange(tiling.rows.count * tiling.columns.count)
    values = tiling.pixels(logits, torch.tensor([[3], [17]]).expand(-1, len(tiles)), tiles)  # (2, P, T)
    for number, pixels in ((3, values[0]), (17, values[1])):
        canvas = tiling.canvas(torch.float32)
        tiling.put(canvas, tiles, pixels)
        torch.testing.assert_close(tiling.crop(canvas), whole[number], atol=1e-4, rtol=1e-4)
    exists = tiling.inside(torch.ones(1, tiling.pixels_per_tile, len(tiles), dtype=torch.bool), tiles)
    assert exists.sum() == tiling.pixel_counts().sum() == whole[0].numel()
    assert torch.equal(exists[0].sum(0), tiling.pixel_counts())


def test_tiles_of_a_whole_scale_share_their_weights():
    shared = Tiling.of(logits_taps(24, 96, 96), logits_taps(30, 119, 119), torch.device("cpu"))
    assert shared.rows.weights.shape[2] == shared.columns.weights.shape[2] == 1
    own = Tiling.of(logits_taps(24, 96, 97), logits_taps(30, 119, 73), torch.device("cpu"))
    assert own.rows.weights.shape[2] == own.rows.count and own.columns.weights.shape[2] == own.columns.count


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
        found = part.matrix() @ values[0, 0, samples, 0]
        torch.testing.assert_close(found, expected[start:stop], atol=1e-5, rtol=1e-5)
        last, samples_of_part = part.part(len(part) - 1, len(part))
        found = last.matrix() @ values[0, 0, samples, 0][samples_of_part]
        torch.testing.assert_close(found, expected[stop - 1 : stop], atol=1e-5, rtol=1e-5)


def test_winners_are_the_first_of_equal_scores():
    scores = torch.tensor([[0.5, 0.1, 0.0], [0.5, 0.9, 0.0], [0.2, 0.9, 0.0]])[:, None]  # (3, P, n)
    candidates = torch.tensor([[7, 8, 9], [17, 18, 19], [27, 28, 29]])
    best, winner = winners(scores, candidates)
    assert torch.equal(best[0], torch.tensor([0.5, 0.9, 0.0])) and winner[0].tolist() == [7, 18, 9]


@pytest.mark.parametrize("shape", [(2, 50), (5, 50), (150, 50), (847, 20)])
def test_the_largest_are_found_and_the_largest_of_the_others(shape):
    values = torch.rand(shape)
    values[0, 0] = 0
    places, others = largest(values, 3)
    assert (places[1:] > places[:-1]).all()
    count = min(3, shape[0])
    exact = values.topk(count, 0).values
    assert torch.equal(values.gather(0, places).sort(0, descending=True).values, exact)
    assert torch.equal(others, values.scatter(0, places, -torch.inf).amax(0))
