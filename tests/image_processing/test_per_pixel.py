"""Per-pixel inference equals plain bilinear resizing and argmax, in blocks of any size."""

from types import SimpleNamespace

import pytest
import torch
from inference_cases import random_case
from reference_inference import bilinear, logits_at_target

from image_processing import (
    MaskFormerImageProcessor,
    PerPixelImageProcessor,
    per_pixel_score_strips,
    per_pixel_scores,
    per_pixel_segmentation,
    resampling,
)
from image_processing.resampling import blocks_of, linear_taps

# logits (K, h, w), image size or None, target size or None
CASES = {
    "whole map": (random_case()[1], None, (40, 50)),
    "at the logits' resolution": (random_case(seed=1)[1], None, None),
    "padded image": (random_case(seed=2)[1], (29, 33), (57, 40)),
    "padded image at the logits' resolution": (random_case(seed=3)[1], (29, 33), None),
    "much larger target": (random_case(seed=5, height=4, width=3)[1], None, (90, 120)),
    "much smaller target": (random_case(seed=6, height=20, width=30)[1], (77, 118), (11, 7)),
    "one pixel": (random_case(seed=7, height=3, width=5)[1], (1, 1), (1, 1)),
    "one logit": (random_case(seed=8, height=1, width=1)[1], None, (5, 6)),
    "one class": (random_case(queries=1)[1], None, (36, 48)),
}

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize("step", [1 << 19, 100, 1])
@pytest.mark.parametrize("name", CASES)
def test_classes_and_scores_equal_plain_torch(monkeypatch, name, step):
    monkeypatch.setattr(resampling, "CPU_STRIP_ELEMENTS", step)
    expected = logits_at_target(*CASES[name])
    scores = per_pixel_scores(*CASES[name])
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected.float(), atol=1e-5, rtol=1e-5)
    classes = per_pixel_segmentation(*CASES[name])
    assert classes.dtype == torch.int64 and torch.equal(classes, scores.argmax(0))
    assert (expected.amax(0) - expected.gather(0, classes[None])[0]).max() < 1e-5


def test_strips_of_scores_are_the_scores_from_the_top(monkeypatch):
    monkeypatch.setattr(resampling, "CPU_STRIP_ELEMENTS", 2000)
    strips = list(per_pixel_score_strips(*CASES["padded image"]))
    assert len(strips) > 1
    assert [rows.start for rows, _ in strips] == [0, *(rows.stop for rows, _ in strips[:-1])]
    assert strips[-1][0].stop == 57
    for rows, part in strips:
        assert torch.equal(part, per_pixel_scores(*CASES["padded image"])[:, rows])


def test_padding_changes_nothing():
    logits = random_case()[1]
    padded = torch.full((7, 20, 31), 100.0)
    padded[:, :9, :12] = logits
    for mask_resize in ("logits", "scores"):
        alone = per_pixel_segmentation(logits, (35, 46), (70, 80), mask_resize)
        assert torch.equal(alone, per_pixel_segmentation(padded, (35, 46), (70, 80), mask_resize))


def test_logits_can_be_resized_straight_as_transformers_does():
    logits = random_case(height=16, width=12)[1]
    found = per_pixel_scores(logits, None, (75, 41), "scores")
    torch.testing.assert_close(found, bilinear(logits.double(), (75, 41)).float(), atol=1e-5, rtol=1e-5)


def test_an_unknown_way_to_resize_is_refused():
    with pytest.raises(ValueError, match='"logits" or "scores", got \'masks\''):
        per_pixel_segmentation(random_case()[1], mask_resize="masks")


@pytest.mark.parametrize("num_pixels", [1, 7, 60, 10**6])
def test_blocks_are_the_whole_result_once(num_pixels):
    rows, columns = linear_taps(5, 13), linear_taps(7, 22)
    maps, result, count = torch.randn(2, 5, 7), torch.zeros(2, 13, 22), torch.zeros(13, 22)
    for block in blocks_of(rows, columns, num_pixels, maps.device):
        result[:, block.target[0], block.target[1]] = block.resize(maps)
        count[block.target] += 1
        assert block.rows.shape[0] * block.columns.shape[0] <= max(num_pixels, 1)
    assert (count == 1).all()
    torch.testing.assert_close(result, bilinear(maps, (13, 22)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("processor_class", [MaskFormerImageProcessor, PerPixelImageProcessor])
def test_a_batch_gives_each_images_own_result(processor_class):
    logits = torch.stack([random_case(seed=seed, height=24, width=30)[1] for seed in range(3)])
    image_sizes, target_sizes = [(96, 120), (90, 61), (33, 118)], [(96, 120), (180, 122), (40, 50)]
    outputs = SimpleNamespace(logits=logits, image_sizes=torch.tensor(image_sizes))
    processor = processor_class()
    maps = processor.post_process_semantic_segmentation(outputs, target_sizes)
    scored = processor.post_process_semantic_segmentation(outputs, target_sizes, return_segmentation_scores=True)
    for index in range(3):
        expected = logits_at_target(logits[index], image_sizes[index], target_sizes[index])
        torch.testing.assert_close(scored[index].segmentation_scores, expected.float(), atol=5e-5, rtol=1e-5)
        assert torch.equal(maps[index], scored[index].segmentation)
    with pytest.raises(ValueError, match="`target_sizes` has 2 entries for 3 images"):
        processor.post_process_semantic_segmentation(outputs, target_sizes[:2])


def test_the_processor_of_the_baselines_offers_semantic_results_only_and_the_same_batches():
    assert not hasattr(PerPixelImageProcessor, "post_process_panoptic_segmentation")
    assert not hasattr(PerPixelImageProcessor, "post_process_instance_segmentation")
    image = torch.randint(0, 255, (3, 70, 90), dtype=torch.uint8)
    mine = PerPixelImageProcessor()(images=[image], return_tensors="pt")
    other = MaskFormerImageProcessor()(images=[image], return_tensors="pt")
    assert mine.keys() == other.keys() and torch.equal(mine["pixel_values"], other["pixel_values"])
    with pytest.raises(TypeError, match="PerPixelImageProcessor has no argument sizes"):
        PerPixelImageProcessor(sizes=3)
