"""The parts of a batch that a step of training or evaluation takes, without images that only fill it up."""

from __future__ import annotations

from typing import Any

INPUTS, TARGETS = ("pixel_values", "pixel_mask"), ("segment_ids", "mask_labels", "class_labels")
NUM_IMAGES = "num_images"  # of a batch, without those that fill it up


def cut(batch: dict[str, Any], size: int, count: int) -> dict[str, Any]:
    """The first `count` images of a batch of `size`, and their number; all where that is 0, as the model runs."""
    if 0 < count < size:
        batch = {name: value[:count] for name, value in batch.items()}
    return {**batch, NUM_IMAGES: count}


def targets_of(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: batch[name] for name in TARGETS if name in batch}
