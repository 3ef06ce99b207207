"""YOLO's segmentation data sets, as Ultralytics, Roboflow and Label Studio lay them out: a text of outlines an image.

`data.yaml` names the classes and the folders of the splits. A label file lies where its image lies, but in `labels`
instead of `images`: `train/images/1.jpg` and `train/labels/1.txt`, or `images/train/1.jpg` and `labels/train/1.txt`.
Label Studio has `classes.txt` instead, beside `images/` and `labels/`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import dropwhile
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from datasets import Dataset, Image
from transformers.utils import logging

from ...files.unique_keys import read_yaml
from ..errors import DataError
from ..formats.objects.yolo import is_box
from ..labels.label_files import read_named_ids
from ..labels.label_set import NamedIds
from .folders.picture_files import IMAGE_SUFFIXES, files_in
from .image_places import SPLITS
from .inside_dataset import is_inside
from .tables import Tables

logger = logging.get_logger(__name__)

CLASSES_FILE = "classes.txt"
SPLIT_KEYS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}  # longer forms of keys


def find_yolo_file(path: Path) -> Path | None:
    """The YAML file of a YOLO data set: `path` itself, or the one in this folder; else classes.txt; None without."""
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    files = sorted(file for file in (*path.glob("*.yaml"), *path.glob("*.yml")) if _is_yolo_among_others(file))
    if len(files) > 1:
        raise DataError(
            f"In '{path}' both '{files[0].name}' and '{files[1].name}' describe a YOLO data set: give the path of the "
            "one to use as the dataset."
        )
    classes = path / CLASSES_FILE
    if not files and classes.is_file() and (path / "images").is_dir() and any((path / "labels").rglob("*.txt")):
        return classes
    return files[0] if files else None


def _is_yolo_among_others(file: Path) -> bool:
    try:
        return _looks_like_yolo(_read(file))
    except DataError:
        if file.stem == "data":
            raise
        return False  # YAML of another program, perhaps with tags of its own


def _looks_like_yolo(content: Any) -> bool:
    return isinstance(content, dict) and bool({"names", "nc"} & content.keys() and SPLITS.keys() & content.keys())


def _read(file: Path) -> Any:
    if file.name == CLASSES_FILE:
        images = file.parent / "images"
        splits = {key: f"images/{key}" for key in SPLITS if (images / key).is_dir()}
        return {"names": read_named_ids(file).names} | (splits or {"train": "images"})
    try:
        content = read_yaml(_text_of(file))
        if not isinstance(content, dict):
            return content
        return {SPLIT_KEYS[key]: value for key, value in content.items() if key in SPLIT_KEYS} | content
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"'{file}' is not YAML: {error}.") from error


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"'{file}' is no text in UTF-8: {error}.") from error


def read_yolo_tables(file: Path, image_folder: Path | None = None) -> Tables:
    """The tables of the splits, with columns `image` and `outlines` (text), and the names of the classes.

    Args:
        file: data.yaml, or classes.txt.
        image_folder: where the folders of images and labels are, if not beside the file.

    Raises:
        DataError: the file names no classes or no split, a folder of images is missing or empty, or labels are boxes.
    """
    content, root = _read(file), image_folder or file.parent
    if not _looks_like_yolo(content):
        raise DataError(
            f"'{file}' is no description of a YOLO data set: names, and train, val or test with folders of images, "
            "are expected."
        )
    if "kpt_shape" in content:
        raise DataError(f"'{file}' describes key points (kpt_shape): outlines of objects are expected.")
    labelled = {}
    for key, split in SPLITS.items():
        images = _images(file, root, content, key) if content.get(key) else None
        if images is not None:
            labelled[split] = (images, _texts(images, root))
    if not labelled:
        raise DataError(f"'{file}' names no folder of images in train, val or test.")
    texts = _without_boxes(file, {split: texts for split, (_, texts) in labelled.items()})
    splits = {
        split: Dataset.from_dict({"image": list(map(str, images)), "outlines": texts[split]}).cast_column(
            "image", Image()
        )
        for split, (images, _) in labelled.items()
    }
    return Tables(splits, _names(file, content), annotation_format="yolo")


def _names(file: Path, content: Mapping[str, Any]) -> NamedIds:
    if "names" not in content:
        count = content["nc"]
        if not isinstance(count, int) or not 0 < count < 100_000:
            raise DataError(f"In '{file}' nc is the number of classes, got {count!r}.")
        named = NamedIds({number: f"class_{number}" for number in range(count)})
    elif not content["names"] or not isinstance(content["names"], (list, dict)):
        raise DataError(f"In '{file}' names are a list of names, or names by number, got {content['names']!r}.")
    else:
        named = read_named_ids(file)
    return NamedIds(named.names, dict.fromkeys(named.names, True))


def _images(file: Path, root: Path, content: Mapping[str, Any], key: str) -> list[Path] | None:
    """The images of a split: those in its folders, or listed in its text files; None of a test split not there."""
    entries = content[key] if isinstance(content[key], list) else [content[key]]
    images: list[Path] = []
    for entry in map(str, entries):
        place = _find(entry, [root / str(content.get("path") or ""), root], root)
        if place is None and key == "test":  # Roboflow names one whether it exports it or not
            return None
        if place is None:
            raise DataError(
                f"'{file}' gives '{entry}' as the images of {key}, which is nowhere in '{root}': the file is "
                "expected beside its images, or --image_folder names where they are."
            )
        images += _listed(place, root) if place.is_file() else files_in(place, IMAGE_SUFFIXES, root)
    if not images:
        raise DataError(f"'{file}' gives '{content[key]}' as the images of {key}, but there are none.")
    return images


def _listed(file: Path, root: Path) -> list[Path]:
    """The images that a text file lists, relative to it or to the data set."""
    lines = [line.strip() for line in _text_of(file).split("\n") if line.strip()]
    found = [_find(line, [file.parent, root], root) for line in lines]
    missing = [line for line, place in zip(lines, found, strict=True) if place is None]
    if missing:
        raise DataError(
            f"'{file}' lists '{missing[0]}', which is not in '{root}'; so {len(missing)} of its {len(lines)} images."
        )
    return found


def _find(entry: str, bases: list[Path], root: Path) -> Path | None:
    """The place of an entry within the data set: below one of the bases, whatever ../ or folders it begins with.

    Roboflow writes ../train/images for train/images; others write where the data set was on their machine.
    """
    parts = PurePosixPath(entry.replace("\\", "/")).parts
    below = tuple(dropwhile(lambda part: part == "..", parts))
    for end in (parts, below, *(below[start:] for start in range(1, len(below) - 1))):
        for base in bases:
            place = base.joinpath(*end)
            if (end or not parts) and is_inside(place, root) and os.path.exists(place):
                return Path(os.path.abspath(place)) if ".." in end else place
    return None


def _texts(images: list[Path], root: Path) -> list[str]:
    """The text of each image's label file; none where there is no file, which means no object."""
    files = [label_file(image, root) for image in images]
    if not any(file.is_file() for file in files):
        raise DataError(
            f"None of the {len(images)} images in '{images[0].parent}' has a label file: that of '{images[0].name}' "
            f"would be '{files[0]}'."
        )
    _count_lost_labels(images, files, root)
    return [_text_of(file) if file.is_file() else "" for file in files]


def _count_lost_labels(images: list[Path], files: list[Path], root: Path) -> None:
    """Warns where images lack a label file, and files beside those of others belong to no image: names may differ."""
    without = [image for image, file in zip(images, files, strict=True) if not file.is_file()]
    if not without:
        return
    there = (image for folder in {image.parent for image in images} for image in files_in(folder, IMAGE_SUFFIXES))
    known = {os.path.abspath(label_file(image, root)) for image in there}  # also of images that no split lists
    folders = sorted({file.parent for file in files if file.parent.is_dir()})
    beside = [file for folder in folders for file in files_in(folder, (".txt",)) if file.name != CLASSES_FILE]
    lost = [file for file in beside if os.path.abspath(file) not in known]
    if lost:
        logger.warning(
            f"{len(without)} of {len(images)} images have no label file, among them '{without[0]}', and count as "
            f"images without objects; but {len(lost)} label files belong to no image, among them '{lost[0]}': an "
            "image and its labels have one name, but for the ending, which is .txt."
        )


def _without_boxes(file: Path, texts: dict[str, list[str]]) -> dict[str, list[str]]:
    """The texts with empty lines for boxes, which have no mask; says how many these are.

    Raises:
        DataError: all objects are boxes.
    """
    lines = [line for split in texts.values() for text in split for line in text.split("\n") if line.strip()]
    boxes = sum(map(is_box, lines))
    if not boxes:
        return texts
    if boxes == len(lines):
        raise DataError(
            f"The labels of '{file}' are boxes (class, x, y, width, height), made to detect objects, and a box does "
            "not tell which of its pixels are the object. Export the data set for segmentation, or turn boxes into "
            "masks with a model made for it, as Segment Anything."
        )
    logger.warning(
        f"In the labels of '{file}' {boxes} of {len(lines)} objects are boxes, without an outline: they are left out, "
        "so that their pixels count as what is around them."
    )
    return {
        split: ["\n".join("" if is_box(line) else line for line in text.split("\n")) for text in of_split]
        for split, of_split in texts.items()
    }


def label_file(image: Path, root: Path) -> Path:
    """Where the outlines of an image are: the last folder called images in its path below the root becomes labels."""
    parts = list(Path(os.path.relpath(image, root)).with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return root.joinpath(*parts)
