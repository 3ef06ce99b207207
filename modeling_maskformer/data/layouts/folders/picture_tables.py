"""A folder of images and masks -> a table for each split, and what is told beside them about the classes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from datasets import Dataset, Image, List
from transformers.utils import logging

from ...columns import CITYSCAPES_IDS
from ...errors import DataError
from ...labels.label_set import NamedIds
from ..tables import Tables
from . import ade20k, cityscapes, voc
from .folder_layouts import Folders, find_folders, inner_folders, plain_name
from .mask_names import STEM
from .object_masks import ObjectMask, find_image_folders
from .picture_files import IMAGE_SUFFIXES, JPEG_SUFFIXES, MASK_SUFFIXES, has_pictures
from .split_files import MaskSearch, SplitFiles, find_split_files, folders_of_both, keep_those_with_masks

logger = logging.get_logger(__name__)

JPEG_MASKS = (
    "There are JPEG files: JPEG changes the values of pixels, so that they are no class ids any more. Take the masks "
    "as they were before, in PNG; or pass --nearest_colour, which gives each pixel the class of the nearest colour or "
    "grey value."
)


def read_picture_tables(dataset: Path, search: MaskSearch) -> Tables | None:
    """The tables of a folder of images and masks; None where it is none.

    Their columns are `image` and `annotation`, `instance_ids` or `masks` (and `classes`).

    Raises:
        DataError: images or their masks are missing, or files are links that lead out of the folder.
    """
    for root in inner_folders(dataset):
        image_folders = find_image_folders(root, search.suffixes, dataset) if search.name is None else {}
        if image_folders:
            return _object_tables(
                {
                    split: (_with_objects(found.images, found.masks, search, root, found.has_jpeg), found.masks)
                    for split, found in image_folders.items()
                }
            )
        folders = find_folders(root)
        if not folders and (search.name is not None or next(root.rglob("metadata.*"), None) is None):
            folders = folders_of_both(root, search)
        if folders:
            return _tables_of_folders(root, folders, search, dataset)
    return None


def _tables_of_folders(root: Path, folders: dict[str, Folders], search: MaskSearch, dataset: Path) -> Tables:
    lists = voc.read_lists(root) if list(folders) == ["train"] else {}
    if "test" in lists and not _has_image(folders["train"].images, lists["test"][0]):
        del lists["test"]  # its images are another download
    folders = {split: folders["train"] for split in lists} or folders
    files = {split: find_split_files(places, search, dataset, lists.get(split)) for split, places in folders.items()}
    if lists:  # those of test splits have no masks
        files = {split: found for split, found in files.items() if split != "test" or found.masks or found.objects}
    if any(found.are_objects for found in files.values()):
        objects = {}
        for split, found in files.items():
            place, masks = folders[split], found.objects or {}
            has_jpeg = place.masks is not None and has_pictures(place.masks, JPEG_SUFFIXES)
            objects[split] = _with_objects(found.images, masks, search, place.images, has_jpeg), masks
        return _object_tables(objects)
    tables = Tables({split: _table(found, folders[split], search) for split, found in files.items()})
    tables.named, tables.void_ids = cityscapes.named_ids_of_all({split: files[split].template for split in files})
    if lists:
        tables.named = voc.named_ids_of(root, (name for names in lists.values() for name in names))
    for folder in dict.fromkeys((root, dataset)):
        named = ade20k.read_object_info(folder)
        if named is not None:
            tables.named, tables.void_ids = named, frozenset({ade20k.OTHER})
            logger.warning(
                f"'{folder / ade20k.FILE}' is ADE20K's table of {len(named.names)} classes: pixels of id "
                f"{ade20k.OTHER} are other objects, from which nothing is learnt, and id 1 becomes class 0."
            )
    if all(found.masks is None for found in files.values()):
        tables.annotation_format = "instance_ids"
        if all(plain_name(places.instances.name) == "pedmasks" for places in folders.values() if places.instances):
            tables.named = NamedIds({0: "background", 1: "pedestrian"}, {0: False, 1: True})  # Penn-Fudan
    return tables


def _has_image(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{suffix}").is_file() for suffix in IMAGE_SUFFIXES)


def _table(found: SplitFiles, folders: Folders, search: MaskSearch) -> Dataset:
    """Columns `image`, and `annotation` and `instance_ids` where there are such masks."""
    images = found.images
    masks = {
        "annotation": (found.masks, folders.masks),
        "instance_ids": (found.instances, folders.instances),
        CITYSCAPES_IDS: (found.city_instances, folders.masks),
    }
    masks = {name: (files, place) for name, (files, place) in masks.items() if files is not None and place is not None}
    for name, (files, place) in masks.items():
        template = found.template if name == "annotation" else STEM
        what = "mask of the same stem" if template == STEM else f"mask called '{template}'"
        what = f"{what} ({', '.join(search.suffixes)}) in '{place}'"
        images = keep_those_with_masks(images, files, search, folders.images, what, _mend(place, bool(files)))
    columns = {"image": images} | {name: files for name, (files, _) in masks.items()}
    rows = Dataset.from_dict({name: [str(files[key]) for key in sorted(images)] for name, files in columns.items()})
    for name in columns:
        rows = rows.cast_column(name, Image())
    return rows


def _mend(masks: Path, are_some_found: bool) -> str:
    """What may be done where images have no mask in a folder."""
    if not are_some_found and next(masks.rglob("*.txt"), None) is not None:
        return "It holds text: for YOLO's outlines a data.yaml that names classes and folders is needed."
    if not are_some_found and has_pictures(masks, JPEG_SUFFIXES):
        return JPEG_MASKS
    others = set() if are_some_found else {file.suffix for file in masks.iterdir() if file.is_file()}
    others -= set(MASK_SUFFIXES)
    return (
        (f"Its files are {', '.join(sorted(others)[:5])}. " if others else "")
        + f"Masks called otherwise are found with --mask_name, such as '{STEM}_mask.png'; images without a mask are "
        "left out with --skip_images_without_mask."
    )


def _with_objects(
    images: dict[str, Path], with_masks: Collection[str], search: MaskSearch, folder: Path, has_jpeg: bool
) -> dict[str, Path]:
    """The images, but those to be left out because no masks of objects are there."""
    mend = (
        "An empty folder of masks stands for an image without objects; images without a mask are left out with "
        "--skip_images_without_mask."
    )
    mend = JPEG_MASKS if has_jpeg and not search.jpeg else mend
    return keep_those_with_masks(images, with_masks, search, folder, "mask of an object", mend)


def _object_tables(files: dict[str, tuple[dict[str, Path], dict[str, list[ObjectMask]]]]) -> Tables:
    """Of images and the masks of their objects; `classes` numbers the names of classes from 1, or all are 1."""
    objects = [mask for _, masks in files.values() for group in masks.values() for mask in group]
    names = sorted({mask.class_name for mask in objects if mask.class_name is not None})
    nameless = next((mask for mask in objects if mask.class_name is None), None)
    if names and nameless is not None:
        raise DataError(
            f"Some masks lie in folders of classes ({', '.join(names[:5])}), but '{nameless.file}' in none: either "
            "all masks or none are expected to tell their class."
        )
    splits = {}
    for split, (images, masks) in files.items():
        keys = sorted(images)
        columns = {
            "image": [str(images[key]) for key in keys],
            "masks": [[str(mask.file) for mask in masks[key]] for key in keys],
        }
        if names:
            columns["classes"] = [[names.index(mask.class_name) + 1 for mask in masks[key]] for key in keys]
        splits[split] = Dataset.from_dict(columns).cast_column("image", Image()).cast_column("masks", List(Image()))
    named = NamedIds(dict(enumerate(names, start=1)), dict.fromkeys(range(1, len(names) + 1), True)) if names else None
    return Tables(splits, named, annotation_format="object_masks")
