"""How large images are after resizing and in a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.image_utils import SizeDict, get_image_size_for_max_height_width

MAX_PIXELS = 200_000_000  # of a resized image: a model's input of 2.4 GB


def resized_size(image_size: tuple[int, int], size: SizeDict, size_divisor: int) -> tuple[int, int]:
    """(height, width) that `size` says for an image of this (height, width), raised to multiples of `size_divisor`.

    Raises:
        ValueError: the arguments say no size, or one that is too large.
    """
    height, width = image_size
    if size.shortest_edge:
        height, width = get_size_with_aspect_ratio((height, width), size.shortest_edge, size.longest_edge)
    elif size.max_height and size.max_width:
        height, width = get_image_size_for_max_height_width((height, width), size.max_height, size.max_width)
    elif size.height and size.width:
        height, width = size.height, size.width
    else:
        raise ValueError(
            'Expected a `size` of {"shortest_edge"}, {"shortest_edge", "longest_edge"}, {"height", "width"} or '
            f'{{"max_height", "max_width"}}, got {dict(size)}.'
        )
    height, width = max(1, height), max(1, width)  # of an extreme strip nothing may be left but for rounding
    if height * width > MAX_PIXELS:  # as of a strip whose longest side is not bounded
        raise ValueError(
            f"An image of {image_size[0]}x{image_size[1]} (height x width) would be resized to "
            f"{height}x{width}, more than {MAX_PIXELS} pixels: bound its longest edge in `size`."
        )
    if not isinstance(size_divisor, int) or size_divisor < 0:
        raise ValueError(f"`size_divisor` must be a whole number, at least 0, got {size_divisor!r}.")
    if size_divisor > 0:
        height, width = (math.ceil(length / size_divisor) * size_divisor for length in (height, width))
    return height, width


def size_of_batch(sizes: Sequence[tuple[int, int]], pad_size: SizeDict | None) -> tuple[int, int]:
    """(height, width) to which images of these sizes are padded: `pad_size`, or the largest of each.

    Raises:
        ValueError: `pad_size` is no height and width, or an image does not fit into it.
    """
    if pad_size is None:
        return max(height for height, _ in sizes), max(width for _, width in sizes)
    if not (pad_size.height and pad_size.width):
        given = {name: value for name, value in dict(pad_size).items() if value is not None}
        raise ValueError(f'`pad_size` must be {{"height", "width"}} of the batch, got {given}.')
    for index, (height, width) in enumerate(sizes):
        if height > pad_size.height or width > pad_size.width:
            raise ValueError(
                f"Image {index} of the batch is {height}x{width} after resizing and does not fit into the `pad_size` "
                f"of {pad_size.height}x{pad_size.width}."
            )
    return pad_size.height, pad_size.width


def padding_to(image: Tensor, padded_size: tuple[int, int]) -> list[int]:
    """Left, top, right and bottom padding of an image `(..., H, W)`.

    Raises:
        ValueError: the image is larger.
    """
    bottom, right = padded_size[0] - image.shape[-2], padded_size[1] - image.shape[-1]
    if bottom < 0 or right < 0:
        raise ValueError(
            f"An image of {image.shape[-2]}x{image.shape[-1]} pixels does not fit into the padded size of "
            f"{padded_size[0]}x{padded_size[1]}."
        )
    return [0, 0, right, bottom]
