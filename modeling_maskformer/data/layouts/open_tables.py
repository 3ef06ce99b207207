"""From the name of a dataset to tables of rows: Hub names, folders for `load_dataset`, folders of pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
from datasets import DatasetDict

from ...files.error_text import first_line
from ...files.hub_names import hub_hint, is_hub_name
from ..errors import DataError
from ..labels.label_files import read_named_ids
from ..labels.label_set import NamedIds
from .coco.coco_files import find_coco_files, read_coco_tables
from .folders.folder_layouts import is_for_load_dataset, what_is_read
from .folders.picture_tables import read_picture_tables
from .folders.split_files import MaskSearch
from .inside_dataset import check_links, without_outside_files
from .label_tables import find_label_table
from .labelme_files import find_labelme_files, read_labelme_tables
from .loaded import Loaded, splits_of
from .tables import Tables
from .yolo_files import find_yolo_file, read_yolo_tables

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
LABEL_FILES = ("id2label.json", "label2id.json", "labels.json", "categories.json")
LABEL_FILES += ("labels.txt", "classes.txt", "class_names.txt", "classes.csv", "labels.yaml", "classes.yaml")


def open_tables(
    dataset: str | Path | Loaded,
    config_name: str | None = None,
    coco_format: str | None = None,
    search: MaskSearch | None = None,
    image_folder: str | None = None,
    given: NamedIds | None = None,
) -> Tables:
    """The tables of a dataset; nothing of it is executed, and no picture is read.

    Args:
        dataset: the name of a dataset on the Hub; or a folder: of COCO's official files, with YOLO's data.yaml, of
            pictures and masks, or laid out for `load_dataset`; or a COCO JSON file or data.yaml itself; or what
            `datasets` has loaded.
        config_name: configuration of a Hub dataset.
        coco_format: "coco_panoptic" or "coco_instance", which of COCO's files to prefer.
        search: how masks are looked for in folders of pictures; None as it is by default.
        image_folder: where the images are that files of annotations name, if not near them; may be anywhere.
        given: the caller's names of classes, which give LabelMe's labels their ids.

    Raises:
        DataError: it cannot be found or opened, or names files that are not its own.
    """
    if not isinstance(dataset, (str, Path)):
        return Tables(splits_of(dataset))
    path, search = Path(dataset).expanduser(), search or MaskSearch()
    check_is_there(dataset, path)
    images = _image_folder(image_folder)
    if images is not None and (search.name is not None or not os.path.exists(path)):
        raise _no_use_of_image_folder(dataset)
    if search.name is not None:  # a mask for each image is asked for, whatever else is there
        tables = _open_pictures(path, search) if os.path.isdir(path) else None
        if tables is None:
            raise DataError(
                f"mask_name is for a folder with images and a mask for each: in '{dataset}' are no folders of images "
                f"and masks, and no image has a mask '{search.name}' beside it."
            )
        return tables
    if not os.path.exists(path):
        return _load(dataset, config_name)
    coco_files = find_coco_files(path, coco_format)
    if coco_files:
        return _with_own_links(read_coco_tables(path, coco_files, images), path, images)
    yolo_file = find_yolo_file(path)
    if yolo_file:
        return _with_own_links(read_yolo_tables(yolo_file, images), path, images)
    if os.path.isfile(path) and path.suffix.lower() in ARCHIVES:
        raise DataError(f"Dataset '{dataset}' is an archive: unpack it and give the folder that comes of it.")
    if os.path.isfile(path):
        raise DataError(
            f"Dataset '{dataset}' is a file but no COCO JSON with images, annotations and categories, and no "
            "data.yaml of YOLO."
        )
    if not any(path.iterdir()):
        raise DataError(f"The dataset folder '{dataset}' is empty.")
    labelme_files = find_labelme_files(path)
    if labelme_files:
        tables = read_labelme_tables(path, labelme_files, given or names_of_file(path), images)
        return _with_own_links(tables, path, images)
    if images is not None:
        raise _no_use_of_image_folder(dataset)
    tables = _open_pictures(path, search)
    if tables is not None:
        return tables
    if not is_for_load_dataset(path):
        raise DataError(f"The dataset folder '{dataset}' is not laid out in a way that is read. {what_is_read(path)}")
    tables = _load(str(path), config_name)
    tables.named = names_of_file(path)
    return tables


def check_is_there(dataset: str | Path, path: Path) -> None:
    """Raises a DataError where a dataset is neither here, at `path`, nor called as those of the Hub."""
    if not os.path.exists(path) and not is_hub_name(dataset):
        raise DataError(f"There is no folder or file '{dataset}'.")


def _image_folder(image_folder: str | None) -> Path | None:
    if image_folder is None:
        return None
    if not os.path.isdir(Path(image_folder).expanduser()):
        raise DataError(f"There is no folder of images '{image_folder}' (image_folder).")
    return Path(image_folder).expanduser()


def _with_own_links(tables: Tables, path: Path, images: Path | None) -> Tables:
    """The same tables, whose pictures are known not to be links that lead out of the dataset."""
    check_links(tables.splits, path, images)
    return tables


def _no_use_of_image_folder(dataset: str | Path) -> DataError:
    return DataError(f"image_folder is for a folder with files of COCO, YOLO or LabelMe, which '{dataset}' is not.")


def _open_pictures(path: Path, search: MaskSearch) -> Tables | None:
    """The tables of a folder of images and masks, and what is told beside them; None where it is none."""
    tables = read_picture_tables(path, search)
    if tables is None:
        return None
    table = find_label_table(path)
    if table is not None:
        tables.take(table)
    tables.named = names_of_file(path) or tables.named
    return tables


def names_of_file(folder: Path) -> NamedIds | None:
    """Names of classes from a label file in the folder, if there is one."""
    return next((read_named_ids(folder / name) for name in LABEL_FILES if (folder / name).is_file()), None)


@contextmanager
def without_card_warning() -> Iterator[None]:
    """Leaves unsaid that a dataset's README.md has no metadata for the Hub, which nothing here needs."""
    logger = logging.getLogger("huggingface_hub.repocard")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _load(dataset: str, config_name: str | None) -> Tables:
    try:
        if (Path(dataset) / "dataset_dict.json").is_file() or (Path(dataset) / "state.json").is_file():
            splits = datasets.load_from_disk(dataset)
        else:
            with without_card_warning():
                splits = datasets.load_dataset(dataset, config_name)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        hint = hub_hint(dataset)
        if not hint and set("[]*?") & set(dataset):
            hint = " The name of a folder with metadata or tables may not have any of [ ] * ?: rename it."
        raise DataError(
            f"Dataset '{dataset}' cannot be opened: {first_line(error)}.{hint} Expected is 'shapes', a "
            "dataset of the Hub, a folder laid out for load_dataset, one with images/ and masks/, or COCO's official "
            "files."
        ) from error
    splits = splits if isinstance(splits, DatasetDict) else {"train": splits}
    return Tables(
        {split: without_outside_files(rows, split, dataset) for split, rows in splits.items()},
        hub_name=None if os.path.exists(dataset) else dataset,
    )
