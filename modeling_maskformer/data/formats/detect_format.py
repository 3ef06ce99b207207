"""Finds out how the segments of a table are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm

from ..columns import Columns, describe
from ..errors import DataError
from ..samples import AnnotationFormat, decode_image, file_stem, with_encoded_images
from .binary_mask import BinaryMaskFormat, is_black_and_white
from .channels import ChannelsFormat, are_colours
from .class_map import ClassMapFormat
from .coco_instance import CocoInstanceFormat
from .coco_panoptic import CocoPanopticFormat
from .colour_map import ColourMapFormat
from .id_maps import INTEGER_MODES
from .yolo import YoloFormat

FORMATS = ("class_map", "colour_map", "binary_mask", "channels", "coco_panoptic", "coco_instance", "yolo")
NEEDED_TABLE = (
    "Colours need a table of classes in the dataset's folder: class_dict.csv (name,r,g,b) or label_colors.txt (r g b "
    "name)."
)
NUM_PEEKED = 8  # pictures looked at to tell class maps from channels


def choose_format(
    name: str | None, rows: Dataset, columns: Columns, task: str, colours: dict[int, int] | None = None
) -> AnnotationFormat:
    """The reader of a table's annotations.

    Args:
        name: one of FORMATS; None finds it from columns and the first pictures.
        rows: the table.
        columns: its columns.
        task: must be one that the format's annotations can serve.
        colours: R + 256 G + 65536 B -> class id, where a table of the dataset tells it.

    Raises:
        DataError: a column is missing, the pictures fit no format, or the format does not serve the task.
    """
    name = name or _detect(rows, columns, task, colours is not None)
    if name == "colour_map" and colours is None:
        raise DataError(f"For annotations in the form colour_map no table of colours was found. {NEEDED_TABLE}")
    needed = {"coco_panoptic": ("map", "info"), "coco_instance": ("objects",), "yolo": ("objects",)}.get(
        name, ("map",)
    )
    missing = [kind for kind in needed if getattr(columns, kind) is None]
    if missing:
        what = {"map": "a picture of ids", "info": "segments_info", "objects": "a list of objects"}[missing[0]]
        raise DataError(
            f"Annotations in the form {name} need a column with {what}. The dataset has: {describe(rows.features)}. "
            "Name the column with annotation_column."
        )
    reader = {
        "class_map": lambda: ClassMapFormat(columns.map),
        "colour_map": lambda: ColourMapFormat(columns.map, colours),
        "binary_mask": lambda: BinaryMaskFormat(columns.map),
        "channels": lambda: ChannelsFormat(columns.map),
        "coco_panoptic": lambda: CocoPanopticFormat(columns.map, columns.info),
        "coco_instance": lambda: CocoInstanceFormat(columns.objects),
        "yolo": lambda: YoloFormat(columns.objects),
    }[name]()
    if task not in reader.tasks:
        raise DataError(
            f"Annotations in the form {name} serve {' and '.join(reader.tasks)} segmentation, not {task}: "
            f"{reader.why}."
        )
    return reader


def _detect(rows: Dataset, columns: Columns, task: str, has_colours: bool) -> str:
    if columns.map is not None and columns.info is not None:
        return "coco_panoptic"
    if columns.objects is not None and (columns.map is None or task == "instance"):
        return "coco_instance"
    if columns.map is None:
        raise DataError(
            "The dataset has no column of annotations under a usual name (annotation, label, mask, segmentation, "
            f"objects, ...). It has: {describe(rows.features)}. Name the column with annotation_column."
        )
    peeked = with_encoded_images(rows.select_columns([columns.map]))
    values = [peeked[index][columns.map] for index in range(min(NUM_PEEKED, len(rows)))]
    is_array = isinstance(values[0], (list, np.ndarray))
    try:
        pictures = [] if is_array else [decode_image(value, columns.map) for value in values]
    except DataError as error:
        raise DataError(f"{_first_unreadable(peeked, columns.map)}: {error}.") from error.__cause__
    has_rgb = not is_array and all(picture.mode in ("RGB", "RGBA") for picture in pictures)
    if has_colours and has_rgb:
        return "colour_map"
    if is_black_and_white(values, columns.map) and is_black_and_white(_all_values(peeked, columns.map), columns.map):
        return "binary_mask"
    if is_array:
        return "class_map"
    if all(picture.mode in INTEGER_MODES for picture in pictures):
        return "class_map"
    if has_rgb and all(picture.getextrema()[2][1] == 0 for picture in pictures):
        if are_colours(pictures):
            raise DataError(
                f"The pictures in column '{columns.map}' look like colours without blue, such as VOC's first ones, "
                f"not like class ids in red and instance ids in green, which begin low. {NEEDED_TABLE} If they are "
                "ids, pass --annotation_format channels."
            )
        return "channels"
    modes = ", ".join(sorted({picture.mode for picture in pictures}))
    raise DataError(
        f"The pictures in column '{columns.map}' have mode {modes}. Expected are single-channel maps of class ids "
        "(mode L, P or I), masks of 0 and 255, RGB with class ids in red, instance ids in green and nothing in blue, "
        f"or RGB with a segments_info column beside it (COCO panoptic). {NEEDED_TABLE}"
    )


def _first_unreadable(rows: Dataset, column: str) -> str:
    """The sample whose picture cannot be read, by its place and its file."""
    for index, row in enumerate(rows):
        try:
            decode_image(row[column], column)
        except DataError:
            name = file_stem(row[column])
            return f"Sample {index}" + (f" (annotation {name})" if name else "")
    raise ValueError("Every picture can be read.")


def _all_values(rows: Dataset, column: str) -> Iterator[Any]:
    """Every annotation of a table, one at a time: the first ones being black and white may be chance."""
    return (row[column] for row in tqdm(rows, desc="Looking for values but 0 and 255", leave=False))
