"""PASCAL VOC as downloaded: lists of the images of each split, and the names of its classes, which no file tells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ...errors import DataError
from ...labels.label_set import NamedIds
from ..inside_dataset import check_file_name

LISTS = "ImageSets/Segmentation"
CLASSES = (
    "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, "
    "motorbike, person, pottedplant, sheep, sofa, train, tvmonitor"
)
# Lists of images, the first of each that is there: trainval is all of train and val, default is CVAT's only one.
_SPLITS = {"train": ("train", "trainval", "default"), "val": ("val",), "test": ("test",)}
_OFFICIAL_NAME = re.compile(r"20\d\d_\d{6}")


def read_lists(root: Path) -> dict[str, list[str]]:
    """Split -> names of its images without ending; empty where there are no lists.

    Raises:
        DataError: a list names a file that is outside of the dataset.
    """
    files = {file.stem: file for file in (root / LISTS).glob("*.txt")}
    lists = {}
    for split, names in _SPLITS.items():
        file = next((files[name] for name in names if name in files), None)
        if file is not None:
            try:
                lines = file.read_text(encoding="utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                raise DataError(f"'{file}' is no list of images in UTF-8: {error}.") from error
            lists[split] = [line.strip() for line in lines if line.strip()]
            for number, name in enumerate(lists[split], start=1):
                check_file_name(name, f"line {number} of '{file}'")
    return {split: names for split, names in lists.items() if names}


def named_ids_of(root: Path, images: Iterable[str]) -> NamedIds | None:
    """The names of VOC's classes; None where others than VOC's own images are laid out like it."""
    is_official = (root / "ImageSets" / "Main" / "aeroplane_train.txt").is_file()
    if not is_official and not all(map(_OFFICIAL_NAME.fullmatch, images)):
        return None
    names = dict(enumerate(CLASSES.split(", ")))
    return NamedIds(names, {raw: raw > 0 for raw in names})
