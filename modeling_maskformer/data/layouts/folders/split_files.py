"""The images of a split, each with the files of its masks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from transformers.utils import logging

from ...errors import DataError
from . import cityscapes
from .folder_layouts import Folders, split_folders
from .mask_names import STEM, in_folder_of, match_names, suffix_of_masks
from .object_masks import ObjectMask, group_by_image
from .picture_files import (
    ALL_SUFFIXES,
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    MASK_SUFFIXES,
    endings_by_stem,
    folders_in,
    has_pictures,
    picture_files,
)

logger = logging.get_logger(__name__)

NUM_NAMED = 5  # files named in a message
# Of two files of one name the image, then the mask: cameras write the first ones, drawing tools the last ones.
_ENDINGS = (*JPEG_SUFFIXES, ".webp", ".ppm", ".bmp", ".tif", ".tiff", ".png", ".gif")


@dataclass(frozen=True)
class MaskSearch:
    """How the masks of images are looked for.

    Attributes:
        name: of the mask of an image, as "{stem}_mask.png"; None finds it.
        skip_missing: leave images without a mask out, instead of refusing them.
        jpeg: take JPEG files for masks too.
    """

    name: str | None = None
    skip_missing: bool = False
    jpeg: bool = False

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of masks."""
        return MASK_SUFFIXES + (JPEG_SUFFIXES if self.jpeg else ())

    @property
    def template(self) -> str | None:
        """The name of masks without ending."""
        if self.name is None:
            return None
        if STEM not in self.name or "/" in self.name:
            raise DataError(
                f"mask_name is the name of an image's mask, in which {STEM} stands for the image's name without "
                f"ending, as '{STEM}_mask.png'; got '{self.name}'."
            )
        suffix = Path(self.name).suffix
        return self.name.removesuffix(suffix) if suffix.lower() in MASK_SUFFIXES + JPEG_SUFFIXES else self.name


@dataclass(frozen=True)
class SplitFiles:
    """The files of a split by image; keys are paths below the folder of images, without ending.

    Attributes:
        images: the images.
        masks: of all pixels of an image.
        instances: the maps of instance ids.
        city_instances: Cityscapes' maps of instance ids.
        objects: the masks of the objects of an image.
        are_objects: whether it is certain that each object has a mask of its own.
        template: how `masks` are called.
    """

    images: dict[str, Path]
    masks: dict[str, Path] | None = None
    instances: dict[str, Path] | None = None
    city_instances: dict[str, Path] | None = None
    objects: dict[str, list[ObjectMask]] | None = None
    are_objects: bool = False
    template: str = STEM


def find_split_files(
    folders: Folders, search: MaskSearch, dataset: Path, listed: list[str] | None = None
) -> SplitFiles:
    """The images and all masks that belong to them; images may be without.

    Args:
        folders: of the split.
        search: how masks are looked for.
        dataset: the folder of the dataset.
        listed: the images of the split; None for all in the folder.
    """
    if folders.masks == folders.images:
        return _files_together(folders.images, search, dataset)
    images = picture_files(folders.images, IMAGE_SUFFIXES, dataset)
    if not images:
        raise DataError(f"Folder '{folders.images}' has no image ({', '.join(IMAGE_SUFFIXES)}).")
    if listed is not None:
        listed = [normalize("NFC", name) for name in listed]  # as the keys of pictures are
        missing = [name for name in listed if name not in images]
        if missing:
            raise DataError(
                f"{len(missing)} of the {len(listed)} images that a list of '{dataset}' names are not in "
                f"'{folders.images}', among them '{missing[0]}'."
            )
        images = {name: images[name] for name in listed}
    found = SplitFiles(images)
    if folders.masks is not None:
        files = picture_files(folders.masks, search.suffixes, dataset)
        if search.template is None:
            objects, are_objects = group_by_image(images, files)
            for image in images.keys() - objects.keys():
                place = folders.masks / image
                if place.is_dir() and not has_pictures(place, ALL_SUFFIXES):
                    objects[image] = []  # an empty folder: there is no object
            found = replace(found, objects=objects, are_objects=are_objects)
        inner = _inner_masks(folders.masks, images)
        if inner != folders.masks:
            files = picture_files(inner, search.suffixes, dataset)
        if search.template is not None:
            return replace(found, masks=_named(images, files, search.template), template=search.template)
        if not found.are_objects:
            template, masks = _match(images, files)
            found = replace(found, masks=masks, template=template)
            if masks and cityscapes.named_ids_of(template)[0] is not None:
                found = replace(found, city_instances=cityscapes.maps_of_instances(masks))
    if folders.instances is not None:
        files = picture_files(folders.instances, search.suffixes, dataset)
        found = replace(found, instances=_match(images, files)[1])
    return found


def folders_of_both(root: Path, search: MaskSearch) -> dict[str, Folders]:
    """Split -> the folder in which its images and masks lie together; empty where files are not called like that."""
    found = {}
    for split, folder in split_folders(root).items():
        endings = endings_by_stem(folder)
        template = search.template or suffix_of_masks(endings)
        if template is not None:
            has_masks = any(in_folder_of(name, template, name) in endings for name in endings)
        else:
            has_masks = any(len(found) > 1 and _is_mask(found) for found in endings.values())
        if has_masks:
            found[split] = Folders(folder, folder)
    return found


def keep_those_with_masks(
    images: dict[str, Path], with_masks: Collection[str], search: MaskSearch, folder: Path, what: str, mend: str
) -> dict[str, Path]:
    """The images that have a mask: all of them, or fewer where those without are to be left out.

    Args:
        images: of a split.
        with_masks: the keys of those with a mask.
        search: tells whether the others are left out.
        folder: of the images, for messages.
        what: they lack, for messages.
        mend: what the user may do, for messages.

    Raises:
        DataError: some have none; they are named.
    """
    missing = sorted(images.keys() - set(with_masks))
    if not missing:
        return images
    names = ", ".join(f"'{images[key].name}'" for key in missing[:NUM_NAMED])
    found = f"{len(missing)} of {len(images)} images in '{folder}' have no {what}, among them {names}"
    if not search.skip_missing or len(missing) == len(images):
        raise DataError(f"{found}. {mend}")
    logger.warning(f"{found}: they are left out.")
    return {key: file for key, file in images.items() if key in with_masks}


def _match(images: Mapping[str, Path], files: Mapping[str, Path]) -> tuple[str, dict[str, Path]]:
    template, matched = match_names(images, files)
    return template, {image: files[mask] for image, mask in matched.items()}


def _named(images: Mapping[str, Path], files: Mapping[str, Path], template: str) -> dict[str, Path]:
    masks = {image: in_folder_of(image, template, image) for image in images}
    return {image: files[mask] for image, mask in masks.items() if mask in files}


def _inner_masks(masks: Path, images: Collection[str]) -> Path:
    """The folder of masks, or the only one in it with pictures, where it has none itself: annotations/trimaps/."""
    suffixes = IMAGE_SUFFIXES + MASK_SUFFIXES
    if has_pictures(masks, suffixes, below=False):
        return masks
    inside = [folder for folder in folders_in(masks) if has_pictures(folder, suffixes)]
    is_part = len(inside) == 1 and any(image.startswith(f"{inside[0].name}/") for image in images)
    return inside[0] if len(inside) == 1 and not is_part else masks


def _files_together(folder: Path, search: MaskSearch, dataset: Path) -> SplitFiles:
    """Of one folder: masks called by a template, or images and masks that differ in their endings alone."""
    files = picture_files(folder, IMAGE_SUFFIXES + MASK_SUFFIXES, dataset, one_a_stem=False)
    template = search.template or suffix_of_masks(files)
    if template is not None:
        names = {stem: in_folder_of(stem, template, stem) for stem in files}
        are_masks = set(names.values())
        images = {stem: file for stem, file in files.items() if stem not in are_masks}
        masks = {stem: files[names[stem]] for stem in images if names[stem] in files}
        masks = {stem: file for stem, file in masks.items() if file.suffix.lower() in search.suffixes}
        return SplitFiles(images, masks, template=template)
    endings = endings_by_stem(folder, dataset)
    pairs = {stem: sorted(found, key=_rank) for stem, found in endings.items()}
    of_images = {found[0].lower() for found in pairs.values() if len(found) > 1}
    images = {stem: found[0] for stem, found in pairs.items() if found[0].lower() in of_images}
    masks = {stem: pairs[stem][1] for stem in images if len(pairs[stem]) > 1 and _is_mask(pairs[stem])}
    return SplitFiles(
        *({stem: folder / f"{stem}{ending}" for stem, ending in part.items()} for part in (images, masks))
    )


def _rank(ending: str) -> int:
    return _ENDINGS.index(ending.lower())


def _is_mask(endings: Collection[str]) -> bool:
    """Whether the last of the endings of one name is that of a mask."""
    return max(endings, key=_rank).lower() in MASK_SUFFIXES
