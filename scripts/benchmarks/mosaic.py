"""A large picture of many objects that says what it shows, and a predictor that segments exactly what it sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from image_processing.results import encode_runs, runs_of_mask

NUM_CLASSES = 4
THING = 2  # and 3; 0 and 1 are stuff


def picture_of(class_map: np.ndarray, object_map: np.ndarray) -> Image.Image:
    """The class of each pixel in red, its object in green and blue; object 0 is stuff."""
    pixels = np.empty((*class_map.shape, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = class_map, object_map % 256, object_map // 256
    return Image.fromarray(pixels)


def read(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """`(H, W)` class map and object map of a picture or a part of one."""
    pixels = np.asarray(picture)
    return pixels[..., 0].astype(np.int64), pixels[..., 1] + 256 * pixels[..., 2].astype(np.int32)


def draw_mosaic(side: int, seed: int = 0, tries: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """`(side, side)` uint8 class map and uint16 object map: rectangles and ellipses of any length, many touching.

    Two stuff classes lie under them. Objects are from 1/400 to a half of the side long; none covers another.
    """
    random = np.random.default_rng(seed)
    classes = np.zeros((side, side), dtype=np.uint8)
    classes[:, side // 2 :] = 1
    objects = np.zeros((side, side), dtype=np.uint16)
    number = 0
    for _ in range(tries):
        lengths = np.exp(random.uniform(np.log(side / 400), np.log(side / 2), 2))
        if random.random() < 0.7:
            lengths[1] = np.clip(lengths[1], lengths[0] / 3, 3 * lengths[0])
        height, width = (min(round(length), side) for length in lengths)
        top, left = random.integers(0, side - height + 1), random.integers(0, side - width + 1)
        box = slice(top, top + height), slice(left, left + width)
        if objects[box].any():
            continue
        mask = np.ones((height, width), dtype=bool)
        if random.random() < 0.5:
            rows, columns = ((np.arange(length) + 0.5) / length * 2 - 1 for length in (height, width))
            mask = rows[:, None] ** 2 + columns**2 <= 1
            if ndimage.label(mask)[1] != 1:
                continue
        number += 1
        label = THING + int(random.integers(2))
        objects[box][mask], classes[box][mask] = number, label
        if left + 2 * width <= side and not objects[box[0], left + width : left + 2 * width].any():
            number += 1  # a twin of its class that touches it
            twin = box[0], slice(left + width, left + 2 * width)
            objects[twin][mask], classes[twin][mask] = number, label
    return classes, objects


class PerfectPredictor:
    """Each class of stuff that a picture shows is a segment, and each connected part of an object that it shows.

    Args:
        task: which results it gives.
        score: (pixels, class) -> score of a segment.

    Attributes:
        sizes: of the pictures it saw, (width, height).
    """

    model = None

    def __init__(self, task: str, score: Callable[[int, int], float] = lambda pixels, label: 0.9) -> None:
        self.task, self.score = task, score
        self.sizes: list[tuple[int, int]] = []

    def score_strips(self, images: Sequence[Image.Image]) -> Iterator[Iterator[tuple[slice, Tensor]]]:
        for image in images:
            self.sizes.append(image.size)
            classes = torch.from_numpy(read(image)[0])
            yield (
                (slice(top, top + len(rows)), torch.nn.functional.one_hot(rows, NUM_CLASSES).permute(2, 0, 1).float())
                for top, rows in zip(range(0, len(classes), 64), classes.split(64), strict=True)
            )

    def __call__(self, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
        return [self._result(*read(image)) for image in images if self.sizes.append(image.size) is None]

    def _result(self, classes: np.ndarray, objects: np.ndarray) -> dict[str, Any]:
        parts, infos = [], []  # corner and mask; entry
        present, local = np.unique(objects, return_inverse=True)
        local = local.reshape(objects.shape)
        for place, box in enumerate(ndimage.find_objects(local + 1)):
            if present[place] == 0:
                continue
            components, count = ndimage.label(local[box] == place)
            for component in range(1, count + 1):
                self._add(parts, infos, components == component, box, classes, False)
        if self.task == "panoptic":
            whole = slice(0, classes.shape[0]), slice(0, classes.shape[1])
            for label in np.unique(classes[objects == 0]):
                self._add(parts, infos, (objects == 0) & (classes == label), whole, classes, True)
            ids = np.zeros(classes.shape, dtype=np.int32)
            for info, (box, mask) in zip(infos, parts, strict=True):
                info["id"] += 1
                ids[box][mask] = info["id"]
            return {"segmentation": torch.from_numpy(ids), "segments_info": infos}
        height = classes.shape[0]
        rles = [
            encode_runs(*runs_of_mask(mask, (box[0].start, box[1].start), height), classes.shape)
            for box, mask in parts
        ]
        return {"segmentation": rles, "segments_info": infos}

    def _add(self, parts: list, infos: list, mask: np.ndarray, box: tuple, classes: np.ndarray, stuff: bool) -> None:
        label = int(classes[box][mask][0])
        score = self.score(int(mask.sum()), label)
        infos.append({"id": len(infos), "label_id": label, "was_fused": stuff, "score": score})
        parts.append((box, mask))
