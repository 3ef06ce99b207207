"""Cross-entropy of every labelled pixel, logits enlarged bilinear: the loss of the paper's per-pixel baselines.

K maps at full resolution, for each decoder layer, and what autograd would keep of them, would take gigabytes. Here
rectangles of them are made one by one, with the gradient by the stride-4 logits, and only the latter is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from image_processing.resampling import blocks_of, linear_taps

from .scratch import block_size

UNLABELLED = -1
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


def per_pixel_cross_entropy(logits: Sequence[Tensor], classes: Tensor) -> Tensor:
    """`(layers,)` float32, the cross-entropy of each layer's logits, averaged over the batch's labelled pixels.

    0 where no pixel is labelled.

    Args:
        logits: layers x `(B, K, h, w)`, of any floating dtype; enlarged to the size of the targets.
        classes: `(B, H, W)` int64, -1 at pixels without label.
    """
    return _CrossEntropy.apply(classes, *logits)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, classes: Tensor, *logits: Tensor) -> Tensor:
        num_labels, *small = logits[0].shape[1:]
        device = classes.device
        num_pixels = max(int((classes != UNLABELLED).sum()), 1)
        taps = [linear_taps(length, size) for length, size in zip(small, classes.shape[1:], strict=True)]
        blocks = list(blocks_of(*taps, MAPS_PER_BLOCK * block_size(device) // num_labels, device))
        losses = torch.zeros(len(logits), dtype=torch.float64, device=device)
        gradients = [torch.zeros_like(layer, dtype=torch.float32) for layer in logits if any(ctx.needs_input_grad)]
        with torch.autocast(device.type, enabled=False):
            for layer, image in product(range(len(logits)), range(len(classes))):
                maps = logits[layer][image].float()  # (K, h, w)
                for block in blocks:
                    targets = classes[image][block.target]  # (s, t)
                    labelled = targets != UNLABELLED
                    if not labelled.any():
                        continue
                    loss, gradient = _score(block.resize(maps), targets, labelled)
                    losses[layer] += loss
                    if gradients:
                        block.add_transposed(gradient.div_(num_pixels), gradients[layer][image])
        ctx.dtypes = [layer.dtype for layer in logits]
        ctx.save_for_backward(*gradients)
        return (losses / num_pixels).float()

    @staticmethod
    @once_differentiable
    def backward(ctx, scales: Tensor) -> tuple[Tensor | None, ...]:
        gradients = zip(ctx.saved_tensors, scales, ctx.dtypes, strict=True)
        return None, *((gradient * scale).to(dtype) for gradient, scale, dtype in gradients)


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
