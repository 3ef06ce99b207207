"""Predictions -> what the service answers: segments as run-length codes, COCO's files, or a PNG image."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from image_processing.results import (
    class_map_image,
    coco_categories,
    coco_instances,
    encode_ids,
    ids_to_rgb,
    panoptic_segments,
)

from ..inference.checkpoint import Checkpoint

FORMATS = ("rle", "coco", "png")


def check_format(task: str, form: str) -> None:
    """Raises a ValueError if results of the task have no such form."""
    if (task, form) == ("semantic", "coco"):
        raise ValueError("COCO has no form for semantic segmentation: ask for rle or png.")
    if (task, form) == ("instance", "png"):
        raise ValueError("Instances may overlap, which one image cannot show: ask for rle or coco.")


def segments_of(task: str, prediction: Any, id2label: Mapping[int, str]) -> list[dict[str, Any]]:
    """For each segment `id`, `label_id`, `label`, `score` (null for semantic), `area`, `bbox` and its RLE."""
    if task == "semantic":
        infos = [{"id": label, "label_id": label, "score": None} for label in prediction.unique().tolist()]
        rles = encode_ids(prediction, [info["id"] for info in infos])
    else:
        infos, rles = prediction["segments_info"], prediction["segmentation"]
        if isinstance(rles, Tensor):
            rles = encode_ids(rles, [info["id"] for info in infos])
    return [
        {
            "id": info["id"],
            "label_id": info["label_id"],
            "label": id2label.get(info["label_id"], str(info["label_id"])),
            "score": info["score"],
            "area": int(coco_mask.area(rle)),
            "bbox": [int(length) for length in coco_mask.toBbox(rle)],
            "segmentation": rle,
        }
        for info, rle in zip(infos, rles, strict=True)
    ]


def coco_of(checkpoint: Checkpoint, task: str, prediction: Any, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's file of one picture: "images", "annotations", "categories"; of panoptic also the image as base64, "png".

    Categories have the ids of the annotations that the checkpoint was trained on.

    Args:
        checkpoint: what predicted.
        task, prediction: what came out.
        size: (height, width) of the picture.
    """
    ids, names = checkpoint.category_ids, checkpoint.id2label
    content: dict[str, Any] = {
        "images": [{"id": 0, "file_name": "0", "width": size[1], "height": size[0]}],
        "categories": coco_categories(names, checkpoint.stuff, ids),
    }
    if task == "instance":
        entries = enumerate(coco_instances(prediction, 0, ids), start=1)
        annotations = [{"id": number, **entry} for number, entry in entries]
        return content | {"annotations": annotations}
    annotation = {"image_id": 0, "file_name": "0.png", "segments_info": panoptic_segments(prediction, ids)}
    png = base64.b64encode(png_of(task, prediction, len(names))).decode("ascii")
    return content | {"annotations": [annotation], "png": png}


def png_of(task: str, prediction: Any, num_classes: int) -> bytes:
    """The PNG that predict.py writes: class ids (semantic), or segment ids as COCO's colours (panoptic)."""
    if task == "semantic":
        image = class_map_image(prediction, num_classes)
    else:
        image = Image.fromarray(ids_to_rgb(np.asarray(prediction["segmentation"].cpu())))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
