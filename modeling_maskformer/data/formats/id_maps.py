"""Integer maps of a picture's pixels, and segments made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...targets import NO_SEGMENT, Segments, smallest_id_dtype, void_value
from ..errors import DataError
from ..labels.label_set import VOID_LABEL
from ..samples import decode_mask

INTEGER_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


def read_id_map(value: Any, column: str) -> np.ndarray:
    """`(H, W)` integers of a single-channel picture or of an integer array."""
    if isinstance(value, (list, np.ndarray)):
        id_map = np.asarray(value)
        if id_map.ndim != 2 or id_map.dtype.kind not in "iub":
            raise DataError(
                f"column '{column}' holds an array of shape {id_map.shape} and {id_map.dtype}: "
                "an (H, W) map of integers is expected"
            )
        return id_map.astype(np.uint8) if id_map.dtype.kind == "b" else id_map
    picture = decode_mask(value, column)
    if picture.mode not in INTEGER_MODES:
        raise DataError(
            f"the picture in column '{column}' has mode {picture.mode}: a map of one integer per pixel is expected "
            "(a PNG of mode L, P or I); colours would first have to be translated to class ids"
        )
    return np.asarray(picture).astype(np.uint8) if picture.mode == "1" else np.asarray(picture)


def read_colour_ids(value: Any, column: str) -> np.ndarray:
    """`(H, W)` uint32 with R + 256 G + 65536 B of an RGB picture."""
    picture = decode_mask(value, column)
    if picture.mode not in ("RGB", "RGBA"):
        raise DataError(
            f"the picture in column '{column}' has mode {picture.mode}: "
            "ids in the channels of an RGB picture are expected"
        )
    if picture.mode == "RGB":
        picture = picture.convert("RGBA")  # four bytes a pixel can be read as one integer
    return np.asarray(picture).view("<u4")[..., 0] & 0xFFFFFF


def read_ids(value: Any, column: str) -> np.ndarray:
    """`(H, W)` ids of an integer array, of a picture of one channel, or of colours where there are too many for it."""
    if not isinstance(value, (list, np.ndarray)):
        value = decode_mask(value, column)
        if value.mode not in INTEGER_MODES:
            return read_colour_ids(value, column)
    return read_id_map(value, column)


def unique_ids(id_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted `(U,)` values of an `(H, W)` map and the `(H, W)` index of each pixel's value among them.

    Only the first pixel of each run of equal pixels is sorted: annotations are made of long runs.
    """
    flat = id_map.reshape(-1)
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    values, run_index = np.unique(flat[starts], return_inverse=True)
    dtype = np.uint8 if len(values) <= 256 else np.int32
    index = np.repeat(run_index.astype(dtype), np.diff(starts, append=flat.size))
    return values, index.reshape(id_map.shape)


def segments_of_ids(index: np.ndarray, labels: np.ndarray, is_crowd: np.ndarray, merge: bool) -> Segments:
    """The segments of an `(H, W)` map of indices into U regions.

    Args:
        index: `(H, W)` in [0, U).
        labels: `(U,)` class of each region, VOID_LABEL or NO_LABEL.
        is_crowd: `(U,)` bool.
        merge: one segment per class, as semantic segmentation has it, instead of one per region.
    """
    regions = np.flatnonzero(labels >= 0)
    if merge:
        class_ids, position = np.unique(labels[regions], return_inverse=True)
        crowd = np.zeros(len(class_ids), dtype=bool)
    else:
        class_ids, position, crowd = labels[regions], np.arange(len(regions)), is_crowd[regions]
    dtype = smallest_id_dtype(len(class_ids))
    numbers = torch.full((len(labels),), NO_SEGMENT, dtype=torch.int32)  # (U,) segment number of each region
    numbers[torch.from_numpy(labels == VOID_LABEL)] = void_value(dtype)
    numbers[torch.from_numpy(regions)] = torch.from_numpy(position).to(torch.int32) + 1
    index = torch.from_numpy(index).to(torch.int32)  # index_select is three times as fast as numpy's indexing
    ids = numbers.to(dtype).index_select(0, index.flatten()).view(index.shape)  # (H, W)
    return Segments(ids, torch.from_numpy(class_ids), torch.from_numpy(crowd))
