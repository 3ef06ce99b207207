"""One of COCO's JSON files: its images and those of its annotations that are usable, with what is left out counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ...errors import DataError
from ...formats.objects.polygons import MIN_NUMBERS, are_pairs, list_of_polygons
from ..image_places import check_image_names
from ..json_files import dicts_in, integer_in, read_json

logger = logging.get_logger(__name__)


@dataclass
class CocoContent:
    """What a file holds.

    Attributes:
        file: its path.
        images: with `id` (int or text), `file_name`, and `width` and `height` (None where they are not told).
        annotations: those of an image that there is and, where they are objects, with an outline.
        categories: with `id` and `name`.
        is_panoptic: whether annotations are images' lists of segments, instead of objects.
        used_ids: ids of the categories of all annotations.
    """

    file: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    is_panoptic: bool
    used_ids: frozenset[int]


def read_coco(file: Path, image_folder: Path | None = None) -> CocoContent | None:
    """The content of a COCO file, None where it has no annotations of segments (image lists of test splits, captions).

    Args:
        file: the file.
        image_folder: where images are looked for, if not near the file.

    Raises:
        DataError: it is no JSON, its entries lack what they need, or no annotation has a mask.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        return None
    annotations, categories = dicts_in(content, "annotations", file), dicts_in(content, "categories", file)
    keys = {key for item in annotations for key in ("segments_info", "segmentation", "bbox") if key in item}
    if not categories or not keys:
        return None
    images = dicts_in(content, "images", file)
    check_image_names(images, "image", "id", file, image_folder)
    for image in images:
        where = f"In '{file}' image '{image['file_name']}'"
        for key in ("width", "height"):
            image[key] = integer_in(image, key, where) or None
    names = _names_by_id(file, images)
    annotations = _of_known_images(file, annotations, names)
    is_panoptic = "segments_info" in keys
    if is_panoptic:
        check_image_names(annotations, "annotation of image", "image_id", file)
    used = set()
    for item in annotations:
        where = f"In '{file}' an annotation of '{names[item['image_id']]}'"
        if is_panoptic:
            item["segments_info"] = dicts_in(item, "segments_info", file)
        for info in item["segments_info"] if is_panoptic else [item]:
            info["category_id"] = integer_in(info, "category_id", where)
            used.add(info["category_id"])
    if not is_panoptic:
        annotations = _with_outlines(file, annotations, names)
    for category in categories:
        category["id"] = integer_in(category, "id", f"A category in '{file}'")
        if category["id"] is None or not isinstance(category.get("name"), str):
            raise DataError(f"In '{file}' a category has no id or no name: {str(category)[:100]}.")
    return CocoContent(file, images, annotations, categories, is_panoptic, frozenset(used - {None}))


def _names_by_id(file: Path, images: list[dict[str, Any]]) -> dict[int | str, str]:
    for image in images:
        image["id"] = _as_id(image.get("id"))
        if not isinstance(image["id"], (int, str)):
            raise DataError(
                f"In '{file}' image '{image['file_name']}' has the id {str(image['id'])[:60]}: an integer or a text "
                "is expected."
            )
    twice = next((raw for raw, count in Counter(image["id"] for image in images).items() if count > 1), None)
    if twice is not None:
        names = [image["file_name"] for image in images if image["id"] == twice]
        raise DataError(f"In '{file}' the images '{names[0]}' and '{names[1]}' have one id, {twice!r:.60}.")
    return {image["id"]: image["file_name"] for image in images}


def _of_known_images(
    file: Path, annotations: list[dict[str, Any]], names: Mapping[int | str, str]
) -> list[dict[str, Any]]:
    """The annotations whose image there is; warns of the others.

    Raises:
        DataError: none has an image.
    """
    for item in annotations:
        item["image_id"] = _as_id(item.get("image_id"))
    known = [item for item in annotations if _is_known(item, names)]
    if len(known) == len(annotations):
        return annotations
    first = next(item for item in annotations if not _is_known(item, names))
    if not known:
        image_id = next(iter(names), None)
        raise DataError(
            f"In '{file}' none of the {len(annotations)} annotations belongs to one of the {len(names)} images: the "
            f"first has the image_id {first['image_id']!r:.60}, the first image the id {image_id!r}."
        )
    logger.warning(
        f"In '{file}' {len(annotations) - len(known)} of {len(annotations)} annotations have an image_id that no "
        f"image has, among them {first['image_id']!r:.60}: they are left out."
    )
    return known


def _is_known(item: Mapping[str, Any], names: Mapping[int | str, str]) -> bool:
    return isinstance(item["image_id"], (int, str)) and item["image_id"] in names


def _as_id(value: Any) -> Any:
    """1 for 1.0, as tables write it where some ids are missing."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_outlines(
    file: Path, annotations: list[dict[str, Any]], names: Mapping[int | str, str]
) -> list[dict[str, Any]]:
    """The objects that have a mask; warns of the others, which are boxes or enclose nothing.

    Raises:
        DataError: none has one, or all lie within a pixel.
    """
    without = [item for item in annotations if _encloses_nothing(item.get("segmentation"))]
    if all(_is_within_a_pixel(item.get("segmentation")) for item in annotations) and len(without) < len(annotations):
        raise DataError(
            f"In '{file}' no outline is larger than a pixel: coordinates are parts of width and height, as it seems, "
            "but pixels are expected."
        )
    if not without:
        return annotations
    boxes = sum(bool(item.get("bbox")) for item in without)
    if len(without) == len(annotations):
        raise DataError(
            f"In '{file}' none of the {len(annotations)} annotations has an outline. "
            + (
                "They are boxes, and a box does not tell which of its pixels are the object. Draw outlines in the "
                "tool that made the file, or turn boxes into masks with a model made for it, as Segment Anything."
                if boxes
                else "Polygons of three points or more, or run lengths, are needed."
            )
        )
    logger.warning(
        f"In '{file}' {len(without)} of {len(annotations)} annotations have no outline, or one of fewer than 3 points "
        f"(of these {boxes} have a box), among them one of '{names[without[0]['image_id']]}': they are left out, so "
        "that their pixels count as what is around them."
    )
    left_out = set(map(id, without))
    return [item for item in annotations if id(item) not in left_out]


def _encloses_nothing(segmentation: Any) -> bool:
    if segmentation is None:
        return True
    if not isinstance(segmentation, list):
        return False
    polygons = list_of_polygons(segmentation)
    is_of_lists = all(isinstance(polygon, list) for polygon in polygons) and not are_pairs(polygons)
    if not is_of_lists or not all(isinstance(number, (int, float)) for polygon in polygons for number in polygon):
        return False  # which is said where it is read
    return all(len(polygon) < MIN_NUMBERS for polygon in polygons)


def _is_within_a_pixel(segmentation: Any) -> bool:
    """Whether polygons have no coordinate above 1; also what is no outline."""
    if not isinstance(segmentation, list):
        return segmentation is None
    polygons = [polygon for polygon in list_of_polygons(segmentation) if isinstance(polygon, list)]
    return not any(isinstance(number, (int, float)) and number > 1 for polygon in polygons for number in polygon)
