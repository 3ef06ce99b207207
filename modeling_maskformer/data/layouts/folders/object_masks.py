"""Which masks belong to which image where each object has a mask of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from transformers.utils import logging

from ..inside_dataset import check_link
from .folder_layouts import KINDS, plain_name, split_folders, split_of_name
from .picture_files import ALL_SUFFIXES, IMAGE_SUFFIXES, folders_in, has_pictures, picture_files

logger = logging.get_logger(__name__)

NUM_NAMED = 5  # files named in a message
# What follows an image's name in those of the masks of its objects: a_0, a_mask_1, a-obj2.
_NUMBER = re.compile(r"[_\-. ](?:(?:mask|obj|object|inst|instance|seg|label)s?(?:[_\-. ]?\d+)?|\d+)$")


@dataclass(frozen=True)
class ObjectMask:
    """A mask of one object and the name of its class, where a folder tells it."""

    file: Path
    class_name: str | None = None


@dataclass(frozen=True)
class ImageFolders:
    """The images of a split, and the masks of each by the same keys, but of those that lack a folder of masks.

    Attributes:
        has_jpeg: whether a folder of masks holds nothing but JPEG files, which are not read.
    """

    images: dict[str, Path]
    masks: dict[str, list[ObjectMask]]
    has_jpeg: bool = False


def group_by_image(images: Mapping[str, Path], masks: Mapping[str, Path]) -> tuple[dict[str, list[ObjectMask]], bool]:
    """Image -> the masks that may be of its objects, and whether they are, or may be one mask of all its pixels.

    The masks of `a` lie in a folder called `a`, perhaps in folders of classes inside, or are called `a_0`, `a_1`, ...;
    or each class has a folder of masks called `a`, or `a_0`, `a_1`, ...

    Args:
        images: paths below the folder of images without ending -> files.
        masks: the same of masks.
    """
    owners = {mask: owner for mask in masks if (owner := _owner(mask, images)) is not None}
    for mask in _left_over(owners, masks):
        del owners[mask]
    found: dict[str, list[ObjectMask]] = {}
    in_folders = False
    for mask, owner in owners.items():
        found.setdefault(owner.image, []).append(ObjectMask(masks[mask], owner.class_name))
        in_folders = in_folders or (owner.class_name is None and mask.startswith(f"{owner.image}/"))
    several = any(len(group) > 1 for group in found.values())
    classes = {mask.class_name for group in found.values() for mask in group}
    return found, in_folders or several or len(classes) > 1


class _Owner(NamedTuple):
    """The image that a mask belongs to, its class where a folder tells it, and whether it is called by a number."""

    image: str
    class_name: str | None = None
    is_numbered: bool = False


def _owner(mask: str, images: Mapping[str, Path]) -> _Owner | None:
    if mask in images:
        return _Owner(mask)
    *folders, name = mask.split("/")
    for depth in range(len(folders), 0, -1):
        image = "/".join(folders[:depth])
        if image in images:
            return _Owner(image, "/".join(folders[depth:]) or None)
    for stem in dict.fromkeys((name, _NUMBER.sub("", name))):
        for place, class_name in _places(folders):
            image = "/".join([*place, stem])
            if image in images:
                return _Owner(image, class_name, is_numbered=stem != name)
    return None


def _left_over(owners: Mapping[str, _Owner], files: Mapping[str, Path]) -> list[str]:
    """Masks whose image is gone, `a_1` where the image `a` has a mask `a`; warns of them.

    Cameras number photos like that too. They are masks of objects where some image has several with a number and none
    of its own name, or beside it, if most images have such masks.
    """
    numbered: dict[tuple[str, str | None], list[str]] = {}
    whole = set()
    for mask, owner in owners.items():
        if owner.is_numbered:
            numbered.setdefault(owner[:2], []).append(mask)
        else:
            whole.add(owner[:2])
    are_many = 2 * len(numbered) > len(numbered.keys() | whole)
    if any(len(masks) > 1 and (are_many or group not in whole) for group, masks in numbered.items()):
        return []
    found = [mask for group, masks in numbered.items() if group in whole for mask in masks]
    if found:
        names = ", ".join(f"'{files[mask]}'" for mask in found[:NUM_NAMED])
        logger.warning(
            f"Masks called like an image and a number, where the image has one of its own name, are left out: "
            f"{len(found)}, among them {names}. They look like those of images that are gone. If they are of objects, "
            "number all masks of an image (a_0, a_1)."
        )
    return found


def _places(folders: list[str]) -> Iterator[tuple[list[str], str | None]]:
    """Where an image may lie whose mask is in these folders: in the same, or without that of the class."""
    yield folders, None
    if folders:
        yield folders[1:], folders[0]
        yield folders[:-1], folders[-1]


def find_image_folders(root: Path, suffixes: tuple[str, ...], dataset: Path) -> dict[str, ImageFolders]:
    """Split -> images and masks, where each image has a folder of its own, with a folder of masks; else empty.

    `stage1_train/<id>/images/<id>.png` and `stage1_train/<id>/masks/*.png`, or `<id>/<id>.png` and `<id>/masks/*.png`.

    Args:
        root: one folder for each image is expected in it, or in those of splits in it.
        suffixes: endings of masks.
        dataset: the folder of the dataset.
    """
    if split_folders(root) == {"train": root}:
        found = _image_folders_in(root, suffixes, dataset)
        if found is not None:
            return {"train": found}
    splits = {}
    for folder in folders_in(root):
        found = _image_folders_in(folder, suffixes, dataset)
        if found is not None:
            splits[split_of_name(folder.name) or folder.name] = found
    return splits


def _image_folders_in(root: Path, suffixes: tuple[str, ...], dataset: Path) -> ImageFolders | None:
    images: dict[str, Path] = {}
    masks: dict[str, list[ObjectMask]] = {}
    has_masks = has_jpeg = False
    names = {plain_name(folder.name) for folder in folders_in(root)}
    if all(names.intersection(KINDS[kind]) for kind in ("images", "masks")):
        return None  # of all images, in folders inside; what else is there may be an example
    for folder in folders_in(root):
        inside = {plain_name(child.name): child for child in folders_in(folder)}
        of_images = next((inside[name] for name in KINDS["images"] if name in inside), folder)
        pictures = _pictures_in(of_images)
        if len(pictures) > 1:
            return None
        of_masks = next((inside[name] for name in KINDS["masks"] if name in inside), None)
        if not pictures:
            continue
        for place in (of_images, *pictures):
            check_link(place, dataset)
        images[folder.name] = pictures[0]
        if of_masks is not None:
            has_masks = True
            files = picture_files(of_masks, suffixes, dataset)
            if not files and has_pictures(of_masks, ALL_SUFFIXES):
                has_jpeg = True
            else:  # there is no object where there is no file
                masks[folder.name] = [
                    ObjectMask(file, mask.rpartition("/")[0] or None) for mask, file in files.items()
                ]
    return ImageFolders(images, masks, has_jpeg) if has_masks else None


def _pictures_in(folder: Path) -> list[Path]:
    """The first two pictures in a folder."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return list(islice((file for file in files if not file.name.startswith(".")), 2))
