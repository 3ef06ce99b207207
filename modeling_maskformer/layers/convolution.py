"""The pixel decoder's 3x3 convolutions, on a CPU with less than half of the arithmetic for large maps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..fast_on_cpu import use_cpu_path
from .initialized import KaimingConv2d

# from this many channels and pixels on, where it was measured to be faster
LEAST_CHANNELS = 64
LEAST_PIXELS = 1600


class WinogradConv2d(KaimingConv2d):
    """`nn.Conv2d`, of which large float32 maps on a CPU go through NNPACK where it is 3x3 with padding 1.

    NNPACK, a part of PyTorch, has Winograd's algorithm (Lavin and Gray 2016): 6x6 results cost 64 instead of 324
    multiplications. It is less exact, values of about 1 differ by up to 1e-4. `torch.backends.nnpack.set_flags(False)`
    turns it off.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if _takes_winograd(self, maps):
            return _Winograd.apply(maps, self.weight, self.bias)
        return super().forward(maps)


def _takes_winograd(conv: WinogradConv2d, maps: Tensor) -> bool:
    return (
        use_cpu_path(maps)
        and use_cpu_path(conv.weight)
        and (conv.kernel_size, conv.padding, conv.padding_mode) == ((3, 3), (1, 1), "zeros")
        and (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1)
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
        and maps.shape[-2] * maps.shape[-1] >= LEAST_PIXELS
        and maps.dtype == conv.weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.nnpack.is_available()  # it also makes NNPACK ready
        and torch._C._get_nnpack_enabled()
    )


class _Winograd(torch.autograd.Function):
    """The convolution, and its gradient by the maps, which is a convolution of the same kind."""

    @staticmethod
    def forward(ctx, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # sums with the backbone's maps have channels last: the weight's gradient takes longer then (a step a tenth)
        maps = maps.contiguous()
        ctx.save_for_backward(maps, weight)
        return _convolve(maps, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
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
    images = [torch._nnpack_spatial_convolution(image[None], weight, bias, padding=1) for image in maps]
    return images[0] if len(images) == 1 else torch.cat(images)
