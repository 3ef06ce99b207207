"""Opens a dataset as streams: its format and classes have to show in the first rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import Dataset, IterableDataset

from ..files.error_text import first_line
from .columns import find_columns
from .errors import DataError
from .formats import PixelValues, choose_format
from .formats.binary_mask import BinaryMaskFormat
from .labels.choose_labels import choose_labels
from .labels.label_files import read_named_ids
from .labels.label_set import LabelSet
from .layouts.folders.folder_layouts import is_for_load_dataset
from .layouts.inside_dataset import own_folders
from .layouts.loaded import name_of
from .layouts.open_tables import check_is_there, names_of_file, without_card_warning
from .layouts.tables import Tables, annotated_splits
from .samples import with_encoded_images
from .streams import StreamSamples

NUM_PEEKED = 8  # rows by which format and classes are told


def open_streams(
    dataset: str | Path | Mapping[str, IterableDataset],
    task: str,
    *,
    config_name: str | None,
    annotation_format: str | None,
    image_column: str | None,
    annotation_column: str | None,
    id2label: str | Path | Mapping | list | None,
    reduce_labels: bool,
    ignore_index: int | None,
    background: bool,
) -> tuple[dict[str, StreamSamples], LabelSet]:
    """The samples of each split, and the classes. For the arguments see `open_dataset`.

    Raises:
        DataError: the dataset cannot be streamed, or its first rows do not tell format or classes.
    """
    named = folders = None
    if isinstance(dataset, Mapping):
        splits = dict(dataset)
    else:
        path = Path(dataset).expanduser()
        check_is_there(dataset, path)
        if path.is_file() or (path.is_dir() and not _is_for_streaming(path)):
            raise DataError(
                f"Dataset '{dataset}' is not one to be streamed: pictures in folders, files of COCO and YOLO and what "
                "save_to_disk wrote are read picture by picture anyway, so leave --streaming out. It is for datasets "
                "of the Hub and folders of Parquet or similar files for load_dataset."
            )
        splits = _load(str(dataset), config_name)
        named = names_of_file(path) if path.is_dir() else None
        folders = own_folders(str(dataset))
        if not path.exists():
            folders += [f"hf://datasets/{dataset}@", f"hf://datasets/{dataset}/"]
    splits = {split: _with_features(rows, split) for split, rows in splits.items()}
    heads = {split: _head(rows) for split, rows in splits.items()}
    heads = {split: head for split, head in heads.items() if len(head)}
    if not heads:
        raise DataError(f"Dataset '{name_of(dataset)}' has no rows.")
    first = next(iter(annotated_splits(heads).values()))
    columns = find_columns(first.features, image_column, annotation_column)
    given = None if id2label is None else read_named_ids(id2label)
    known_ids = frozenset((given or named).names) if given or named else frozenset()
    values = PixelValues(named=known_ids, ignore_index=ignore_index)
    reader = choose_format(annotation_format, first, columns, task, values)
    if annotation_format is None and isinstance(reader, BinaryMaskFormat):
        raise DataError(
            f"The first {len(first)} masks hold 0 and 255 only, but a stream is not read to its end to see whether "
            "all do: pass --annotation_format binary_mask (0 is background, 255 foreground) or class_map (ids)."
        )
    tables = Tables(heads, named, are_heads=True)
    labels = choose_labels(tables, columns, reader, task, given, reduce_labels, ignore_index, background)
    return {
        split: StreamSamples(
            splits[split], columns.image, reader, labels, task, columns.image_id, split, folders=folders
        )
        for split in heads
    }, labels


def _is_for_streaming(folder: Path) -> bool:
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    return not saved and is_for_load_dataset(folder)


def _load(dataset: str, config_name: str | None) -> dict[str, IterableDataset]:
    try:
        with without_card_warning():
            return dict(datasets.load_dataset(dataset, config_name, streaming=True))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"Dataset '{dataset}' cannot be streamed: {first_line(error)}.") from error


def _with_features(rows: IterableDataset, split: str) -> IterableDataset:
    """The same stream; where its format does not tell the columns, as JSON, they are told by its first rows."""
    if rows.features is not None:
        return rows
    try:
        return rows._resolve_features()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"Split '{split}' is a stream that does not know its columns: make it with features, as "
            "IterableDataset.from_generator(rows, features=Features(image=Image(), annotation=Image()))."
        ) from error


def _head(rows: IterableDataset) -> Dataset:
    """The first rows as a table, pictures encoded."""
    rows = with_encoded_images(rows)
    return Dataset.from_list(list(rows.take(NUM_PEEKED)), features=rows.features)
