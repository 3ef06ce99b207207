"""Which columns of a table hold images, annotations and ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Features, Image, List, Value
from datasets.features import Array2D

from .errors import DataError

IMAGE_NAMES = ("image", "img", "pixel_values", "picture", "photo", "input")
MAP_NAMES = (
    "annotation",
    "label",
    "mask",
    "labels",
    "masks",
    "annotations",
    "segmentation",
    "segmentation_map",
    "segmentation_mask",
    "semantic_segmentation",
    "semantic_map",
    "semantic_mask",
    "seg_map",
    "panoptic",
    "panoptic_map",
    "panoptic_image",
    "instance_map",
    "gt",
    "ground_truth",
    "target",
)
CITYSCAPES_IDS = "cityscapes_instance_ids"  # 1000 times the class, and more: below 1000 is no instance
INSTANCE_NAMES = (
    "instance_ids",
    "instance_map",
    "instance_mask",
    "instance_segmentation",
    "instances",
    CITYSCAPES_IDS,
)
MASK_LIST_NAMES = ("masks", "mask", "object_masks", "instance_masks", "annotations", "annotation", "labels", "label")
CLASS_NAMES = ("classes", "class_ids", "class_labels", "categories", "category_ids", "category", "labels", "label")
INFO_NAMES = ("segments_info", "segments")
OBJECT_NAMES = ("objects", "annotations", "annotation", "instances", "outlines")
ID_NAMES = ("image_id", "id")


@dataclass(frozen=True)
class Columns:
    """Names of columns; None where the table has no such column.

    Attributes:
        image: pictures.
        map: a picture of ids, or a map of integers.
        info: what the ids of a panoptic map mean.
        objects: lists of objects with their outlines.
        image_id: the dataset's own ids of its images.
        instances: a second map, of instance ids.
        masks: lists of pictures, a mask for each object.
        classes: lists of the classes of these objects.
    """

    image: str
    map: str | None
    info: str | None
    objects: str | None
    image_id: str | None
    instances: str | None = None
    masks: str | None = None
    classes: str | None = None


def find_columns(features: Features, image_column: str | None = None, annotation_column: str | None = None) -> Columns:
    """The columns of a table, those given and else those of usual names.

    Args:
        features: of the table.
        image_column: the column of images.
        annotation_column: the column of maps, or of lists of objects.

    Raises:
        DataError: a given column is missing, or no column looks like an image; says which columns there are.
    """
    for name in (image_column, annotation_column):
        if name is not None and name not in features:
            raise DataError(f"The dataset has no column '{name}'. It has: {describe(features)}.")
    pictures = [name for name, feature in features.items() if isinstance(feature, Image)]
    image = image_column or _first(IMAGE_NAMES, pictures)
    if image is None:
        raise DataError(
            f"The dataset has no column of images under a usual name ({', '.join(IMAGE_NAMES)}). "
            f"It has: {describe(features)}. Name the column with image_column."
        )
    maps = [name for name, feature in features.items() if is_map(feature) and name != image]
    masks = [name for name, feature in features.items() if is_list_of_pictures(feature)]
    objects = [name for name, feature in features.items() if _is_list_or_json(feature) and name not in (*maps, *masks)]
    instances = _first(INSTANCE_NAMES, maps)
    if annotation_column is not None:
        maps = [name for name in maps if name == annotation_column]
        objects = [name for name in objects if name == annotation_column]
        masks = [name for name in masks if name == annotation_column]
        if not maps and not objects and not masks:
            raise DataError(
                f"Column '{annotation_column}' is {_kind(features[annotation_column])}: "
                "a picture, a map of integers, a list of objects or one of pictures is expected."
            )
    map_column = annotation_column if maps and annotation_column else _first(MAP_NAMES, maps)
    map_column = map_column if map_column is not None or len(maps) != 1 else maps[0]
    mask_column = annotation_column if masks and annotation_column else _first(MASK_LIST_NAMES, masks)
    return Columns(
        image=image,
        map=map_column,
        info=_first(INFO_NAMES, [name for name, feature in features.items() if _is_list_or_json(feature)]),
        objects=annotation_column if objects and annotation_column else _first(OBJECT_NAMES, objects),
        image_id=_first(ID_NAMES, [name for name, feature in features.items() if isinstance(feature, Value)]),
        instances=instances if instances != map_column else None,
        masks=mask_column if mask_column is not None or len(masks) != 1 else masks[0],
        classes=_first(CLASS_NAMES, [name for name, feature in features.items() if _is_list_of_ids(feature)]),
    )


def is_map(feature: Any) -> bool:
    """Whether a feature may be a picture of ids: an image or an (H, W) array of integers."""
    if isinstance(feature, (Image, Array2D)):
        return True
    inner = feature.feature if isinstance(feature, List) else None
    inner = inner.feature if isinstance(inner, List) else None
    return isinstance(inner, Value) and "int" in inner.dtype


def is_list_of_pictures(feature: Any) -> bool:
    """Whether a cell holds any number of pictures."""
    return isinstance(feature, List) and isinstance(feature.feature, Image)


def class_names(features: Features, within: Sequence[str]) -> list[str] | None:
    """Names of the classes that the features themselves tell, None where they tell none.

    Looked at are ClassLabels inside the columns `within`, and lists of ClassLabels. A single ClassLabel of another
    column is a property of the whole image, not of its segments.
    """
    for name in within:
        label = _class_label_in(features[name])
        if label is not None:
            return label.names
    for feature in features.values():
        if isinstance(feature, List) and isinstance(feature.feature, ClassLabel):
            return feature.feature.names
    return None


def describe(features: Features) -> str:
    """The columns with their kinds, for messages."""
    return ", ".join(f"'{name}' ({_kind(feature)})" for name, feature in features.items()) or "no columns"


def _kind(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def _first(names: Sequence[str], available: Sequence[str]) -> str | None:
    return next((name for name in names if name in available), None)


def _is_list_or_json(feature: Any) -> bool:
    if isinstance(feature, Value):
        return "string" in feature.dtype
    return isinstance(feature, (List, dict))


def _is_list_of_ids(feature: Any) -> bool:
    inner = feature.feature if isinstance(feature, List) else None
    return isinstance(inner, ClassLabel) or (isinstance(inner, Value) and "int" in inner.dtype)


def _class_label_in(feature: Any) -> ClassLabel | None:
    if isinstance(feature, ClassLabel):
        return feature
    if isinstance(feature, List):
        return _class_label_in(feature.feature)
    children = feature.values() if isinstance(feature, dict) else ()
    return next((label for label in map(_class_label_in, children) if label is not None), None)
