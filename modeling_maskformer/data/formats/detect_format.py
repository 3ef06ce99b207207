"""Finds out how the segments of a table are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import PIL.Image
from datasets import Dataset
from tqdm.auto import tqdm

from ..columns import CITYSCAPES_IDS, INSTANCE_NAMES, Columns, describe
from ..errors import DataError
from ..labels.remembered import remembered
from ..samples import AnnotationFormat, decode_mask, file_stem, with_encoded_images
from .binary_mask import BinaryMaskFormat, has_smooth_edges, is_black_and_white, is_nearly_black_and_white
from .channels import ChannelsFormat, are_colours
from .class_map import ClassMapFormat
from .coco_panoptic import CocoPanopticFormat
from .colour_map import ColourMapFormat
from .id_maps import INTEGER_MODES, read_colour_ids, unique_ids
from .instance_ids import InstanceIdsFormat
from .objects.coco_instance import CocoInstanceFormat
from .objects.object_masks import ObjectMasksFormat
from .objects.yolo import YoloFormat
from .palettes import first_colours

FORMATS = (
    "class_map",
    "colour_map",
    "binary_mask",
    "instance_ids",
    "object_masks",
    "channels",
    "coco_panoptic",
    "coco_instance",
    "yolo",
)
# Forms in which a value between those of two classes is nearer to one of them.
NEAREST = ("class_map", "colour_map", "binary_mask", "object_masks")
NEEDED_TABLE = (
    "Colours need a table of classes in the dataset's folder: class_dict.csv (name,r,g,b) or label_colors.txt (r g b "
    "name)."
)
NUM_PEEKED = 8  # pictures looked at to tell class maps from channels
LEAST_GAP = 16  # between ids that JPEG leaves apart
GREY = 0x010101  # times a value: this value in red, green and blue


@dataclass(frozen=True)
class PixelValues:
    """What the values of pixels mean, as far as it is known before they are read.

    Attributes:
        colours: R + 256 G + 65536 B -> class id, where a table of the dataset tells it.
        nearest: whether values between those of classes are taken for the nearest one.
        named: ids of classes, where they are known.
        ignore_index: the id of unlabelled pixels.
    """

    colours: dict[int, int] | None = None
    nearest: bool = False
    named: frozenset[int] = frozenset()
    ignore_index: int | None = None


def choose_format(
    name: str | None, rows: Dataset, columns: Columns, task: str, values: PixelValues = PixelValues()
) -> AnnotationFormat:
    """The reader of a table's annotations.

    Args:
        name: one of FORMATS; None finds it from columns and the first pictures.
        rows: the table.
        columns: its columns.
        task: must be one that the format's annotations can serve.
        values: what is known of the pixels.

    Raises:
        DataError: a column is missing, the pictures fit no format, or the format does not serve the task.
    """
    is_given, name = name is not None, name or _detect(rows, columns, task, values)
    if values.nearest and name not in NEAREST:
        raise DataError(
            f"nearest_colour is for annotations in the form {', '.join(NEAREST)}, but these are in the form {name}."
        )
    if name == "colour_map" and values.colours is None:
        raise DataError(f"For annotations in the form colour_map no table of colours was found. {NEEDED_TABLE}")
    needed = _NEEDED.get(name, ("map",))
    if name == "object_masks" and columns.masks is None:
        needed = ("map",)  # a picture instead of a list: the only object
    missing = [kind for kind in needed if getattr(columns, kind) is None]
    if missing:
        what = {"map": "a picture of ids", "info": "segments_info", "objects": "a list of objects"}[missing[0]]
        raise DataError(
            f"Annotations in the form {name} need a column with {what}. The dataset has: {describe(rows.features)}. "
            "Name the column with annotation_column."
        )
    reader = _reader(name, rows, columns, values)
    if type(reader) is ClassMapFormat and not is_given:
        reader = replace(reader, palette=first_colours(_first_pictures(rows, columns.map)))
    if isinstance(reader, InstanceIdsFormat):
        reader.check_numbers(with_encoded_images(rows.select(range(min(NUM_PEEKED, len(rows))))))
    if task not in reader.tasks:
        raise DataError(
            f"Annotations in the form {name} serve {' and '.join(reader.tasks)} segmentation, not {task}: "
            f"{reader.why}."
        )
    return reader


_NEEDED = {"coco_panoptic": ("map", "info"), "coco_instance": ("objects",), "yolo": ("objects",), "object_masks": ()}


def _reader(name: str, rows: Dataset, columns: Columns, values: PixelValues) -> AnnotationFormat:
    match name:
        case "class_map" if values.nearest:
            return ColourMapFormat(columns.map, _grey_colours(values), nearest=True)
        case "class_map":
            return ClassMapFormat(columns.map)
        case "colour_map":
            return ColourMapFormat(columns.map, values.colours, values.nearest)
        case "binary_mask":
            return BinaryMaskFormat(columns.map, values.nearest)
        case "channels":
            return ChannelsFormat(columns.map)
        case "instance_ids" if columns.instances is not None:
            classes = choose_format(None, rows, replace(columns, instances=None), "semantic", values)
            least_id = 1000 if columns.instances == CITYSCAPES_IDS else 1
            return InstanceIdsFormat(columns.instances, classes, values.ignore_index, least_id)
        case "instance_ids":
            return InstanceIdsFormat(columns.map, None, values.ignore_index)
        case "object_masks":
            classes = columns.classes if columns.masks is not None else None
            return ObjectMasksFormat(columns.masks or columns.map, classes, values.nearest)
        case "coco_panoptic":
            return CocoPanopticFormat(columns.map, columns.info)
        case "coco_instance":
            return CocoInstanceFormat(columns.objects)
        case _:
            return YoloFormat(columns.objects)


def _grey_colours(values: PixelValues) -> dict[int, int]:
    """The grey colours of ids, and of void."""
    ids = sorted(values.named | ({values.ignore_index} - {None}))
    gap = min((high - low for low, high in pairwise(ids)), default=0)
    if not values.named or gap < LEAST_GAP or ids[-1] > 255:
        found = f"the ids of the classes are {', '.join(map(str, ids[:10]))}" if values.named else "no class is named"
        raise DataError(
            f"nearest_colour needs to know which values classes have, at least {LEAST_GAP} apart, as JPEG changes "
            f"them by some: {found}. A table of colours (class_dict.csv) or of ids (--id2label) tells them; for masks "
            "in black and white pass --annotation_format binary_mask."
        )
    return {raw * GREY: raw for raw in ids}


def _detect(rows: Dataset, columns: Columns, task: str, values: PixelValues) -> str:
    if columns.map is not None and columns.info is not None:
        return "coco_panoptic"
    if columns.masks is not None and (columns.map is None or task == "instance"):
        return "object_masks"
    if columns.objects is not None and (columns.map is None or task == "instance"):
        return "coco_instance"
    if columns.map is None:
        raise DataError(
            "The dataset has no column of annotations under a usual name (annotation, label, mask, segmentation, "
            f"objects, ...). It has: {describe(rows.features)}. Name the column with annotation_column."
        )
    if columns.instances is not None and task != "semantic":
        return "instance_ids"
    peeked = with_encoded_images(rows.select_columns([columns.map]))
    first = [peeked[index][columns.map] for index in range(min(NUM_PEEKED, len(rows)))]
    is_array = isinstance(first[0], (list, np.ndarray))
    try:
        pictures = _first_pictures(rows, columns.map)
    except DataError as error:
        raise DataError(f"{_first_unreadable(peeked, columns.map)}: {error}.") from error.__cause__
    has_rgb = not is_array and all(picture.mode in ("RGB", "RGBA") for picture in pictures)
    if values.colours is not None and (has_rgb or values.nearest or _have_palette_of(pictures, values.colours)):
        return "colour_map"
    if values.nearest:
        is_binary = values.named <= {0, 1} or values.named == {0, 255}
        return "binary_mask" if is_binary and is_nearly_black_and_white(first, columns.map) else "class_map"
    if is_black_and_white(first, columns.map) and _are_all_black_and_white(rows, columns):
        return "binary_mask"
    are_integers = is_array or all(picture.mode in INTEGER_MODES for picture in pictures)
    if are_integers and columns.map in INSTANCE_NAMES:
        return "instance_ids"
    if are_integers:
        if not values.named and has_smooth_edges(first, columns.map):
            raise DataError(
                f"The masks in column '{columns.map}' are black and white with a few greys between, as of edges that "
                "were drawn smoothly or resized: such greys are no classes, and 255 would be void. Pass "
                "--nearest_colour to take each for the nearer of black and white, or name the ids with --id2label if "
                "they are classes."
            )
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


def _first_pictures(rows: Dataset, column: str) -> list[PIL.Image.Image]:
    """The first pictures of a column; none where it holds arrays."""
    rows = with_encoded_images(rows.select_columns([column]).select(range(min(NUM_PEEKED, len(rows)))))
    return [decode_mask(row[column], column) for row in rows if not isinstance(row[column], (list, np.ndarray))]


def _first_unreadable(rows: Dataset, column: str) -> str:
    """The sample whose picture cannot be read, by its place and its file."""
    for index, row in enumerate(rows):
        try:
            decode_mask(row[column], column)
        except DataError:
            name = file_stem(row[column])
            return f"Sample {index}" + (f" (annotation {name})" if name else "")
    raise ValueError("Every picture can be read.")


def _have_palette_of(pictures: Sequence[PIL.Image.Image], colours: dict[int, int]) -> bool:
    """Whether pictures with a palette use these colours alone: programs number those of a palette as they like."""
    return bool(pictures) and all(
        picture.mode == "P"
        and set(unique_ids(read_colour_ids(picture.convert("RGB"), ""))[0].tolist()) <= colours.keys()
        for picture in pictures
    )


def _are_all_black_and_white(rows: Dataset, columns: Columns) -> bool:
    """Whether no annotation of a table has another value: the first ones being black and white may be chance."""

    def find() -> bool:
        encoded = with_encoded_images(rows.select_columns([columns.map]))
        values = (row[columns.map] for row in tqdm(encoded, desc="Looking for values but 0 and 255", leave=False))
        return is_black_and_white(values, columns.map)

    return remembered(find, f"black and white {columns.map}", {"": rows}, columns.image)
