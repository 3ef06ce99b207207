"""COCO's instance form: a list of objects, each with a category and a mask as polygons or run lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from ...run_lengths import compressed_run_lengths
from ...targets import Segments, smallest_id_dtype
from ..errors import DataError
from ..labels import LabelSet
from .mask_checks import check_counts, check_polygon
from .polygons import read_polygons
from .records import read_integer, read_records

CATEGORY_KEYS = ("category_id", "category", "label", "class_id")
MASK_KEYS = ("segmentation", "segmentations", "mask", "rle", "polygons")
CROWD_KEYS = ("iscrowd", "is_crowd")


@dataclass
class CocoInstanceFormat:
    """Row -> one segment per object; objects may overlap, crowd regions keep their flag.

    The objects are a list of dicts, a dict of lists or JSON of either; masks are polygons (x, y, x, y, ...), or
    run lengths, compressed or not. Where the row has `width` and `height`, the image must have this size.
    """

    column: str
    tasks = ("instance",)
    has_categories = True
    why = "such objects may overlap, and what lies between them is not labelled"

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        check_size(row, size)
        objects = read_records(row[self.column], self.column)
        class_ids = labels.labels_of(read_integer(item, CATEGORY_KEYS, self.column) for item in objects)
        kept = np.flatnonzero(class_ids >= 0)  # the others are no objects in this label set
        is_crowd = [any(bool(objects[index].get(key)) for key in CROWD_KEYS) for index in kept]
        ids = draw_layers([self._run_lengths(objects[index], size) for index in kept], size)
        return Segments(ids, torch.from_numpy(class_ids[kept]), is_crowd).without_empty()

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """The ids of the row's categories: things."""
        objects = read_records(row[self.column], self.column)
        return dict.fromkeys((read_integer(item, CATEGORY_KEYS, self.column) for item in objects), True)

    def _run_lengths(self, item: Mapping[str, Any], size: tuple[int, int]) -> dict:
        segmentation = next((item[key] for key in MASK_KEYS if item.get(key) is not None), None)
        if segmentation is None:
            raise DataError(
                f"an entry of column '{self.column}' has no {' or '.join(MASK_KEYS)}, only {', '.join(item)}"
            )
        try:
            return run_lengths_of(segmentation, size)
        except DataError:
            raise
        except Exception as error:  # pycocotools raises bare Exceptions, and whatever Cython makes of a wrong type
            raise DataError(
                f"a mask in column '{self.column}' is neither polygons nor run lengths: {error}"
            ) from error


def draw_layers(run_lengths: list[dict], size: tuple[int, int]) -> torch.Tensor:
    """`(L, H, W)` ids of S masks: mask k is drawn as k + 1 on the first layer where it meets no other.

    One mask at a time is decoded, and only its bounding box is looked at: many small objects cost little.
    """
    dtype = smallest_id_dtype(len(run_lengths))
    layers = [torch.zeros(size, dtype=dtype).numpy()]
    boxes = coco_mask.toBbox(run_lengths).astype(int).reshape(-1, 4)  # (S, 4): left, top, width, height
    for number, (left, top, width, height) in enumerate(boxes, start=1):
        window = slice(top, top + height), slice(left, left + width)
        mask = coco_mask.decode(run_lengths[number - 1])[window].astype(bool)
        for layer in layers:
            if not layer[window][mask].any():
                break
        else:
            layer = np.zeros_like(layers[0])
            layers.append(layer)
        layer[window][mask] = number
    return torch.from_numpy(np.stack(layers))


def run_lengths_of(segmentation: Any, size: tuple[int, int]) -> dict:
    """COCO's compressed run lengths of polygons or of either form of run lengths."""
    if isinstance(segmentation, Mapping):
        if tuple(segmentation["size"]) != size:
            raise DataError(f"a mask has size {list(segmentation['size'])} but the image is {list(size)} (H, W)")
        check_counts(segmentation["counts"], size)
        return compressed_run_lengths(segmentation)
    polygons = read_polygons(segmentation)
    for polygon in polygons:
        check_polygon(polygon)
    if not polygons:
        return coco_mask.encode(np.zeros(size, dtype=np.uint8, order="F"))
    return coco_mask.merge(coco_mask.frPyObjects(polygons, *size))


def check_size(row: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Refuses outlines that were drawn on an image of another size: they would lie beside their objects.

    Args:
        row: with the size that the annotations' file tells in `height` and `width`, where it tells it.
        size: (H, W) of the image.
    """
    height, width = row.get("height"), row.get("width")
    if not isinstance(height, int) or not isinstance(width, int) or (height, width) == size:
        return
    if (width, height) == size:
        mend = (
            "it is a photo that its EXIF tag turns, while its annotations were made of it unturned, or one of the two "
            "was rotated. Remove the tag (exiftool -Orientation= FILE), or annotate the turned image"
        )
    else:
        mend = "take the images that were annotated, or scale the annotations"
    raise DataError(
        f"the annotations are of an image of {width} x {height} pixels (width x height) but the image is "
        f"{size[1]} x {size[0]}, so outlines would lie elsewhere: {mend}"
    )
