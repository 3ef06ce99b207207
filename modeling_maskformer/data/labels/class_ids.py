"""Which class ids annotations use: found by reading all of them once, and remembered between runs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import datasets
from datasets import Dataset, Image
from tqdm.auto import tqdm

from ..errors import DataError
from ..samples import AnnotationFormat, file_stem, with_encoded_images


def scan_class_ids(
    splits: Mapping[str, Dataset], annotation_format: AnnotationFormat, image_column: str
) -> dict[int, bool]:
    """Id of each class in the annotations -> whether any of its pixels belong to an instance.

    Args:
        splits: the tables to read.
        annotation_format: reads a row's class ids.
        image_column: names the samples in messages; images are not decoded.
    """
    cache = _cache_file(splits, annotation_format, image_column)
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
        with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False) as file:  # others may look there now
            json.dump(found, file)
        os.replace(file.name, cache)
    return found


def _cache_file(splits: Mapping[str, Dataset], annotation_format: AnnotationFormat, image_column: str) -> Path | None:
    """A file named by the format, the tables and the state of all files behind them; None where they have no files."""
    state: list[object] = [repr(annotation_format)]
    for split, rows in splits.items():
        files = [entry["filename"] for entry in rows.cache_files] or _annotation_files(rows, image_column)
        if not files:
            return None
        status = [os.stat(file) for file in files]
        files = [(str(file), s.st_size, s.st_mtime_ns) for file, s in zip(files, status, strict=True)]
        # a slice, or a table with other cells, has the same files and another fingerprint
        state.append((split, len(rows), rows._fingerprint, files))
    key = hashlib.sha256(repr(state).encode()).hexdigest()[:32]
    return Path(datasets.config.HF_DATASETS_CACHE) / "modeling_maskformer" / f"class-ids-{key}.json"


def _annotation_files(rows: Dataset, image_column: str) -> list[str]:
    """The files of a table of paths, as made of folders of pictures; none where not all pictures are files."""
    pictures = [name for name, feature in rows.features.items() if isinstance(feature, Image) and name != image_column]
    if not pictures:
        return []
    rows = with_encoded_images(rows.select_columns(pictures))
    cells = (value or {} for row in rows for value in row.values())
    files = [None if value.get("bytes") is not None else value.get("path") for value in cells]
    return files if all(file and os.path.isfile(file) for file in files) else []
