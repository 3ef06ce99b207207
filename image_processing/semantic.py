"""Semantic inference: which class is each pixel? (Section 3.4 of the paper, "semantic inference")

score(class c, pixel x) = sum over queries q of p_q(c) * m_q(x); the pixel's class is the argmax over the K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from .resampling import Taps, crop_to_image, resize, scores_taps, target_taps
from .tiling.argmax import contest
from .tiling.semantic_tiles import Vote
from .tiling.tiles import STEP_ELEMENTS, Tiling

MaskResize = Literal["logits", "scores"]


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
    probs, logits, rows, columns = _prepare(class_logits, mask_logits, image_size, target_size, mask_resize)
    if mask_resize == "scores":
        return _argmax_of_resized_scores(probs, logits, rows, columns)
    return _argmax_of_resized_logits(probs, logits, rows, columns)


def semantic_scores(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: MaskResize = "logits",
) -> Tensor:
    """`(K, H, W)` float32, the scores whose argmax is `semantic_segmentation`, in [0, Q]; same arguments."""
    probs, logits, rows, columns = _prepare(class_logits, mask_logits, image_size, target_size, mask_resize)
    scores = torch.empty(len(probs), len(rows), len(columns), device=logits.device)
    for strip, part in _score_strips(probs, logits, rows, columns, mask_resize):
        scores[:, strip] = part
    return scores


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
    return _score_strips(*_prepare(class_logits, mask_logits, image_size, target_size, mask_resize), mask_resize)


def _score_strips(
    probs: Tensor, logits: Tensor, rows: Taps, columns: Taps, mask_resize: MaskResize
) -> Iterator[tuple[slice, Tensor]]:
    step = max(1, STEP_ELEMENTS // (max(probs.shape) * len(columns)))
    for start in range(0, len(rows), step):
        block, samples = rows.part(start, start + step)
        masks = logits[:, samples]
        if mask_resize == "logits":
            scores = torch.einsum("kq,qhw->khw", probs, resize(masks, block, columns).sigmoid_())
        else:
            scores = resize(torch.einsum("kq,qhw->khw", probs, masks.sigmoid()), block, columns)
        yield slice(start, start + len(block)), scores


def _prepare(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None,
    target_size: tuple[int, int] | None,
    mask_resize: str,
) -> tuple[Tensor, Tensor, Taps, Taps]:
    """Class probabilities (K, Q), valid mask logits (Q, h, w), and the resampling of rows and columns."""
    if mask_resize not in ("logits", "scores"):
        raise ValueError(f'`mask_resize` must be "logits" or "scores", got {mask_resize!r}.')
    probs = class_logits.float().softmax(-1)[:, :-1].T.contiguous()
    logits, image_size = crop_to_image(mask_logits, image_size)
    if mask_resize == "scores" and target_size is not None:
        rows, columns = (scores_taps(logits.shape[i + 1], image_size[i], target_size[i]) for i in range(2))
    else:
        rows, columns = target_taps(logits, image_size, target_size)
    return probs, logits, rows, columns


def _argmax_of_resized_logits(probs: Tensor, logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(H, W)` int64: classes, deciding whole tiles where bounds on the mask logits suffice."""
    tiling = Tiling.of(rows, columns, logits.device)
    canvas = tiling.canvas(torch.int64)
    vote = Vote(probs, logits)
    for part, canvas_rows in tiling.parts(vote.maps):
        vote.decide(canvas[canvas_rows], part)
    return tiling.crop(canvas)


def _argmax_of_resized_scores(probs: Tensor, logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(H, W)` int64: classes by resized stride-4 scores, which are computed for one strip at a time."""
    tiling = Tiling.of(rows, columns, logits.device)
    canvas = tiling.canvas(torch.int64)
    for part, canvas_rows in tiling.parts(len(probs)):
        part, rows_used = part.of_own_rows()
        masks = logits[:, rows_used].sigmoid()  # (Q, h, w)
        scores = (probs @ masks.flatten(1)).unflatten(1, masks.shape[1:])  # (K, h, w)
        contest(canvas[canvas_rows], part, scores, lambda values, *_: values, part.bounds(scores))
    return tiling.crop(canvas)
