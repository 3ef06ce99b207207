"""Depthwise convolutions in training on a CPU: values and gradients of PyTorch's own layer, in every precision."""

import copy

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

from modeling_maskformer import fast_on_cpu
from modeling_maskformer.backbone.depthwise import DepthwiseConv2d, SamePaddedDepthwiseConv2d, speed_up_depthwise
from modeling_maskformer.backbone.same_padding import pad_in_whole_numbers

LAYERS = {
    "plain": lambda: nn.Conv2d(8, 8, kernel_size=3, padding=1, groups=8, bias=False),
    "stride and bias": lambda: nn.Conv2d(8, 8, kernel_size=5, stride=2, padding=2, groups=8),
    "dilated": lambda: nn.Conv2d(8, 8, kernel_size=3, padding=2, dilation=2, groups=8),
    "two filters a channel": lambda: nn.Conv2d(8, 16, kernel_size=3, padding=1, groups=8),
    "SAME padding": lambda: Conv2dSame(8, 8, kernel_size=5, stride=2, groups=8, bias=False),
}


@pytest.fixture(params=LAYERS)
def layers(request):
    """PyTorch's layer and the same one of this package."""
    torch.manual_seed(0)
    plain = LAYERS[request.param]()
    ours = copy.deepcopy(plain)
    pad_in_whole_numbers(ours)
    speed_up_depthwise(ours)
    assert type(ours) in (DepthwiseConv2d, SamePaddedDepthwiseConv2d)
    return plain, ours


def values_and_gradients(layer, maps, autocast=False):
    maps = maps.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = layer(maps)
    weights = [parameter for parameter in layer.parameters()]
    # a gradient that does not treat all values alike
    return result, *torch.autograd.grad(
        (result.float() * torch.linspace(-1, 1, result.shape[-1])).sum(), [maps, *weights]
    )


def test_values_and_gradients_are_those_of_the_plain_layer(layers):
    plain, ours = layers
    maps = torch.randn(2, 8, 13, 10)
    for found, expected in zip(values_and_gradients(ours, maps), values_and_gradients(plain, maps), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_under_autocast_the_sums_are_of_float32_and_the_dtype_is_that_of_the_maps(layers):
    plain, ours = layers
    maps = torch.randn(2, 8, 13, 10).bfloat16()
    result, *gradients = values_and_gradients(ours, maps, autocast=True)
    exact = values_and_gradients(plain, maps.float())
    assert result.dtype == gradients[0].dtype == torch.bfloat16
    for found, expected in zip((result, *gradients), exact, strict=True):
        torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("case", ["no gradient", "float64", "another device"])
def test_elsewhere_the_layer_is_pytorchs_to_the_last_bit(layers, case, monkeypatch):
    plain, ours = layers
    maps = torch.randn(2, 8, 13, 10)
    if case == "float64":
        plain, ours, maps = plain.double(), ours.double(), maps.double()
    if case == "another device":
        monkeypatch.setattr(fast_on_cpu, "FAST_DEVICES", ())
    with torch.set_grad_enabled(case != "no gradient"):
        found, expected = ours(maps), plain(maps)
    assert torch.equal(found, expected) and found.is_contiguous()


def test_layers_that_are_not_depthwise_stay_as_they_are():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, groups=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=2))
    speed_up_depthwise(model)
    assert [type(layer) for layer in model] == [nn.Conv2d] * 3


def test_a_whole_network_has_the_gradients_of_timms():
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    ours = copy.deepcopy(theirs)
    pad_in_whole_numbers(ours)
    speed_up_depthwise(ours)
    assert sum(isinstance(module, (DepthwiseConv2d, SamePaddedDepthwiseConv2d)) for module in ours.modules()) == 16
    pixels = torch.randn(1, 3, 70, 94)
    gradients = []
    for model in (ours, theirs):
        sum((maps * maps.detach().sign()).mean() for maps in model(pixels)).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[1].items():
        assert (gradients[0][name] - expected).norm() <= 1e-4 * expected.norm() + 1e-7, name
