"""A model's outputs -> their logits, checked, in groups of images that have the same sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import tiling
from .resampling import without_minus_infinity


def is_per_pixel(outputs: Any) -> bool:
    """Whether there are class logits of each pixel, as of the per-pixel baselines, and no queries."""
    return getattr(outputs, "logits", None) is not None


@dataclass(frozen=True)
class Group:
    """Images of a batch that have the same sizes.

    Attributes:
        members: their numbers in the batch.
        logits: class logits (b, Q, K + 1) and mask logits (b, Q, h, w), or class logits of pixels (b, K, h, w) alone.
        sizes: the size of the images in input pixels, and that of their results; None as in `semantic_segmentation`.
    """

    members: list[int]
    logits: tuple[Tensor, ...]
    sizes: tuple[tuple[int, int] | None, tuple[int, int] | None]

    @property
    def inputs(self) -> tuple:
        """The first arguments of an inference."""
        return *self.logits, *self.sizes

    def images(self) -> Iterator[tuple]:
        """These arguments of each image alone."""
        for place in range(len(self.members)):
            yield *(maps[place] for maps in self.logits), *self.sizes


def groups_of(outputs: Any, target_sizes: Sequence[tuple[int, int]] | Tensor | None) -> list[Group]:
    """The batch by sizes, so that images alike go together; of sizes on a device there is one copy to the host."""
    logits = _checked_logits(outputs)
    count = len(logits[0])
    image_sizes = _sizes(getattr(outputs, "image_sizes", None), "outputs.image_sizes", count)
    members: dict[tuple, list[int]] = {}
    for number, sizes in enumerate(zip(image_sizes, _sizes(target_sizes, "target_sizes", count), strict=True)):
        members.setdefault(sizes, []).append(number)
    return [
        Group(numbers, tuple(_members_of(maps, numbers) for maps in logits), sizes)
        for sizes, numbers in members.items()
    ]


def _checked_logits(outputs: Any) -> tuple[Tensor, ...]:
    """Class logits `(B, Q, K + 1)` and mask logits `(B, Q, h, w)`, or class logits of pixels `(B, K, h, w)` alone.

    Raises:
        ValueError: their shapes are others, or on a CPU, which need not be waited for, they are not finite.
    """
    if is_per_pixel(outputs):
        kinds = {"logits": "(batch, classes, height, width)"}
    else:
        kinds = {
            "class_queries_logits": "(batch, queries, classes + 1)",
            "masks_queries_logits": "(batch, queries, height, width)",
        }
    logits = [getattr(outputs, name) for name in kinds]
    checked = []
    for (name, kind), values in zip(kinds.items(), logits, strict=True):
        shape = tuple(values.shape)
        is_whole = len(shape) == kind.count(",") + 1 and 0 not in shape[1:] and shape[:2] == logits[0].shape[:2]
        if not is_whole or (name == "class_queries_logits" and shape[2] < 2) or not values.is_floating_point():
            raise ValueError(
                f"`outputs.{name}` are {values.dtype} of shape {shape}, expected {kind} of a floating dtype, at least "
                "one of each but of images, and as many images and queries as there are of the others."
            )
        if tiling.use_tiles(values):
            values = _finite(name, values)
        checked.append(values)
    return tuple(checked)


def check_on_device(outputs: Any) -> None:
    """What post-processing checks of logits on a CPU alone, of those elsewhere: it makes classes of NaNs there.

    Raises:
        ValueError: logits are NaN or infinite.
    """
    for name in ("logits", "class_queries_logits", "masks_queries_logits"):
        values = getattr(outputs, name, None)
        if values is not None and not tiling.use_tiles(values):
            _finite(name, values)


def _finite(name: str, values: Tensor) -> Tensor:
    """Logits `(B, ...)`, maps without minus infinity; of a query's classes some may be impossible.

    Raises:
        ValueError: other values are NaN or infinite.
    """
    seen = values.max(-1).values if name == "class_queries_logits" else values
    if bool(seen.sum(dtype=torch.float32).isfinite()):  # one pass; a finite sum has finite parts
        return values
    if name != "class_queries_logits":
        values = seen = without_minus_infinity(values)
    for image, of_image in enumerate(seen):
        count = int((~of_image.isfinite()).sum())
        if count:
            raise ValueError(
                f"`outputs.{name}[{image}]` have {count} values that are NaN or infinite: the model has diverged, "
                "its precision is too low, or its pixels were not finite."
            )
    return values


def _members_of(maps: Tensor, numbers: list[int]) -> Tensor:
    """`(b, ...)`: some images of a batch; where they follow each other, without a copy."""
    if numbers[-1] - numbers[0] + 1 == len(numbers):
        return maps[numbers[0] : numbers[-1] + 1]
    return torch.stack([maps[number] for number in numbers])


def _sizes(sizes: Sequence[tuple[int, int]] | Tensor | None, name: str, count: int) -> list[tuple[int, int] | None]:
    """A (height, width), or None, for each of `count` images."""
    if sizes is None:
        return [None] * count
    if (
        not isinstance(sizes, (Sequence, Tensor, np.ndarray))
        or isinstance(sizes, str)
        or getattr(sizes, "ndim", 1) == 0
    ):
        raise ValueError(f"`{name}` must be a (height, width) for each image, got {sizes!r}.")
    if len(sizes) != count:
        place = f"image {len(sizes)} has none" if len(sizes) < count else f"there is no image {count}"
        raise ValueError(f"`{name}` has {len(sizes)} entries for {count} images: {place} (counting from 0).")
    sizes = sizes.tolist() if isinstance(sizes, Tensor) else sizes
    return [_as_size(size, f"{name}[{number}]") for number, size in enumerate(sizes)]


def _as_size(size: Any, name: str) -> tuple[int, int]:
    values = size.tolist() if isinstance(size, (Tensor, np.ndarray)) else size
    try:
        height, width = values
        whole = int(height), int(width)
        is_size = whole == (height, width) and min(whole) >= 1
    except (TypeError, ValueError, OverflowError):  # no two numbers, or NaN and infinity among them
        is_size = False
    if not is_size:
        raise ValueError(f"`{name}` must be a (height, width) of whole numbers, at least 1x1, got {size!r}.")
    return whole


def in_order(results: Iterable[tuple[Group, Iterable[Any]]]) -> list[Any]:
    """The results of all groups as their images are in the batch."""
    by_number: dict[int, Any] = {}
    for group, of_group in results:
        by_number.update(zip(group.members, of_group, strict=True))
    return [by_number[number] for number in range(len(by_number))]
