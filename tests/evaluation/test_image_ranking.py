"""Which images of an evaluation are shown: best, median and worst among them, the others evenly between."""

import random

import numpy as np
import pytest

from modeling_maskformer.evaluation.image_ranking import RankedImage, spread_by_score


def scored(count, seed=0):
    """(score, index) of `count` images, in no order."""
    places = list(range(count))
    random.Random(seed).shuffle(places)
    return [(0.9 - place / 1000, 100 + place) for place in places]


@pytest.mark.parametrize("num_images", [3, 4, 5, 6, 7, 10, 101, 200])
@pytest.mark.parametrize("count", [3, 4, 5, 8, 9, 50])
def test_best_median_and_worst_are_among_those_that_are_spread_evenly(num_images, count):
    images = spread_by_score(scored(num_images), count)
    assert len(images) == min(count, num_images)
    scores = np.array([image.score for image in images])
    assert (np.diff(scores) < 0).all()
    everything = np.array([score for score, _ in scored(num_images)])
    named = {image.name: image for image in images if image.name}
    assert list(named) == ["best", "median", "worst"] and all(image.count == num_images for image in images)
    assert named["best"].score == everything.max() and named["worst"].score == everything.min()
    assert named["median"].score == np.quantile(everything, 0.5, method="higher")
    gaps = np.diff([image.index for image in images])  # which follow from the order of the scores
    assert gaps.min() > 0 and gaps.max() <= 2 * num_images / len(images) + 1


def test_of_one_picture_it_is_the_median_and_of_two_the_best_and_the_worst():
    assert [image.index for image in spread_by_score(scored(5), 1)] == [102]
    assert [(image.index, image.name) for image in spread_by_score(scored(5), 2)] == [(100, "best"), (104, "worst")]
    assert [(image.index, image.name) for image in spread_by_score(scored(2), 8)] == [(100, "best"), (101, "worst")]
    assert spread_by_score(scored(5), 0) == [] == spread_by_score([], 3)


def test_images_of_equal_score_come_in_their_order():
    assert [image.index for image in spread_by_score([(0.5, 9), (0.5, 2), (0.5, 4)], 3)] == [2, 4, 9]


def test_the_caption_says_which_image_it_is_and_its_score():
    image = RankedImage(index=3, score=0.926, count=1200, name="best")
    expected = "The best of 1,200 images by their own score: mean IoU 0.93."
    assert image.caption("mean IoU") == expected
    (only,) = spread_by_score([(0.5, 0)], 8)
    assert only.caption("mean IoU") == "The one image with a score: mean IoU 0.50."
