"""Annotations of a batch: checked against their images, resized, padded, and turned into the model's targets.

Every error names the index of the image in the batch, counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # with which torch computes little
COMPACT_DTYPES = (torch.uint8, torch.int16, torch.int32)


def as_annotations(segmentation_maps: Any, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """One `(H, W)` integer tensor per image, from one map or several (PIL, arrays or tensors).

    Args:
        segmentation_maps: a map, a list of maps, or of lists of maps, or a `(B, H, W)` array or tensor. A map may also
            be `(1, H, W)` or `(H, W, 1)`.
        sizes: (height, width) of the images.
    """
    if isinstance(segmentation_maps, Image.Image) or _is_single_map(segmentation_maps, sizes):
        segmentation_maps = [segmentation_maps]
    is_array = isinstance(segmentation_maps, (np.ndarray, Tensor))
    if not isinstance(segmentation_maps, (list, tuple)) and not (is_array and segmentation_maps.ndim):
        raise ValueError(
            f"`segmentation_maps` are {type(segmentation_maps).__name__}: one map (height, width) for each image is "
            "expected."
        )
    if not is_array and segmentation_maps and all(map(_is_list_of_maps, segmentation_maps)):
        segmentation_maps = [label_map for maps in segmentation_maps for label_map in maps]  # as images may be nested
    if len(segmentation_maps) != len(sizes):
        raise ValueError(f"Got {len(segmentation_maps)} segmentation maps for {len(sizes)} images.")
    maps = []
    for index, (label_map, size) in enumerate(zip(segmentation_maps, sizes, strict=True)):
        name = f"Segmentation map {index} of the batch"
        label_map = _as_integers(label_map, name)
        if tuple(label_map.shape) == (*size, 1):
            label_map = label_map[..., 0]
        elif label_map.ndim == 3 and len(label_map) == 1:
            label_map = label_map[0]
        if label_map.ndim != 2:
            raise ValueError(f"{name} must be (height, width), one integer a pixel; got {tuple(label_map.shape)}.")
        _check_size(label_map, size, name, index)
        maps.append(label_map)
    return maps


def _is_single_map(maps: Any, sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether this is one array or tensor `(H, W)`, or `(H, W, 1)` of the only image."""
    shape = tuple(getattr(maps, "shape", ()))
    return len(shape) == 2 or (len(sizes) == 1 and shape == (*sizes[0], 1))


def _is_list_of_maps(maps: Any) -> bool:
    """Whether this is a list of pictures, arrays or tensors, and no map of nested lists."""
    return isinstance(maps, (list, tuple)) and all(
        isinstance(each, (Image.Image, np.ndarray, Tensor)) for each in maps
    )


def as_compact_targets(
    segment_ids: Sequence[Tensor], class_labels: Sequence[Tensor] | None, sizes: Sequence[tuple[int, int]]
) -> tuple[list[Tensor], list[Tensor]]:
    """One `(L, H, W)` id map per image, and its `(S,)` int64 classes; ids and class labels agree."""
    if class_labels is None:
        raise ValueError("`segment_ids` need `class_labels`: the class of each segment of each image.")
    if not len(segment_ids) == len(class_labels) == len(sizes):
        raise ValueError(
            f"Got {len(segment_ids)} `segment_ids` and {len(class_labels)} `class_labels` for {len(sizes)} images."
        )
    maps, labels = [], []
    for index, (ids, classes, size) in enumerate(zip(segment_ids, class_labels, sizes, strict=True)):
        name = f"`segment_ids` {index} of the batch"
        ids = torch.as_tensor(ids)
        ids = ids[None] if ids.ndim == 2 else ids
        if ids.ndim != 3 or ids.dtype not in COMPACT_DTYPES:
            raise ValueError(
                f"{name} must be (layers, height, width) of uint8, int16 or int32, got {tuple(ids.shape)} {ids.dtype}."
            )
        _check_size(ids, size, name, index)
        values = ids.to(torch.int64)
        values = torch.where(values == 255, -1, values) if ids.dtype == torch.uint8 else values
        low, high = int(values.min()), int(values.max())
        if low < -1 or high > len(classes):
            raise ValueError(
                f"{name} has ids from {low} to {high}, but {len(classes)} class labels: expected -1 (void, 255 in "
                f"uint8), 0 (no segment) and 1 to {len(classes)}."
            )
        maps.append(ids)
        labels.append(torch.as_tensor(classes, dtype=torch.int64))
    return maps, labels


def _as_integers(label_map: Any, name: str) -> Tensor:
    if not isinstance(label_map, Tensor):
        label_map = np.asarray(label_map)
        if label_map.dtype.kind not in "biuf":
            raise ValueError(f"{name} must hold integers (class or instance ids), got {label_map.dtype}.")
        label_map = torch.tensor(label_map)
    if label_map.dtype in UNSIGNED:
        label_map = label_map.to(torch.int64)
    if label_map.is_floating_point() and torch.equal(label_map, label_map.round()) and label_map.isfinite().all():
        label_map = label_map.to(torch.int64)  # integers, as some tools store them
    if label_map.dtype == torch.bool:
        label_map = label_map.to(torch.uint8)
    if label_map.dtype not in INTEGERS:
        raise ValueError(f"{name} must hold integers (class or instance ids), got {label_map.dtype}.")
    return label_map


def _check_size(label_map: Tensor, size: tuple[int, int], name: str, index: int) -> None:
    height, width = label_map.shape[-2:]
    if (height, width) != tuple(size):
        raise ValueError(
            f"{name} is {height} pixels high and {width} wide, but image {index} is {size[0]} high and {size[1]} wide."
        )


def resize_nearest(label_map: Tensor, size: tuple[int, int]) -> Tensor:
    """The `(..., H, W)` map resized to the nearest pixel (torch's "nearest-exact"), in its own dtype, exact."""
    for axis, length in zip((-2, -1), size, strict=True):
        if label_map.shape[axis] != length:
            positions = torch.arange(label_map.shape[axis], dtype=torch.float32, device=label_map.device)
            nearest = interpolate(positions[None, None], size=length, mode="nearest-exact")[0, 0]
            label_map = label_map.index_select(axis, nearest.to(torch.int64))
    return label_map


def masks_and_classes(
    maps: Sequence[Tensor],
    instance_id_to_semantic_id: Sequence[Mapping[int, int]] | Mapping[int, int] | None,
    ignore_index: int | None,
    do_reduce_labels: bool,
) -> list[tuple[Tensor, Tensor]]:
    """Per image, `(S, H, W)` float32 masks of the values in its map, ascending, and their `(S,)` int64 classes."""
    if ignore_index is not None and (not isinstance(ignore_index, Integral) or abs(ignore_index) >= 1 << 31):
        raise ValueError(f"`ignore_index` must be a whole number, got {ignore_index!r}.")
    if do_reduce_labels and ignore_index is None:
        raise ValueError("With `do_reduce_labels` an `ignore_index` is needed: it takes the place of 0.")
    if isinstance(instance_id_to_semantic_id, Sequence) and len(instance_id_to_semantic_id) != len(maps):
        raise ValueError(
            f"Got {len(instance_id_to_semantic_id)} `instance_id_to_semantic_id` for {len(maps)} images: expected one "
            "dictionary for all images, or one for each."
        )
    targets = []
    for index, label_map in enumerate(maps):
        if do_reduce_labels:
            label_map = label_map.to(torch.int64)
            label_map = torch.where(label_map == 0, ignore_index, label_map - 1)
        values = torch.unique(label_map).to(torch.int64)
        if ignore_index is not None:
            values = values[values != ignore_index]
        masks = (label_map[None] == values[:, None, None]).to(torch.float32)
        if instance_id_to_semantic_id is None:
            targets.append((masks, values))
            continue
        mapping = instance_id_to_semantic_id
        mapping = mapping[index] if isinstance(mapping, Sequence) else mapping
        mapping = _integers_of(mapping)
        targets.append((masks, _classes_of(values + int(do_reduce_labels), mapping, index) - int(do_reduce_labels)))
    return targets


def _integers_of(mapping: Any) -> dict[int, int]:
    """`instance_id_to_semantic_id` of an image; in JSON the numbers of instances are strings."""
    try:
        return {int(number): int(label) for number, label in mapping.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ValueError(
            f"`instance_id_to_semantic_id` must be a dictionary of whole numbers, a class for each id: {mapping!r}."
        ) from None


def _classes_of(instance_ids: Tensor, mapping: Mapping[int, int], index: int) -> Tensor:
    missing = [number for number in instance_ids.tolist() if number not in mapping]
    if missing:
        raise ValueError(
            f"Segmentation map {index} of the batch has the ids {', '.join(map(str, missing[:10]))}"
            f"{', ...' if len(missing) > 10 else ''}, which `instance_id_to_semantic_id` does not have."
        )
    return torch.tensor([mapping[number] for number in instance_ids.tolist()], dtype=torch.int64)


def pad_segment_ids(maps: Sequence[Tensor], padded_size: tuple[int, int]) -> Tensor:
    """`(B, L, H, W)` ids in the largest dtype of the maps, void in the padding; missing layers hold no segment."""
    dtype = max((ids.dtype for ids in maps), key=lambda dtype: COMPACT_DTYPES.index(dtype))
    layers = max(len(ids) for ids in maps)
    batch = torch.zeros(len(maps), layers, *padded_size, dtype=dtype)
    batch[:, 0] = 255 if dtype == torch.uint8 else -1
    for index, ids in enumerate(maps):
        if ids.dtype == torch.uint8 and dtype != torch.uint8:
            ids = torch.where(ids == 255, -1, ids.to(dtype))
        batch[index, : len(ids), : ids.shape[-2], : ids.shape[-1]] = ids
        batch[index, len(ids) :] = 0
    return batch
