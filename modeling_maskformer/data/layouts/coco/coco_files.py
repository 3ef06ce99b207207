"""COCO's JSON files, as COCO, Roboflow, CVAT, labelme2coco and others write them: one or more for each split."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Image
from transformers.utils import logging

from ...errors import DataError
from ...labels.label_files import read_named_ids
from ..folders.picture_files import is_hidden
from ..image_places import find_images, folders_near, split_in
from ..json_files import ends_of, holds
from ..tables import Tables
from .coco_categories import join_categories
from .coco_content import CocoContent, read_coco
from .coco_crowds import tell_crowds

logger = logging.get_logger(__name__)

OFFICIAL_PREFIX = {"coco_panoptic": "panoptic_", "coco_instance": "instances_"}


def find_coco_files(root: Path, preferred: str | None) -> dict[str, list[Path]]:
    """Split -> COCO JSON files: `root` itself, or those in it and in its folders, or else in the folders in these.

    Args:
        root: a folder, or a JSON file.
        preferred: "coco_panoptic" or "coco_instance": which to take where there are files of both official names.
    """
    if root.is_file():
        return {split_of(root): [root]} if _looks_like_coco(root) else {}
    files = _coco_files_in(root, "*.json", "*/*.json") or _coco_files_in(root, "*/*/*.json")
    for format_name in [preferred, *OFFICIAL_PREFIX] if preferred in OFFICIAL_PREFIX else OFFICIAL_PREFIX:
        official = [file for file in files if file.name.startswith(OFFICIAL_PREFIX[format_name])]
        if official:
            files = official
            break
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of(file), []).append(file)
    return splits


def split_of(file: Path) -> str:
    """The split that the name of a file or its folder tells, else 'train'."""
    return split_in(file.stem) or split_in(file.parent.name) or "train"


def _coco_files_in(root: Path, *patterns: str) -> list[Path]:
    """The COCO files of these patterns, but in hidden folders, as copies of them in .ipynb_checkpoints."""
    files = (file for pattern in patterns for file in root.glob(pattern))
    shown = (file for file in files if not any(map(is_hidden, file.relative_to(root).parts)))
    return sorted(filter(_looks_like_coco, shown))


def _looks_like_coco(file: Path) -> bool:
    ends = ends_of(file)
    return (b'"categories"' in ends or b'"annotations"' in ends) and (b'"images"' in ends or holds(file, b'"images"'))


def read_coco_tables(root: Path, files: Mapping[str, Sequence[Path]], image_folder: Path | None = None) -> Tables:
    """The tables of splits, named by the categories.

    Rows hold paths of pictures and JSON of the annotations, so a table is small and nothing is decoded. Files of one
    split are joined; images are numbered anew where two of them have one id.

    Args:
        root: the dataset.
        files: split -> its JSON files.
        image_folder: where all images are, if not near the files.
    """
    contents = [(split, read_coco(path, image_folder)) for split, paths in files.items() for path in paths]
    contents = [(split, content) for split, content in contents if content is not None]
    if not contents:
        raise DataError(f"In '{root}' no COCO JSON has images, annotations and categories.")
    for split in files.keys() - {split for split, _ in contents}:
        names = ", ".join(f"'{file.relative_to(root).as_posix()}'" for file in files[split])
        logger.warning(
            f"In '{root}' {names} has images but no annotation of a segment: they are left out, so that there is no "
            f"split '{split}'."
        )
    formats = {content.is_panoptic for _, content in contents}
    if len(formats) > 1:
        raise DataError(f"In '{root}' one file has panoptic and another instance annotations: one form is expected.")
    tell_crowds([content for _, content in contents])
    categories, new_ids = join_categories([content for _, content in contents])
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    origin: dict[tuple[str, str], tuple[Path, Any]] = {}  # split and image -> the file that lists it, and its id there
    for (split, content), own_ids in zip(contents, new_ids, strict=True):
        make = _panoptic_rows if content.is_panoptic else _instance_rows
        for row in make(content, own_ids, root, split, image_folder):
            _check_only_entry(origin, (split, row["image"]), (content.file, row["image_id"]), root)
            rows[split].append(row)
    splits = {split: _table(rows[split]) for split in files if rows[split]}
    annotation_format = "coco_panoptic" if formats.pop() else "coco_instance"
    return Tables(splits, read_named_ids(categories), annotation_format=annotation_format)


def _check_only_entry(
    origin: dict[tuple[str, str], tuple[Path, Any]], place: tuple[str, str], entry: tuple[Path, Any], root: Path
) -> None:
    """Notes the entry of an image. Raises a DataError where it has one: each would be learnt without the other's."""
    (split, image), (file, image_id) = place, entry
    other, other_id = origin.setdefault(place, entry)
    if other != file:
        raise DataError(
            f"In '{root}' both '{other.name}' and '{file.name}' hold annotations of '{image}' for split '{split}': "
            "give the path of the one to use as the dataset."
        )
    if other_id != image_id:
        raise DataError(
            f"In '{file}' the images of the ids {other_id!r:.60} and {image_id!r:.60} are both the file '{image}': it "
            "would be learnt once with the annotations of one and once with those of the other, so one entry for each "
            "image is expected, or file names with the folders that tell images of one name apart."
        )


def _panoptic_rows(
    content: CocoContent, own_ids: Mapping[int, int], root: Path, split: str, image_folder: Path | None
) -> list[dict[str, Any]]:
    annotations, file = content.annotations, content.file
    near = folders_near(file, root, split, kind="masks")
    maps = find_images([item["file_name"] for item in annotations], near, file, "annotations", split)
    of_maps = {place.parent for place in maps}
    folders = [folder for folder in folders_near(file, root, split, image_folder) if folder not in of_maps]
    file_names = {image["id"]: image["file_name"] for image in content.images}
    names = [file_names[item["image_id"]] for item in annotations]
    images = find_images(names, folders, file, "images", split, image_folder)
    return [
        {
            "image": str(image),
            "annotation": str(place),
            "segments_info": json.dumps(
                [_fields(info, ("id", "category_id", "iscrowd"), own_ids) for info in item["segments_info"]]
            ),
            "image_id": item["image_id"],
            "file_name": file_names[item["image_id"]],
        }
        for item, place, image in zip(annotations, maps, images, strict=True)
    ]


def _instance_rows(
    content: CocoContent, own_ids: Mapping[int, int], root: Path, split: str, image_folder: Path | None
) -> list[dict[str, Any]]:
    objects = defaultdict(list)
    for item in content.annotations:
        objects[item["image_id"]].append(_fields(item, ("category_id", "segmentation", "iscrowd"), own_ids))
    names = [image["file_name"] for image in content.images]
    folders = folders_near(content.file, root, split, image_folder)
    places = find_images(names, folders, content.file, "images", split, image_folder)
    return [
        {
            "image": str(place),
            "objects": json.dumps(objects[image["id"]]),
            "image_id": image["id"],
            "file_name": image["file_name"],
            "width": image["width"],
            "height": image["height"],
        }
        for image, place in zip(content.images, places, strict=True)
    ]


def _fields(item: Mapping[str, Any], keys: Sequence[str], own_ids: Mapping[int, int]) -> dict[str, Any]:
    """What the formats read, with the category's id in the joined files."""
    fields = {key: item[key] for key in keys if key in item}
    raw = fields.get("category_id")
    if isinstance(raw, int):
        fields["category_id"] = own_ids.get(raw, raw)
    return fields


def _table(rows: list[dict[str, Any]]) -> Dataset:
    ids = [row["image_id"] for row in rows]
    if len(set(map(str, ids))) < len(ids):  # of files that number their images each for itself
        ids = list(range(1, len(ids) + 1))
    elif len(set(map(type, ids))) > 1 or not all(isinstance(raw, str) or abs(raw) < 1 << 63 for raw in ids):
        ids = list(map(str, ids))
    columns = {key: [row[key] for row in rows] for key in rows[0]} | {"image_id": ids}
    table = Dataset.from_dict(columns)
    for column in ("image", "annotation"):
        table = table.cast_column(column, Image()) if column in columns else table
    return table
