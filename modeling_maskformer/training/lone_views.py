"""Whether BatchNorm can be trained with the smallest batch of a run: of one small view there may be no statistics."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ..data.views.augmentation import AugmentationConfig

LARGEST_SIDE = 64  # that any backbone makes one point of


def check_lone_views(model: PreTrainedModel, config: AugmentationConfig, sizes: Sequence[tuple[int, int]]) -> None:
    """Refuses views of which a deep feature map may have one point, where a batch may consist of one.

    Args:
        model: to be trained.
        config: how views are made.
        sizes: (height, width) of training images.

    Raises:
        ValueError: what mends it.
    """
    height, width = smallest_view(config, sizes)
    if max(height, width) > LARGEST_SIDE:
        return
    trained, pixels = copy.deepcopy(model).train(), torch.zeros(1, 3, height, width)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            trained(pixel_values=pixels, pixel_mask=torch.ones(1, height, width, dtype=torch.bool))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"BatchNorm has no statistics of a batch of one view of {height}x{width} pixels, as there may be: pass a "
            "larger --crop_size, --train_batch_norm false, or another --per_device_train_batch_size, so that no batch "
            "of an epoch has one image."
        ) from error


def smallest_view(config: AugmentationConfig, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(height, width) of the view with the shortest long side that images of these sizes give; of none, a square."""
    short = min(config.short_edges, default=0) or max(1, round(config.scale_range[0] * min(config.crop_size)))
    views = [(short, short)] if config.early_crop_probability > 0 or not sizes else []
    for size in set(sizes):
        views.append(tuple(round(side * short / min(size)) for side in size))
    if config.crop_size is not None:
        views = [tuple(map(min, view, config.crop_size)) for view in views]
    return min(views, key=max)
