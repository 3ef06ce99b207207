"""Linear and convolution layers that start as the original's do.

They are built as PyTorch's own: adapters (peft) build layers of the class that they find.
"""

from __future__ import annotations

from typing import Any

from torch import nn


class XavierLinear(nn.Linear):
    """A Linear layer with Xavier-uniform weights and zero biases, as in DETR's transformer.

    Args:
        in_features, out_features, bias, factory: those of `nn.Linear`.
        gain: factor of the Xavier bound.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, gain: float = 1.0, **factory: Any):
        self.gain = gain
        super().__init__(in_features, out_features, bias, **factory)

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight, gain=self.gain)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class KaimingConv2d(nn.Conv2d):
    """A convolution with Kaiming-uniform weights (a = 1) and zero bias, as in the original's pixel decoder."""

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=1)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class MSRAConv2d(nn.Conv2d):
    """A convolution with Kaiming-normal weights (fan-out, ReLU) and zero bias, as the original's pixel classifier."""

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)
