"""YOLO's segmentation data sets, as Ultralytics and Roboflow lay them out: a text file of outlines beside each image.

`data.yaml` names the classes and the folders of the splits. A label file lies where its image lies, but in `labels`
instead of `images`: `train/images/1.jpg` and `train/labels/1.txt`, or `images/train/1.jpg` and `labels/train/1.txt`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, Image

from ..errors import DataError
from ..labels import NamedIds
from .inside_dataset import is_inside

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # keys of data.yaml
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_yolo_file(path: Path) -> Path | None:
    """The YAML file of a YOLO data set: `path` itself, or the one in this folder; None where there is none."""
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    files = sorted(file for file in (*path.glob("*.yaml"), *path.glob("*.yml")) if _is_yolo_among_others(file))
    if len(files) > 1:
        raise DataError(
            f"In '{path}' both '{files[0].name}' and '{files[1].name}' describe a YOLO data set: give the path of the "
            "one to use as the dataset."
        )
    return files[0] if files else None


def _is_yolo_among_others(file: Path) -> bool:
    try:
        return _looks_like_yolo(file)
    except DataError:
        if file.stem == "data":
            raise
        return False  # YAML of another program, perhaps with tags of its own


def _looks_like_yolo(file: Path) -> bool:
    content = _read(file)
    return isinstance(content, dict) and "names" in content and any(split in content for split in SPLITS)


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"'{file}' is not YAML: {error}.") from error


def read_yolo_tables(file: Path) -> tuple[dict[str, Dataset], NamedIds]:
    """The tables of the splits, with columns `image` and `outlines` (text), and the names of the classes.

    Raises:
        DataError: the file names no classes or no split, or a folder of images is missing or empty.
    """
    if not _looks_like_yolo(file):
        raise DataError(
            f"'{file}' is no description of a YOLO data set: names, and train, val or test with folders of images, "
            "are expected."
        )
    content = _read(file)
    splits = {}
    for key, split in SPLITS.items():
        images = _images(file, content, key) if content.get(key) else None
        if images is not None:
            splits[split] = _table(images, file.parent)
    if not splits:
        raise DataError(f"'{file}' names no folder of images in train, val or test.")
    return splits, _names(file, content["names"])


def _names(file: Path, names: Any) -> NamedIds:
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(raw, int) for raw in names):
        raise DataError(f"In '{file}' names are a list of names, or names by number, got {names!r}.")
    return NamedIds({raw: str(name) for raw, name in names.items()}, dict.fromkeys(names, True))


def _images(file: Path, content: dict[str, Any], key: str) -> list[Path] | None:
    """The images of a split: those in its folders, or listed in its text files; None of a test split not there."""
    entries = content[key] if isinstance(content[key], list) else [content[key]]
    images: list[Path] = []
    for entry in map(str, entries):
        place = _find(file, content.get("path"), entry)
        if place is None and key == "test":  # Roboflow names one whether it exports it or not
            return None
        if place is None:
            raise DataError(
                f"'{file}' gives '{entry}' as the images of {key}, which is nowhere in '{file.parent}': the file is "
                "expected beside its images."
            )
        if place.is_file():  # a list of images, relative to it
            lines = place.read_text(encoding="utf-8").split("\n")
            listed = [place.parent / line.strip() for line in lines if line.strip()]
            outside = next((image for image in listed if not is_inside(image, file.parent)), None)
            if outside is not None:
                raise DataError(f"'{place}' lists '{outside}', which is not in '{file.parent}'.")
            images += listed
        else:
            images += sorted(image for image in place.rglob("*") if image.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f"'{file}' gives '{content[key]}' as the images of {key}, but there are none.")
    return images


def _find(file: Path, path: Any, entry: str) -> Path | None:
    """The place of an entry in the folder of the file: below its `path`, or without the ../ that Roboflow writes."""
    inside = entry
    while inside.startswith("../"):
        inside = inside.removeprefix("../")
    for root in (file.parent / str(path or ""), file.parent):
        for place in (root / entry, root / inside):
            if place.exists() and is_inside(place, file.parent):
                return place
    return None


def _table(images: list[Path], root: Path) -> Dataset:
    """An image without a label file has no object."""
    files = [label_file(image, root) for image in images]
    texts = [file.read_text(encoding="utf-8") if file.is_file() else "" for file in files]
    if not any(file.is_file() for file in files):
        raise DataError(
            f"None of the {len(images)} images in '{images[0].parent}' has a label file: that of '{images[0].name}' "
            f"would be '{files[0]}'."
        )
    return Dataset.from_dict({"image": [str(image) for image in images], "outlines": texts}).cast_column(
        "image", Image()
    )


def label_file(image: Path, root: Path) -> Path:
    """Where the outlines of an image are: the last folder called images in its path below the root becomes labels."""
    parts = list(Path(os.path.relpath(image, root)).with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return root.joinpath(*parts)
