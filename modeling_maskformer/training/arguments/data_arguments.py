"""DatasetArguments: which dataset, for which task, and how to read it; DataArguments: also how to train on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ...data.datasets import SegmentationData, open_dataset
from ...data.formats import FORMATS


@dataclass
class DatasetArguments:
    """Names a dataset. `task` may stay open where a checkpoint tells it.

    From Python, `dataset` may also be one that is loaded: a `datasets.Dataset`, a `DatasetDict` or a dict of splits.
    """

    _argument_group_name = "data"

    dataset: str = field(
        metadata={
            "help": "shapes (generated, nothing to download); a dataset of the Hub; a folder laid out for "
            "load_dataset; of images/ and masks/ (or img_dir/ and ann_dir/, leftImg8bit/ and gtFine/, ...), with or "
            "without train/ and val/; of train/ and train_masks/ (or train_images/ and train_labels/, ...); of images "
            "and masks together; of masks of objects; VOC; ADE20K; COCO's files; YOLO's data.yaml; LabelMe's files: "
            "scripts/datasets.md in the repository lists all."
        },
    )
    task: Literal["semantic", "instance", "panoptic"] | None = field(
        default=None,
        metadata={
            "help": "semantic: a class for each pixel. instance: a mask for each object. panoptic: both. "
            "Default: what the checkpoint was trained for; needed where there is none."
        },
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration of a Hub dataset; for shapes, the size of images in pixels."}
    )
    train_split: str | None = field(default=None, metadata={"help": "Split to train on. Default: train*."})
    validation_split: str | None = field(
        default=None, metadata={"help": "Split to evaluate on. Default: val*, dev*, eval* or test*."}
    )
    image_column: str | None = field(default=None, metadata={"help": "Column of images. Default: found by its name."})
    annotation_column: str | None = field(
        default=None, metadata={"help": "Column of annotations. Default: found by its name."}
    )
    annotation_format: str | None = field(
        default=None,
        metadata={
            "help": f"One of {', '.join(FORMATS)}. Default: found by looking. class_map: pixel = class id. "
            "colour_map: pixel = the class's colour in class_dict.csv or label_colors.txt. "
            "binary_mask: 0 = background, 255 = foreground. instance_ids: pixel = number of its object, 0 = "
            "background. object_masks: a mask for each object. "
            "channels: red = class id, green = instance id. coco_*: as COCO's panoptic and instance annotations. "
            "yolo: YOLO's outlines."
        },
    )
    mask_name: str | None = field(
        default=None,
        metadata={
            "help": "In folders of pictures, what the mask of an image is called, as {stem}_mask.png, where {stem} is "
            "the image's name without ending. Default: found by looking (1.png, 1_mask.png, mask_1.png, ...)."
        },
    )
    image_folder: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the images that the files of COCO, YOLO or LabelMe name. Default: found near these."
        },
    )
    id2label: str | None = field(
        default=None,
        metadata={
            "help": 'File of class names: JSON ({"0": "sky"}, ["sky"], COCO categories, ...), YAML, CSV, or text with '
            "a name in each line; it may tell the colours of masks. Default: those of the dataset, or class_0, ..."
        },
    )
    reduce_labels: bool = field(
        default=False,
        metadata={
            "help": "Pixels of id 0 are unlabelled, so nothing is learnt of them, and id 1 becomes class 0 (as in "
            "ADE20K). Where id 0 is a background to be told from the classes, --background is meant."
        },
    )
    background: bool = field(
        default=False,
        metadata={
            "help": "Id 0 is a class called background, whose pixels are learnt like all others; names of classes "
            "that leave it out are of the ids from 1."
        },
    )
    ignore_index: int = field(
        default=255, metadata={"help": "Class id of unlabelled pixels, which train nothing and count in no metric."}
    )
    skip_images_without_mask: bool = field(
        default=False, metadata={"help": "Leave images without a mask out, instead of refusing the dataset."}
    )
    nearest_colour: bool = field(
        default=False,
        metadata={
            "help": "Read masks saved as JPEG, or resized with smooth edges: each pixel is of the class whose colour, "
            "or grey value, is nearest."
        },
    )
    check_samples: int = field(
        default=2000,
        metadata={
            "help": "Images of each split to read before training starts, evenly spread, so that bad ones are found "
            "at once; 0 for none."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the dataset (of the Hub, or files for load_dataset) as it comes, as one that is larger than "
            "the disk: it needs --id2label where its columns name no classes; training also --max_steps and a "
            "validation split."
        },
    )

    def __post_init__(self) -> None:
        if self.check_samples < 0:
            raise ValueError(f"--check_samples must be at least 0, got {self.check_samples}.")

    def open(self, task: str) -> SegmentationData:
        """The dataset, opened for a task.

        Raises:
            DataError: a sentence about what cannot be used.
        """
        return open_dataset(
            self.dataset,
            task,
            config_name=self.dataset_config,
            annotation_format=self.annotation_format,
            image_column=self.image_column,
            annotation_column=self.annotation_column,
            mask_name=self.mask_name,
            image_folder=self.image_folder,
            id2label=self.id2label,
            reduce_labels=self.reduce_labels,
            ignore_index=self.ignore_index,
            background=self.background,
            skip_images_without_mask=self.skip_images_without_mask,
            nearest_colour=self.nearest_colour,
            streaming=self.streaming,
        )


@dataclass
class DataArguments(DatasetArguments):
    """What `DatasetArguments` have, and what only training reads."""

    validation_fraction: float = field(
        default=0.1, metadata={"help": "Without a validation split, this part of the training images serves as one."}
    )
    shuffle_buffer: int = field(
        default=1000,
        metadata={"help": "With --streaming: each training image is drawn from so many that are held in memory."},
    )
