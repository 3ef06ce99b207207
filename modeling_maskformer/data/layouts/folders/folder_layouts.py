"""Where the images and the masks of each split lie, in the ways in which people lay out folders."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from .picture_files import ALL_SUFFIXES, folders_in, has_pictures

# Names of folders, the surest first; without case, and without what separates words.
KINDS = {
    kind: tuple(names.split())
    for kind, names in {
        "images": "images image imgs img imgdir jpegimages pngimages leftimg8bit originalimages original photos photo "
        "pictures rgb frames inputs input",
        "masks": "masks mask segmentationclasspng segmentationclass anndir gtfine labels label annotations annotation "
        "annots annot segmentations segmentation segs seg gts gt groundtruths groundtruth maskimages labelimages "
        "labelimagessemantic semantic targets target",
        "instances": "segmentationobjectpng segmentationobject pedmasks instanceids instancemasks instancemaps "
        "instances",
    }.items()
}
_SPLITS = ("training", "train", "validation", "valid", "val", "dev", "testing", "test")
_SPLIT_STARTS = ("train", "val", "dev", "test")
# Files that `load_dataset` makes a table with pictures of; a folder of pictures alone holds none.
_TABLE_SUFFIXES = (".parquet", ".arrow", ".tar", ".zip", ".py")
_METADATA = re.compile(r"metadata\.(csv|jsonl|parquet)")
MAX_DEPTH = 3  # folders around a dataset, as VOCdevkit/VOC2012
READ_LAYOUTS = (
    "images/ and masks/ (or img_dir/ and ann_dir/, leftImg8bit/ and gtFine/, ...), with train/ and val/ around or "
    "inside them; train/ and train_masks/ (or train_images/ and train_labels/, train/ and trainannot/, ...); images "
    "and masks in one folder, as 1.jpg and 1.png or 1_mask.png; a folder of masks for each image; VOC's JPEGImages/ "
    "and SegmentationClass/; COCO's JSON files; YOLO's data.yaml with its folders; LabelMe's JSON files; and "
    "folders laid out for load_dataset"
)


@dataclass(frozen=True)
class Folders:
    """The folders of one split.

    Attributes:
        images: of images.
        masks: of maps of class ids, or of masks of objects; the same as `images` where they lie together.
        instances: of maps of instance ids.
    """

    images: Path
    masks: Path | None = None
    instances: Path | None = None


def find_folders(root: Path) -> dict[str, Folders]:
    """Split -> its folders; empty where `root` is not laid out like that.

    Either `images/` and `masks/`, these two inside `train/`, `val/`, ..., or these inside those two; or
    `train_images/` and `train_masks/`, or `train/` and `train_masks/`.
    """
    pair = _folders_in(root)
    if pair is not None:
        return _splits_inside(pair)
    inside = {folder.name: _folders_in(folder) for folder in folders_in(root)}
    return {split: found for split, found in inside.items() if found is not None} or _folders_by_split(root)


def inner_folders(root: Path) -> list[Path]:
    """The folder last; before it the one in it, if pictures are in no other, and so on: archives hold such folders."""
    found = [root]
    while len(found) <= MAX_DEPTH and not has_pictures(found[0], ALL_SUFFIXES, below=False):
        inside = [folder for folder in folders_in(found[0]) if has_pictures(folder, ALL_SUFFIXES)]
        if len(inside) != 1 or _split_in(plain_name(inside[0].name)) is not None:
            break
        found.insert(0, inside[0])
    return found


def split_folders(root: Path) -> dict[str, Path]:
    """Split -> folder of that name, such as `train/` and `val/`; the root as "train" where there is none."""
    folders = {folder.name: folder for folder in folders_in(root) if plain_name(folder.name) in _SPLITS}
    return folders or {"train": root}


def split_of_name(name: str) -> str | None:
    """The split that stands as a word in a name, as train in stage1_train; None where there is none."""
    return next((word for word in re.split(r"[^a-z]+", name.lower()) if word in _SPLITS), None)


def plain_name(name: str) -> str:
    """Without case and separators: Ground-Truth and ground_truth are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def kind_of_words(name: str) -> str | None:
    """The kind that one of the words tells, as in leaf_masks; those of masks before those of images."""
    kinds = {_kind_of(word) for word in re.split(r"[^a-z0-9]+", name.lower())}
    return next((kind for kind in ("instances", "masks", "images") if kind in kinds), None)


def is_for_load_dataset(root: Path) -> bool:
    """Whether a folder holds a file that `load_dataset` makes a table with pictures of."""
    return any(file.suffix.lower() in _TABLE_SUFFIXES or _METADATA.fullmatch(file.name) for file in root.rglob("*"))


def what_is_read(root: Path, limit: int = 12) -> str:
    """Sentences on the folders in a folder that was not recognised, and on the layouts that are."""
    inside = [folder for child in folders_in(root) for folder in (child, *folders_in(child))]
    names = [f"{folder.relative_to(root).as_posix()}/" for folder in inside]
    found = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "") or "none"
    known = next((f"'{child}' is: pass this folder. " for child in folders_in(root) if find_folders(child)), "")
    mend = "Masks called otherwise are found with --mask_name."
    return f"{known}Its folders are: {found}. What is read: {READ_LAYOUTS}. {mend}"


def _folders_in(root: Path) -> Folders | None:
    """The folders of images and masks in a folder, where no split stands in their names."""
    named: dict[str, dict[str, Path]] = {kind: {} for kind in KINDS}
    loose: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for folder in folders_in(root):
        kind = _kind_of(plain_name(folder.name))
        if kind is not None:
            named[kind][plain_name(folder.name)] = folder
        elif _split_in(plain_name(folder.name)) is None and split_of_name(folder.name) is None:
            kind = kind_of_words(folder.name)
            if kind is not None:
                loose[kind].append(folder)
    found = {kind: _choose([named[kind][name] for name in KINDS[kind] if name in named[kind]]) for kind in KINDS}
    if (
        found["instances"] is not None
        and found["masks"] is not None
        and not has_pictures(found["masks"], ALL_SUFFIXES)
    ):
        found["masks"] = None  # text, beside Penn-Fudan's PedMasks
    if found["masks"] is None and found["instances"] is None and len(loose["masks"]) == 1:
        found["masks"] = loose["masks"][0]
    if found["images"] is None and len(loose["images"]) == 1:
        found["images"] = loose["images"][0]
    if found["images"] is None or (found["masks"] is None and found["instances"] is None):
        return None
    return Folders(**found)


def _choose(folders: list[Path]) -> Path | None:
    """The first folder with pictures: VOC's Annotations/ holds boxes in XML."""
    with_pictures = (folder for folder in folders if len(folders) == 1 or has_pictures(folder, ALL_SUFFIXES))
    return next(with_pictures, folders[0] if folders else None)


def _splits_inside(pair: Folders) -> dict[str, Folders]:
    """The splits whose folders are inside all of these; masks may lie together. Else all of it is "train"."""
    places = {"images": pair.images, "masks": pair.masks, "instances": pair.instances}
    by_kind = {
        kind: {folder.name: folder for folder in folders_in(place) if folder.name.lower().startswith(_SPLIT_STARTS)}
        for kind, place in places.items()
        if place is not None and (kind == "images" or not has_pictures(place, ALL_SUFFIXES, below=False))
    }
    splits = sorted(set.intersection(*map(set, by_kind.values())))
    inside = {split: replace(pair, **{kind: folders[split] for kind, folders in by_kind.items()}) for split in splits}
    return inside or {"train": pair}


def _folders_by_split(root: Path) -> dict[str, Folders]:
    """The folders that carry the split in their names; one of the split's name alone holds images."""
    found: dict[str, dict[str, Path]] = {}
    loose: dict[str, dict[str, Path | None]] = {}
    for folder in folders_in(root):
        exact = _split_in(plain_name(folder.name))
        if exact is not None:
            split, kind = exact
            found.setdefault(split, {})[kind] = folder
            continue
        split, kind = split_of_name(folder.name), kind_of_words(folder.name)
        if split is not None and kind is not None:
            kinds = loose.setdefault(split, {})
            kinds[kind] = None if kind in kinds else folder  # two of a kind: not known which
    for split, kinds in loose.items():
        for kind, folder in kinds.items():
            if folder is not None:
                found.setdefault(split, {}).setdefault(kind, folder)
    return {split: Folders(**kinds) for split, kinds in sorted(found.items()) if "images" in kinds and len(kinds) > 1}


def _kind_of(name: str) -> str | None:
    return next((kind for kind, names in KINDS.items() if name in names), None)


def _split_in(name: str) -> tuple[str, str] | None:
    """Split and kind of names that consist of both: trainmasks, masksval, train (images)."""
    for split in _SPLITS:
        for rest in (name.removeprefix(split), name.removesuffix(split)):
            if rest != name and (kind := _kind_of(rest) if rest else "images") is not None:
                return split, kind
    return None
