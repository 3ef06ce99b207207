"""TensorFlow's SAME padding of timm's `tf_` models, in whole numbers that a graph for all image sizes can hold.

timm divides sizes as floating-point numbers and rounds the quotient up, at every layer of what came out of the last.
A graph that leaves sizes open keeps all of that: it takes minutes to capture. In whole numbers the padding of an image
of 32 n pixels is the same for every n, and the graph has a constant.
"""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import AvgPool2dSame, Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn


class _SamePadded:
    """Pads as timm's layer does, then computes as the layer without such padding does."""

    plain: type[nn.Module]
    fill = 0.0

    def forward(self, maps: Tensor) -> Tensor:
        if getattr(self, "same_pad", True):  # a layer of stride 1 may know its padding already
            maps = self.pad(maps)
        return self.plain.forward(self, maps)

    def pad(self, maps: Tensor) -> Tensor:
        """`(B, C, h, w)` with as much around as lets the layer give `(ceil(h / stride), ceil(w / stride))`."""
        dilation = getattr(self, "dilation", (1, 1))
        (top, bottom), (left, right) = (
            same_padding(*numbers)
            for numbers in zip(maps.shape[-2:], self.kernel_size, self.stride, dilation, strict=True)
        )
        return F.pad(maps, (left, right, top, bottom), value=self.fill)


class SamePaddedConv2d(_SamePadded, Conv2dSame):
    plain = nn.Conv2d


class SamePaddedStdConv2d(_SamePadded, StdConv2dSame):
    plain = StdConv2d


class SamePaddedScaledStdConv2d(_SamePadded, ScaledStdConv2dSame):
    plain = ScaledStdConv2d


class SamePaddedAvgPool2d(_SamePadded, AvgPool2dSame):
    plain = nn.AvgPool2d


class SamePaddedMaxPool2d(_SamePadded, MaxPool2dSame):
    plain = nn.MaxPool2d
    fill = -float("inf")


OWN_CLASSES = {
    Conv2dSame: SamePaddedConv2d,
    StdConv2dSame: SamePaddedStdConv2d,
    ScaledStdConv2dSame: SamePaddedScaledStdConv2d,
    AvgPool2dSame: SamePaddedAvgPool2d,
    MaxPool2dSame: SamePaddedMaxPool2d,
}


def same_padding(length: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What SAME padding puts before and after an axis of this length."""
    outputs = (length + stride - 1) // stride
    total = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2


def pad_in_whole_numbers(model: nn.Module) -> None:
    """Gives every layer of `model` with timm's SAME padding the class above, in place: the same weights and values."""
    for module in model.modules():
        module.__class__ = OWN_CLASSES.get(type(module), type(module))
