"""Semantic inference: which class is each pixel? (Section 3.4 of the paper, "semantic inference")

score(class c, pixel x) = sum over queries q of p_q(c) * m_q(x); the pixel's class is the argmax over the K classes.

`_score_strips` is that sentence. On a CPU `tiling/semantic_tiles.py` finds the argmax without most of the scores, on
an NVIDIA GPU `fused/semantic_kernels.py` without writing any.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from . import fused, tiling
from .resampling import MaskResize, Taps, crop_to_image, float32_products, resized_strips, target_taps
from .tiling.semantic_tiles import argmax_of_resized_logits, argmax_of_resized_scores


def semantic_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Tensor:
    """`(H, W)` int64, the class of each pixel of one image, in [0, K).

    Args:
        class_logits: `(Q, K + 1)`, the last class is "no object".
        mask_logits: `(Q, h, w)` at stride 4, possibly with padding at the bottom and at the right.
        image_size: (height, width) of the image in input pixels, without padding. None: there is no padding.
        target_size: (H, W) of the result. None: the resolution of the (cropped) logits.
        mask_resize: "logits" resizes the mask logits and computes the scores at the result's resolution (the paper).
            "scores" computes the scores at stride 4 and resizes those (transformers).
    """
    return semantic_segmentations(class_logits[None], mask_logits[None], image_size, target_size, mask_resize)[0]


def semantic_segmentations(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Tensor:
    """`(B, H, W)` int64: `semantic_segmentation` of images of one size, logits `(B, Q, K + 1)` and `(B, Q, h, w)`."""
    if mask_resize == "logits" and fused.use_kernels(mask_logits):
        from .fused.semantic_kernels import class_maps  # needs Triton

        logits, image_size = crop_to_image(mask_logits, image_size)
        return class_maps(class_logits, logits, *target_taps(logits, image_size, target_size))
    probs, logits, rows, columns = _prepare(class_logits, mask_logits, image_size, target_size, mask_resize)
    if tiling.use_tiles(logits) and not rows.changes_nothing:  # else a tile would be a sample
        decide = argmax_of_resized_logits if mask_resize == "logits" else argmax_of_resized_scores
        with float32_products(logits.device):
            images = zip(probs, logits.float().contiguous(), strict=True)
            return torch.stack([decide(*image, rows, columns) for image in images])
    classes = torch.empty(len(logits), len(rows), len(columns), dtype=torch.int64, device=logits.device)
    for images, strip, scores in _score_strips(probs, logits, rows, columns, mask_resize):
        classes[images, strip] = scores.max(1).indices
    return classes


def semantic_scores(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Tensor:
    """`(K, H, W)` float32, the scores whose argmax is `semantic_segmentation`, in [0, Q]; same arguments."""
    strips = semantic_score_strips(class_logits, mask_logits, image_size, target_size, mask_resize)
    return torch.cat([scores for _, scores in strips], dim=1)


def semantic_score_strips(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Iterator[tuple[slice, Tensor]]:
    """`semantic_scores` in strips of a few rows, from the top: the rows and their `(K, h, W)`; same arguments.

    For what needs every score once, such as a mean over several predictions: the whole is never held.
    """
    prepared = _prepare(class_logits[None], mask_logits[None], image_size, target_size, mask_resize)
    return ((strip, scores[0]) for _, strip, scores in _score_strips(*prepared, mask_resize))


def _prepare(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None,
    target_size: tuple[int, int] | None,
    mask_resize: MaskResize,
) -> tuple[Tensor, Tensor, Taps, Taps]:
    """Class probabilities (B, K, Q), valid mask logits (B, Q, h, w), and the resampling of rows and columns."""
    probs = class_logits.float().softmax(-1)[..., :-1].transpose(1, 2).contiguous()
    logits, image_size = crop_to_image(mask_logits, image_size)
    return probs, logits, *target_taps(logits, image_size, target_size, mask_resize)


def _score_strips(
    probs: Tensor, logits: Tensor, rows: Taps, columns: Taps, mask_resize: MaskResize
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Images, rows and their scores `(b, K, s, W)`, strip by strip: masks at the result's resolution and a product."""
    num_classes, num_queries = probs.shape[1:]
    if mask_resize == "scores":
        scores = _weighted_sum(probs, logits.float().sigmoid())  # at stride 4, (B, K, h, w)
        yield from resized_strips(scores, rows, columns, num_classes)
        return
    for images, strip, masks in resized_strips(logits, rows, columns, num_classes + num_queries):
        masks = masks.sigmoid_()  # (b, Q, s, W)
        yield images, strip, _weighted_sum(probs[images], masks)


def _weighted_sum(probs: Tensor, masks: Tensor) -> Tensor:
    """`(B, K, H, W)`: over the queries, of probabilities `(B, K, Q)` and masks `(B, Q, H, W)`."""
    with float32_products(masks.device):
        return (probs @ masks.flatten(2)).unflatten(2, masks.shape[2:])
