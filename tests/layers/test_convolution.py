"""The pixel decoder's convolutions are PyTorch's, by whatever algorithm."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modeling_maskformer.layers.convolution import LEAST_CHANNELS, LEAST_PIXELS, WinogradConv2d
from modeling_maskformer.layers.initialized import KaimingConv2d, MSRAConv2d, XavierLinear

needs_nnpack = pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this PyTorch is without NNPACK")


def inputs(in_channels=LEAST_CHANNELS, out_channels=100, size=(41, 43), batch_size=2):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(batch_size, in_channels, *size, generator=generator)
    weight = torch.randn(out_channels, in_channels, 3, 3, generator=generator) / (3 * in_channels**0.5)
    return maps, weight, torch.randn(out_channels, generator=generator)


def conv3x3(maps, weight, bias=None):
    """The layer with these weights."""
    layer = WinogradConv2d(*weight.shape[1::-1], 3, padding=1, bias=bias is not None)
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = bias
    return layer(maps)


def in_float64(maps, weight, bias):
    return F.conv2d(maps.double(), weight.double(), None if bias is None else bias.double(), padding=1)


def operators(function):
    """Names of the operators that a function runs."""
    with torch.profiler.profile() as profile:
        function()
    return {event.key for event in profile.key_averages()}


@needs_nnpack
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_large_maps_take_winograd(layout, with_bias):
    maps, weight, bias = inputs()
    maps, bias = maps.contiguous(memory_format=layout), bias if with_bias else None
    assert maps.shape[-2] * maps.shape[-1] >= LEAST_PIXELS
    assert "aten::_nnpack_spatial_convolution" in operators(lambda: conv3x3(maps, weight, bias))
    torch.testing.assert_close(conv3x3(maps, weight, bias).double(), in_float64(maps, weight, bias), atol=2e-4, rtol=0)


@torch.no_grad()
def test_other_maps_do_not():
    maps, weight, bias = inputs()
    few = inputs(out_channels=LEAST_CHANNELS - 1)
    small = inputs(size=(4, 5))
    half = [tensor.bfloat16() for tensor in inputs()]

    def with_nnpack_off():
        was_on = torch._C._get_nnpack_enabled()
        torch._C._set_nnpack_enabled(False)
        try:
            return conv3x3(maps, weight, bias)
        finally:
            torch._C._set_nnpack_enabled(was_on)

    def under_autocast():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return conv3x3(maps, weight, bias)

    for program in (
        lambda: conv3x3(*few),
        lambda: conv3x3(*small),
        lambda: conv3x3(*half),
        with_nnpack_off,
        under_autocast,
    ):
        assert "aten::_nnpack_spatial_convolution" not in operators(program)
    assert under_autocast().dtype == torch.bfloat16
    assert torch.equal(with_nnpack_off(), F.conv2d(maps, weight, bias, padding=1))


@torch.no_grad()
def test_a_program_for_elsewhere_has_pytorch_s_own_convolution():
    maps, weight, _ = inputs()
    layer = WinogradConv2d(*weight.shape[1::-1], 3, padding=1)
    exported = torch.export.export(layer, (maps,))
    traced = torch.jit.trace(layer, (maps,), check_trace=False)
    for program in (exported.graph, traced.graph):
        assert "conv" in str(program).replace("nnpack_spatial_conv", "")
        assert "nnpack" not in str(program)


@pytest.mark.parametrize("of_maps", [True, False])
def test_gradients_are_those_of_the_plain_convolution(of_maps):
    maps, weight, bias = inputs()
    layer = WinogradConv2d(*weight.shape[1::-1], 3, padding=1)
    layer.load_state_dict({"weight": weight, "bias": bias})
    factors = torch.randn(len(maps), len(weight), *maps.shape[2:])
    maps.requires_grad_(of_maps)
    (layer(maps) * factors).sum().backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in (maps, weight, bias)]
    (F.conv2d(*exact, padding=1) * factors).sum().backward()
    for found, expected in zip((maps, layer.weight, layer.bias), exact, strict=True):
        if found.requires_grad:
            scale = expected.grad.abs().max().item()
            torch.testing.assert_close(found.grad.double(), expected.grad, atol=1e-4 * scale, rtol=0)
    assert (maps.grad is not None) == of_maps


@torch.no_grad()
def test_every_other_convolution_is_pytorch_s():
    maps = inputs()[0]
    for settings in (
        {"kernel_size": 1},
        {"kernel_size": 3},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": "same"},
    ):
        layer = WinogradConv2d(64, 64, **settings)
        plain = nn.Conv2d(64, 64, **settings)
        plain.load_state_dict(layer.state_dict())
        assert torch.equal(layer(maps), plain(maps)), settings


@pytest.mark.parametrize("layer_class", [WinogradConv2d, KaimingConv2d, MSRAConv2d])
def test_layers_are_built_as_pytorch_s(layer_class):
    layer = layer_class(8, 4, (3, 3), (1, 1), (1, 1), bias=False)  # as adapters build them
    assert layer.weight.shape == (4, 8, 3, 3) and layer.bias is None
    assert layer_class(8, 4, 1, dtype=torch.float64, device="meta").weight.dtype == torch.float64
    linear = XavierLinear(8, 4, False, dtype=torch.float64)
    assert linear.weight.dtype == torch.float64 and linear.bias is None
