"""Which class ids a dataset uses, found by reading its annotations once and remembered between runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import datasets
from datasets import Dataset
from tqdm.auto import tqdm

from .errors import DataError
from .samples import AnnotationFormat, file_stem, with_encoded_images


def scan_class_ids(
    splits: Mapping[str, Dataset], annotation_format: AnnotationFormat, image_column: str
) -> dict[int, bool]:
    """Id of each class in the annotations -> whether any of its pixels belong to an instance.

    Args:
        splits: the tables to read.
        annotation_format: reads a row's class ids.
        image_column: names the samples in messages; images are not decoded.
    """
    cache = _cache_file(splits, annotation_format)
    if cache is not None and cache.is_file():
        return {int(raw): bool(thing) for raw, thing in json.loads(cache.read_text()).items()}
    found: dict[int, bool] = {}
    for split, rows in splits.items():
        rows = with_encoded_images(rows)  # no picture is decoded but by the format
        for index, row in enumerate(tqdm(rows, desc=f"Looking for class ids in '{split}'", leave=False)):
            try:
                for raw, thing in annotation_format.class_ids(row).items():
                    found[raw] = found.get(raw, False) or thing
            except DataError as error:
                name = file_stem(row[image_column]) or f"{split}_{index:06d}"
                raise DataError(f"Sample {index} of split '{split}' ({name}): {error}.") from error.__cause__
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(found))
    return found


def _cache_file(splits: Mapping[str, Dataset], annotation_format: AnnotationFormat) -> Path | None:
    """A file named by the format and the state of all files behind the tables; None where they have no files."""
    state: list[object] = [repr(annotation_format)]
    for split, rows in splits.items():
        files = [entry["filename"] for entry in rows.cache_files] or _annotation_files(rows)
        if not files:
            return None
        status = [os.stat(file) for file in files]
        state.append((split, [(str(file), s.st_size, s.st_mtime_ns) for file, s in zip(files, status, strict=True)]))
    key = hashlib.sha256(repr(state).encode()).hexdigest()[:32]
    return Path(datasets.config.HF_DATASETS_CACHE) / "modeling_maskformer" / f"class-ids-{key}.json"


def _annotation_files(rows: Dataset) -> list[str]:
    """The files of a table of paths, as made of folders of pictures."""
    if "annotation" not in rows.column_names:
        return []
    encoded = with_encoded_images(rows)["annotation"]
    files = [entry.get("path") if isinstance(entry, Mapping) else None for entry in encoded]
    return files if all(file and os.path.isfile(file) for file in files) else []
