"""Semantic inference: which class is each pixel? (Section 3.4 of the paper, "semantic inference")

score(class c, pixel x) = sum over queries q of p_q(c) * m_q(x); the pixel's class is the argmax over the K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .resampling import crop_to_image, resize, scores_taps, target_logits


def semantic_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: Literal["logits", "scores"] = "logits",
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
    return semantic_scores(class_logits, mask_logits, image_size, target_size, mask_resize).argmax(0)


def semantic_scores(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    mask_resize: Literal["logits", "scores"] = "logits",
) -> Tensor:
    """`(K, H, W)` float32, the scores whose argmax is `semantic_segmentation`, in [0, Q]; same arguments."""
    if mask_resize not in ("logits", "scores"):
        raise ValueError(f'`mask_resize` must be "logits" or "scores", got {mask_resize!r}.')
    class_probs = class_logits.float().softmax(-1)[:, :-1]  # (Q, K)
    if mask_resize == "logits":
        logits = target_logits(mask_logits, image_size, target_size)  # (Q, H, W)
        return torch.einsum("qk,qhw->khw", class_probs, logits.sigmoid())
    logits, image_size = crop_to_image(mask_logits, image_size)  # (Q, h, w)
    scores = torch.einsum("qk,qhw->khw", class_probs, logits.sigmoid())  # (K, h, w)
    if target_size is None:
        return scores
    rows, columns = (scores_taps(scores.shape[i + 1], image_size[i], target_size[i]) for i in range(2))
    return resize(scores, rows, columns)
