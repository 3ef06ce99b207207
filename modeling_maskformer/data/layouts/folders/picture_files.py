"""The pictures in a folder, and in those in it: what is hidden is passed over, and what is outside is refused."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from unicodedata import normalize

from ...errors import DataError
from ..inside_dataset import check_link, is_inside

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jfif")
IMAGE_SUFFIXES = (*JPEG_SUFFIXES, ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")  # none that loses values
ALL_SUFFIXES = frozenset(IMAGE_SUFFIXES + MASK_SUFFIXES)


def has_pictures(folder: Path, suffixes: Collection[str], below: bool = True) -> bool:
    """Whether there is a file of these endings in a folder or, with `below`, in those in it."""
    return any(_suffix(name) in suffixes for name, _ in _files_in(folder, below))


def picture_files(folder: Path, suffixes: Collection[str], dataset: Path, one_a_stem: bool = True) -> dict[str, Path]:
    """Path below the folder without ending -> picture.

    Args:
        folder: to look in, and in what is in it.
        suffixes: endings, in lower case.
        dataset: the folder of the dataset.
        one_a_stem: refuse two files that differ only in their ending; else the last in order of names is taken.

    Raises:
        DataError: two files have one name, or one is a link that leads out of the dataset.
    """
    found: dict[str, Path] = {}
    check_link(folder, dataset)
    for name, is_link in sorted(_files_in(folder, dataset=dataset)):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in suffixes:
            continue
        file = folder / name
        if is_link:
            check_link(file, dataset)
        stem = normalize("NFC", stem)  # é, or e with its accent, as macOS writes it
        if stem in found and one_a_stem:
            raise DataError(
                f"Folder '{folder}' has two files of the stem '{stem}', '{found[stem].name}' and '{file.name}': one "
                "is expected."
            )
        found[stem] = file
    return found


def endings_by_stem(folder: Path, dataset: Path | None = None) -> dict[str, list[str]]:
    """Path below the folder without ending -> the endings of its pictures, as they are written."""
    found: dict[str, list[str]] = {}
    for name, _ in sorted(_files_in(folder, dataset=dataset)):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in ALL_SUFFIXES:
            found.setdefault(stem, []).append(suffix)
    return found


def files_in(folder: Path, suffixes: Collection[str], dataset: Path | None = None) -> list[Path]:
    """The files of these endings in a folder and in those in it, by path; what is hidden is passed over.

    Raises:
        DataError: a folder of pictures in the `dataset` is a link that leads out of it.
    """
    return sorted(folder / name for name, _ in _files_in(folder, dataset=dataset) if _suffix(name) in suffixes)


def folders_in(root: Path) -> list[Path]:
    """The folders in a folder, but hidden ones and what macOS adds to archives, by name."""
    with os.scandir(root) as entries:
        return sorted(root / entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())


def _files_in(
    folder: Path, below: bool = True, above: str = "", dataset: Path | None = None, entered: tuple[str, ...] = ()
) -> Iterator[tuple[str, bool]]:
    """The path below the folder of each file that is not hidden, nor in a hidden folder, and whether it is a link.

    .DS_Store is hidden, and .ipynb_checkpoints/. Folders that are links are entered where the `dataset` is known, in
    which they have to lie, unless they lead back to one of those `entered`, or to one in the folder, as `latest` may:
    its files are there already.

    Raises:
        DataError: a folder is a link that leads out of the dataset.
    """
    entered = entered or (os.path.realpath(folder),)
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if not entry.is_dir():
                yield above + entry.name, entry.is_symlink()
                continue
            place, chain = Path(entry.path), entered
            if entry.is_symlink():
                real = os.path.realpath(place)
                if dataset is None or any(is_inside(each, real) for each in entered):
                    continue
                if is_inside(real, entered[0]) and not any(map(is_hidden, Path(real).relative_to(entered[0]).parts)):
                    continue
                check_link(place, dataset)
                chain = (*entered, real)
            if below:
                yield from _files_in(place, below, f"{above}{entry.name}/", dataset, chain)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that programs leave behind: .DS_Store, .ipynb_checkpoints, __MACOSX."""
    return name.startswith((".", "__MACOSX"))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
