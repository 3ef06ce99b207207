"""Semantic inference: which class is each pixel? (Section 3.4 of the paper, "semantic inference")

score(class c, pixel x) = sum over queries q of p_q(c) * m_q(x); the pixel's class is the argmax over the K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from .resampling import Taps, crop_to_image, resize, scores_taps, target_taps
from .tiles import ROUNDING, Strip, strips

MaskResize = Literal["logits", "scores"]

# Queries that add less than this share of the largest class probability to a score are left out at first: what they
# could change is known, and looked at only where it could matter.
NEGLIGIBLE = 0.02
PIXEL_ELEMENTS = 1 << 19  # numbers per step of pixelwise work


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
    if mask_resize == "scores" and target_size is not None:
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
    scores = torch.empty(probs.shape[1], len(rows), len(columns), device=logits.device)
    step = max(1, PIXEL_ELEMENTS // (max(probs.shape) * len(columns)))
    for start in range(0, len(rows), step):
        block, samples = rows.part(start, start + step)
        masks = logits[:, samples]
        if mask_resize == "logits":
            masks = resize(masks, block, columns).sigmoid_()
            scores[:, start : start + step] = torch.einsum("qk,qhw->khw", probs, masks)
        else:
            part = torch.einsum("qk,qhw->khw", probs, masks.sigmoid())
            scores[:, start : start + step] = resize(part, block, columns)
    return scores


def _prepare(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None,
    target_size: tuple[int, int] | None,
    mask_resize: str,
) -> tuple[Tensor, Tensor, Taps, Taps]:
    """Class probabilities (Q, K), valid mask logits (Q, h, w), and the resampling of rows and columns."""
    if mask_resize not in ("logits", "scores"):
        raise ValueError(f'`mask_resize` must be "logits" or "scores", got {mask_resize!r}.')
    probs = class_logits.float().softmax(-1)[:, :-1]
    logits, image_size = crop_to_image(mask_logits, image_size)
    if mask_resize == "scores" and target_size is not None:
        rows, columns = (scores_taps(logits.shape[i + 1], image_size[i], target_size[i]) for i in range(2))
    else:
        rows, columns = target_taps(logits, image_size, target_size)
    return probs, logits, rows, columns


def _argmax_of_resized_logits(probs: Tensor, logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(H, W)` int64: classes, deciding whole tiles where bounds on the mask logits suffice."""
    negligible = NEGLIGIBLE * float(probs.max())
    weak = _weak_queries(probs, negligible)  # (Q,)
    strong_probs, rest = probs[~weak], probs[weak].sum(0) + _rounding(probs)  # (S, K), (K,)
    classes = torch.empty(len(rows), len(columns), dtype=torch.int64, device=logits.device)
    for strip in strips(logits[~weak], rows, columns):
        low, high = (bound.sigmoid_() for bound in strip.bounds())  # (T, S)
        least, most = low @ strong_probs, high @ strong_probs + rest  # (T, K)
        best_least, best = least.max(1)
        rivals = most >= best_least[:, None]  # (T, K)
        pixels = best[:, None].expand(-1, strip.grid.shape[1]).contiguous()  # (T, P)
        for tiles, candidates in _contested(rivals, strip, max(len(strong_probs), 1)):
            # Only the queries that show in these tiles, and only the classes that could win there.
            reach = strong_probs[:, candidates] * high[tiles].amax(0)[:, None]  # (S, C)
            absent = _weak_queries(reach, negligible)
            present = (~absent).nonzero().flatten()
            masks = strip.values(tiles, present).sigmoid_()  # (n, P, s)
            scores = masks @ strong_probs[present][:, candidates]  # (n, P, C)
            slack = rest[candidates] + reach[absent].sum(0)
            best_score, winner = scores.max(-1)  # (n, P)
            pixels[tiles] = candidates[winner]
            unsure = (scores + slack >= best_score[..., None]).sum(-1) > 1
            place, pixel = (unsure & strip.grid.exists()[tiles]).nonzero(as_tuple=True)
            if len(place):
                y, x = strip.grid.position(tiles[place], pixel)
                pixels[tiles[place], pixel] = _classes_at(y, x, probs, logits, rows, columns, candidates)
        classes[strip.grid.target_rows] = strip.grid.untile(pixels)
    return classes


def _argmax_of_resized_scores(probs: Tensor, logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`(H, W)` int64: classes by resized stride-4 scores, computed for a strip of them at a time."""
    classes = torch.empty(len(rows), len(columns), dtype=torch.int64, device=logits.device)

    def to_scores(masks: Tensor) -> Tensor:
        return masks.sigmoid() @ probs

    for strip in strips(logits, rows, columns, to_scores, probs.shape[1]):
        least, most = strip.bounds()  # (T, K)
        best_least, best = least.max(1)
        rivals = most >= best_least[:, None] - _rounding(probs)
        pixels = best[:, None].expand(-1, strip.grid.shape[1]).contiguous()
        for tiles, candidates in _contested(rivals, strip, 1):
            pixels[tiles] = candidates[strip.values(tiles, candidates).argmax(-1)]
        classes[strip.grid.target_rows] = strip.grid.untile(pixels)
    return classes


def _contested(rivals: Tensor, strip: Strip, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups of neighbouring tiles that more than one class could win, and the classes that could, ascending."""
    contested = (rivals.sum(1) > 1).nonzero().flatten()
    if len(contested) == 0:
        return
    step = max(1, PIXEL_ELEMENTS // (strip.grid.shape[1] * max(width, 16)))
    for tiles in contested.split(step):
        yield tiles, rivals[tiles].any(0).nonzero().flatten()


def _rounding(probs: Tensor) -> float:
    """What scores may be off by: a small share of the largest that there can be."""
    return ROUNDING * float(probs.sum(0).max())


def _weak_queries(reach: Tensor, negligible: float) -> Tensor:
    """`(Q,)` bool: queries that add at most `negligible` to any class, all together, from what each adds (Q, K)."""
    order = reach.amax(1).argsort()
    few = reach[order].cumsum(0).amax(1) <= negligible
    return torch.zeros_like(few).scatter_(0, order, few)


def _classes_at(
    y: Tensor, x: Tensor, probs: Tensor, logits: Tensor, rows: Taps, columns: Taps, candidates: Tensor
) -> Tensor:
    """`(n,)` int64: the best of the candidate classes at single pixels, with every query's contribution."""
    classes = []
    step = max(1, PIXEL_ELEMENTS // (len(probs) * rows.weights.shape[1] * columns.weights.shape[1]))
    for some_y, some_x in zip(y.split(step), x.split(step), strict=True):
        row, row_weights = rows.at(some_y)  # (n, a), (n, a)
        column, column_weights = columns.at(some_x)  # (n, b), (n, b)
        patches = logits[:, row[:, :, None], column[:, None]]  # (Q, n, a, b)
        masks = torch.einsum("qnab,na,nb->nq", patches, row_weights, column_weights).sigmoid()
        classes.append((masks @ probs[:, candidates]).argmax(1))
    return candidates[torch.cat(classes)]
