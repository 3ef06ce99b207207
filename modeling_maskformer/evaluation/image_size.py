"""The size at which images are evaluated and predicted: how it follows from training, and how to try others."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.image_processing_utils import BaseImageProcessor

SWEEP_FACTORS = (0.75, 0.875, 1.0, 1.125, 1.25, 1.5)  # of the checkpoint's own short edge
LONGEST_EDGE_FACTOR = 4  # of the short edge: bounds the memory that a very long image takes


def evaluation_shortest_edge(
    crop_size: Sequence[int] | None, scale_range: Sequence[float], short_edges: Sequence[int]
) -> int:
    """The short edge of images in evaluation, for a model trained on such crops or whole images.

    Before a crop, an image's short edge is brought to the crop's short side times a factor of `scale_range`. Evaluated
    at the mean of these sizes, objects are as large as they were in training. Measured, the best of seven sizes lies
    next to it: on CamVid (crops of 288, factors 0.75 to 2.0, mean 396) mean IoU is best from 400 to 468, a point above
    that at 360; on Penn-Fudan (256, 0.8 to 1.6, mean 307) mask AP is best at 288, four points above that at 352. Whole
    images are evaluated at the largest size of training, as DETR's recipe does.

    Args:
        crop_size: (height, width) of the training crops; None where whole images were seen.
        scale_range: least and largest factor of the crop's short side.
        short_edges: lengths that short edges got in training instead of these.
    """
    if crop_size is None:
        return max(short_edges)
    sizes = short_edges or [min(crop_size) * factor for factor in scale_range]
    return round(sum(sizes) / len(sizes))


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
