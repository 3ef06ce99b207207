"""Which mask belongs to which image, by their names: the same, or with a suffix or prefix, as `1_mask` for `1`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from ...errors import DataError

STEM = "{stem}"
# What follows an image's name in that of its mask, where both lie in one folder.
SUFFIXES_OF_MASKS = ("_mask", "_masks", "_label", "_labels", "_L", "_gt", "_seg", "_segmentation", "_annotation")
# Cityscapes has several maps an image; the first of these is for training.
PREFERRED = ("_gtFine_labelTrainIds", "_gtFine_labelIds")
NUM_TRIED = 20  # images whose names are looked for in those of masks


def match_names(images: Collection[str], masks: Collection[str]) -> tuple[str, dict[str, str]]:
    """How masks are called, and the mask of each image that has one.

    Args:
        images: paths below the folder of images, without ending.
        masks: the same of masks.

    Returns:
        A template such as "{stem}_mask", that with which most images have a mask; where the images have a prefix or
        suffix of their own (image_1, image_2), `{stem}` stands for what is between. And image -> mask.

    Raises:
        DataError: each image has several masks.
    """
    same = {image: image for image in images if image in masks}
    if len(same) == len(images):
        return STEM, same
    templates = {frozenset(same.items()): STEM}  # matches -> what makes them
    by_folder: dict[str, list[str]] = {}
    for mask in masks:
        folder, _, name = mask.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    for before, after in (("", ""), _common_affixes(images)):
        if max(map(len, templates)) == len(images):
            break
        cores = {image: _core(image, before, after) for image in images}
        for template in _templates(sorted(cores.values())[:NUM_TRIED], by_folder):
            named = {image: in_folder_of(core, template, core) for image, core in cores.items()}
            found = frozenset((image, mask) for image, mask in named.items() if mask in masks)
            templates.setdefault(found, template)
    most = max(map(len, templates))
    best = [found for found in templates if len(found) == most]
    if len(best) > 1:
        best = [found for ending in PREFERRED for found in best if templates[found].endswith(ending)] or best
        if not templates[best[0]].endswith(PREFERRED):
            names = [templates[found] for found in best]
            raise DataError(
                f"Each image has masks of several kinds, {', '.join(names)}: choose one with --mask_name '{names[0]}'."
            )
    return templates[best[0]], dict(best[0])


def in_folder_of(path: str, template: str, stem: str) -> str:
    """The path beside `path` whose name the template makes of the name of `stem`."""
    folder, slash, _ = path.rpartition("/")
    return folder + slash + template.replace(STEM, _name(stem))


def suffix_of_masks(names: Collection[str]) -> str | None:
    """The template of masks among images of one folder, None where nothing is called like a mask."""
    for suffix in SUFFIXES_OF_MASKS:
        masks = [name for name in names if name.endswith(suffix)]
        if masks and all(name.removesuffix(suffix) in names for name in masks):
            return STEM + suffix
    return None


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _common_affixes(paths: Iterable[str]) -> tuple[str, str]:
    """What all names begin and end with, but digits, which number them."""
    names = [_name(path) for path in paths]
    before = _common_start(names)
    return before, _common_start([name[len(before) :][::-1] for name in names])[::-1]


def _common_start(names: list[str]) -> str:
    first, last = min(names, default=""), max(names, default="")
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:length].rstrip("0123456789")


def _core(path: str, before: str, after: str) -> str:
    folder, slash, name = path.rpartition("/")
    core = name[len(before) : len(name) - len(after)]
    return folder + slash + core if core else path


def _templates(images: Iterable[str], masks: Mapping[str, list[str]]) -> list[str]:
    """What the names of masks are, by folder, where they hold the name of one of the images of this folder."""
    found: dict[str, None] = {}
    for image in images:
        folder, _, name = image.rpartition("/")
        whole = re.escape(name)
        whole = rf"(?<!\d){whole}" if name[:1].isdigit() else whole  # 1 is no part of mask_10
        whole = re.compile(rf"{whole}(?!\d)" if name[-1:].isdigit() else whole)
        for mask in masks.get(folder, ()):
            for match in whole.finditer(mask) if name in mask else ():
                found[mask[: match.start()] + STEM + mask[match.end() :]] = None
    return list(found)
