"""Segments painted strip by strip look as if each were painted whole, in a small part of the memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from image_processing import draw_instances, draw_semantic
from image_processing.boxed_masks import BoxedMask
from image_processing.drawing.segments import DrawnSegment, contour, contour_width, paint


def plainly_painted(canvas, masks, colors, factor, alpha):
    canvas = canvas.copy()
    masks = [np.kron(mask, np.ones((factor, factor), bool)) for mask in masks]
    for mask, color in zip(masks, colors, strict=True):
        canvas[mask] = ((1 - alpha) * canvas[mask] + alpha * np.array(color)).astype(np.uint8)
    for mask, color in zip(masks, colors, strict=True):
        canvas[contour(mask, contour_width(canvas))] = (0.35 * np.array(color)).astype(np.uint8)
    return canvas


@pytest.mark.parametrize("size", [(700, 40), (40, 700), (256, 257), (1, 600), (600, 1), (90, 110)])
@pytest.mark.parametrize("factor", [1, 3])
def test_strips_make_the_picture_that_whole_masks_make(size, factor):
    rng = np.random.default_rng(size[0] + factor)
    canvas = rng.integers(0, 256, (size[0] * factor, size[1] * factor, 3), dtype=np.uint8)
    masks = [rng.random(size) < 0.5, np.ones(size, bool), np.zeros(size, bool)]
    for _ in range(4):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, length + 1, 2)) for length in size)
        masks.append(np.zeros(size, bool))
        masks[-1][top:bottom, left:right] = True
    colors = [tuple(rng.integers(0, 256, 3).tolist()) for _ in masks]
    expected = plainly_painted(canvas, masks, colors, factor, 0.5)
    boxed = map(BoxedMask.of, masks)
    paint(canvas, [DrawnSegment(mask, 0, None, color) for mask, color in zip(boxed, colors, strict=True)], factor, 0.5)
    np.testing.assert_array_equal(canvas, expected)


def test_a_segment_gives_back_its_mask():
    rng = np.random.default_rng(0)
    for _ in range(20):
        size = rng.integers(1, 30, 2)
        mask = rng.random(size) < rng.choice([0, 0.05, 0.9])
        segment = DrawnSegment(BoxedMask.of(mask), 0, None, (0, 0, 0))
        top, left = rng.integers(0, size)
        assert segment.area == mask.sum()
        np.testing.assert_array_equal(segment.window(slice(top, size[0]), slice(left, size[1])), mask[top:, left:])
        np.testing.assert_array_equal(segment.every(3, 2), np.kron(mask, np.ones((2, 2), bool))[::3, ::3])


def test_drawing_many_segments_of_a_large_picture_takes_little_memory():
    ids = (torch.arange(1600)[:, None] // 160 * 10 + torch.arange(1600) // 160 + 1).to(torch.int32)  # 100 squares
    infos = [{"id": number, "label_id": number % 7, "score": 0.9} for number in range(1, 101)]
    image = Image.new("RGB", (1600, 1600))
    tracemalloc.start()
    draw_instances(image, {"segmentation": ids, "segments_info": infos})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000  # the masks alone would be 256 MB


@pytest.mark.parametrize("size", [(4000, 3), (4000, 20), (2000, 1), (1, 5000), (9000, 10)])
def test_no_side_of_a_drawn_picture_is_longer_than_4096(size):
    drawn = draw_semantic(Image.new("L", size), np.zeros(size[::-1], np.uint8))
    assert max(drawn.size) <= 4096 and drawn.width * drawn.height <= 4096 * 360
