"""Where the images and the masks of each split lie, in the ways in which people lay out folders."""

from __future__ import annotations

import re
from pathlib import Path

IMAGE_FOLDERS = (
    "images",
    "image",
    "imgs",
    "img",
    "img_dir",
    "jpegimages",
    "leftimg8bit",
    "photos",
    "inputs",
    "input",
)
MASK_FOLDERS = (
    "masks",
    "mask",
    "annotations",
    "annotation",
    "annot",
    "ann_dir",
    "labels",
    "label",
    "segmentations",
    "segmentation",
    "segmentationclass",
    "gt",
    "gtfine",
    "ground_truth",
    "targets",
    "target",
)
_SPLIT = r"(train(?:ing)?|val(?:id(?:ation)?)?|dev|test(?:ing)?)"
_SPLIT_FOLDER = re.compile(rf"{_SPLIT}[_\- ]?([a-z_]*)|([a-z_]+)[_\- ]{_SPLIT}")  # train_masks, or masks_train
# Files that `load_dataset` makes a table of; a folder of pictures alone holds none.
_TABLE_SUFFIXES = (".parquet", ".arrow", ".jsonl", ".json", ".csv", ".tar", ".zip", ".py")
READ_LAYOUTS = (
    "images/ and masks/ (or img_dir/ and ann_dir/, leftImg8bit/ and gtFine/, ...), with train/ and val/ around or "
    "inside them; train/ and train_masks/ (or train_images/ and train_labels/, train/ and trainannot/, ...); images "
    "and masks in one folder, as 1.jpg and 1_mask.png; COCO's JSON files; YOLO's data.yaml with its folders; "
    "and folders laid out for load_dataset"
)


def find_paired_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Split -> (folder of images, folder of masks); empty where `root` is not laid out like that.

    Either `images/` and `masks/`, these two inside `train/`, `val/`, ..., or these inside those two; or
    `train_images/` and `train_masks/`, or `train/` and `train_masks/`.
    """
    pair = _pair_in(root)
    if pair is None:
        inside = {folder.name: _pair_in(folder) for folder in folders_in(root)}
        return {split: found for split, found in inside.items() if found is not None} or _pairs_by_split(root)
    images, masks = pair
    splits = {folder.name for folder in folders_in(images)} & {folder.name for folder in folders_in(masks)}
    splits = sorted(split for split in splits if split.lower().startswith(("train", "val", "test")))
    return {split: (images / split, masks / split) for split in splits} or {"train": pair}


def folders_in(root: Path) -> list[Path]:
    """The folders in a folder, but hidden ones, by name."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def split_folders(root: Path) -> dict[str, Path]:
    """Split -> folder of that name, such as `train/` and `val/`; the root as "train" where there is none."""
    folders = {folder.name: folder for folder in folders_in(root) if re.fullmatch(_SPLIT, folder.name.lower())}
    return folders or {"train": root}


def is_for_load_dataset(root: Path, other_files: tuple[str, ...]) -> bool:
    """Whether a folder holds a file that `load_dataset` makes a table of, but for names among `other_files`."""
    return any(file.suffix.lower() in _TABLE_SUFFIXES and file.name not in other_files for file in root.rglob("*"))


def describe_folders(root: Path, limit: int = 12) -> str:
    """The folders in a folder and in these, for messages."""
    inside = [folder for child in folders_in(root) for folder in (child, *folders_in(child))]
    names = [f"{folder.relative_to(root).as_posix()}/" for folder in inside]
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "") or "none"


def _pair_in(root: Path) -> tuple[Path, Path] | None:
    by_name = {folder.name.lower(): folder for folder in folders_in(root)}
    images = next((by_name[name] for name in IMAGE_FOLDERS if name in by_name), None)
    masks = next((by_name[name] for name in MASK_FOLDERS if name in by_name), None)
    return None if images is None or masks is None else (images, masks)


def _pairs_by_split(root: Path) -> dict[str, tuple[Path, Path]]:
    """The pairs whose folders carry the split in their names; a folder of the split's name alone holds images."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for folder in folders_in(root):
        found = _SPLIT_FOLDER.fullmatch(folder.name.lower())
        if found:
            split, kind = found[1] or found[4], found[2] or found[3] or ""
            if kind in MASK_FOLDERS:
                masks[split] = folder
            elif kind in ("", *IMAGE_FOLDERS):
                images[split] = folder
    return {split: (images[split], masks[split]) for split in sorted(images.keys() & masks.keys())}
