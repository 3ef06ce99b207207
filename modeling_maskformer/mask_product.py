"""Mask logits of all decoder layers in one product, whose gradient leaves out the queries that no loss looks at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def mask_product(mask_embeddings: Tensor, pixel_embeddings: Tensor) -> Tensor:
    """Mask logits `(layers, B, Q, h, w)`, the dot products of mask and pixel embeddings, for training.

    Only matched queries get a gradient from the mask losses. The backward pass of an ordinary product would multiply
    the zeros of all others; this one finds them first, which changes no value.

    Args:
        mask_embeddings: `(layers, B, Q, C)`.
        pixel_embeddings: `(B, C, h, w)`.
    """
    return _MaskProduct.apply(mask_embeddings, pixel_embeddings)


class _MaskProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mask_embeddings: Tensor, pixel_embeddings: Tensor) -> Tensor:
        ctx.save_for_backward(mask_embeddings, pixel_embeddings)
        return torch.einsum("lbqc,bchw->lbqhw", mask_embeddings, pixel_embeddings)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        mask_embeddings, pixel_embeddings = ctx.saved_tensors
        by_masks, by_pixels = torch.zeros_like(mask_embeddings), torch.zeros_like(pixel_embeddings)
        used = gradient.flatten(3).abs().amax(-1) != 0  # (layers, B, Q); NaN counts as used
        for image, pixels in enumerate(pixel_embeddings.flatten(2).to(gradient.dtype)):  # (C, h*w)
            rows = used[:, image]  # (layers, Q)
            of_masks = gradient[:, image][rows].flatten(1)  # (M, h*w)
            masks = mask_embeddings[:, image][rows].to(gradient.dtype)  # (M, C)
            by_masks[:, image][rows] = (of_masks @ pixels.T).to(by_masks.dtype)
            by_pixels[image] = (masks.T @ of_masks).view_as(by_pixels[image]).to(by_pixels.dtype)
        return by_masks, by_pixels
