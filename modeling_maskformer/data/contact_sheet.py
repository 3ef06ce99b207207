"""A contact sheet of a dataset: images with their annotations, and views of them as training sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from image_processing.drawing.sheets import Cell, draw_sheet
from image_processing.drawing.visualization import draw_annotation

from ..targets import Segments
from .views.collate import SegmentationDataset
from .views.view_sampler import View, view_seed

SHORT_SIDE = 360  # of a picture on the sheet: names of segments are readable
CELL = (640, 720)  # its most height and width
COLUMNS = 4
ALPHA = 0.4  # of the colours: what is annotated has to be seen, too
HATCH = 12  # pixels from one stripe on void to the next


def draw_contact_sheet(
    dataset: SegmentationDataset, count: int, id2label: Mapping[int, str], seed: int = 0
) -> Image.Image:
    """Up to `count` samples, evenly spread: each image with its annotation, and below it a random view with its own.

    Classes have the same colours everywhere, and are named below. Pixels of void and of crowd regions, from which
    nothing is learnt, are dark and striped.

    Args:
        dataset: of a split, with its augmentation.
        count: images to show.
        id2label: names of the classes.
        seed: of the views.
    """
    samples = dataset.samples
    count = min(count, len(samples))
    originals, views, labels = [], [], set()
    for number in range(count):
        index = number * len(samples) // count
        sample = samples[index]
        sample = replace(sample, segments=sample.segments.without_crowd())
        labels |= set(sample.segments.class_ids.tolist())
        originals.append(Cell(_drawn(sample.image, sample.segments, id2label), sample.name))
        view = dataset[View(index, view_seed(seed, 0, index))]
        image, segments = view["image"], view["segments"]
        title = f"view in training, {segments.size[0]}x{segments.size[1]}"
        views.append(Cell(_drawn(F.to_pil_image(image), segments, id2label), title))
    rows = []
    for start in range(0, count, COLUMNS):
        rows += [originals[start : start + COLUMNS], views[start : start + COLUMNS]]
    return draw_sheet(rows, CELL, sorted(labels), id2label, note="striped: void or crowd, nothing is learnt there")


def _drawn(image: Image.Image, segments: Segments, id2label: Mapping[int, str]) -> Image.Image:
    """The image at the size that it has on the sheet, with segments, and stripes on void."""
    scale = min(SHORT_SIDE / min(image.size), CELL[0] / image.height, CELL[1] / image.width)
    size = max(1, round(image.height * scale)), max(1, round(image.width * scale))
    image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    ids = F.resize(segments.ids, list(size), InterpolationMode.NEAREST_EXACT)  # (L, h, w)
    segments = Segments(ids, segments.class_ids, segments.is_crowd)
    return draw_annotation(_striped(image, segments.void.numpy()), ids, segments.class_ids, id2label, ALPHA)


def _striped(image: Image.Image, void: np.ndarray) -> Image.Image:
    """The image, darker and with diagonal stripes where the `(H, W)` mask is True."""
    pixels = np.asarray(image.convert("RGB")).copy()
    diagonal = np.add.outer(np.arange(void.shape[0]), np.arange(void.shape[1]))
    pixels[void] = pixels[void] // 3
    pixels[void & (diagonal % HATCH < 2)] = 200
    return Image.fromarray(pixels)
