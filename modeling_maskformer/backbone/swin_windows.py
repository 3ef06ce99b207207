"""A feature map in pieces, and where the pixels of a piece are in Swin's attention windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers.remembered import remembered

PIECE = 2000  # about so many pixels are computed together on a CPU
OUTSIDE = -100.0  # added to the attention score of two pixels that the cyclic shift has brought together


@dataclass(frozen=True, eq=False)
class Windows:
    """Where P pixels, some rows of a map, are in n attention windows.

    Attributes:
        pixels: `(n, w * w)` int64, the pixel at each place of each window; P at places outside the map.
        places: `(P,)` int64, the place of each pixel in the flattened windows.
        mask: `(n, 1, w * w, w * w)` float32, what is added to the attention scores; None if nothing is.
    """

    pixels: Tensor
    places: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Piece:
    """The rows of a map which are in some rows of windows, in the order of the cyclic shift.

    Attributes:
        images: of the batch, the first and the one after the last.
        rows: of the map, likewise.
        wrapped: how many rows at the top of the map the shift has brought below `rows`.
        windows: where the pixels are in them; the same object for pieces alike.
    """

    images: tuple[int, int]
    rows: tuple[int, int]
    wrapped: int
    windows: Windows

    def take(self, maps: Tensor) -> Tensor:
        """The piece's pixels `(P, C)` of maps `(B, h, w, C)`."""
        maps = maps[slice(*self.images)]
        pixels = maps[:, slice(*self.rows)]
        if self.wrapped:
            pixels = torch.cat((pixels, maps[:, : self.wrapped]), dim=1)
        return pixels.flatten(0, 2)

    def put(self, pixels: Tensor, maps: Tensor) -> None:
        """Writes pixels `(P, C)` where `take` found them."""
        maps = maps[slice(*self.images)]
        pixels = pixels.view(len(maps), -1, *maps.shape[2:])
        kept = self.rows[1] - self.rows[0]
        maps[:, slice(*self.rows)] = pixels[:, :kept]
        if self.wrapped:
            maps[:, : self.wrapped] = pixels[:, kept:]


def pieces_of(maps: Tensor, window: int, shift: int) -> Iterator[Piece]:
    """Pieces that together are maps `(B, h, w, C)`: rows of some images each, one piece where it is no CPU's work."""
    batch_size, height, width, _ = maps.shape
    down = (height + window - 1) // window  # rows of windows
    if torch.compiler.is_compiling() or maps.device.type != "cpu":  # a graph for all sizes has no loop over them
        yield _piece(maps, (0, batch_size), (0, down), window, shift)
        return
    step = max(1, PIECE // (height * width))
    for image in range(0, batch_size, step):
        images = (image, min(image + step, batch_size))
        num_rows = max(1, round(PIECE / (window * width * (images[1] - image))))
        for row in range(0, down, num_rows):
            yield _piece(maps, images, (row, min(row + num_rows, down)), window, shift)


def _piece(maps: Tensor, images: tuple[int, int], down: tuple[int, int], window: int, shift: int) -> Piece:
    """The piece in these rows of windows of these images."""
    height, width = maps.shape[1:3]
    start, stop = (min(row * window + shift, height) for row in down)
    wrapped = min(shift, height) if down[1] * window >= height else 0
    num_images, num_rows = images[1] - images[0], down[1] - down[0]
    windows = _windows_of(num_images, stop - start, num_rows, wrapped, width, window, shift, maps.device)
    return Piece(images, (start, stop), wrapped, windows)


@remembered(maxsize=64)
def _windows_of(
    images: int, kept: int, down: int, wrapped: int, width: int, window: int, shift: int, device: torch.device
) -> Windows:
    """The windows of pieces alike: `down` rows of windows, of whose pixels `kept` rows are at the top."""
    rows, across = down * window, (width + window - 1) // window
    row, column = torch.arange(rows, device=device), torch.arange(across * window, device=device)
    from_below = row - (rows - shift)  # of the wrapped rows, which begin so far above the last
    row_is_padding = (row >= kept) & ((from_below < 0) | (from_below >= wrapped))
    row = torch.where(row < kept, row, kept + from_below)  # of the piece
    column = (column + shift) % (across * window)  # of the map
    image = torch.arange(images, device=device)[:, None, None] * (kept + wrapped) * width
    pixels = image + row[:, None] * width + column  # (images, rows, columns)
    num_pixels = images * (kept + wrapped) * width
    pixels = pixels.masked_fill(row_is_padding[:, None] | (column >= width), num_pixels)

    def split(per_pixel: Tensor) -> Tensor:  # (i, rows, columns) -> (n, w * w)
        windows = per_pixel.view(-1, down, window, across, window).transpose(2, 3)
        return windows.reshape(-1, window * window)

    pixels = split(pixels)
    places = pixels.flatten().argsort()[:num_pixels]
    if shift == 0:
        return Windows(pixels, places, None)
    # the last windows of an axis hold both of its ends, which do not attend to each other
    other_row = (from_below >= 0) & (wrapped > 0)
    region = split((other_row[:, None] * 2 + (column < shift).to(torch.int64)).expand(images, -1, -1).contiguous())
    mask = (region[:, :, None] != region[:, None]) * OUTSIDE
    return Windows(pixels, places, mask[:, None])
