"""Convolutions of the pixel decoder, on a CPU with less than half of the arithmetic for large maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .initialized import KaimingConv2d

# from this many channels and pixels on, where it was measured to be faster
LEAST_CHANNELS = 64
LEAST_PIXELS = 1600


class Conv3x3(KaimingConv2d):
    """A 3x3 convolution with padding 1, see `conv3x3`."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        return conv3x3(maps, self.weight, self.bias)


class Conv1x1(KaimingConv2d):
    """A 1x1 convolution without bias: `(B, C_in, H, W)` -> `(B, C_out, H, W)`, channels first whatever the input.

    As a matrix product it writes that order straight from maps with channels last, as backbones give them.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        weights = self.weight.flatten(1).expand(len(maps), -1, -1)  # (B, C_out, C_in)
        return torch.bmm(weights, maps.flatten(2)).unflatten(2, maps.shape[-2:])


def conv3x3(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.conv2d` with padding 1: `(B, C_in, H, W)` -> `(B, C_out, H, W)`.

    Large float32 maps on a CPU go through NNPACK, a part of PyTorch: Winograd's algorithm (Lavin and Gray 2016)
    computes 6x6 results with 64 instead of 324 multiplications. It is less exact, values of about 1 differ by up to
    1e-4. `torch.backends.nnpack.set_flags(False)` turns it off.

    Args:
        maps: `(B, C_in, H, W)`.
        weight: `(C_out, C_in, 3, 3)`.
        bias: `(C_out,)`.
    """
    if _takes_winograd(maps, weight):
        return _Winograd.apply(maps, weight, bias)
    return F.conv2d(maps, weight, bias, padding=1)


def is_captured() -> bool:
    """Whether operations become a graph, which may run elsewhere and for other sizes."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def cat_images(images: list[Tensor]) -> Tensor:
    """Results `(1, ...)` of single images as a batch; of one image without the copy that `torch.cat` makes."""
    return images[0] if len(images) == 1 else torch.cat(images)


def _takes_winograd(maps: Tensor, weight: Tensor) -> bool:
    return (
        not is_captured()
        and min(weight.shape[:2]) >= LEAST_CHANNELS
        and maps.shape[-2] * maps.shape[-1] >= LEAST_PIXELS
        and maps.device.type == "cpu"
        and maps.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.nnpack.is_available()  # it also makes NNPACK ready
        and torch._C._get_nnpack_enabled()
    )


class _Winograd(torch.autograd.Function):
    """The convolution, and its gradient by the maps, which is a convolution of the same kind."""

    @staticmethod
    def forward(ctx, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return _convolve(maps, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        by_maps = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_maps = _convolve(gradient, weight.flip(2, 3).transpose(0, 1), None)
        if ctx.needs_input_grad[1]:
            by_weight = torch.nn.grad.conv2d_weight(maps, weight.shape, gradient, padding=1)
        if ctx.needs_input_grad[2]:
            by_bias = gradient.sum((0, 2, 3))
        return by_maps, by_weight, by_bias


def _convolve(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    weight = weight.contiguous()
    # image by image: for a batch NNPACK takes another way, which is several times slower
    return cat_images(
        [torch._nnpack_spatial_convolution(image[None].contiguous(), weight, bias, padding=1) for image in maps]
    )
