"""Per-pixel inference: class logits of every pixel -> its class (the paper's baselines).

Logits are enlarged bilinear to the padded input, cropped to the image and resized to the result, whose pixels then get
their best class.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from . import tiling
from .resampling import (
    MaskResize,
    blocks_of,
    crop_to_image,
    float32_products,
    resized_strips,
    strip_elements,
    target_taps,
)


def per_pixel_segmentation(
    logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Tensor:
    """`(H, W)` int64, the class of each pixel of one image, in [0, K).

    Args:
        logits: `(K, h, w)` class logits at stride 4, possibly with padding at the bottom and at the right.
        image_size: (height, width) of the image in input pixels, without padding. None: there is no padding.
        target_size: (H, W) of the result. None: the resolution of the (cropped) logits.
        mask_resize: "logits" enlarges to input pixels and resizes these (the original). "scores" resizes the stride-4
            logits straight to the result (transformers).
    """
    return per_pixel_segmentations(logits[None], image_size, target_size, mask_resize)[0]


def per_pixel_segmentations(
    logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Tensor:
    """`(B, H, W)` int64: `per_pixel_segmentation` of images of one size, logits `(B, K, h, w)`."""
    logits, image_size = crop_to_image(logits, image_size)
    rows, columns = target_taps(logits, image_size, target_size, mask_resize)
    num_classes = logits.shape[1]
    classes = torch.empty(len(logits), len(rows), len(columns), dtype=torch.int64, device=logits.device)
    if tiling.use_tiles(logits):
        with float32_products(logits.device):
            for block in blocks_of(rows, columns, strip_elements(logits.device) // num_classes, logits.device):
                for image, result in zip(logits.float(), classes, strict=True):
                    result[block.target] = block.resize(image).max(0).indices
        return classes
    for images, strip, scores in resized_strips(logits, rows, columns, num_classes):
        classes[images, strip] = scores.max(1).indices
    return classes


def per_pixel_scores(
    logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Tensor:
    """`(K, H, W)` float32, the logits whose argmax is `per_pixel_segmentation`; same arguments."""
    strips = per_pixel_score_strips(logits, image_size, target_size, mask_resize)
    return torch.cat([scores for _, scores in strips], dim=1)


def per_pixel_score_strips(
    logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Iterator[tuple[slice, Tensor]]:
    """`per_pixel_scores` in strips of some rows, from the top: the rows and their `(K, h, W)`; same arguments."""
    logits, image_size = crop_to_image(logits[None], image_size)
    rows, columns = target_taps(logits, image_size, target_size, mask_resize)
    return ((strip, scores[0]) for _, strip, scores in resized_strips(logits, rows, columns, logits.shape[1]))
