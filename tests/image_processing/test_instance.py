"""Instance inference equals the reference inference."""

import pytest
import torch
from inference_cases import all_cases, confident_case, random_case
from reference_inference import instances as reference_instances
from reference_inference import logits_at_target

from image_processing import instance_segmentation

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize("name", all_cases())
@pytest.mark.parametrize("options", [{}, {"threshold": 0.1}, {"threshold": 0.0, "mask_threshold": 0.7}])
def test_instances_equal_the_reference(name, options):
    case = all_cases()[name]
    expected = reference_instances(*case, **options)
    found = instance_segmentation(*case, **options)
    masks, info = found.masks(), found.segments_info
    logits = logits_at_target(*case[1:])
    assert masks.dtype == torch.bool and masks.shape == (len(expected), *logits.shape[1:])
    assert all(torch.equal(found.mask(number), mask) for number, mask in enumerate(masks))
    assert [segment["id"] for segment in info] == list(range(len(info)))
    assert [segment["score"] for segment in info] == pytest.approx([score for score, *_ in expected], abs=1e-5)
    assert sorted(segment["label_id"] for segment in info) == sorted(label for _, label, *_ in expected)
    boundary = torch.tensor(options.get("mask_threshold", 0.5)).logit()
    for segment, mask in zip(info, masks, strict=True):
        # Two instances of equal score may come in either order.
        same = [
            (expected_mask, query)
            for score, label, expected_mask, query in expected
            if label == segment["label_id"] and abs(score - segment["score"]) < 1e-5
        ]
        wrong = [(mask != expected_mask) & ((logits[query] - boundary).abs() > 1e-4) for expected_mask, query in same]
        assert min(int(pixels.sum()) for pixels in wrong) == 0


def test_masks_are_cut_from_resized_logits():
    """Fault 4 of transformers: masks cut at stride 4 and then enlarged have stairs of four pixels."""
    mask_logits = torch.linspace(-3, 3, 16)[None, None] + torch.linspace(-3, 3, 16)[:, None]
    mask_logits = mask_logits + 0.05  # a diagonal edge, between pixels
    found = instance_segmentation(torch.tensor([[9.0, 0.0]]), mask_logits, None, (64, 64), threshold=0.1)
    widths = found.mask(0).sum(1)
    steps = widths[9:55] - widths[8:54]
    assert (steps == 1).all()


def test_one_query_can_be_two_instances():
    class_logits = torch.tensor([[3.0, 3.0, 0.0], [-9.0, -9.0, 9.0]])
    found = instance_segmentation(class_logits, torch.full((2, 4, 4), 5.0), threshold=0.3)
    assert {segment["label_id"] for segment in found.segments_info} == {0, 1} and found.masks().all()
    assert (found.id_map() == 0).all()


def test_no_instance_gives_no_masks():
    found = instance_segmentation(*all_cases()["all queries no object"])
    assert found.masks().shape == (0, 36, 48) and found.segments_info == [] and (found.id_map() == -1).all()


def test_half_precision_is_computed_in_float32():
    case = [logits.half() for logits in confident_case()]
    found = instance_segmentation(*case, None, (96, 120))
    expected = instance_segmentation(*(logits.float() for logits in case), None, (96, 120))
    assert torch.equal(found.masks(), expected.masks())
    assert found.segments_info == expected.segments_info and found.segments_info


def test_padding_changes_nothing():
    class_logits, mask_logits = random_case()
    padded = torch.full((7, 20, 31), 100.0)
    padded[:, :9, :12] = mask_logits
    alone = instance_segmentation(class_logits, mask_logits, (35, 46), (70, 80), threshold=0.1)
    beside = instance_segmentation(class_logits, padded, (35, 46), (70, 80), threshold=0.1)
    assert torch.equal(alone.masks(), beside.masks())
    assert alone.segments_info == beside.segments_info and alone.segments_info
