"""The parts of a batch that a step of training or evaluation takes, without images that only fill it up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

INPUTS, TARGETS = ("pixel_values", "pixel_mask"), ("segment_ids", "mask_labels", "class_labels")
NUM_IMAGES = "num_images"  # of a batch, without those that fill it up


def cut(batch: dict[str, Any], size: int, count: int) -> dict[str, Any]:
    """The first `count` images of a batch of `size`, and their number; all where that is 0, as the model runs."""
    if 0 < count < size:
        batch = {name: value[:count] for name, value in batch.items()}
    return {**batch, NUM_IMAGES: count}


def targets_of(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: batch[name] for name in TARGETS if name in batch}


class OutOfGraph:
    """Tensors `(S_b, ...)` of each image in an object, into which `torch.compile` does not look.

    Of a list it guards every size. So other numbers of segments, 0 and 1 above all, would have the model compiled
    anew, and after eight times never again: all would run uncompiled.
    """

    def __init__(self, of_images: Sequence[Tensor]):
        self.of_images = of_images

    def __len__(self) -> int:
        return len(self.of_images)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.of_images)

    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        return self.of_images[index]


def out_of_graph(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch for a compiled model: its targets by image are `OutOfGraph`."""
    return {
        name: OutOfGraph(value) if name in TARGETS and isinstance(value, (list, tuple)) else value
        for name, value in batch.items()
    }
