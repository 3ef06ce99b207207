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
        saved: what the gradient will be made of; empty if no gradient is wanted.
        gradient: given these tensors and the derivatives `(M,)` of the loss by `focal` and by `dice`, the derivatives
            `(M, h, w)` by the pairs' mask logits.
    """

    focal: Tensor
    dice: Tensor
    saved: tuple[Tensor, ...] = ()
    gradient: Callable[[tuple[Tensor, ...], Tensor, Tensor], Tensor] | None = None


# Mask logits (M, h, w) float32, the image's number, segments (M,), whether gradients are wanted.
ScorePairs = Callable[[Tensor, int, Tensor, bool], PairLosses]


def mask_losses(mask_logits: Sequence[Tensor], matches: Matches, score: ScorePairs) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of each layer, `(layers,)` float32 each, summed over the matched pairs of all images.

    Args:
        mask_logits: layers x `(B, Q, h, w)`, of any floating dtype.
        matches: for each layer and image the matched queries and segments.
        score: computes losses and gradients of the pairs of one image, of all layers.
    """
    return _MaskLosses.apply(matches, score, *mask_logits)


class _MaskLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, matches: Matches, score: ScorePairs, *mask_logits: Tensor) -> tuple[Tensor, Tensor]:
        device, with_gradients = mask_logits[0].device, any(ctx.needs_input_grad)
        focal, dice = mask_logits[0].new_zeros(2, len(mask_logits), dtype=torch.float32)
        ctx.inputs = [(logits.shape, logits.dtype) for logits in mask_logits]
        ctx.images, saved = [], []  # of each image that has pairs: its number, the queries of each layer, its gradient
        for image in range(len(mask_logits[0])):
            pairs = [[indices.to(device) for indices in layer[image]] for layer in matches]
            queries, segments = zip(*pairs, strict=True)
            counts = [len(indices) for indices in queries]
            if sum(counts) == 0:
                continue
            logits = mask_logits[0].new_empty(sum(counts), *mask_logits[0].shape[2:], dtype=torch.float32)
            for part, layer, some in zip(logits.split(counts), mask_logits, queries, strict=True):
                part.copy_(layer[image, some])
            losses = score(logits, image, torch.cat(segments), with_gradients)
            focal += torch.stack([part.sum() for part in losses.focal.split(counts)])
            dice += torch.stack([part.sum() for part in losses.dice.split(counts)])
            ctx.images.append((image, queries, losses.gradient, len(losses.saved)))
            saved += losses.saved
        ctx.save_for_backward(*saved)
        return focal, dice

    @staticmethod
    @once_differentiable
    def backward(ctx, focal_scale: Tensor, dice_scale: Tensor) -> tuple[Tensor | None, ...]:
        saved = list(ctx.saved_tensors)
        results = [torch.zeros(shape, dtype=dtype, device=focal_scale.device) for shape, dtype in ctx.inputs]
        for image, queries, gradient, num_saved in ctx.images:
            counts = [len(indices) for indices in queries]
            repeats = torch.tensor(counts, device=focal_scale.device)
            scales = (scale.repeat_interleave(repeats) for scale in (focal_scale, dice_scale))  # (M,) each
            by_logits = gradient(tuple(saved[:num_saved]), *scales)  # (M, h, w)
            del saved[:num_saved]
            for result, some, part in zip(results, queries, by_logits.split(counts), strict=True):
                result[image, some] = part.to(result.dtype)
        return None, None, *results
