"""Where the images lie that files of annotations name: near these files, or in a folder that the user names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from unicodedata import normalize

from transformers.utils import logging

from ..errors import DataError
from .folders.folder_layouts import kind_of_words
from .inside_dataset import check_file_name

logger = logging.get_logger(__name__)

SPLITS = {"train": "train", "val": "validation", "test": "test"}


def split_in(name: str) -> str | None:
    """The split that a name tells, as instances_train2017, valid or my-test; None where it tells none."""
    found = re.search(r"(?:^|[^a-z])(train|val|test)", name.lower())
    return SPLITS[found.group(1)] if found else None


def check_image_names(
    entries: Sequence[dict[str, Any]], what: str, id_key: str, file: Path, image_folder: Path | None = None
) -> None:
    """Writes file names with slashes, however they are written, and refuses those that lead out of the dataset.

    Where the user says in which folder the images are, the folders in such names do not matter.
    """
    for entry in entries:
        name = entry.get("file_name")
        try:
            check_file_name(name, f"{what} {entry.get(id_key)} in '{file}'")
        except DataError as error:
            own_name = PureWindowsPath(name).name if isinstance(name, str) else ""  # knows both kinds of slashes
            if image_folder is None or own_name in ("", "..") or "\0" in own_name:
                raise DataError(
                    f"{error} Where the images are elsewhere, name the folder they are in with --image_folder."
                ) from None
            name = own_name
        entry["file_name"] = name.replace("\\", "/")


def folders_near(
    file: Path, root: Path, split: str, image_folder: Path | None = None, kind: str = "images"
) -> list[Path]:
    """Folders in which the pictures of a file of annotations may lie, likely ones first.

    Args:
        file: it lies in `root`, or is it.
        root: the dataset.
        split: folders called like another split come last: files of several splits may have one name.
        image_folder: where the user says they are; nothing else is looked at then.
        kind: "images" or "masks": folders called like the other come last, as a mask is mostly called like its image.
    """
    if image_folder is not None:
        return folders_below(image_folder, split, kind)
    root = file.parent if root.is_file() else root
    above = file.parent.parent if file.parent.name == "annotations" else file.parent
    top = root.parent if root.name == "annotations" else root
    found = [file.with_suffix(""), file.parent]  # COCO's place for panoptic PNGs, and Roboflow's for images
    for folder in (above, root, top):
        found += folders_below(folder, split, kind)

    def unlikely(folder: Path) -> tuple[bool, bool]:
        parts = folder.relative_to(top).parts[-2:]
        return folder != file.parent and _tell_another(split, parts), _kind_of(parts) not in (None, kind)

    return sorted(dict.fromkeys(found), key=unlikely)  # which keeps the order of the others


def folders_below(folder: Path, split: str, kind: str = "images") -> list[Path]:
    """The folder, those in it, and those in these: those called like another split last, and like another kind."""
    found = []
    for child in _folders_in(folder):
        found += [child, *_folders_in(child)]
    likely = {kind: 0, None: 1}

    def unlikely(inside: Path) -> tuple[bool, int]:
        parts = inside.relative_to(folder).parts
        return _tell_another(split, parts), likely.get(_kind_of(parts), 2)

    return [folder, *sorted(found, key=unlikely)]


def _folders_in(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _kind_of(parts: Sequence[str]) -> str | None:
    """What the last of these names of folders, or else one before it, says that there is, as "images" or "masks"."""
    return next(filter(None, map(kind_of_words, reversed(parts))), None)


def _tell_another(split: str, parts: Sequence[str]) -> bool:
    """Whether one of these names of folders is of another split."""
    return any(split_in(name) not in (None, split) for name in parts)


def find_images(
    names: Sequence[str], folders: Sequence[Path], file: Path, what: str, split: str, image_folder: Path | None = None
) -> list[Path]:
    """The file of each name: below the folder of the first one, or else below another.

    With `image_folder` names are also looked for without the folders in them. A folder of another split is taken only
    where its files do not have the names of those found elsewhere, as frames of videos do: it holds other images then.

    Raises:
        DataError: some are nowhere, or such an image of another split; says how many.
    """
    found, bases, missing = [], [], []
    home: list[Path] = []
    for name in names:
        tried = [name] if image_folder is None else [name, PurePosixPath(name).name]
        tried = [normalize(form, each) for each in tried for form in ("NFC", "NFD")]  # é, or e with its accent: macOS
        places = ((folder, form) for form in dict.fromkeys((name, *tried)) for folder in (*home, *folders))
        # is_file() would raise an error where a name is too long
        place = next((pair for pair in places if os.path.isfile(os.path.join(*pair))), None)
        if place is None:
            missing.append(name)
            if len(missing) == len(found) + len(missing) == 100:  # there are none
                break
            continue
        if not home:
            home = [place[0]]
            _tell_of_others(place, folders, what, split)
        found.append(place[0] / place[1])
        bases.append(place[0])
    if not missing:
        _check_splits(found, bases, names, file, what, split)
        return found
    where = f"No folder near '{file}'" if image_folder is None else f"No folder in '{image_folder}'"
    mend = "Name the folder in which they are with --image_folder." if image_folder is None else ""
    if not found:
        raise DataError(f"{where} has '{missing[0]}', the first of its {len(names)} {what}. {mend}".rstrip())
    raise DataError(
        f"{where} has '{missing[0]}', which is one of {len(missing)} of its {len(names)} {what} that are nowhere: "
        f"take what lacks out of the file, or add the {what}."
    )


def _tell_of_others(place: tuple[Path, str], folders: Sequence[Path], what: str, split: str) -> None:
    """Warns where another picture of the first one's name lies in a folder beside its own that is as likely.

    Args:
        place: the folder in which it was found, and its name there.
        folders, what, split: as in `find_images`.
    """
    base, name = place
    beside = (folder for folder in folders if folder.parent == base.parent and folder != base)
    for other in beside:
        is_as_likely = kind_of_words(other.name) == kind_of_words(base.name) and not _tell_another(split, [other.name])
        if is_as_likely and os.path.isfile(other / name) and not cmp(base / name, other / name, shallow=False):
            logger.warning(
                f"'{name}' is in '{base}' and, another picture, in '{other}': the {what} are taken from the first. "
                "--image_folder names the folder where that is wrong."
            )
            return


def _check_splits(
    found: Sequence[Path], bases: Sequence[Path], names: Sequence[str], file: Path, what: str, split: str
) -> None:
    """Raises a DataError where some are below a folder of another split that has files of the others' names too.

    Args:
        found: the file of each name.
        bases: the folder below which each was found.
        names, file, what, split: as in `find_images`.
    """
    others = {base for base in bases if _tell_another(split, base.parts[-2:])}
    own = [name for name, base in zip(names, bases, strict=True) if base not in others]
    for other in others:
        if any(os.path.isfile(other / name) for name in own):
            strays = [place for place, base in zip(found, bases, strict=True) if base == other]
            raise DataError(
                f"'{file}' lists {len(names)} {what}, of which {len(strays)} are missing in the folder of the others: "
                f"'{strays[0]}' has the name of one, but is of another split, whose files are called like those of "
                f"this one. Take what lacks out of the file, or add the {what}."
            )
