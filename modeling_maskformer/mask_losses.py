"""Focal and dice loss of matched pairs with the gradient made in the forward pass.

Autograd would keep a dozen maps of every pixel of every mask until the backward pass. Here each mask is visited once:
its loss and its gradient at the resolution of the logits are computed together, and only the latter is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Matched (query indices, segment indices) of each image, for each decoder layer.
Matches = Sequence[Sequence[tuple[Tensor, Tensor]]]


@dataclass
class PairLosses:
    """Losses of M matched pairs.

    Attributes:
        focal, dice: `(M,)`.
        focal_gradient, dice_gradient: `(M, h, w)`, their derivatives by the pair's mask logits; None if not wanted.
    """

    focal: Tensor
    dice: Tensor
    focal_gradient: Tensor | None = None
    dice_gradient: Tensor | None = None

    @classmethod
    def cat(cls, parts: Sequence[PairLosses]) -> PairLosses:
        """The losses of all parts, in order."""
        fields = zip(*((p.focal, p.dice, p.focal_gradient, p.dice_gradient) for p in parts), strict=True)
        return cls(*(None if values[0] is None else torch.cat(values) for values in fields))


# Mask logits (M, h, w) float32, the image's number, segments (M,), whether gradients are wanted.
ScorePairs = Callable[[Tensor, int, Tensor, bool], PairLosses]


def mask_losses(mask_logits: Sequence[Tensor], matches: Matches, score: ScorePairs) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of each layer, `(layers,)` float32 each, summed over the matched pairs of all images.

    Args:
        mask_logits: layers x `(B, Q, h, w)`, of any floating dtype.
        matches: for each layer and image the matched queries and segments.
        score: computes losses and gradients of the pairs of one image.
    """
    return _MaskLosses.apply(matches, score, *mask_logits)


class _MaskLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, matches: Matches, score: ScorePairs, *mask_logits: Tensor) -> tuple[Tensor, Tensor]:
        with_gradients = any(ctx.needs_input_grad)
        focal, dice = mask_logits[0].new_zeros(2, len(mask_logits), dtype=torch.float32)
        ctx.matches, ctx.inputs = matches, [(logits.shape, logits.dtype) for logits in mask_logits]
        gradients = []
        for layer, layer_logits in enumerate(mask_logits):
            for image, pairs in enumerate(matches[layer]):
                queries, segments = (indices.to(layer_logits.device) for indices in pairs)
                if len(queries) == 0:
                    continue
                losses = score(layer_logits[image, queries].float(), image, segments, with_gradients)
                focal[layer] += losses.focal.sum()
                dice[layer] += losses.dice.sum()
                gradients += [losses.focal_gradient, losses.dice_gradient]
        if with_gradients:
            ctx.save_for_backward(*gradients)
        return focal, dice

    @staticmethod
    @once_differentiable
    def backward(ctx, focal_scale: Tensor, dice_scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients = iter(ctx.saved_tensors)
        results = []
        for layer, (shape, dtype) in enumerate(ctx.inputs):
            result = torch.zeros(shape, dtype=dtype, device=focal_scale.device)
            for image, (queries, _) in enumerate(ctx.matches[layer]):
                if len(queries):
                    total = next(gradients) * focal_scale[layer]
                    total.addcmul_(next(gradients), dice_scale[layer])
                    result[image, queries.to(result.device)] = total.to(dtype)
            results.append(result)
        return None, None, *results
