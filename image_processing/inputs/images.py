"""Images as people have them -> images that the processor takes: gray arrays, 16 bits, iterators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.utils import logging

logger = logging.get_logger(__name__)

SIXTEEN_TO_EIGHT_BITS = 65535 / 255
TWELVE_BITS = 4095  # the largest value
TOO_LARGE = 1e30  # of a pixel: normalised, it would soon be infinite in float32


def as_list(images: Any) -> Any:
    """A list, of an iterator's images or of a single gray `(H, W)` array; anything else as it is."""
    if isinstance(images, Iterator):
        return list(images)
    return [images] if _is_gray_array(images) else images


def has_gray_arrays(images: Any) -> bool:
    """Whether these are several images of which some are `(H, W)` arrays or tensors."""
    return isinstance(images, (list, tuple)) and any(_is_gray_array(image) for image in images)


def check_kinds(images: Any, nested: bool = True) -> None:
    """Raises a ValueError where one of several images is a single number or, unless they may be nested, a list."""
    for index, image in enumerate(images if isinstance(images, (list, tuple)) else ()):
        if getattr(image, "ndim", 1) == 0 or (not nested and isinstance(image, (list, tuple))):
            found = "a single number" if hasattr(image, "ndim") else "a list"
            raise ValueError(
                f"Image {index} of the batch is {found}: a picture, or an array or tensor of its pixels, is expected."
            )


def _is_gray_array(image: Any) -> bool:
    return isinstance(image, (np.ndarray, Tensor)) and image.ndim == 2


def with_eight_bits(image: Any) -> Any:
    """The image with values from 0 to 255: of 16 bits they are scaled, to float32 without a loss.

    Raises:
        ValueError: the values are of a kind, or in a range, of which nobody can tell what is white.
    """
    if isinstance(image, Image.Image):
        if image.mode.startswith("I;16"):
            return _from_sixteen_bits(np.asarray(image).astype(np.float32))
        if image.mode in ("I", "F"):
            raise ValueError(
                f"An image of mode {image.mode!r} does not say which value is white. Give an image of 8 or 16 bits, "
                "or an array of values from 0 to 255."
            )
        return image
    if not isinstance(image, (np.ndarray, Tensor)) or image.dtype in (np.uint8, torch.uint8):
        return image
    if image.dtype.is_complex if isinstance(image, Tensor) else image.dtype.kind not in "biuf":
        raise ValueError(f"An image is an array of {image.dtype}: numbers from 0 to 255 are expected.")
    if image.dtype in (np.uint32, np.uint64, torch.uint32, torch.uint64):  # with which torch does not compute
        image = image.to(torch.int64) if isinstance(image, Tensor) else image.astype(np.int64)
    is_float = image.dtype.is_floating_point if isinstance(image, Tensor) else image.dtype.kind == "f"
    if is_float and not bool((abs(image) < TOO_LARGE).all()):  # nor is NaN
        raise ValueError(
            f"An image has pixels that are NaN, infinite or beyond {TOO_LARGE:g}: numbers from 0 to 255 are expected."
        )
    if image.dtype in (np.uint16, torch.uint16):
        return _from_sixteen_bits(image.to(torch.float32) if isinstance(image, Tensor) else image.astype(np.float32))
    integers = not image.dtype.is_floating_point if isinstance(image, Tensor) else image.dtype.kind in "iu"
    if integers and 0 not in image.shape:
        low, high = int(image.min()), int(image.max())
        if low < 0 or high > 255:
            raise ValueError(
                f"An image of {image.dtype} has values from {low} to {high}; expected 0 to 255, or uint16 with 0 to "
                "65535."
            )
    return image


def _from_sixteen_bits(image: Any) -> Any:
    """Values from 0 to 65535 as values from 0 to 255; a warning where they seem to be of fewer bits."""
    if 0 not in image.shape and 0 < image.max() <= TWELVE_BITS:
        logger.warning_once(
            f"An image of 16 bits has no value above {TWELVE_BITS}. White is 65535 there, so it is nearly black: if "
            "it holds 8 bits pass it as uint8, if it holds 10 or 12 bits multiply it by 64 or 16."
        )
    return image / SIXTEEN_TO_EIGHT_BITS


def with_usual_channels(image: Any, input_data_format: Any = None) -> Any:
    """A picture as RGB, or an array, if it is `(H, W)`, or has 1, 3 or 4 channels first or last.

    A picture's transparency is left out, as where it is opened for training and prediction. An array of 1 or 4 by W
    by 3 has its channels last, unless `input_data_format` says otherwise; the result has them first.

    Raises:
        ValueError: it has another number of dimensions or channels.
    """
    if not isinstance(image, (np.ndarray, Tensor)):
        return image.convert("RGB") if isinstance(image, Image.Image) and image.mode != "RGB" else image
    shape = tuple(image.shape)
    channels: list[int] = []
    if len(shape) == 3:
        order = str(getattr(input_data_format, "value", input_data_format))
        ends = {"channels_first": shape[:1], "channels_last": shape[2:]}.get(order, (shape[0], shape[2]))
        channels = [count for count in ends if count in (1, 3, 4)]
    if len(shape) != 2 and not channels:
        raise ValueError(
            f"An image has the shape {shape}, expected (height, width), or 1, 3 or 4 channels before or after them. "
            "With `do_convert_rgb=False` any number of channels stays as it is."
        )
    if 0 in shape and channels != [3]:
        raise ValueError(f"An image has the shape {shape}: it has no pixels.")
    is_array = isinstance(image, np.ndarray)
    if is_array and input_data_format is None and len(channels) == 2 and shape[0] != 3 and shape[2] == 3:
        return image.transpose(2, 0, 1)  # else its rows would be taken for channels
    return image
