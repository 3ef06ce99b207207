"""Opens a dataset for a task: its splits as samples, and its label set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..targets import TASKS
from .columns import describe, find_columns
from .errors import DataError
from .formats import FORMATS, PixelValues, choose_format
from .held_out import draw, part
from .labels.choose_labels import choose_labels
from .labels.label_files import read_named_ids
from .labels.label_set import LabelSet
from .layouts.folders.split_files import MaskSearch
from .layouts.label_tables import label_table
from .layouts.loaded import Loaded, name_of, streams_of
from .layouts.open_tables import open_tables
from .layouts.tables import annotated_splits
from .open_stream import open_streams
from .samples import RowSamples, SampleSource
from .shapes import ShapesDataset
from .streams import stream_of

GENERATED = "shapes"
NUM_GENERATED = {"train": 2000, "validation": 200}
# Names that splits usually have, best first; those that only begin like one come after it.
TRAIN_SPLITS = (("train", "training"),)
VALIDATION_SPLITS = (
    ("val", "valid", "validation"),
    ("dev", "development"),
    ("eval", "evaluation"),
    ("test", "testing"),
)


@dataclass
class SegmentationData:
    """An opened dataset: samples of each split, read when asked for, and its label set.

    Attributes:
        splits: split -> samples; `len()` and `[index] -> Sample`.
        labels: classes as the samples' segments number them.
        task: "semantic", "instance" or "panoptic".
    """

    splits: dict[str, SampleSource]
    labels: LabelSet
    task: str

    def train_and_validation(
        self,
        train_split: str | None = None,
        validation_split: str | None = None,
        validation_fraction: float = 0.1,
        seed: int = 0,
    ) -> tuple[SampleSource, SampleSource]:
        """The samples to train on and those to measure on.

        Args:
            train_split: default: the split called "train" (or "training"), or whose name starts so, or the only one.
            validation_split: default: the same with "val" (or "valid", "validation"), else "dev", "eval" or "test".
            validation_fraction: without a validation split, such a part is drawn from the training split, always the
                same for the same seed; samples of one image stay together.
            seed: of that draw.

        Raises:
            DataError: no such split, or too few samples to part them.
        """
        train_name = self._training_name(train_split)
        validation_name = find_split(self.splits, validation_split, VALIDATION_SPLITS)
        train = self.splits[train_name]
        if validation_name is not None and validation_name != train_name:
            return train, self.splits[validation_name]
        if stream_of(train) is not None:
            raise DataError(
                f"A stream cannot be parted into training and validation images, and there is no split to validate on "
                f"(the dataset has {', '.join(self.splits)}): name one with validation_split."
            )
        if not 0 < validation_fraction < 1:
            raise DataError(
                f"The dataset has no validation split (it has {', '.join(self.splits)}): "
                f"a validation_fraction between 0 and 1 is expected, got {validation_fraction}."
            )
        return part(train, draw(train, validation_fraction, seed))

    @property
    def has_validation_split(self) -> bool:
        """Whether a split other than the one to train on is there to be measured on."""
        name = find_split(self.splits, None, VALIDATION_SPLITS)
        return name is not None and name != find_split(self.splits, None, TRAIN_SPLITS)

    def training(self, split: str | None = None) -> SampleSource:
        """The samples of a split: by default of the one to train on, with those that may be set aside.

        Raises:
            DataError: no such split.
        """
        return self.splits[self._training_name(split)]

    def _training_name(self, split: str | None) -> str:
        name = find_split(self.splits, split, TRAIN_SPLITS)
        if name is None:
            raise DataError(f"No training split: the dataset has {', '.join(self.splits)}. Name it with train_split.")
        return name

    def evaluation(self, split: str | None = None) -> SampleSource:
        """The samples of a split: by default of the validation split, else of the only one.

        Raises:
            DataError: no such split.
        """
        name = find_split(self.splits, split, VALIDATION_SPLITS)
        if name is None:
            raise DataError(f"No validation split: the dataset has {', '.join(self.splits)}. Name one of them.")
        return self.splits[name]


def find_split(splits: Iterable[str], given: str | None, usual: Sequence[tuple[str, ...]] = ()) -> str | None:
    """The split of a name, or of another form of it, as "val" for "validation"; without a name the first usual one.

    Args:
        splits: what there is.
        given: the name asked for, None for the usual one.
        usual: forms of the names that a split usually has, best first, as `TRAIN_SPLITS`.

    Returns:
        None: no name was given, none is usual, and there are several.

    Raises:
        DataError: there is no split of this name, or several of its other forms.
    """
    splits = list(splits)
    if given in splits:
        return given
    if given is not None:
        usual = [forms for forms in (*TRAIN_SPLITS, *VALIDATION_SPLITS) if given.lower() in forms]
    for forms in usual:
        found = [name for name in splits if name.lower() in forms]
        found = found or [name for name in splits if name.lower().startswith(forms[0])]
        if found and (given is None or len(found) == 1):
            return found[0]
    if given is not None:
        raise DataError(f"There is no split '{given}': the dataset has {', '.join(splits)}.")
    return splits[0] if len(splits) == 1 else None


def open_dataset(
    dataset: str | Path | Loaded,
    task: str,
    *,
    config_name: str | None = None,
    annotation_format: str | None = None,
    image_column: str | None = None,
    annotation_column: str | None = None,
    mask_name: str | None = None,
    image_folder: str | None = None,
    id2label: str | Path | Mapping | list | None = None,
    reduce_labels: bool = False,
    ignore_index: int | None = 255,
    background: bool = False,
    skip_images_without_mask: bool = False,
    nearest_colour: bool = False,
    streaming: bool = False,
) -> SegmentationData:
    """The splits and labels of a dataset, for one task. Nothing of the dataset is executed, no picture is decoded yet.

        data = open_dataset(load_dataset("me/street"), "semantic")
        train, validation = data.train_and_validation()
        print(data.labels.id2label, train[0].image.size, train[0].segments.class_ids)

    Args:
        dataset: "shapes" (generated); a dataset of the Hub; a folder laid out for `load_dataset`; a folder of pictures
            with `images/` and `masks/`, or in another of the layouts in `folder_layouts.READ_LAYOUTS`; one with COCO's
            official files; a COCO JSON file; a folder with YOLO's data.yaml, or this file; one of LabelMe's files; or
            what `datasets` has loaded: a `Dataset`, a `DatasetDict` or another dict of splits.
        task: "semantic", "instance" or "panoptic".
        config_name: configuration of a Hub dataset; for "shapes", the size of the images in pixels (default 128).
        annotation_format: one of `formats.FORMATS`; None looks at the data.
        image_column: None finds it by its usual names.
        annotation_column: the column of maps or objects; None finds it by its usual names.
        mask_name: for folders of pictures: how the mask of an image is called, as "{stem}_mask.png", where `{stem}` is
            the image's name without ending. None finds it.
        image_folder: where the images are that the files of COCO, YOLO or LabelMe name, if not near these files.
        id2label: names of the classes: a JSON, YAML, CSV or text file, or its content, as `read_named_ids` takes it;
            ids are those of the annotations, numbered 0..K-1 in ascending order for the model; a file may also tell
            the colours of masks. None takes them from the dataset, or names the ids found in the annotations
            "class_0", "class_1", ...
        reduce_labels: pixels of id 0 are unlabelled, so that nothing is learnt of them, and id 1 becomes label 0.
            Names may begin with that of id 0 or leave it out; the ids in the annotations tell, else a warning does.
        ignore_index: this class id of maps and channels marks void pixels; None: no id does.
        background: id 0 is a class called background; names may leave it out, as with `reduce_labels`.
            In instance segmentation id 0 is always what is no object.
        skip_images_without_mask: leave images without a mask out, instead of refusing the folder.
        nearest_colour: take pixels of other colours, or grey values, than those of classes for the nearest of these,
            as in masks that were saved as JPEG, which are not read otherwise.
        streaming: read rows as they come, from the Hub or files for `load_dataset`: the splits are `StreamSamples`.

    Raises:
        DataError: a sentence about what cannot be used.
    """
    if task not in TASKS:
        raise DataError(f"task is one of {', '.join(TASKS)}, got '{task}'.")
    if annotation_format is not None and annotation_format not in FORMATS:
        raise DataError(f"annotation_format is one of {', '.join(FORMATS)}, got '{annotation_format}'.")
    if not isinstance(dataset, (str, Path)) and (config_name or mask_name or image_folder):
        raise DataError(
            "config_name, mask_name and image_folder are for datasets that are opened by their name or folder."
        )
    streams = None if isinstance(dataset, (str, Path)) else streams_of(dataset)
    if streaming or streams is not None:
        of_folders = mask_name or image_folder or skip_images_without_mask or nearest_colour
        if of_folders or (isinstance(dataset, str) and dataset == GENERATED):
            raise DataError(
                "Generated images, and folders of masks or images, are not streamed: leave --streaming out."
            )
        splits, labels = open_streams(
            streams or dataset,
            task,
            config_name=config_name,
            annotation_format=annotation_format,
            image_column=image_column,
            annotation_column=annotation_column,
            id2label=id2label,
            reduce_labels=reduce_labels,
            ignore_index=ignore_index,
            background=background,
        )
        return SegmentationData(splits, labels, task)
    if dataset == GENERATED:
        return _generated(task, config_name)
    preferred = annotation_format or ("coco_instance" if task == "instance" else "coco_panoptic")
    given = None if id2label is None else read_named_ids(id2label)
    search = MaskSearch(mask_name, skip_images_without_mask, jpeg=nearest_colour)
    try:
        tables = open_tables(dataset, config_name, preferred, search, image_folder, given)
    except UnicodeEncodeError as error:  # of pyarrow
        raise DataError(
            f"The file name {error.object!a:.300} is not in UTF-8, as of archives that were packed on another system: "
            "rename it, or unpack the archive with its encoding."
        ) from None
    tables.splits = {split: rows for split, rows in tables.splits.items() if len(rows) > 0}
    if not tables.splits:
        raise DataError(f"Dataset '{name_of(dataset)}' has no rows.")
    if given is not None and given.colours is not None:  # as a table beside the masks
        table = label_table(given, "The label file")
        tables.take(table)
        given = table.named
    first = next(iter(annotated_splits(tables.splits).values()))
    columns = find_columns(first.features, image_column, annotation_column)
    named = given or tables.named
    known_ids = frozenset() if named is None else frozenset(named.names)
    values = PixelValues(tables.colours, nearest_colour, known_ids, ignore_index)
    reader = choose_format(annotation_format or tables.annotation_format, first, columns, task, values)
    for split, rows in tables.splits.items():
        if rows.features.keys() != first.features.keys():
            raise DataError(
                f"Split '{split}' has the columns {describe(rows.features)}, the others {describe(first.features)}: "
                "the same are expected."
            )
    labels = choose_labels(tables, columns, reader, task, given, reduce_labels, ignore_index, background)
    splits = {
        split: RowSamples(rows, columns.image, reader, labels, task, columns.image_id, split)
        for split, rows in tables.splits.items()
    }
    return SegmentationData(splits, labels, task)


def _generated(task: str, config_name: str | None) -> SegmentationData:
    if config_name is not None and not config_name.isdecimal():
        raise DataError(f"The configuration of '{GENERATED}' is the images' size in pixels, got '{config_name}'.")
    size = int(config_name) if config_name else 128
    splits = {
        split: ShapesDataset(count, task, size, seed=seed) for seed, (split, count) in enumerate(NUM_GENERATED.items())
    }
    return SegmentationData(dict(splits), splits["train"].labels, task)
