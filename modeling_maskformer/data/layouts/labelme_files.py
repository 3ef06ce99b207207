"""LabelMe's JSON files, one for each image, as rows of COCO's objects."""

from __future__ import annotations

import base64
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from datasets import Dataset, Image
from transformers.utils import logging

from ..errors import DataError
from ..labels.label_files import IGNORED_LABEL
from ..labels.label_set import NamedIds
from .folders.folder_layouts import kind_of_words
from .folders.picture_files import IMAGE_SUFFIXES, files_in
from .image_places import SPLITS, folders_below
from .inside_dataset import is_inside
from .json_files import dicts_in, ends_of, integer_in, read_json
from .labelme_shapes import SHAPES, join_parts, polygons_of_shape
from .tables import Tables

logger = logging.get_logger(__name__)

BACKGROUND_LABEL = "_background_"


def find_labelme_files(root: Path) -> list[Path]:
    """The LabelMe files in a folder and those in it, in the order of their paths."""
    return [file for file in files_in(root, (".json",)) if _looks_like_labelme(file)]


def _looks_like_labelme(file: Path) -> bool:
    ends = ends_of(file)  # what is in the middle may be long: shapes, and the embedded image
    return sum(key in ends for key in (b'"shapes"', b'"imagePath"', b'"imageData"', b'"imageHeight"')) >= 2


def read_labelme_tables(
    root: Path, files: list[Path], named: NamedIds | None = None, image_folder: Path | None = None
) -> Tables:
    """The tables of LabelMe files: a split is the folder called train, val or test around a file.

    Their columns are `image`, `objects`, `width` and `height`.

    Shapes of one label and one group_id are parts of one object. Lines and points are no areas: they are left out and
    counted. Objects called `__ignore__` make their pixels void; `_background_` is no object.

    Args:
        root: the dataset.
        files: its LabelMe files.
        named: the ids of labels; None numbers those found from 1, in the order of the alphabet.
        image_folder: where the images are, if not beside the files, nor embedded in them.

    Raises:
        DataError: a file is damaged or its image is nowhere, a label is not among `named`, or there is no shape.
    """
    found = [_read(file) for file in files]
    ids, void_ids = _number_labels(root, found, named)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    places = _Places(root, image_folder)
    for item in found:
        split = _split_of(item.file, root)
        objects = [
            {"category_id": ids[label], "segmentation": segmentation, "iscrowd": 0}
            for label, segmentation in item.objects
        ]
        rows[split].append(
            {
                "image": places.image_of(item, split),
                "objects": json.dumps(objects),
                "width": item.width,
                "height": item.height,
            }
        )
    splits = {
        split: Dataset.from_dict({key: [row[key] for row in rows[split]] for key in rows[split][0]}).cast_column(
            "image", Image()
        )
        for split in ("train", "validation", "test")
        if split in rows
    }
    names = {raw: label for label, raw in ids.items() if raw not in void_ids}
    things = {raw: name != BACKGROUND_LABEL for raw, name in names.items()}
    return Tables(splits, NamedIds(names, things), void_ids=void_ids, annotation_format="coco_instance")


@dataclass
class _File:
    """What a file holds: its objects as (label, COCO segmentation), and where it says that its image is."""

    file: Path
    objects: list[tuple[str, Any]]
    shapes: Counter[str]  # kinds of shapes
    unusable: list[str] = field(default_factory=list)  # kinds of those that enclose nothing
    image_path: str | None = None
    image_data: str | None = None
    width: int | None = None
    height: int | None = None


def _read(file: Path) -> _File:
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"'{file}' is no LabelMe file: an object with shapes and imagePath is expected.")
    width, height = (integer_in(content, key, f"'{file}'") or None for key in ("imageWidth", "imageHeight"))
    parts: dict[Any, tuple[str, list[Any]]] = {}
    kinds: Counter[str] = Counter()
    unusable = []
    for number, shape in enumerate(dicts_in(content, "shapes", file)):
        kind, label, group = shape.get("shape_type") or "polygon", shape.get("label"), shape.get("group_id")
        where = f"In '{file}' shape {number} ({str(label)[:40]})"
        if not isinstance(label, (str, int)) or not isinstance(kind, str):
            raise DataError(f"{where} has no label or no shape_type: texts are expected.")
        kinds[kind] += 1
        mask = polygons_of_shape(shape, kind, (height, width), where) if kind in SHAPES else None
        if mask is None:
            unusable.append(kind)
            continue
        key = number if group is None else (label, str(group))
        parts.setdefault(key, (str(label), []))[1].append(mask)
    objects = [(label, join_parts(masks, (height, width))) for label, masks in parts.values()]
    path, data = content.get("imagePath"), content.get("imageData")
    return _File(
        file,
        objects,
        kinds,
        unusable,
        path if isinstance(path, str) and path and "\0" not in path else None,
        data if isinstance(data, str) and data else None,
        width,
        height,
    )


def _number_labels(root: Path, found: list[_File], named: NamedIds | None) -> tuple[dict[str, int], frozenset[int]]:
    """Label -> id, and the ids of those to ignore; says once what is left out."""
    total, unusable = sum((item.shapes for item in found), Counter()), Counter()
    for item in found:
        unusable.update(item.unusable)
    if not total:
        raise DataError(f"The {len(found)} LabelMe files in '{root}' hold no shape.")
    if unusable:
        what = ", ".join(f"{count} {kind}" for kind, count in unusable.most_common())
        first = next(item.file for item in found if item.unusable)
        count, everything = sum(unusable.values()), sum(total.values())
        if count == everything:
            raise DataError(
                f"None of the {everything} shapes in '{root}' encloses an area ({what}): {', '.join(SHAPES)} are "
                "expected."
            )
        logger.warning(
            f"In '{root}' {count} of {everything} shapes enclose no area ({what}), among them one in '{first.name}': "
            "they are left out."
        )
    first_of = {label: item.file for item in reversed(found) for label, _ in item.objects}
    labels = sorted(first_of.keys() - {IGNORED_LABEL})
    if named is None:
        ids = {label: number for number, label in enumerate(labels, start=1)}
    else:
        ids = {name: raw for raw, name in reversed(named.names.items())}
        missing = next((label for label in labels if label not in ids and label != BACKGROUND_LABEL), None)
        if missing is not None:
            raise DataError(
                f"'{first_of[missing]}' has a shape of label '{missing}', which is not among the classes that the "
                f"label file names: {', '.join(map(str, ids))}."
            )
    for label in (BACKGROUND_LABEL, IGNORED_LABEL):
        if label in first_of:
            ids.setdefault(label, max(ids.values(), default=0) + 1)
    void = [raw for label, raw in ids.items() if label == IGNORED_LABEL]
    if len(void) == len(ids):
        raise DataError(f"All objects in '{root}' are called {IGNORED_LABEL}: classes to learn are expected.")
    return ids, frozenset(void)


def _split_of(file: Path, root: Path) -> str:
    """The split of the folder around a file that is called so, else "train"."""
    for part in reversed(file.relative_to(root).parts[:-1]):
        found = re.fullmatch(r"(train|val|test)(?:ing|id|idation)?", part.lower())
        if found:
            return SPLITS[found.group(1)]
    return "train"


class _Places:
    """Finds the images of LabelMe files.

    Args:
        root: the dataset, out of which no file leads.
        image_folder: named by the user, or None.
    """

    def __init__(self, root: Path, image_folder: Path | None) -> None:
        self.root = root
        self.image_folder = image_folder
        self.folders: dict[str, list[Path]] = {}  # split -> folders to look in
        self.files: dict[str, Path] = {}  # image -> the file of its shapes

    def image_of(self, item: _File, split: str) -> Mapping[str, Any]:
        """The image as a value of `datasets.Image`: its path, or what the file holds of it.

        Raises:
            DataError: it is nowhere, or another file's too.
        """
        place = self._place_of(item, split)
        if place is not None:
            other = self.files.setdefault(os.path.abspath(place), item.file)
            if other != item.file:
                raise DataError(
                    f"'{other}' and '{item.file}' are both of the image '{place}': it would be learnt once with the "
                    "shapes of one and once with those of the other, so one file for each image is expected. Images "
                    "of one name are told apart by the folders in imagePath, or by lying beside their files."
                )
            return {"path": str(place), "bytes": None}
        if item.image_data is None:
            near = "neither beside it nor embedded" if self.image_folder is None else f"nowhere in {self.image_folder}"
            raise DataError(
                f"The image '{item.image_path}' of '{item.file}' is {near}: name the folder in which the images are "
                "with --image_folder."
            )
        try:
            data = base64.b64decode(item.image_data, validate=False)
        except ValueError as error:
            raise DataError(f"The imageData of '{item.file}' is no base64: {error}.") from None
        return {"path": item.file.with_suffix(".png").name, "bytes": data}

    def _place_of(self, item: _File, split: str) -> Path | None:
        if split not in self.folders:
            self.folders[split] = folders_below(self.image_folder or self.root, split)
        beside = [item.file.parent] if self.image_folder is None else []
        if item.image_path is not None:
            path = item.image_path.replace("\\", "/")
            own = item.file.parent / path
            if self.image_folder is None and is_inside(own, self.root) and os.path.isfile(own):
                return own
            place = _first_file([*beside, *self.folders[split]], [PureWindowsPath(path).name])
            if place is not None:
                return place
        # a file of another ending may be a mask, or be resized: the embedded image is surer
        if item.image_data is not None:
            return None
        likely = [
            folder
            for folder in self.folders[split]
            if folder == self.image_folder or kind_of_words(folder.name) != "masks"
        ]
        return _first_file([*beside, *likely], [f"{item.file.stem}{suffix}" for suffix in IMAGE_SUFFIXES])


def _first_file(folders: list[Path], names: list[str]) -> Path | None:
    """The first file of one of these names in the folders."""
    places = (folder / name for folder in folders for name in names if name)
    return next((place for place in places if os.path.isfile(place)), None)
