"""Datasets that are loaded already: a `datasets.Dataset`, or several of them as splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import Dataset, IterableDataset

from ..errors import DataError

Loaded = Dataset | Mapping[str, Dataset]  # a DatasetDict is such a mapping


def splits_of(loaded: Any) -> dict[str, Dataset]:
    """The splits of a `DatasetDict` or another mapping, or the one split, "train", of a `Dataset`.

    Raises:
        DataError: it is something else, or a split would not be read as it is: rows with a transform.
    """
    splits = dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}
    for name, rows in splits.items():
        if isinstance(rows, IterableDataset):
            raise DataError(f"Split '{name}' is a stream (IterableDataset), others are not: all or none is expected.")
        if not isinstance(rows, Dataset):
            raise DataError(
                f"Split '{name}' is of type {type(rows).__name__}: expected is a datasets.Dataset, a DatasetDict or "
                "another dict of Datasets, or the name of a dataset."
            )
        if rows.format["type"] == "custom":
            raise DataError(
                f"Split '{name}' has a transform (set_transform or with_transform), which would be passed over: make "
                "it part of the rows (map), or take it off (reset_format)."
            )
    return {str(name): rows.with_format(None) for name, rows in splits.items()}


def streams_of(loaded: Any) -> dict[str, IterableDataset] | None:
    """The splits of an `IterableDatasetDict` or another mapping of streams, or one stream; None of anything else."""
    splits = dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}
    if not splits or not all(isinstance(rows, IterableDataset) for rows in splits.values()):
        return None
    return {str(name): rows.with_format(None) for name, rows in splits.items()}


def name_of(dataset: Any) -> str:
    """What to call a dataset: its name or path; of a loaded one the name that `datasets` knows, if any."""
    if not isinstance(dataset, (Mapping, Dataset, IterableDataset)):
        return str(dataset)
    info = getattr(next(iter(dataset.values()), None) if isinstance(dataset, Mapping) else dataset, "info", None)
    if info is None or info.dataset_name in (None, info.builder_name):  # a builder such as "imagefolder" is no name
        return "a dataset in memory"
    return info.dataset_name
