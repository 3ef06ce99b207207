"""The ids that a COCO file has for its images and categories: results that carry them are scored against that file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from PIL.Image import Image
from transformers.utils import logging

from ..inference.inputs import Picture
from .errors import DataError
from .layouts.json_files import dicts_in, integer_in, read_json
from .samples import why_sizes_differ

logger = logging.get_logger(__name__)


class CocoIds:
    """Ids by file name and by category name.

    Args:
        file: a COCO JSON file with images and categories; annotations are not read.

    Raises:
        DataError: it is none.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        if not os.path.isfile(self.file):
            raise DataError(f"There is no COCO file '{file}'.")
        content = read_json(self.file)
        images = dicts_in(content, "images", self.file) if isinstance(content, dict) else []
        categories = dicts_in(content, "categories", self.file) if isinstance(content, dict) else []
        if not images or not categories:
            raise DataError(f"'{file}' is no COCO file with images and categories.")
        self.image_ids: dict[str, int | str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}  # (H, W), of those images that have one
        for image in images:
            if not isinstance(image.get("file_name"), str) or not isinstance(image.get("id"), (int, str)):
                raise DataError(f"In '{file}' an image has no file_name or no id: {str(image)[:100]}.")
            name = image["file_name"].replace("\\", "/")
            self.image_ids[name] = image["id"]
            size = tuple(integer_in(image, side, f"In '{file}' image '{name}'") or 0 for side in ("height", "width"))
            if min(size) > 0:
                self.sizes[name] = size
        self.category_ids: dict[str, int] = {}
        for category in categories:
            raw = integer_in(category, "id", f"A category in '{file}'")
            if raw is None or not isinstance(category.get("name"), str):
                raise DataError(f"In '{file}' a category has no id or no name: {str(category)[:100]}.")
            self.category_ids.setdefault(category["name"], raw)

    def pictures(self, pictures: Sequence[Picture]) -> list[Picture]:
        """The pictures with the file's ids and file names; those it does not list get ids of their own.

        Where the file tells a size, a picture of another one cannot be read: its result would count as a miss.

        A picture is found by its path below the folder that it was found in, or else by its name without folders,
        where only one image and one picture are called so.

        Raises:
            DataError: it lists none of them.
        """
        by_name = _unique(self.image_ids)
        own_names = _unique([picture.file_name for picture in pictures])
        found: dict[int, str] = {}
        for number, picture in enumerate(pictures):
            name = PurePosixPath(picture.file_name).name
            if picture.file_name in self.image_ids:
                found[number] = picture.file_name
            elif name in by_name and name in own_names:
                found[number] = by_name[name]
        if not found:
            raise DataError(
                f"'{self.file}' lists none of the {len(pictures)} pictures: the first is called "
                f"'{pictures[0].file_name}', its first image '{next(iter(self.image_ids))}'."
            )
        others = [picture for number, picture in enumerate(pictures) if number not in found]
        if others:
            logger.warning(
                f"'{self.file}' does not list {len(others)} of the {len(pictures)} pictures, among them "
                f"'{others[0].file_name}': their results cannot be scored against it."
            )
        free = 1 + max((raw for raw in self.image_ids.values() if isinstance(raw, int)), default=0)
        return [
            self._as_listed(picture, found[number]) if number in found else replace(picture, image_id=free + number)
            for number, picture in enumerate(pictures)
        ]

    def _as_listed(self, picture: Picture, name: str) -> Picture:
        load = picture.load
        if name in self.sizes:
            load = partial(_load_in_size, picture.load, self.sizes[name], self.file)
        return replace(picture, image_id=self.image_ids[name], file_name=name, load=load)

    def categories(self, id2label: Mapping[int, str]) -> dict[int, int]:
        """Label -> the category of its name; those it does not name get ids of their own.

        Raises:
            DataError: it names none of them.
        """
        missing = [name for name in id2label.values() if name not in self.category_ids]
        if len(missing) == len(id2label):
            raise DataError(
                f"'{self.file}' names none of the checkpoint's {len(id2label)} classes, such as '{missing[0]}': its "
                f"categories are {', '.join(list(self.category_ids)[:10])}."
            )
        if missing:
            logger.warning(
                f"'{self.file}' does not name {len(missing)} of the checkpoint's {len(id2label)} classes, among them "
                f"'{missing[0]}': their results cannot be scored against it."
            )
        free = 1 + max(self.category_ids.values())
        return {label: self.category_ids.get(name, free + label) for label, name in id2label.items()}


def _load_in_size(load: Callable[[], Image], size: tuple[int, int], file: Path) -> Image:
    """The picture, if it has this (H, W)."""
    image = load()
    if (image.height, image.width) != size:
        mend = why_sizes_differ(size, (image.height, image.width), "predict the pictures that were annotated")
        raise DataError(
            f"it is {image.width} x {image.height} pixels (width x height), but {size[1]} x {size[0]} in '{file}', "
            f"against which its result is to be scored: {mend}"
        )
    return image


def _unique(paths: Sequence[str] | Mapping[str, object]) -> dict[str, str]:
    """Name without folders -> path, of those names that only one path has."""
    found: dict[str, str | None] = {}
    for path in paths:
        name = PurePosixPath(path).name
        found[name] = None if name in found else path
    return {name: path for name, path in found.items() if path is not None}
