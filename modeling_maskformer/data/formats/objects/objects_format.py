"""Lists of objects -> segments: as they are, or painted one over the other where each pixel has one class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from image_processing.run_lengths import compressed_run_lengths

from ....targets import NO_SEGMENT, TASKS, Segments, smallest_id_dtype, void_value
from ...errors import DataError
from ...labels.label_set import NO_LABEL, VOID_LABEL, LabelSet
from ...samples import why_sizes_differ
from ..id_maps import segments_of_ids
from .mask_checks import check_polygon
from .polygons import read_polygons


class ObjectsFormat(ABC):
    """Row -> segments of a list of objects, each with a mask that may overlap others.

    Instance: one segment per object. Semantic and panoptic: the objects are painted in the order of the file, so that
    later ones lie on top, but crowd regions below the others; the pixels that none covers are of the class
    `labels.rest_label`. Semantic has one segment per class; panoptic one per object, and one per class of stuff.
    """

    tasks = TASKS
    has_categories = True
    why = ""
    names = None

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        check_size(row, size)
        objects = self._objects(row, size)
        region_labels = labels.labels_of(class_id for class_id, _, _ in objects)
        kept = np.flatnonzero(region_labels != NO_LABEL)  # the others are no objects in this label set
        run_lengths = [run_lengths_of(objects[index][1], size) for index in kept]
        is_crowd = np.array([objects[index][2] for index in kept], dtype=bool)
        if task == "instance":
            return _overlapping(run_lengths, region_labels[kept], is_crowd, size)
        return _painted(run_lengths, region_labels[kept], is_crowd, labels, task, size)

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """The ids of the row's classes: things."""
        return dict.fromkeys((class_id for class_id, _, _ in self._objects(row, (1, 1))), True)

    @abstractmethod
    def _objects(self, row: Mapping[str, Any], size: tuple[int, int]) -> Sequence[tuple[int, Any, bool]]:
        """Class id, polygons or run lengths in pixels of an image of `size` (H, W), and crowd, of each object."""


def _overlapping(run_lengths: list[dict], labels: np.ndarray, is_crowd: np.ndarray, size: tuple[int, int]) -> Segments:
    """One segment per object; those of VOID_LABEL make the pixels void that no other covers."""
    objects = np.flatnonzero(labels >= 0)
    ids = draw_layers([run_lengths[index] for index in objects], size)
    void = [run_lengths[index] for index in np.flatnonzero(labels == VOID_LABEL)]
    if void:
        covered = torch.from_numpy(coco_mask.decode(coco_mask.merge(void)).astype(bool))
        ids[0][covered & (ids == NO_SEGMENT).all(0)] = void_value(ids.dtype)
    return Segments(ids, torch.from_numpy(labels[objects]), is_crowd[objects]).without_empty()


def _painted(
    run_lengths: list[dict],
    labels: np.ndarray,
    is_crowd: np.ndarray,
    label_set: LabelSet,
    task: str,
    size: tuple[int, int],
) -> Segments:
    regions = np.zeros(size, dtype=np.int32)  # (H, W): 0 where no object is, k + 1 where object k is on top
    boxes = coco_mask.toBbox(run_lengths).astype(int).reshape(-1, 4)  # (S, 4): left, top, width, height
    for number in np.argsort(~is_crowd, kind="stable"):
        left, top, width, height = boxes[number]
        window = slice(top, top + height), slice(left, left + width)
        regions[window][coco_mask.decode(run_lengths[number])[window].astype(bool)] = number + 1
    rest = NO_LABEL if label_set.rest_label is None else label_set.rest_label
    labels, is_crowd = np.append(rest, labels), np.append(False, is_crowd)  # (S + 1,)
    if task == "panoptic" and label_set.label_ids_to_fuse:
        fused = np.arange(len(labels))  # the first region of the same stuff, for each region
        for label in label_set.label_ids_to_fuse:
            same = np.flatnonzero(labels == label)
            fused[same] = same[:1]
        regions = fused[regions]
    if task == "semantic":  # a crowd of persons is of class person
        is_crowd[:] = False
    return segments_of_ids(regions, labels, is_crowd, merge=task == "semantic").without_empty()


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
    """COCO's compressed run lengths of polygons or of either form of run lengths.

    Raises:
        DataError: it is neither, is of another size, or has numbers that cannot be drawn.
    """
    try:
        return _run_lengths_of(segmentation, size)
    except DataError:
        raise
    except Exception as error:  # pycocotools raises bare Exceptions, and whatever Cython makes of a wrong type
        raise DataError(f"a mask cannot be read as polygons or run lengths: {error}") from error


def _run_lengths_of(segmentation: Any, size: tuple[int, int]) -> dict:
    if isinstance(segmentation, Mapping):
        if tuple(segmentation["size"]) != size:
            raise DataError(f"a mask has size {list(segmentation['size'])} but the image is {list(size)} (H, W)")
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
    mend = why_sizes_differ((height, width), size, "take the images that were annotated, or scale the annotations")
    raise DataError(
        f"the annotations are of an image of {width} x {height} pixels (width x height) but the image is "
        f"{size[1]} x {size[0]}, so outlines would lie elsewhere: {mend}"
    )
