"""Panoptic inference equals the reference inference, and the faults of transformers' do not recur."""

import numpy as np
import pytest
import torch
from inference_cases import all_cases, confident_case, random_case
from reference_inference import panoptic as reference_panoptic

from image_processing import panoptic_segmentation

pytestmark = pytest.mark.usefixtures("both_ways")


def assert_equals_reference(case, **options):
    fuse = options.get("label_ids_to_fuse", ())
    expected_ids, expected_info, clearness = reference_panoptic(
        *case,
        threshold=options.get("threshold", 0.8),
        mask_threshold=options.get("mask_threshold", 0.5),
        overlap=options.get("overlap_mask_area_threshold", 0.8),
        fuse=fuse,
    )
    ids, info = panoptic_segmentation(*case, **options)
    assert ids.dtype == torch.int32
    assert [segment["id"] for segment in info] == list(range(1, len(info) + 1))
    assert len(info) == len(expected_info)
    for segment, expected in zip(info, expected_info, strict=True):
        assert segment["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert {**segment, "score": 0} == {**expected, "score": 0}
    clear = clearness > 1e-6
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(ids.numpy()[clear], expected_ids[clear])
    return info


@pytest.mark.parametrize("name", sorted(all_cases().keys() - {"equal masks"}))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threshold": 0.2, "overlap_mask_area_threshold": 0.3, "label_ids_to_fuse": {0, 2}},
        {"threshold": 0.0, "overlap_mask_area_threshold": 0.0, "mask_threshold": 0.8, "label_ids_to_fuse": [1]},
    ],
)
def test_segments_equal_the_reference(name, options):
    assert_equals_reference(all_cases()[name], **options)


@pytest.mark.parametrize("mask_threshold", [0.0, 0.1, 0.9, 1.0])
def test_mask_threshold_is_a_probability(mask_threshold):
    assert_equals_reference(
        (*confident_case(), None, (70, 80)), mask_threshold=mask_threshold, overlap_mask_area_threshold=0.5
    )


def squares(boxes, labels, probabilities, classes=3, size=16, logit=6.0):
    """One query per box (top, left, bottom, right, in stride-4 cells) with that class at that probability."""
    mask_logits = torch.full((len(boxes), size, size), -logit)
    for query, (top, left, bottom, right) in enumerate(boxes):
        mask_logits[query, top:bottom, left:right] = logit
    probs = torch.zeros(len(boxes), classes + 1)
    for query, (label, probability) in enumerate(zip(labels, probabilities, strict=True)):
        probs[query] = (1 - probability) / classes
        probs[query, label] = probability
    return probs.log(), mask_logits


def test_ids_stay_unique_after_a_fused_class():
    """Fault 1 of transformers: two persons around a sky that comes twice got the same id."""
    sky, person = 0, 1
    case = squares([(0, 0, 4, 8), (8, 0, 16, 4), (0, 8, 4, 16), (8, 8, 16, 12)], [sky, person, sky, person], [0.9] * 4)
    ids, info = panoptic_segmentation(*case, target_size=(64, 64), label_ids_to_fuse={sky})
    assert [(segment["id"], segment["label_id"]) for segment in info] == [(1, sky), (2, person), (3, person)]
    assert [segment["was_fused"] for segment in info] == [True, False, False]
    assert ids[2, 2] == ids[2, 60] == 1 and ids[60, 2] == 2 and ids[60, 40] == 3 and ids[60, 60] in (0, 1, 2, 3)


def test_a_sure_mask_of_an_unsure_class_is_kept():
    """Fault 2 of transformers: the area test saw the mask already weighted with the class score."""
    case = squares([(0, 0, 16, 16)], [0], [0.52], logit=2.2)  # mask probability 0.9, weighted 0.47
    ids, info = panoptic_segmentation(*case, target_size=(64, 64), threshold=0.5)
    assert len(info) == 1 and (ids == 1).all()


def test_a_fused_segment_has_the_best_of_its_scores():
    case = squares([(0, 0, 16, 8), (0, 8, 16, 16)], [0, 0], [0.85, 0.95])
    _, info = panoptic_segmentation(*case, label_ids_to_fuse=[0])
    assert len(info) == 1 and info[0]["score"] == pytest.approx(0.95, abs=1e-5)


def test_of_equal_masks_and_scores_the_first_query_wins():
    class_logits, mask_logits, *sizes = all_cases()["equal masks"]
    ids, info = panoptic_segmentation(class_logits, mask_logits, *sizes)
    assert (ids == 1).all() and [segment["label_id"] for segment in info] == [0]


def test_pixels_of_a_dropped_segment_are_void():
    """The second query wins a fifth of its mask only, so that fifth is void; nobody else gets it."""
    case = squares([(0, 0, 16, 12), (0, 4, 16, 14)], [0, 1], [0.99, 0.9])
    ids, info = panoptic_segmentation(*case, overlap_mask_area_threshold=0.5)
    assert len(info) == 1
    assert (ids[:, :12] == 1).all() and (ids[:, 12:14] == 0).all()


def test_pixels_at_the_mask_threshold_are_of_the_mask():
    case = squares([(0, 0, 16, 16)], [0], [0.9], logit=0.0)
    ids, info = panoptic_segmentation(*case, target_size=(64, 64))
    assert len(info) == 1 and (ids == 1).all()


def test_a_segment_that_has_all_of_its_mask_is_kept_whatever_share_is_asked_for():
    case = squares([(0, 0, 16, 8), (0, 8, 16, 16)], [0, 1], [0.9, 0.95])
    ids, info = panoptic_segmentation(*case, overlap_mask_area_threshold=1.0)
    assert len(info) == 2 and (ids > 0).all()


def test_no_segment_gives_an_empty_map():
    case = all_cases()["all queries no object"]
    ids, info = panoptic_segmentation(*case)
    assert info == [] and ids.dtype == torch.int32 and ids.shape == (36, 48) and (ids == 0).all()


def test_half_precision_is_computed_in_float32():
    case = [logits.bfloat16() for logits in confident_case()]
    ids, info = panoptic_segmentation(*case, None, (96, 120))
    expected_ids, expected_info = panoptic_segmentation(*(logits.float() for logits in case), None, (96, 120))
    assert torch.equal(ids, expected_ids) and info == expected_info and info


def test_padding_changes_nothing():
    class_logits, mask_logits = random_case()
    padded = torch.full((7, 20, 31), 100.0)
    padded[:, :9, :12] = mask_logits
    options = {"threshold": 0.2, "overlap_mask_area_threshold": 0.1}
    alone = panoptic_segmentation(class_logits, mask_logits, (35, 46), (70, 80), **options)
    beside = panoptic_segmentation(class_logits, padded, (35, 46), (70, 80), **options)
    assert torch.equal(alone[0], beside[0]) and alone[1] == beside[1] and alone[1]


def test_an_impossible_mask_threshold_is_refused():
    with pytest.raises(ValueError, match=r"probability in \[0, 1\], got 1.5"):
        panoptic_segmentation(*confident_case(), mask_threshold=1.5)
