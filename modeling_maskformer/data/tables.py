"""From the name of a dataset to tables of rows: Hub names, folders for `load_dataset`, folders of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, Image

from .coco_files import find_coco_files, read_coco_tables
from .errors import DataError
from .inside_dataset import without_outside_files
from .labels import NamedIds, read_named_ids

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "inputs", "input")
MASK_FOLDERS = (
    "masks",
    "mask",
    "annotations",
    "annotation",
    "labels",
    "label",
    "segmentations",
    "segmentation",
    "segmentationclass",
    "gt",
    "ground_truth",
    "targets",
    "target",
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")  # none that loses values
LABEL_FILES = ("id2label.json", "label2id.json", "labels.json", "categories.json")


@dataclass
class Tables:
    """The splits of a dataset as tables, and the names of the classes where its files tell them."""

    splits: dict[str, Dataset]
    named: NamedIds | None = None
    coco_format: str | None = None  # the annotation format, where it was official COCO files


def open_tables(dataset: str, config_name: str | None = None, coco_format: str | None = None) -> Tables:
    """The tables of a dataset; nothing of it is executed, and no picture is read.

    Args:
        dataset: the name of a dataset on the Hub; or a folder: of COCO's official files, of pictures and masks, or
            laid out for `load_dataset`; or a COCO JSON file.
        config_name: configuration of a Hub dataset.
        coco_format: "coco_panoptic" or "coco_instance", which of COCO's files to prefer.

    Raises:
        DataError: it cannot be found or opened, or names files that are not its own.
    """
    path = Path(dataset).expanduser()
    if not path.exists():
        return _load(dataset, config_name)
    coco_files = find_coco_files(path, coco_format)
    if coco_files:
        splits, named, coco_format = read_coco_tables(path, coco_files)
        return Tables(splits, named, coco_format)
    if path.is_file():
        raise DataError(f"Dataset '{dataset}' is a file but no COCO JSON with images, annotations and categories.")
    if not any(path.iterdir()):
        raise DataError(f"The dataset folder '{dataset}' is empty.")
    paired = find_paired_folders(path)
    named = next((read_named_ids(path / name) for name in LABEL_FILES if (path / name).is_file()), None)
    if paired:
        return Tables({split: pair_files(*folders) for split, folders in paired.items()}, named)
    tables = _load(str(path), config_name)
    tables.named = named
    return tables


def _load(dataset: str, config_name: str | None) -> Tables:
    try:
        if (Path(dataset) / "dataset_dict.json").is_file() or (Path(dataset) / "state.json").is_file():
            splits = datasets.load_from_disk(dataset)
        else:
            splits = datasets.load_dataset(dataset, config_name)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "" if Path(dataset).exists() else " There is no such folder here, so it was looked up on the Hub."
        raise DataError(
            f"Dataset '{dataset}' cannot be opened: {reason.rstrip('.')}.{hint} Expected is 'shapes', a dataset of "
            "the Hub, a folder laid out for load_dataset, one with images/ and masks/, or COCO's official files."
        ) from error
    splits = splits if isinstance(splits, DatasetDict) else {"train": splits}
    return Tables({split: without_outside_files(rows, split, dataset) for split, rows in splits.items()})


def find_paired_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Split -> (folder of images, folder of masks); empty where `root` is not laid out like that.

    Either `images/` and `masks/`, these two inside `train/`, `val/`, ..., or these inside those two.
    """
    pair = _pair_in(root)
    if pair is None:
        inside = {folder.name: _pair_in(folder) for folder in _folders(root)}
        return {split: found for split, found in inside.items() if found is not None}
    images, masks = pair
    splits = {folder.name for folder in _folders(images)} & {folder.name for folder in _folders(masks)}
    splits = sorted(split for split in splits if split.lower().startswith(("train", "val", "test")))
    return {split: (images / split, masks / split) for split in splits} or {"train": pair}


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pair_in(root: Path) -> tuple[Path, Path] | None:
    by_name = {folder.name.lower(): folder for folder in _folders(root)}
    images = next((by_name[name] for name in IMAGE_FOLDERS if name in by_name), None)
    masks = next((by_name[name] for name in MASK_FOLDERS if name in by_name), None)
    return None if images is None or masks is None else (images, masks)


def pair_files(images: Path, masks: Path) -> Dataset:
    """A table of `image` and `annotation`: each image and the mask of the same path below its folder, but suffix."""
    image_files = _files(images, IMAGE_SUFFIXES)
    mask_files = _files(masks, MASK_SUFFIXES)
    if not image_files:
        raise DataError(f"Folder '{images}' has no image ({', '.join(IMAGE_SUFFIXES)}).")
    missing = sorted(image_files.keys() - mask_files.keys())
    if missing:
        raise DataError(
            f"{len(missing)} of {len(image_files)} images in '{images}' have no mask of the same stem "
            f"({', '.join(MASK_SUFFIXES)}) in '{masks}', among them '{image_files[missing[0]].name}'."
        )
    stems = sorted(image_files)
    table = {
        "image": [str(image_files[stem]) for stem in stems],
        "annotation": [str(mask_files[stem]) for stem in stems],
    }
    return Dataset.from_dict(table).cast_column("image", Image()).cast_column("annotation", Image())


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Path below the folder without suffix -> file."""
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith("."):
            stem = file.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                raise DataError(f"Folder '{folder}' has two files of the stem '{stem}': one is expected.")
            found[stem] = file
    return found
