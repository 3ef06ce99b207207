"""COCO's run-length encodings, in the one form that pycocotools reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycocotools import mask as coco_mask


def compressed_run_lengths(rle: Mapping[str, Any]) -> dict[str, Any]:
    """The RLE with its counts as bytes; they come as bytes, as text (from JSON) or as a list of runs."""
    size, counts = list(rle["size"]), rle["counts"]
    if isinstance(counts, (str, bytes)):
        return {"size": size, "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
    return coco_mask.frPyObjects({"size": size, "counts": list(counts)}, *size)
