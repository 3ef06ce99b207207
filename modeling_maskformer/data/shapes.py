"""A generated dataset: overlapping shapes (things) on wavy regions (stuff), drawn when asked for, no download."""

from __future__ import annotations

import hashlib

import numpy as np
import PIL.Image

from ..targets import Segments
from . import shapes_drawing
from .formats.id_maps import segments_of_ids
from .labels.label_set import NO_LABEL, LabelSet
from .samples import Sample

THINGS, STUFF = shapes_drawing.THINGS, shapes_drawing.STUFF
LABELS = LabelSet(THINGS + STUFF, tuple(range(len(THINGS + STUFF))), (True,) * len(THINGS) + (False,) * len(STUFF))


class ShapesDataset:
    """Samples of up to `max_things` shapes on 2 or 3 regions, the same for the same seed and index.

    Shapes of one class vary in size, turn, colour and texture and hide each other in part; their colours overlap
    with those of other classes, so the outline decides.

    Args:
        num_images: length.
        task: "semantic" (one segment per class), "instance" (the shapes; the regions are background) or "panoptic".
        size: height and width in pixels.
        seed: of the dataset; datasets of different seeds share no image.
        max_things: each image has 0 to that many shapes, later ones in front.

    Attributes:
        labels: 5 things, and for semantic and panoptic 3 kinds of stuff after them.
    """

    def __init__(
        self, num_images: int, task: str = "panoptic", size: int = 128, seed: int = 0, max_things: int = 6
    ) -> None:
        if size < 32:
            raise ValueError(f"Generated images have a size of at least 32 pixels, got {size}.")
        self.num_images = num_images
        self.task = task
        self.size = size
        self.seed = seed
        self.max_things = max_things
        self.labels = LABELS.things() if task == "instance" else LABELS

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.num_images:
            raise IndexError(f"Image {index} was asked for, there are {self.num_images}.")
        rng = np.random.default_rng((self.seed, index))
        image, regions, classes = shapes_drawing.draw_scene(rng, self.size, self.max_things)
        return Sample(PIL.Image.fromarray(image), self._segments(regions, classes), f"shapes_{index:06d}", index)

    def identity(self, index: int) -> tuple[str, str]:
        """The name of an image and a digest of its pixels."""
        sample = self[index]
        return sample.name, hashlib.sha256(sample.image.tobytes()).hexdigest()

    def lengths(self) -> list[int]:
        """A number for each image: no two are equal."""
        return list(range(self.num_images))

    def _segments(self, regions: np.ndarray, classes: np.ndarray) -> Segments:
        labels = np.where(classes >= len(self.labels), NO_LABEL, classes)
        not_crowd = np.zeros(len(labels), dtype=bool)
        return segments_of_ids(regions, labels, not_crowd, merge=self.task == "semantic").without_empty()
