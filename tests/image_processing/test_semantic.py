"""Semantic inference equals the reference inference."""

import numpy as np
import pytest
import torch
from inference_cases import all_cases, confident_case, random_case
from reference_inference import class_probabilities
from reference_inference import semantic_scores as reference_scores

from image_processing import semantic_scores, semantic_segmentation
from image_processing.tiling import semantic_tiles

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize("name", all_cases())
def test_classes_and_scores_equal_the_reference(name):
    case = all_cases()[name]
    expected = reference_scores(*case)
    torch.testing.assert_close(semantic_scores(*case), expected.float(), atol=1e-5, rtol=1e-5)
    classes = semantic_segmentation(*case)
    assert classes.dtype == torch.int64 and classes.shape == expected.shape[1:]
    # The chosen class may differ where two scores are equal but for rounding, nowhere else.
    chosen = expected.gather(0, classes[None])[0]
    assert (expected.amax(0) - chosen).max() < 1e-5


@pytest.mark.parametrize("remaining", [0.0, 0.01, 1e9])
@pytest.mark.parametrize("open_tiles", [-1, 0.3, 2])
@pytest.mark.parametrize("open_pixels", [-1, 0.1, 2])
@pytest.mark.parametrize("name", ["random", "padded image", "much smaller target", "trained", "trained, very sure"])
def test_however_tiles_are_decided_the_classes_are_the_same(monkeypatch, name, remaining, open_tiles, open_pixels):
    monkeypatch.setattr(semantic_tiles, "REMAINING_SCORE", remaining)
    monkeypatch.setattr(semantic_tiles, "OPEN_TILES", open_tiles)
    monkeypatch.setattr(semantic_tiles, "OPEN_PIXELS", open_pixels)
    monkeypatch.setattr(semantic_tiles, "STEP_ELEMENTS", 40000)  # blocks of a few tiles
    monkeypatch.setattr(semantic_tiles, "SMALL_TILE", 0)
    expected = reference_scores(*all_cases()[name])
    chosen = expected.gather(0, semantic_segmentation(*all_cases()[name])[None])[0]
    assert (expected.amax(0) * (1 - 1e-4) <= chosen).all()


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_noisy_overlapping_masks_are_decided_as_the_plain_way_does(monkeypatch, noise):
    class_logits, mask_logits = confident_case(60, 40, 25, seed=2)
    mask_logits = 2 * mask_logits + noise * torch.randn(mask_logits.shape) + 4
    scores = semantic_scores(class_logits, mask_logits, None, (190, 238))
    chosen = scores.gather(0, semantic_segmentation(class_logits, mask_logits, None, (190, 238))[None])[0]
    assert (scores.amax(0) * (1 - 1e-4) <= chosen).all()


def test_classes_change_where_the_sums_of_their_queries_cross():
    """Ten unsure masks of class 0 everywhere, six of class 1, and one of class 1 that grows to the right."""
    class_logits = 8.0 * torch.eye(4)[[0] * 10 + [1] * 7]
    masks = torch.full((17, 24, 30), 0.1)
    masks[-1] = torch.linspace(0.01, 0.6, 30)
    case = class_logits, masks.logit(), None, (96, 120)
    classes = semantic_segmentation(*case)
    assert torch.equal(classes, reference_scores(*case).argmax(0)) and classes.unique().tolist() == [0, 1]


def test_queries_without_an_object_are_no_main_queries():
    class_logits, *_ = all_cases()["trained, very sure"]
    main = semantic_tiles.MainQueries.of(class_logits.softmax(-1)[:, :-1].T)
    assert set(main.queries.tolist()) == set(
        (class_logits.argmax(-1) != class_logits.shape[-1] - 1).nonzero()[:, 0].tolist()
    )


def test_padding_changes_nothing():
    class_logits, mask_logits = random_case()
    padded = torch.full((7, 20, 31), 100.0)
    padded[:, :9, :12] = mask_logits
    for mask_resize in ("logits", "scores"):
        alone = semantic_segmentation(class_logits, mask_logits, (35, 46), (70, 80), mask_resize)
        beside = semantic_segmentation(class_logits, padded, (35, 46), (70, 80), mask_resize)
        assert torch.equal(alone, beside)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    class_logits, mask_logits = (logits.to(dtype) for logits in random_case())
    scores = semantic_scores(class_logits, mask_logits, None, (30, 40))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(
        scores, semantic_scores(class_logits.float(), mask_logits.float(), None, (30, 40)), atol=0, rtol=0
    )


def test_scores_can_be_resized_as_transformers_does():
    class_logits, mask_logits = random_case(height=16, width=12)
    probs = class_probabilities(class_logits)[:, :-1]
    scores = torch.einsum("qk,qhw->khw", probs, mask_logits.double().sigmoid())
    expected = torch.nn.functional.interpolate(scores[None], size=(75, 41), mode="bilinear")[0]
    actual = semantic_scores(class_logits, mask_logits, None, (75, 41), "scores")
    torch.testing.assert_close(actual, expected.float(), atol=1e-5, rtol=1e-5)
    classes = semantic_segmentation(class_logits, mask_logits, None, (75, 41), "scores")
    assert (expected.amax(0) - expected.gather(0, classes[None])[0]).max() < 1e-5


def test_resized_scores_of_a_padded_image_lie_over_the_image():
    """The image is 10 of the 12 input pixels that its logits cover: output pixels divide the 10."""
    class_logits, mask_logits = random_case(queries=3, classes=2, height=3, width=3)
    probs = class_probabilities(class_logits)[:, :-1]
    scores = torch.einsum("qk,qhw->khw", probs, mask_logits.double().sigmoid())[:, 0].numpy()  # (K, w), the first row
    actual = semantic_scores(class_logits, mask_logits, (1, 10), (1, 25), "scores")[:, 0]
    centers = (np.arange(25) + 0.5) * 10 / 25  # in input pixels
    for label in range(2):
        expected = np.interp(centers, [2.0, 6.0, 10.0], scores[label])
        np.testing.assert_allclose(actual[label].numpy(), expected, atol=1e-5)


def test_an_unknown_way_to_resize_is_refused():
    with pytest.raises(ValueError, match='"logits" or "scores", got \'masks\''):
        semantic_segmentation(*random_case(), mask_resize="masks")


def test_an_image_larger_than_its_logits_is_refused():
    with pytest.raises(ValueError, match="37x48 input pixels has mask logits of 10x12"):
        semantic_segmentation(*random_case(), image_size=(37, 48))
