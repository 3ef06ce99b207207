"""COCO's official files: one JSON per split and a folder of images (and one of PNGs for panoptic)."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, Image
from transformers.utils import logging

from ..errors import DataError
from ..formats.polygons import MIN_NUMBERS, are_pairs, list_of_polygons
from ..label_files import read_named_ids
from ..labels import NamedIds
from .inside_dataset import check_file_name

logger = logging.get_logger(__name__)

OFFICIAL_PREFIX = {"coco_panoptic": "panoptic_", "coco_instance": "instances_"}
PEEK = 1 << 16  # bytes at each end of a JSON file by which it is recognised


def find_coco_files(root: Path, preferred: str | None) -> dict[str, Path]:
    """Split -> COCO JSON file: `root` itself, or those in it, its `annotations/` or its folders of splits.

    Args:
        root: a folder, or a JSON file.
        preferred: "coco_panoptic" or "coco_instance": which to take where there are files of both official names.
    """
    if root.is_file():
        return {split_of(root): root} if _looks_like_coco(root) else {}
    files = [*root.glob("*.json"), *root.glob("*/*.json")]
    files = sorted(file for file in files if _looks_like_coco(file))
    for format_name in [preferred, *OFFICIAL_PREFIX] if preferred else OFFICIAL_PREFIX:
        official = [file for file in files if file.name.startswith(OFFICIAL_PREFIX[format_name])]
        if official:
            files = official
            break
    splits: dict[str, Path] = {}
    for file in files:
        split = split_of(file)
        if split in splits:
            raise DataError(
                f"In '{root}' both '{splits[split].name}' and '{file.name}' hold COCO annotations of split '{split}': "
                "give the path of the one to use as the dataset."
            )
        splits[split] = file
    return splits


def split_of(file: Path) -> str:
    """The split that the name of a file or its folder tells, else 'train'."""
    for name in (file.stem.lower(), file.parent.name.lower()):
        found = re.search(r"(?:^|[^a-z])(train|val|test)", name)
        if found:
            return {"train": "train", "val": "validation", "test": "test"}[found.group(1)]
    return "train"


def _looks_like_coco(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    with file.open("rb") as stream:
        ends = stream.read(PEEK)
        stream.seek(max(0, file.stat().st_size - PEEK))
        ends += stream.read()
    return b'"images"' in ends and (b'"categories"' in ends or b'"annotations"' in ends)


def read_coco_tables(root: Path, files: Mapping[str, Path]) -> tuple[dict[str, Dataset], NamedIds, str]:
    """The tables of splits, the categories, and "coco_panoptic" or "coco_instance".

    Rows hold paths of pictures and JSON of the annotations, so a table is small and nothing is decoded.
    """
    splits, categories, formats = {}, None, set()
    for split, file in files.items():
        content = _read(file)
        if content is None:
            continue
        if categories is not None and content["categories"] != categories:
            raise DataError(f"The categories of '{file}' are not those of the other split: the same are expected.")
        categories = content["categories"]
        folders = list(_folders_near(root, file))
        panoptic = "segments_info" in content["annotations"][0]
        formats.add("coco_panoptic" if panoptic else "coco_instance")
        splits[split] = (
            _panoptic_table(file, content, folders) if panoptic else _instance_table(file, content, folders)
        )
    if not splits:
        raise DataError(f"In '{root}' no COCO JSON has images, annotations and categories.")
    if len(formats) > 1:
        raise DataError(f"In '{root}' one split has panoptic and another instance annotations: one form is expected.")
    return splits, read_named_ids(categories), formats.pop()


def _read(file: Path) -> dict[str, Any] | None:
    """The content of a COCO file, None where it has no annotations (image lists of test splits)."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"'{file}' is not JSON: {error}.") from error
    if not isinstance(content, dict) or not content.get("annotations") or not content.get("categories"):
        return None
    if not any(key in content["annotations"][0] for key in ("segments_info", "segmentation")):
        return None
    return content


def _folders_near(root: Path, file: Path) -> Iterator[Path]:
    """Folders in which the pictures of a JSON file may lie, likely ones first."""
    root = file.parent if root.is_file() else root
    yield file.with_suffix("")  # COCO's place for panoptic PNGs
    yield file.parent
    above = root.parent if root.name == "annotations" else root
    for folder in dict.fromkeys((root, above)):
        yield folder
        for child in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
            yield child
            yield from sorted(entry for entry in child.iterdir() if entry.is_dir())


def _folder_with(names: list[str], folders: list[Path], file: Path, what: str) -> Path:
    for folder in folders:
        if (folder / names[0]).is_file():
            return folder
    raise DataError(f"No folder near '{file}' has '{names[0]}', the first of its {len(names)} {what}.")


def _annotations_of_images(file: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations whose image there is; warns of the others.

    Raises:
        DataError: two images have one id, or no annotation has an image.
    """
    ids = [image["id"] for image in content["images"]]
    twice = next((image_id for image_id, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        names = [image["file_name"] for image in content["images"] if image["id"] == twice]
        raise DataError(f"In '{file}' the images '{names[0]}' and '{names[1]}' have one id, {twice!r}.")
    annotations, known = content["annotations"], set(ids)
    others = [item for item in annotations if item.get("image_id") not in known]
    if len(others) == len(annotations):
        raise DataError(
            f"In '{file}' none of the {len(annotations)} annotations belongs to one of the {len(ids)} images: the "
            f"first has the image_id {others[0].get('image_id')!r}, the first image the id {ids[0]!r}."
        )
    if others:
        logger.warning(
            f"In '{file}' {len(others)} of {len(annotations)} annotations have an image_id that no image has, among "
            f"them {others[0].get('image_id')!r}: they are left out."
        )
    return [item for item in annotations if item.get("image_id") in known]


def _check_outlines(file: Path, annotations: list[dict[str, Any]], names: Mapping[Any, str]) -> None:
    """Warns of objects whose polygons enclose nothing, which are none then; refuses a file of such alone.

    Args:
        file: for messages.
        annotations: of the file.
        names: image id -> file name.
    """
    short = []
    for item in annotations:
        if isinstance(item.get("segmentation"), list):
            polygons = list_of_polygons(item["segmentation"])
            if not are_pairs(polygons) and all(len(polygon) < MIN_NUMBERS for polygon in polygons):
                short.append(item)
    if not short:
        return
    first = names[short[0]["image_id"]]
    what = "have an empty outline or one of fewer than 3 points (6 numbers)"
    if len(short) == len(annotations):
        boxes = " They have boxes, which tell no mask." if any(item.get("bbox") for item in short) else ""
        raise DataError(f"In '{file}' all {len(short)} annotations {what}.{boxes} Polygons or run lengths are needed.")
    logger.warning(
        f"In '{file}' {len(short)} of {len(annotations)} annotations {what}, among them one of '{first}': "
        "they are no objects and are left out."
    )


def _pixels(image: Mapping[str, Any], key: str, file: Path) -> int | None:
    """The width or height of an image that the file tells; None, or 0, where it is not known."""
    try:
        return int(image.get(key) or 0) or None
    except (TypeError, ValueError):
        raise DataError(
            f"In '{file}' image '{image['file_name']}' has the {key} {image[key]!r}: pixels are expected."
        ) from None


def _check_file_names(entries: list[dict[str, Any]], what: str, id_key: str, file: Path) -> None:
    for entry in entries:
        check_file_name(entry.get("file_name"), f"{what} {entry.get(id_key)} in '{file}'")


def _panoptic_table(file: Path, content: dict[str, Any], folders: list[Path]) -> Dataset:
    _check_file_names(content["images"], "image", "id", file)
    annotations = _annotations_of_images(file, content)
    _check_file_names(annotations, "annotation of image", "image_id", file)
    file_names = {image["id"]: image["file_name"] for image in content["images"]}
    maps = _folder_with([item["file_name"] for item in annotations], folders, file, "annotations")
    other_folders = [folder for folder in folders if folder != maps]
    images = _folder_with([file_names[item["image_id"]] for item in annotations], other_folders, file, "images")
    infos = [
        [{key: info[key] for key in ("id", "category_id", "iscrowd") if key in info} for info in item["segments_info"]]
        for item in annotations
    ]
    table = {
        "image": [str(images / file_names[item["image_id"]]) for item in annotations],
        "annotation": [str(maps / item["file_name"]) for item in annotations],
        "segments_info": [json.dumps(info) for info in infos],
        "image_id": [item["image_id"] for item in annotations],
    }
    return Dataset.from_dict(table).cast_column("image", Image()).cast_column("annotation", Image())


def _instance_table(file: Path, content: dict[str, Any], folders: list[Path]) -> Dataset:
    images = content["images"]
    _check_file_names(images, "image", "id", file)
    folder = _folder_with([image["file_name"] for image in images], folders, file, "images")
    annotations = _annotations_of_images(file, content)
    _check_outlines(file, annotations, {image["id"]: image["file_name"] for image in images})
    objects = defaultdict(list)
    for item in annotations:
        objects[item["image_id"]].append(
            {key: item[key] for key in ("category_id", "segmentation", "iscrowd") if key in item}
        )
    table = {
        "image": [str(folder / image["file_name"]) for image in images],
        "objects": [json.dumps(objects[image["id"]]) for image in images],
        "image_id": [image["id"] for image in images],
        "width": [_pixels(image, "width", file) for image in images],
        "height": [_pixels(image, "height", file) for image in images],
    }
    return Dataset.from_dict(table).cast_column("image", Image())
