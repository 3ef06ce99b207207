"""The size at which images are evaluated and predicted: how it follows from training, and how to try others."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.image_processing_utils import BaseImageProcessor

SWEEP_FACTORS = (0.75, 0.875, 1.0, 1.125, 1.25, 1.5)  # of the checkpoint's own short edge
LONGEST_EDGE_FACTOR = 4  # of the short edge: bounds the memory that a very long image takes
TRAINING_SCALE = 1.0  # the short edge in evaluation, as part of the short side of the training crops


def evaluation_shortest_edge(crop_size: Sequence[int] | None, short_edges: Sequence[int]) -> int:
    """The short edge of images in evaluation, for a model trained on such crops or whole images.

    Crops show images at 0.5 to 2 times their side, so what is evaluated at the crop's side is about as large as what
    the model has seen. Whole images are evaluated at the largest size of training, as DETR's recipe does.

    Args:
        crop_size: (height, width) of the training crops; None where whole images were seen.
        short_edges: lengths of the short edge of those whole images.
    """
    return max(short_edges) if crop_size is None else round(TRAINING_SCALE * min(crop_size))


def sizes_to_try(image_processor: BaseImageProcessor) -> list[int]:
    """Short edges around the one that a checkpoint's processor resizes to, rising.

    Raises:
        ValueError: the processor resizes to no short edge.
    """
    shortest_edge = dict(image_processor.size).get("shortest_edge")
    if not image_processor.do_resize or not shortest_edge:
        raise ValueError(
            "The checkpoint's image processor resizes to no short edge, so there is none to vary: "
            "name the lengths with --shortest_edge."
        )
    return [round(factor * shortest_edge) for factor in SWEEP_FACTORS]


def resize_to_shortest_edge(image_processor: BaseImageProcessor, shortest_edge: int) -> None:
    """Makes the processor resize images to this short edge. A bound of the long edge that it has grows with it.

    Raises:
        ValueError: the length is below 1.
    """
    if shortest_edge < 1:
        raise ValueError(f"--shortest_edge must be at least 1 pixel, got {shortest_edge}.")
    before = {name: length for name, length in dict(image_processor.size).items() if length}
    factor = LONGEST_EDGE_FACTOR
    if {"shortest_edge", "longest_edge"} <= before.keys():
        factor = before["longest_edge"] / before["shortest_edge"]
    size = {"shortest_edge": shortest_edge, "longest_edge": round(factor * shortest_edge)}
    image_processor.size = type(image_processor)(size=size).size
    image_processor.do_resize = True
