"""Masks as COCO run-length encodings, written by pycocotools."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor


def encode_mask(mask: np.ndarray | Tensor) -> dict:
    """{"size": [H, W], "counts": str}: COCO's compressed RLE of an `(H, W)` mask, as JSON can hold it."""
    if isinstance(mask, Tensor):
        mask = mask.cpu().numpy()
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(length) for length in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def encode_ids(id_map: Tensor, ids: Iterable[int]) -> list[dict]:
    """One RLE per id of an `(H, W)` id map, in the order of `ids`."""
    by_column = id_map.cpu().numpy().T.copy().T  # one transposition for all ids: RLE runs along columns
    return [encode_mask(by_column == number) for number in ids]


def decode_mask(rle: dict) -> Tensor:
    """`(H, W)` bool mask of a COCO RLE."""
    return torch.from_numpy(coco_mask.decode(rle)).to(torch.bool)
