"""Where the pixels of a feature map are in Swin's attention windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..remembered import remembered

OUTSIDE = -100.0  # added to the attention score of two pixels that the cyclic shift has brought together


@dataclass(frozen=True)
class WindowOrder:
    """Where the pixels of a map, shifted and padded, are in its attention windows. Those with a mask are the last.

    Attributes:
        pixels: `(n, w * w)` int64, the pixel of the map at each place of each of n windows; any where `padding`.
        padding: `(n, w * w)` bool, places outside the map.
        places: `(h * w,)` int64, the place of each pixel in the flattened windows.
        mask: `(m, w * w, w * w)` float32, what is added to the attention scores of the last m windows.
    """

    pixels: Tensor
    padding: Tensor
    places: Tensor
    mask: Tensor


@remembered(maxsize=32)
def window_order(height: int, width: int, window: int, shift: int, device: torch.device) -> WindowOrder:
    """The attention windows of a map, computed once for each size."""
    down, across = ((length + window - 1) // window for length in (height, width))  # windows
    row = (torch.arange(down * window, device=device) + shift) % (down * window)  # of the map, at each shifted row
    column = (torch.arange(across * window, device=device) + shift) % (across * window)

    def split(per_pixel: Tensor) -> Tensor:  # (rows, columns) -> (n, w * w)
        return per_pixel.view(down, window, across, window).transpose(1, 2).reshape(down * across, window * window)

    padding = split((row[:, None] >= height) | (column >= width))
    pixels = split(row[:, None] * width + column)
    # the last windows of rows and columns hold both ends of an axis, which do not attend to each other
    region = split((row < shift)[:, None] * 2 + (column < shift).to(torch.int64))
    num_masked = down + across - 1 if shift else 0
    order = (region != region[:, :1]).any(1).to(torch.uint8).argsort(stable=True)
    pixels, padding, region = pixels[order], padding[order], region[order[down * across - num_masked :]]
    places = pixels.masked_fill(padding, height * width).flatten().argsort()[: height * width]
    mask = (region[:, :, None] != region[:, None]) * OUTSIDE
    return WindowOrder(pixels.masked_fill(padding, 0), padding, places, mask)
