"""Segments from the plain data in which users of `evaluate` hold their annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_utils

from image_processing.run_lengths import compressed_run_lengths

from ...targets import Segments, segments_from_masks, smallest_id_dtype, void_value
from .base import integer_map, numbered, row_strips


def segments_from_id_map(segmentation: Any, segments_info: Sequence[Mapping[str, Any]]) -> Segments:
    """The segments of an `(H, W)` map of ids; a pixel whose id is not listed is void, as in COCO panoptic.

    Args:
        segmentation: map of ids: tensor, array, PIL image or nested list.
        segments_info: a dict a segment with `id`, `label_id` and, where it is a crowd region, `iscrowd`.
    """
    ids = integer_map(segmentation, "the reference segmentation")
    listed = [segment["id"] for segment in segments_info]
    dtype = smallest_id_dtype(len(listed))
    numbers = torch.empty(ids.shape, dtype=dtype)
    for rows in row_strips(ids.shape):
        part = numbered(ids[rows].astype(np.int64), listed)
        numbers[rows] = torch.from_numpy(np.where(part == 0, void_value(dtype), part))
    return Segments(numbers, _class_ids(segments_info), _is_crowd(segments_info))


def segments_from_rles(
    segmentation: Sequence[Mapping[str, Any]], segments_info: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> Segments:
    """The segments of COCO run-length encodings, which may overlap.

    Args:
        segmentation: S dicts with `size` and `counts` (bytes, text or a list of runs).
        segments_info: S dicts with `label_id` and, where it is a crowd region, `iscrowd`.
        size: (H, W).
    """
    masks = _DecodedMasks(segmentation)
    return segments_from_masks(masks, _class_ids(segments_info), _is_crowd(segments_info), size=size)


class _DecodedMasks(Sequence):
    """The `(H, W)` masks of RLEs, each decoded when it is asked for."""

    def __init__(self, rles: Sequence[Mapping[str, Any]]) -> None:
        self.rles = rles

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, place: int) -> np.ndarray:
        return mask_utils.decode(compressed_run_lengths(self.rles[place]))


def _class_ids(segments_info: Sequence[Mapping[str, Any]]) -> list[int]:
    return [int(segment["label_id"]) for segment in segments_info]


def _is_crowd(segments_info: Sequence[Mapping[str, Any]]) -> list[bool]:
    return [bool(segment.get("iscrowd", False)) for segment in segments_info]
