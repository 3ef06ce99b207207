"""Focal and dice loss of matched pairs at every pixel of their targets (paper, section 3.2).

M pairs of masks of H x W are too many to keep, and autograd would keep a dozen of each. So all ways of computing the
losses keep something at stride 4 only:

- the plain form is what the paper says, on some masks at a time, worked out again in the backward pass;
- on a GPU with Triton, two kernels do the same without ever writing a map of H x W;
- on a CPU, where fresh memory and a second look at a pixel cost most, each mask is visited once, block by block, and
  its gradient is made on this visit.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ..fast_on_cpu import use_cpu_path
from ..targets import void_value
from .enlargement import Enlargement, enlarge, is_at_stride
from .focal_dice import block_terms, dice_loss, focal_loss
from .kernels.triton_modules import triton_module
from .scratch import Scratch, block_size

NOWHERE = -1e30  # a logit that adds nothing to any loss where there is no target, nor added to any other logit
PIXELS_AT_ONCE = 1 << 24  # of the plain form, which needs some 50 bytes for each


def dense_losses(
    mask_logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor, ids: Tensor, void: Tensor
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of M matched pairs, `(M,)` float32 each, over all pixels that are not void.

    Computed in float32 whatever the dtype of the logits, also under autocast, and without waiting for the device.

    Args:
        mask_logits: `(M, h, w)`, of any floating dtype; enlarged bilinear to the size of the targets.
        images, segments, layers: `(M,)` int64, the image of each pair, the index of its segment (its number in the id
            map is one more), and the layer of the id map in which the segment lies.
        ids: `(B, L, H, W)` id maps of any integer dtype, see `Segments`, 0 at pixels of no segment and at void.
        void: `(B, H, W)` bool.
    """
    with torch.autocast(mask_logits.device.type, enabled=False):
        if use_cpu_path(mask_logits):
            return _BlockedLosses.apply(mask_logits, images, segments, layers, ids, void)
        kernels = triton_kernels(mask_logits, tuple(void.shape[-2:]))
        if kernels:
            id_maps = ids.masked_fill(void[:, None], void_value(ids.dtype))
            sums = kernels.PairSums.apply(mask_logits, images, segments, layers, id_maps)
        else:
            sums = plain_pair_sums(mask_logits, images, segments, layers, ids, void)
        focal, predicted, overlap, target = sums.unbind(1)  # (M,) each
        return focal / num_pixels(void)[images], dice_loss(predicted, overlap, target)[0]


def num_pixels(void: Tensor) -> Tensor:
    """`(B,)` int64, the pixels of each image that are not void, at least 1."""
    return (~void).flatten(1).sum(1).clamp(min=1)


def plain_pair_sums(
    mask_logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor, ids: Tensor, void: Tensor
) -> Tensor:
    """`(M, 4)` float32: the sums of focal loss, probability, probability inside the target, and target."""

    def sums_of(logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor) -> Tensor:
        logits = enlarge(logits.float(), tuple(void.shape[-2:]))  # (m, H, W)
        inside = ids[images, layers] == (segments + 1)[:, None, None]
        valid = ~void[images]
        focal, probability = focal_loss(logits, inside), logits.sigmoid()
        return torch.stack(
            [(term * valid).sum((1, 2)) for term in (focal, probability, probability * inside, inside)], 1
        )

    at_once = max(1, PIXELS_AT_ONCE // void[0].numel())
    parts = zip(*(tensor.split(at_once) for tensor in (mask_logits, images, segments, layers)), strict=True)
    return torch.cat([checkpoint(sums_of, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def triton_kernels(mask_logits: Tensor, size: tuple[int, int]):
    """The module of kernels that can do the same on this device for logits of this size, or None."""
    return triton_module("dense", mask_logits) if is_at_stride(tuple(mask_logits.shape[1:]), size) else None


class _BlockedLosses(torch.autograd.Function):
    """`dense_losses` on a CPU: the gradient at stride 4 is made in the forward pass and only scaled later."""

    @staticmethod
    def forward(
        ctx, mask_logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor, ids: Tensor, void: Tensor
    ) -> tuple[Tensor, Tensor]:
        focal, dice = torch.empty(2, len(mask_logits))
        gradients = mask_logits.new_empty(2 * ctx.needs_input_grad[0], *mask_logits.shape, dtype=torch.float32)
        enlargement = Enlargement(tuple(mask_logits.shape[1:]), tuple(void.shape[1:]))
        scratch = Scratch()
        masks_at_once = max(1, block_size() // (enlargement.large[0] * enlargement.large[1]))
        for image in images.unique().tolist():
            target = _ImageTarget(ids[image], void[image], enlargement)
            for some in (images == image).nonzero()[:, 0].split(masks_at_once):
                logits = mask_logits.index_select(0, some).float()
                focal[some], dice[some], *parts = _score(
                    logits, segments[some], layers[some], target, scratch, ctx.needs_input_grad[0]
                )
                for gradient, part in zip(gradients, parts, strict=True):
                    gradient.index_copy_(0, some, part)
        ctx.dtype = mask_logits.dtype
        ctx.save_for_backward(*gradients)
        return focal, dice

    @staticmethod
    @once_differentiable
    def backward(ctx, by_focal: Tensor, by_dice: Tensor) -> tuple[Tensor | None, ...]:
        of_focal, of_dice = ctx.saved_tensors  # (M, h, w)
        gradient = (of_focal * by_focal[:, None, None]).addcmul_(of_dice, by_dice[:, None, None])
        return gradient.to(ctx.dtype), *[None] * 5


class _ImageTarget:
    """The target of one image, its pixels in the order of an enlargement.

    Attributes:
        ids: `(L, F, N)` float32. Numbers up to 2^24 are exact, and comparing these is several times faster than
            integers.
        void_logits: `(F, N)`, what is added to logits; None where all pixels count.
        num_pixels: that are not void.
    """

    def __init__(self, ids: Tensor, void: Tensor, enlargement: Enlargement):
        self.enlargement = enlargement
        self.ids = enlargement.order(ids.float())
        self.num_pixels = num_pixels(void[None]).item()
        void_logits = enlargement.order(void * NOWHERE, beyond=NOWHERE)
        self.void_logits = void_logits if void_logits.any() else None


def _score(
    mask_logits: Tensor, segments: Tensor, layers: Tensor, target: _ImageTarget, scratch: Scratch, with_gradients: bool
) -> tuple[Tensor, ...]:
    """Focal and dice loss of as many masks of an image as a block holds `(M,)`, and their gradients `(M, h, w)`.

    Of one mask, the block may hold a part only.
    """
    enlargement = target.enlargement
    taps, num_cells = enlargement.taps, enlargement.num_cells
    neighbours = enlargement.spread(mask_logits)  # (M, K, N)
    num_masks, num_taps = neighbours.shape[:2]
    sums = neighbours.new_zeros(4, num_masks, dtype=torch.float64)
    gradients = scratch("neighbour gradients", num_masks, 3, num_taps, num_cells) if with_gradients else None
    step = max(1, block_size() // (num_masks * len(taps)))
    for start in range(0, num_cells, step):
        cells = slice(start, min(start + step, num_cells))
        shape = (num_masks, len(taps), cells.stop - start)  # (M, F, n)
        logits = torch.matmul(taps, neighbours[..., cells], out=scratch("logits", *shape))
        if target.void_logits is not None:
            logits += target.void_logits[:, cells]
        ids = target.ids[..., cells]  # (L, F, n)
        owners = ids[layers] if len(ids) > 1 else ids
        masks = torch.eq(owners, (segments + 1.0)[:, None, None], out=scratch("masks", *shape))
        terms = block_terms(logits.flatten(1), masks.flatten(1), scratch, with_gradients=with_gradients)
        sums += torch.stack((terms.focal, terms.predicted, terms.overlap, terms.target))
        if with_gradients:
            by_pixel = terms.gradients.view(num_masks, 3, *shape[1:])  # (M, 3, F, n)
            products = scratch("products", num_masks, 3, num_taps, shape[2])
            gradients[..., cells] = torch.matmul(taps.T, by_pixel, out=products)
    focal, predicted, overlap, area = sums.float()
    dice, by_predicted, by_overlap = dice_loss(predicted, overlap, area)
    if gradients is None:
        return focal / target.num_pixels, dice
    of_focal, of_predicted, of_overlap = gradients.unbind(1)  # (M, K, N) each
    of_dice = of_predicted.mul_(by_predicted[:, None, None]).addcmul_(of_overlap, by_overlap[:, None, None])
    of_focal = enlargement.gather(of_focal) / target.num_pixels
    return focal / target.num_pixels, dice, of_focal, enlargement.gather(of_dice)
