"""Masks of references and predictions as COCO's run-length encodings: no picture is decoded for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from image_processing.boxed_masks import masks_of_ids
from image_processing.results import encode_boxed
from image_processing.run_lengths import compressed_run_lengths

from ...targets import Segments


def reference_rles(reference: Segments) -> list[dict[str, Any]]:
    """The RLE of each segment, made of its box alone."""
    masks = masks_of_ids(reference.ids.cpu().numpy(), range(1, len(reference) + 1))
    return [rle | {"counts": rle["counts"].encode("ascii")} for rle in map(encode_boxed, masks)]


def predicted_rles(prediction: Mapping[str, Any], size: tuple[int, int]) -> list[dict[str, Any]]:
    """The RLEs of an instance prediction for an image of `size` (H, W), checked."""
    rles, segments = prediction["segmentation"], prediction["segments_info"]
    if not segments:
        return []
    if not isinstance(rles, list) or not all(isinstance(rle, Mapping) for rle in rles):
        raise ValueError(
            "the prediction's segmentation must be a list of COCO run-length encodings, dicts with size and "
            "counts: post-process with return_coco_annotation=True."
        )
    if len(rles) != len(segments):
        raise ValueError(f"the prediction has {len(rles)} masks but lists {len(segments)} in segments_info.")
    for rle in rles:
        if tuple(rle["size"]) != tuple(size):
            raise ValueError(
                f"a predicted mask is {rle['size'][0]} high and {rle['size'][1]} wide, the reference "
                f"{size[0]} and {size[1]}."
            )
    return [compressed_run_lengths(rle) for rle in rles]


def pixels(rles: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """`(N,)` int64: how many pixels each of N masks has."""
    return np.array([mask_utils.area(rle) for rle in rles], dtype=np.int64)


def shared_pixels(rles: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """`(N, M)` int64: how many pixels each of N masks shares with each of M others."""
    # of a crowd region pycocotools gives the share of the first mask's pixels that lie in it
    shares = mask_utils.iou(list(rles), list(others), [True] * len(others))
    return np.rint(np.reshape(shares, (len(rles), len(others))) * pixels(rles)[:, None]).astype(np.int64)
