"""Images as people have them -> images that the processor takes: gray arrays, 16 bits, iterators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIXTEEN_TO_EIGHT_BITS = 65535 / 255


def as_list(images: Any) -> Any:
    """A list, of an iterator's images or of a single gray `(H, W)` array; anything else as it is."""
    if isinstance(images, Iterator):
        return list(images)
    return [images] if _is_gray_array(images) else images


def has_gray_arrays(images: Any) -> bool:
    """Whether these are several images of which some are `(H, W)` arrays or tensors."""
    return isinstance(images, (list, tuple)) and any(_is_gray_array(image) for image in images)


def _is_gray_array(image: Any) -> bool:
    return isinstance(image, (np.ndarray, Tensor)) and image.ndim == 2


def with_eight_bits(image: Any) -> Any:
    """The image with values from 0 to 255: of 16 bits they are scaled, to float32 without a loss.

    Raises:
        ValueError: the values are of a kind, or in a range, of which nobody can tell what is white.
    """
    if isinstance(image, Image.Image):
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.float32) / SIXTEEN_TO_EIGHT_BITS
        if image.mode in ("I", "F"):
            raise ValueError(
                f"An image of mode {image.mode!r} does not say which value is white. Give an image of 8 or 16 bits, "
                "or an array of values from 0 to 255."
            )
        return image
    if not isinstance(image, (np.ndarray, Tensor)) or image.dtype in (np.uint8, torch.uint8):
        return image
    if image.dtype in (np.uint16, torch.uint16):
        image = image.to(torch.float32) if isinstance(image, Tensor) else image.astype(np.float32)
        return image / SIXTEEN_TO_EIGHT_BITS
    integers = not image.dtype.is_floating_point if isinstance(image, Tensor) else image.dtype.kind in "iu"
    if integers and image.dtype not in (np.bool_, torch.bool) and 0 not in image.shape:
        low, high = int(image.min()), int(image.max())
        if low < 0 or high > 255:
            raise ValueError(
                f"An image of {image.dtype} has values from {low} to {high}; expected 0 to 255, or uint16 with 0 to "
                "65535."
            )
    return image
