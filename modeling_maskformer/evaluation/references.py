"""Segments from the plain data in which users of `evaluate` hold their annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_utils

from image_processing.run_lengths import compressed_run_lengths

from ..targets import VOID, Segments, segments_from_masks, smallest_id_dtype
from .base import integer_map


def segments_from_id_map(segmentation: Any, segments_info: Sequence[Mapping[str, Any]]) -> Segments:
    """The segments of an `(H, W)` map of ids; a pixel whose id is not listed is void, as in COCO panoptic.

    Args:
        segmentation: map of ids: tensor, array, PIL image or nested list.
        segments_info: a dict a segment with `id`, `label_id` and, where it is a crowd region, `iscrowd`.
    """
    ids = integer_map(segmentation, "the reference segmentation")
    numbers = np.full_like(ids, VOID)
    for number, segment in enumerate(segments_info, start=1):
        numbers[ids == segment["id"]] = number
    numbers = torch.from_numpy(numbers).to(smallest_id_dtype(len(segments_info)))  # -1 is 255 in uint8, as VOID is
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
    masks = [mask_utils.decode(compressed_run_lengths(rle)) for rle in segmentation]
    return segments_from_masks(masks, _class_ids(segments_info), _is_crowd(segments_info), size=size)


def _class_ids(segments_info: Sequence[Mapping[str, Any]]) -> list[int]:
    return [int(segment["label_id"]) for segment in segments_info]


def _is_crowd(segments_info: Sequence[Mapping[str, Any]]) -> list[bool]:
    return [bool(segment.get("iscrowd", False)) for segment in segments_info]
