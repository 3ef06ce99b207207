"""Cross-entropy of every labelled pixel, logits enlarged bilinear: the loss of the paper's per-pixel baselines.

K maps at full resolution, for each decoder layer, and what autograd would keep of them, would take gigabytes. So they
are made of some images at a time, on a CPU of one rectangle at a time that fits in its cache, with the gradient by the
stride-4 logits, and only the latter is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..fast_on_cpu import use_cpu_path
from .enlargement import enlarge, enlargement_matrix, size_before_crop
from .scratch import block_size
from .totals import from_bits, mean_over_processes

UNLABELLED = -1
LEAST = 1e-6  # divides a sum over no pixel; a number of pixels averaged over processes is more
LOGITS_AT_ONCE = 1 << 26  # of the plain form, which needs some 16 bytes for each
MAPS_PER_BLOCK = 4  # the numbers of a block's K maps are those of so many maps of `block_size`


def class_maps(ids: Tensor, class_ids: Tensor) -> Tensor:
    """`(B, H, W)` int64, the class of each pixel; -1 at void and where there is no segment.

    Args:
        ids: `(B, L, H, W)`, see `TargetMaps`. Where segments overlap, the later one has the pixel.
        class_ids: `(B, S)` int64, the class of each segment.
    """
    numbers = ids.amax(1).long()  # (B, H, W)
    table = F.pad(class_ids, (1, 0), value=UNLABELLED)  # (B, 1 + S)
    return table.gather(1, numbers.flatten(1)).view_as(numbers)


def per_pixel_cross_entropy(logits: Sequence[Tensor], classes: Tensor, num_pixels: Tensor | None = None) -> Tensor:
    """`(layers,)` float32, the cross-entropy of each layer's logits, averaged over the batch's labelled pixels.

    With several processes by their mean number of labelled pixels, so that the mean of their gradients is that of one
    process with all images. 0 where no pixel is labelled. Computed in float32 whatever the dtype of the logits, also
    under autocast, without waiting for the device.

    Args:
        logits: layers x `(B, K, h, w)`, of any floating dtype; enlarged to the size of the targets.
        classes: `(B, H, W)` int64, -1 at pixels without label.
        num_pixels: `()`, where a step has several batches, the mean number of labelled pixels of all of them; may
            come `as_bits`.
    """
    num_pixels = mean_over_processes(num_labelled(classes)) if num_pixels is None else from_bits(num_pixels)
    return _CrossEntropy.apply(classes, num_pixels.clamp(min=LEAST), *logits)


def num_labelled(classes: Tensor) -> Tensor:
    """`()` float32, how many pixels of the maps `(B, H, W)` have a label."""
    return (classes != UNLABELLED).sum().float()


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, classes: Tensor, num_pixels: Tensor, *logits: Tensor) -> Tensor:
        summed = _blocked_sum if use_cpu_path(classes) else _plain_sum
        with torch.autocast(classes.device.type, enabled=False):
            results = [summed(layer, classes, any(ctx.needs_input_grad)) for layer in logits]
        losses, gradients = zip(*results, strict=True)
        ctx.dtypes = [layer.dtype for layer in logits]
        ctx.save_for_backward(num_pixels, *gradients)
        return (torch.stack(losses) / num_pixels).float()

    @staticmethod
    @once_differentiable
    def backward(ctx, by_losses: Tensor) -> tuple[Tensor | None, ...]:
        num_pixels, *gradients = ctx.saved_tensors
        scaled = zip(gradients, by_losses / num_pixels, ctx.dtypes, strict=True)
        return None, None, *((gradient * scale).to(dtype) for gradient, scale, dtype in scaled)


def _plain_sum(logits: Tensor, classes: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """The summed cross-entropy of one layer's logits `(B, K, h, w)` and, if wanted, its gradient, float32."""
    images_at_once = max(1, LOGITS_AT_ONCE // (logits.shape[1] * classes[0].numel()))
    losses, gradients = [], []
    for some, targets in zip(logits.split(images_at_once), classes.split(images_at_once), strict=True):
        with torch.set_grad_enabled(with_gradient):
            small = some.detach().float().requires_grad_(with_gradient)
            large = enlarge(small.flatten(0, 1), tuple(targets.shape[1:])).unflatten(0, small.shape[:2])
            loss = F.cross_entropy(large, targets, ignore_index=UNLABELLED, reduction="sum")
        if with_gradient:
            gradients += torch.autograd.grad(loss, small)
        losses.append(loss.detach())
    return torch.stack(losses).sum(), torch.cat(gradients) if with_gradient else None


def _blocked_sum(logits: Tensor, classes: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """The same on a CPU, rectangle by rectangle, summed in float64."""
    num_labels, *small = logits.shape[1:]
    size = tuple(classes.shape[1:])
    edge = max(1, math.isqrt(MAPS_PER_BLOCK * block_size() // num_labels))
    axes = zip(small, size_before_crop(tuple(small), size), size, strict=True)
    rows, columns = (_pieces(enlargement_matrix(*axis), edge) for axis in axes)
    total = torch.zeros((), dtype=torch.float64)
    gradients = torch.zeros_like(logits, dtype=torch.float32) if with_gradient else None
    for image, targets in enumerate(classes):
        maps = logits[image].float()  # (K, h, w)
        for row_pixels, row_cells, by_rows in rows:
            for column_pixels, column_cells, by_columns in columns:
                block = targets[row_pixels, column_pixels]  # (s, t)
                labelled = block != UNLABELLED
                if not labelled.any():
                    continue
                enlarged = by_rows @ maps[:, row_cells, column_cells] @ by_columns.T  # (K, s, t)
                loss, gradient = _score(enlarged, block, labelled)
                total += loss
                if with_gradient:
                    gradients[image, :, row_cells, column_cells] += by_rows.T @ (gradient @ by_columns)
    return total, gradients


def _pieces(shares: Tensor, length: int) -> list[tuple[slice, slice, Tensor]]:
    """An axis, enlarged by shares `(H, h)`, in pieces: their pixels, the cells these blend, and the shares of both."""
    pieces = []
    for start, part in zip(range(0, len(shares), length), shares.split(length), strict=True):
        first, last = part.any(0).nonzero()[[0, -1], 0].tolist()
        cells = slice(first, last + 1)
        pieces.append((slice(start, start + length), cells, part[:, cells].contiguous()))
    return pieces


def _score(logits: Tensor, targets: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy of logits `(K, s, t)`, overwritten, and its gradient by them."""
    targets = targets.clamp(min=0)[None]  # (1, s, t)
    logits -= logits.amax(0)
    picked = logits.gather(0, targets)[0]
    exponentials = logits.exp_()
    total = exponentials.sum(0)
    loss = ((total.log() - picked) * labelled).sum(dtype=torch.float64)
    gradient = exponentials.mul_(labelled / total)
    gradient.scatter_add_(0, targets, -labelled[None].float())
    return loss, gradient
