"""From the name of a dataset to tables of rows: Hub names, folders for `load_dataset`, folders of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, Image

from ..errors import DataError
from ..label_files import read_named_ids
from ..labels import NamedIds
from .cityscapes import named_ids_of
from .coco_files import find_coco_files, read_coco_tables
from .folder_layouts import READ_LAYOUTS, describe_folders, find_paired_folders, is_for_load_dataset, split_folders
from .inside_dataset import without_outside_files
from .label_tables import TABLE_FILES, find_label_table
from .labelme_files import find_labelme_files, read_labelme_tables
from .loaded import Loaded, splits_of
from .mask_names import STEM, in_folder_of, match_names, suffix_of_masks
from .yolo_files import find_yolo_file, read_yolo_tables

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")  # none that loses values
LABEL_FILES = ("id2label.json", "label2id.json", "labels.json", "categories.json")
LABEL_FILES += ("labels.txt", "classes.txt", "class_names.txt", "classes.csv", "labels.yaml", "classes.yaml")


@dataclass
class Tables:
    """The splits of a dataset as tables, and the names of the classes where its files tell them."""

    splits: dict[str, Dataset]
    named: NamedIds | None = None
    colours: dict[int, int] | None = None  # R + 256 G + 65536 B -> class id, where a table tells it
    void_ids: frozenset[int] = frozenset()  # ids of unlabelled pixels, where the dataset is known to have them
    annotation_format: str | None = None  # where files of COCO, YOLO or LabelMe tell it
    hub_name: str | None = None  # of the dataset's repository, where it comes from the Hub


def open_tables(
    dataset: str | Path | Loaded,
    config_name: str | None = None,
    coco_format: str | None = None,
    mask_name: str | None = None,
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
        mask_name: how the mask of an image is called, as "{stem}_mask.png"; None finds it.
        image_folder: where the images are that files of annotations name, if not near them; may be anywhere.
        given: the caller's names of classes, which give LabelMe's labels their ids.

    Raises:
        DataError: it cannot be found or opened, or names files that are not its own.
    """
    if not isinstance(dataset, (str, Path)):
        return Tables(splits_of(dataset))
    path = Path(dataset).expanduser()
    images = _image_folder(image_folder)
    if images is not None and (mask_name is not None or not path.exists()):
        raise _no_use_of_image_folder(dataset)
    if mask_name is not None:  # a mask for each image is asked for, whatever else is there
        tables = _open_pictures(path, mask_name) if path.is_dir() else None
        if tables is None:
            raise DataError(
                f"mask_name is for a folder with images and a mask for each: in '{dataset}' are no folders of images "
                f"and masks, and no image has a mask '{mask_name}' beside it."
            )
        return tables
    if not path.exists():
        return _load(dataset, config_name)
    coco_files = find_coco_files(path, coco_format)
    if coco_files:
        splits, named, coco_format = read_coco_tables(path, coco_files, images)
        return Tables(splits, named, annotation_format=coco_format)
    yolo_file = find_yolo_file(path)
    if yolo_file:
        return Tables(*read_yolo_tables(yolo_file, images), annotation_format="yolo")
    if path.is_file():
        raise DataError(
            f"Dataset '{dataset}' is a file but no COCO JSON with images, annotations and categories, and no "
            "data.yaml of YOLO."
        )
    if not any(path.iterdir()):
        raise DataError(f"The dataset folder '{dataset}' is empty.")
    labelme_files = find_labelme_files(path)
    if labelme_files:
        found = read_labelme_tables(path, labelme_files, given or _names_of_file(path), images)
        return Tables(found.splits, found.named, None, found.void_ids, "coco_instance")
    if images is not None:
        raise _no_use_of_image_folder(dataset)
    tables = _open_pictures(path, mask_name)
    if tables is not None:
        return tables
    if not is_for_load_dataset(path, (*LABEL_FILES, *TABLE_FILES)):
        raise DataError(
            f"The dataset folder '{dataset}' is not laid out in a way that is read. Its folders are: "
            f"{describe_folders(path)}. What is read: {READ_LAYOUTS}. Masks called otherwise are found with "
            "--mask_name."
        )
    tables = _load(str(path), config_name)
    tables.named = _names_of_file(path)
    return tables


def _image_folder(image_folder: str | None) -> Path | None:
    if image_folder is None:
        return None
    if not Path(image_folder).expanduser().is_dir():
        raise DataError(f"There is no folder of images '{image_folder}' (image_folder).")
    return Path(image_folder).expanduser()


def _no_use_of_image_folder(dataset: str | Path) -> DataError:
    return DataError(f"image_folder is for a folder with files of COCO, YOLO or LabelMe, which '{dataset}' is not.")


def _open_pictures(path: Path, mask_name: str | None) -> Tables | None:
    """The tables of a folder of images and masks, and what is told beside them; None where it is none."""
    folders = find_paired_folders(path)
    if not folders and (mask_name is not None or next(path.rglob("metadata.*"), None) is None):
        folders = _folders_of_both(path, mask_name)
    if not folders:
        return None
    tables = Tables({})
    for split, (images, masks) in folders.items():
        template, tables.splits[split] = pair_files(images, masks, mask_name)
        tables.named, tables.void_ids = named_ids_of(template)
    table = find_label_table(path)
    if table is not None:
        tables.named, tables.colours, tables.void_ids = table.named, table.colours, table.void_ids
    tables.named = _names_of_file(path) or tables.named
    return tables


def _names_of_file(folder: Path) -> NamedIds | None:
    return next((read_named_ids(folder / name) for name in LABEL_FILES if (folder / name).is_file()), None)


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
    return Tables(
        {split: without_outside_files(rows, split, dataset) for split, rows in splits.items()},
        hub_name=None if Path(dataset).exists() else dataset,
    )


def _folders_of_both(root: Path, mask_name: str | None) -> dict[str, tuple[Path, Path]]:
    """Split -> the one folder in which its images and masks lie, twice; empty where files are not called like that."""
    found = {}
    for split, folder in split_folders(root).items():
        names = _files(folder, IMAGE_SUFFIXES, one_a_stem=False)
        template = _template(mask_name) if mask_name else suffix_of_masks(names)
        if template is not None and any(in_folder_of(name, template, name) in names for name in names):
            found[split] = (folder, folder)
    return found


def pair_files(images: Path, masks: Path, mask_name: str | None = None) -> tuple[str, Dataset]:
    """A table of `image` and `annotation`: each image and the mask of the same path below its folder, but for affixes.

    Args:
        images: folder of images.
        masks: folder of masks; the same where they lie together.
        mask_name: how the mask of an image is called, as "{stem}_mask.png"; None finds it.

    Returns:
        How masks are called, and the table.

    Raises:
        DataError: there are no images, or some have no mask.
    """
    image_files = _files(images, IMAGE_SUFFIXES, one_a_stem=images != masks)
    mask_files = _files(masks, MASK_SUFFIXES, one_a_stem=images != masks)
    template = _template(mask_name) if mask_name else suffix_of_masks(image_files) if images == masks else None
    if template is not None:
        matched = {stem: in_folder_of(stem, template, stem) for stem in image_files}
        are_masks = set(matched.values()) if images == masks else set()
        image_files = {stem: file for stem, file in image_files.items() if stem not in are_masks}
        matched = {stem: matched[stem] for stem in image_files if matched[stem] in mask_files}
    else:
        template, matched = match_names(image_files, mask_files)
    if not image_files:
        raise DataError(f"Folder '{images}' has no image ({', '.join(IMAGE_SUFFIXES)}).")
    missing = sorted(image_files.keys() - matched.keys())
    if missing:
        name = "of the same stem" if template == STEM else f"called '{template}'"
        if next(masks.rglob("*.txt"), None) is not None and not mask_files:
            mend = "It holds text: for YOLO's outlines a data.yaml that names classes and folders is needed."
        else:
            mend = f"Masks called otherwise are found with --mask_name, such as '{STEM}_mask.png'."
        raise DataError(
            f"{len(missing)} of {len(image_files)} images in '{images}' have no mask {name} "
            f"({', '.join(MASK_SUFFIXES)}) in '{masks}', among them '{image_files[missing[0]].name}'. "
            f"{mend}"
        )
    stems = sorted(image_files)
    table = {
        "image": [str(image_files[stem]) for stem in stems],
        "annotation": [str(mask_files[matched[stem]]) for stem in stems],
    }
    return template, Dataset.from_dict(table).cast_column("image", Image()).cast_column("annotation", Image())


def _template(mask_name: str) -> str:
    """The name of masks without ending."""
    if STEM not in mask_name or "/" in mask_name:
        raise DataError(
            f"mask_name is the name of an image's mask, in which {STEM} stands for the image's name without ending, "
            f"as '{STEM}_mask.png'; got '{mask_name}'."
        )
    suffix = Path(mask_name).suffix
    return mask_name.removesuffix(suffix) if suffix.lower() in MASK_SUFFIXES else mask_name


def _files(folder: Path, suffixes: tuple[str, ...], one_a_stem: bool = True) -> dict[str, Path]:
    """Path below the folder without suffix -> file."""
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith("."):
            stem = file.relative_to(folder).with_suffix("").as_posix()
            if stem in found and one_a_stem:
                raise DataError(f"Folder '{folder}' has two files of the stem '{stem}': one is expected.")
            found[stem] = file
    return found
