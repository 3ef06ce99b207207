"""SAME padding in whole numbers: timm's values, at sizes of every remainder."""

import pytest
import torch
from timm.layers import AvgPool2dSame, Conv2dSame, ScaledStdConv2dSame, StdConv2dSame
from timm.layers.pool2d_same import MaxPool2dSame

from modeling_maskformer.backbone.same_padding import OWN_CLASSES, pad_in_whole_numbers

LAYERS = {
    "convolution": lambda: Conv2dSame(4, 6, kernel_size=3, stride=2),
    "even kernel": lambda: Conv2dSame(4, 6, kernel_size=(2, 5), stride=(3, 2)),
    "kernel below the stride": lambda: Conv2dSame(4, 6, kernel_size=1, stride=2),
    "dilated": lambda: Conv2dSame(4, 6, kernel_size=3, stride=2, dilation=2),
    "standardized": lambda: StdConv2dSame(4, 6, kernel_size=3, stride=2),
    "standardized, stride 1": lambda: StdConv2dSame(4, 6, kernel_size=3, stride=1),
    "scaled": lambda: ScaledStdConv2dSame(4, 6, kernel_size=3, stride=2),
    "max pooling": lambda: MaxPool2dSame(3, 2),
    "average pooling": lambda: AvgPool2dSame(3, 2),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_values_are_those_of_timm_at_every_size(name):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    inputs = [torch.randn(1, 4, height, width) - 3 for height, width in [(8, 8), (7, 12), (9, 5), (64, 31), (1, 2)]]
    expected = [layer(maps) for maps in inputs]
    pad_in_whole_numbers(layer)
    assert type(layer) in OWN_CLASSES.values()
    for maps, values in zip(inputs, expected, strict=True):
        torch.testing.assert_close(layer(maps), values, rtol=0, atol=0)
