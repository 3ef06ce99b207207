"""What the page shows of a prediction is the prediction: each pixel's segment, its name, score and share."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from image_processing.results import encode_mask, rgb_to_ids
from modeling_maskformer.page.overlay import MAX_SIDE, overlay_of

NAMES = {0: "sky", 1: "road", 2: "car"}


def read(url, kind):
    head, data = url.split(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def picture(width=60, height=40):
    return Image.new("RGB", (width, height), (90, 120, 150))


def test_classes_are_segments():
    classes = torch.zeros(40, 60, dtype=torch.int64)
    classes[10:, :] = 2
    shown = overlay_of("semantic", picture(), classes, NAMES)
    np.testing.assert_array_equal(rgb_to_ids(read(shown["ids"], "png")), np.where(classes == 2, 2, 1))
    assert read(shown["picture"], "jpeg").size == (60, 40)
    assert [(s["label"], s["score"], s["share"]) for s in shown["segments"]] == [
        ("sky", None, 0.25),
        ("car", None, 0.75),
    ]


def test_panoptic_segments_are_numbered_as_they_are_listed():
    ids = torch.zeros(40, 60, dtype=torch.int32)
    ids[:20], ids[30:] = 7, 3
    infos = [{"id": 3, "label_id": 1, "score": 0.9}, {"id": 7, "label_id": 1, "score": 0.8}]
    shown = overlay_of("panoptic", picture(), {"segmentation": ids, "segments_info": infos}, NAMES)
    numbers = rgb_to_ids(read(shown["ids"], "png"))
    assert set(numbers[:20].ravel()) == {2} and set(numbers[20:30].ravel()) == {0} and set(numbers[30:].ravel()) == {1}
    assert [s["score"] for s in shown["segments"]] == [0.9, 0.8]
    assert shown["segments"][0]["color"] != shown["segments"][1]["color"]


def test_the_better_of_two_instances_is_on_top_and_both_have_their_share():
    masks = np.zeros((2, 40, 60), dtype=bool)
    masks[0, :20], masks[1, 10:] = True, True
    result = {
        "segmentation": [encode_mask(mask) for mask in masks],
        "segments_info": [{"id": 0, "label_id": 2, "score": 0.9}, {"id": 1, "label_id": 5, "score": 0.6}],
    }
    shown = overlay_of("instance", picture(), result, NAMES)
    numbers = rgb_to_ids(read(shown["ids"], "png"))
    assert set(numbers[:20].ravel()) == {1} and set(numbers[20:].ravel()) == {2}
    assert [(s["label"], s["share"]) for s in shown["segments"]] == [("car", 0.5), ("5", 0.75)]


def test_nothing_found_shows_the_picture_alone():
    for task, segmentation in (("panoptic", torch.zeros(40, 60, dtype=torch.int32)), ("instance", [])):
        shown = overlay_of(task, picture(), {"segmentation": segmentation, "segments_info": []}, NAMES)
        assert shown["segments"] == [] and not rgb_to_ids(read(shown["ids"], "png")).any()


@pytest.mark.parametrize("size", [(4000, 100), (3000, 2500), (1, 5000)])
def test_large_pictures_are_shown_smaller(size):
    classes = torch.zeros(size[::-1], dtype=torch.uint8)
    classes[:, : size[0] // 2] = 1
    shown = overlay_of("semantic", picture(*size), classes, NAMES)
    small = read(shown["picture"], "jpeg").size
    assert max(small) == MAX_SIDE and read(shown["ids"], "png").size == small
    assert sum(s["share"] for s in shown["segments"]) == pytest.approx(1)
