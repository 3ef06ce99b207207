"""A prediction -> what the page needs to show it: a small picture, the segment of each pixel, and their names."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from image_processing.boxed_masks import masks_of
from image_processing.drawing.colors import shades_of
from image_processing.results import ids_to_rgb

MAX_SIDE = 1280  # of what is shown


def overlay_of(task: str, image: Image.Image, prediction: Any, id2label: Mapping[int, str]) -> dict[str, Any]:
    """What overlay.js draws.

    Returns:
        `picture`: a data URL of the picture, its longer side at most `MAX_SIDE`; `ids`: one of as large an image of
        segment numbers, 1, 2, ... as red + 256 green, 0 where there is no segment; `segments`: for each number its
        `label`, `score` (None for semantic), `share` of the picture's pixels, and `color`.
    """
    scale = min(1.0, MAX_SIDE / max(image.size))
    width, height = (max(1, round(scale * length)) for length in image.size)
    rows = np.arange(height) * image.height // height
    columns = np.arange(width) * image.width // width
    if task == "semantic":
        segmentation = prediction
        labels = np.bincount(prediction.cpu().numpy().ravel()).nonzero()[0].tolist()
        infos = [{"id": label, "label_id": label, "score": None} for label in labels]
    else:
        infos, segmentation = prediction["segments_info"], prediction["segmentation"]
    numbers = np.zeros((height, width), dtype=np.int64)
    segments: list[dict[str, Any]] = []
    masks = masks_of(segmentation, [info["id"] for info in infos])
    colors = shades_of(info["label_id"] for info in infos)
    for number, (info, mask, color) in enumerate(zip(infos, masks, colors, strict=True), start=1):
        label = info["label_id"]
        small = mask.sampled(rows, columns)
        window = numbers[small.box]
        window[small.pixels & (window == 0)] = number  # the best instance comes first, and is on top
        segments.append(
            {
                "label": id2label.get(label, str(label)),
                "score": info["score"],
                "share": int(mask.pixels.sum()) / (image.width * image.height),
                "color": list(color),
            }
        )
    shown = image if scale == 1 else image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return {
        "picture": _data_url(shown, "jpeg"),
        "ids": _data_url(Image.fromarray(ids_to_rgb(numbers)), "png"),
        "segments": segments,
    }


def _data_url(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 90} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
