"""Per-pixel inference: class logits of every pixel -> its class (the paper's baselines).

Logits are enlarged bilinear to the padded input, cropped to the image and resized to the result, whose pixels then get
their best class.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor

from .resampling import Block, blocks_of, crop_to_image, scores_taps, target_taps
from .semantic import MaskResize
from .tiling.tiles import STEP_ELEMENTS


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
    logits, size, blocks = _prepare(logits, image_size, target_size, mask_resize)
    classes = torch.empty(size, dtype=torch.int64, device=logits.device)
    for block in blocks:
        classes[block.target] = block.resize(logits).argmax(0)
    return classes


def per_pixel_scores(
    logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Tensor:
    """`(K, H, W)` float32, the logits whose argmax is `per_pixel_segmentation`; same arguments."""
    return torch.cat(
        [scores for _, scores in per_pixel_score_strips(logits, image_size, target_size, mask_resize)], dim=1
    )


def per_pixel_score_strips(
    logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Iterator[tuple[slice, Tensor]]:
    """`per_pixel_scores` in strips of some rows, from the top: the rows and their `(K, h, W)`; same arguments."""
    logits, _, blocks = _prepare(logits, image_size, target_size, mask_resize)
    for rows, strip in groupby(blocks, key=lambda block: block.target[0]):
        yield rows, torch.cat([block.resize(logits) for block in strip], dim=2)


def _prepare(
    logits: Tensor, image_size: tuple[int, int] | None, target_size: tuple[int, int] | None, mask_resize: str
) -> tuple[Tensor, tuple[int, int], Iterator[Block]]:
    """The valid logits (K, h, w), the size of the result, and its blocks."""
    if mask_resize not in ("logits", "scores"):
        raise ValueError(f'`mask_resize` must be "logits" or "scores", got {mask_resize!r}.')
    logits, image_size = crop_to_image(logits, image_size)
    if mask_resize == "scores" and target_size is not None:
        rows, columns = (scores_taps(logits.shape[i + 1], image_size[i], target_size[i]) for i in range(2))
    else:
        rows, columns = target_taps(logits, image_size, target_size)
    blocks = blocks_of(rows, columns, STEP_ELEMENTS // len(logits), logits.device)
    return logits, (len(rows), len(columns)), blocks
