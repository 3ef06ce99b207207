"""What is found in a dataset: numbers against counting by hand, and the paragraph made of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_maskformer.data.samples import Sample
from modeling_maskformer.data.statistics import DataStatistics, found_text, percent
from modeling_maskformer.targets import Segments, segments_from_class_map, segments_from_masks


def sample(segments):
    height, width = segments.size
    return Sample(Image.new("RGB", (width, height)), segments, "0")


def test_pixels_images_and_segments_are_counted_by_class():
    found, rng = DataStatistics(7), np.random.default_rng(0)
    maps = [rng.choice([0, 2, 255], (6, 5), p=[0.5, 0.3, 0.2]), rng.choice([2, 255], (4, 8))]
    for class_map in maps:
        found.add(sample(segments_from_class_map(class_map)))
    everything = np.concatenate([class_map.ravel() for class_map in maps])
    labelled = everything[everything != 255]
    assert found.pixels == {label: int((everything == label).sum()) for label in (0, 2)}
    assert found.shares() == pytest.approx({label: float((labelled == label).mean()) for label in (0, 2)})
    assert found.void_share == pytest.approx((everything == 255).mean())
    assert (found.images, found.segments) == ({0: 1, 2: 2}, {0: 1, 2: 2})
    assert (found.num_segments, found.sizes, found.short_edge, found.other_pixels) == ([2, 1], [(6, 5), (4, 8)], 4, 0)


def test_objects_that_overlap_count_each_and_the_rest_is_in_no_segment():
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, :2], masks[1, 1:3] = True, True
    found = DataStatistics(1)
    found.add(sample(segments_from_masks(masks, [0, 0])))
    assert (found.pixels, found.segments, found.images, found.other_pixels) == ({0: 16}, {0: 2}, {0: 1}, 4)


def test_the_paragraph_says_what_was_found():
    found = DataStatistics(500)
    for top in (1, 2):
        class_map = np.zeros((10, 20), np.uint8)
        class_map[:top] = 1
        class_map[9] = 255
        found.add(sample(segments_from_class_map(class_map)))
    assert found_text(found, ["road", "car", "boat"]) == (
        "Found: 500 training images (numbers are of 2 of them), all of 10x20 pixels (height x width). 3 classes, "
        "by their part of the pixels: road 83 %, car 17 %; never seen: boat; besides, 10 % of all pixels are "
        "unlabelled. 2 segments in each image."
    )


def test_sizes_and_segments_that_vary_are_given_by_their_range():
    found = DataStatistics(3)
    for height, count in ((10, 0), (14, 1), (30, 4)):
        masks = torch.zeros(count, height, 9, dtype=torch.bool)
        for number in range(count):
            masks[number, number] = True
        found.add(sample(segments_from_masks(masks, [0] * count, size=(height, 9))))
    text = found_text(found, ["cell"])
    assert "3 training images, of 10x9 to 30x9 pixels (height x width), 14x9 in the middle." in text
    assert "0 to 4 segments an image, 1.7 on average; 1 image without any." in text
    assert "1 class, by its part of the pixels: cell 9.3 %; in no segment: 91 %" in text


def test_many_classes_are_not_all_listed_and_an_unseen_dataset_is_no_error():
    found = DataStatistics(1)
    found.add(sample(Segments(torch.arange(1, 41, dtype=torch.uint8).reshape(1, 4, 10), torch.arange(40))))
    names = [f"class_{label}" for label in range(60)]
    text = found_text(found, names)
    assert text.count("2.5 %") == 12 and "28 more" in text and "class_44, ... (20 classes)" in text
    assert found_text(DataStatistics(9), names) == (
        "Found: 9 training images, none of which was looked at; 60 classes."
    )


def test_shares_never_look_like_nothing():
    shares = [percent(share) for share in (0, 1e-6, 0.0002, 0.004, 0.05, 0.333, 1)]
    assert shares == ["0 %", "under 0.01 %", "0.02 %", "0.40 %", "5.0 %", "33 %", "100 %"]
