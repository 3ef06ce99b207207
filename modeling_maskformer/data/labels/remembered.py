"""What is found by reading all annotations once, such as their class ids, and remembered between runs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import datasets
from datasets import Dataset, Image
from transformers.utils import logging

from ..samples import with_encoded_images

logger = logging.get_logger(__name__)

Found = TypeVar("Found")


def remembered(find: Callable[[], Found], what: str, splits: Mapping[str, Dataset], image_column: str) -> Found:
    """What is found by reading all annotations: found once, until they change.

    Args:
        find: finds it; as JSON has it, whose keys are texts.
        what: tells it from all else that is found in the same tables.
        splits: the tables that are read.
        image_column: of images, on which it does not depend.
    """
    cache = _cache_file(splits, what, image_column)
    try:
        if cache is not None and cache.is_file():
            return json.loads(cache.read_text())
    except (OSError, ValueError) as error:  # somebody else's, in a cache for several users
        logger.debug(f"'{cache}' cannot be read: {error}")
    found = find()
    if cache is not None:
        try:
            _write(found, cache)
        except OSError as error:  # there may be no place to write to: then it is found each time
            logger.debug(f"'{cache}' cannot be written: {error}")
    return found


def _write(found: Any, cache: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False) as file:  # others may look there now
        json.dump(found, file)
    os.replace(file.name, cache)


def _cache_file(splits: Mapping[str, Dataset], what: str, image_column: str) -> Path | None:
    """A file named by what it holds, the tables and the state of the files behind them; None where they have none."""
    state: list[object] = [what]
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
