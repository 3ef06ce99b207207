"""Images of different size in one batch, each computed as if it were alone.

Padding would enter the result of every pixel: through convolutions near the border, through GroupNorm and attention
everywhere. So each size is cut out of the padded batch and runs on its own, which also spares the work on padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .backbone import STRIDES


def image_sizes_of(pixel_values: Tensor, pixel_mask: Tensor | None) -> Tensor:
    """`(B, 2)` int64 height and width of each image without its padding, which is below and right of it."""
    if pixel_mask is None:
        height, width = pixel_values.shape[-2:]
        return torch.tensor([[height, width]], device=pixel_values.device).expand(len(pixel_values), 2)
    inside = pixel_mask.bool()
    return torch.stack((inside.any(2).sum(1), inside.any(1).sum(1)), dim=1)


def run_by_size(forward: Callable[[Tensor], ModelOutput], pixel_values: Tensor, image_sizes: Tensor) -> ModelOutput:
    """The output of `forward` for a batch, every image cut to its size; maps are padded with zeros again.

    Args:
        forward: maps pixels `(b, 3, h, w)` of one size to an output whose tensors have the batch first.
        pixel_values: `(B, 3, H, W)`.
        image_sizes: `(B, 2)` height and width of each image, at most H and W.
    """
    full_size = tuple(pixel_values.shape[-2:])
    groups: dict[tuple[int, int], list[int]] = {}
    for image, size in enumerate(map(tuple, image_sizes.tolist())):
        groups.setdefault(size, []).append(image)
    if list(groups) == [full_size]:
        return forward(pixel_values)
    outputs = [forward(pixel_values[images, :, :height, :width]) for (height, width), images in groups.items()]
    order = torch.tensor([image for images in groups.values() for image in images], device=pixel_values.device)
    return _merge(outputs, list(groups), full_size, order.argsort())


def _merge(parts: list, sizes: list[tuple[int, int]], full_size: tuple[int, int], order: Tensor):
    """One output of the groups' outputs, images in the order of the batch."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        if first.ndim == 4 and (stride := _stride_of(first, sizes[0])):
            full = tuple(math.ceil(length / stride) for length in full_size)
            parts = [_pad_to(part, full) for part in parts]
        return torch.cat(parts)[order]
    if isinstance(first, dict):
        merged = {name: _merge([part[name] for part in parts], sizes, full_size, order) for name in first}
        return type(first)(**merged)
    return tuple(_merge(list(items), sizes, full_size, order) for items in zip(*parts, strict=True))


def _stride_of(feature: Tensor, size: tuple[int, int]) -> int | None:
    """The stride of a feature map `(b, C, h, w)` of images of `size`; None for others (attention weights)."""
    for stride in STRIDES:
        if tuple(feature.shape[-2:]) == tuple(math.ceil(length / stride) for length in size):
            return stride
    return None


def _pad_to(feature: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.pad(feature, (0, size[1] - feature.shape[-1], 0, size[0] - feature.shape[-2]))
