"""What a dataset names as its files has to be its own: nothing else of this machine, and nothing of the network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image
from huggingface_hub import constants

from ..columns import is_list_of_pictures
from ..errors import DataError


def check_file_name(name: Any, what: str) -> None:
    """Raises a DataError unless this is a path below a folder, whichever that is: `a.jpg`, `part/a.jpg`.

    Args:
        name: a file name as the dataset has it.
        what: it belongs to, for the message.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"The file name of {what} is {name!r}: a path below the dataset's folder is expected.")
    path = PureWindowsPath(name)  # knows both kinds of slashes
    if path.anchor or ".." in path.parts:
        raise DataError(
            f"The file name of {what} is {name!r}, which leads out of the dataset's folder: a path below it is "
            "expected."
        )


def is_inside(path: str | Path, *folders: str | Path) -> bool:
    """Whether a path, once .. are resolved, is one of the folders or below it; links are taken as they stand."""
    path = os.path.abspath(path)
    places = (os.path.abspath(folder) for folder in folders)
    return any(path == place or path.startswith(os.path.join(place, "")) for place in places)


def check_link(path: Path, dataset: Path) -> None:
    """Raises a DataError where a file or folder of a dataset is, through a link, one that lies outside of it.

    The Hub's cache keeps files beside the folder that it shows.
    """
    if not path.is_symlink() and not path.is_dir():
        return
    real = os.path.realpath(path)
    if not is_inside(real, os.path.realpath(dataset), os.path.realpath(constants.HF_HUB_CACHE)):
        raise DataError(
            f"'{path}' is a link to '{real}', which is not in the dataset's folder '{dataset}': a dataset with all "
            "its files in one folder is expected (which may be a link itself)."
        )


def check_links(splits: Mapping[str, Dataset], dataset: Path, image_folder: Path | None = None) -> None:
    """Raises a DataError where a picture is, through a link, a file outside of the dataset and of `image_folder`.

    Args:
        splits: tables of paths.
        dataset: a folder, or a file in it.
        image_folder: where the user says that its images are.
    """
    folder = dataset if dataset.is_dir() else dataset.parent
    folder = folder.absolute().parent if folder.name == "annotations" else folder  # COCO's, beside its images
    allowed = [os.path.realpath(each) for each in (folder, image_folder) if each is not None]
    real_folders: dict[str, str] = {}
    for rows in splits.values():
        for column in (name for name, feature in rows.features.items() if isinstance(feature, Image)):
            for _, path in _paths_without_picture(rows.data.column(column)):
                parent, name = os.path.split(os.path.abspath(path))
                if parent not in real_folders:
                    real_folders[parent] = os.path.realpath(parent)
                real = os.path.join(real_folders[parent], name)
                real = os.path.realpath(real) if os.path.islink(real) else real
                if not is_inside(real, *allowed):
                    raise DataError(
                        f"'{path}' is a link to '{real}', which is not in the dataset's folder '{folder}': a dataset "
                        "with all its files in one folder is expected, or the folder of its images (image_folder)."
                    )


def without_outside_files(rows: Dataset, split: str, dataset: str) -> Dataset:
    """The rows without columns that would open files of kinds not read here; the pictures' files were looked at.

    A table can hold a picture itself, or the path of a file, which a Parquet file may set to anything.

    Args:
        rows: a split as `datasets` has loaded it.
        split: its name, for messages.
        dataset: the folder or the name on the Hub that it comes from.

    Raises:
        DataError: a picture is a file that is neither in the dataset's folder nor among what was downloaded.
    """
    folders = own_folders(dataset)
    pictures = [
        name for name, feature in rows.features.items() if isinstance(feature, Image) or is_list_of_pictures(feature)
    ]
    for column in pictures:
        _check_paths(rows, column, split, folders)
    unread = [name for name, feature in rows.features.items() if name not in pictures and _opens_files(feature)]
    return rows.remove_columns(unread) if unread else rows


def own_folders(dataset: str) -> list[str]:
    """The folders in which a dataset's own files may lie."""
    own = [dataset, os.path.realpath(dataset)] if Path(dataset).exists() else [_hub_folder(dataset)]
    return [os.path.abspath(folder) for folder in (*own, datasets.config.HF_DATASETS_CACHE)]


def _hub_folder(dataset: str) -> str:
    """Where a dataset of the Hub is kept; in the folders of others there may be private ones."""
    return os.path.join(constants.HF_HUB_CACHE, f"datasets--{dataset.replace('/', '--')}")


def _check_paths(rows: Dataset, column: str, split: str, folders: list[str]) -> None:
    for index, path in _paths_without_picture(rows.data.column(column)):
        if not _is_file_inside(path, folders):
            mend = "a picture in the table, or a file in the dataset's folder, is expected"
            mend = f"{mend}; archives are to be unpacked" if "::" in path else mend
            raise DataError(
                f"Sample {index} of split '{split}': the picture in column '{column}' is the file {path!r}, which is "
                f"not the dataset's own: {mend}."
            )


def _paths_without_picture(cells: pa.ChunkedArray) -> Iterator[tuple[int, str]]:
    """Row and path of each picture, or each in a list of them, that is not in the table itself."""
    start = 0
    for chunk in cells.chunks:
        is_list = not pa.types.is_struct(chunk.type)
        values = pc.list_flatten(chunk) if is_list else chunk
        parents = pc.list_parent_indices(chunk).to_pylist() if is_list else range(len(chunk))
        paths = pc.if_else(pc.is_null(pc.struct_field(values, "bytes")), pc.struct_field(values, "path"), None)
        for row, path in zip(parents, paths.to_pylist(), strict=True):
            if path is not None:
                yield start + row, path
        start += len(chunk)


def is_own_file(path: str, folders: list[str]) -> bool:
    """Whether a picture of a stream is a file in one of the folders, or within an archive that lies there."""
    archive = path.rsplit("::", 1)[-1]
    hub = [folder for folder in folders if folder.startswith("hf://")]
    return any(archive.startswith(prefix) for prefix in hub) or _is_file_inside(archive, folders)


def _is_file_inside(path: str, folders: list[str]) -> bool:
    """`is_inside` of a file; URLs, and files within archives as `datasets` writes them, are none."""
    return "://" not in path and "::" not in path and is_inside(path, *folders)


def _opens_files(feature: Any) -> bool:
    """Whether reading a cell opens a file, as of audio, and of pictures within lists of other things."""
    if hasattr(feature, "decode_example"):
        return True
    children = feature.values() if isinstance(feature, dict) else [getattr(feature, "feature", None)]
    return any(_opens_files(child) for child in children if child is not None)
