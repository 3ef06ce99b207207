"""The pictures of a dataset, without its annotations: for prediction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from PIL.Image import Image

from ..inference.inputs import MAX_PIXELS, Picture, file_stamp
from .columns import find_columns
from .datasets import GENERATED, find_split, open_dataset
from .errors import DataError
from .layouts.open_tables import open_tables
from .samples import decode_rgb, with_encoded_images


def dataset_pictures(
    dataset: str,
    split: str | None = None,
    config_name: str | None = None,
    image_column: str | None = None,
    max_pixels: int = MAX_PIXELS,
    usual: Sequence[tuple[str, ...]] = (),
) -> Sequence[Picture]:
    """The pictures of one split, named `<split>_<row>`; annotations are not needed and not read.

    Args:
        dataset, config_name, image_column: as in `open_dataset`.
        split, usual: as in `find_split`.
        max_pixels: a picture of more cannot be read.

    Raises:
        DataError: no such dataset, split or column.
    """
    is_generated = dataset == GENERATED
    splits: dict[str, Any] = (
        open_dataset(dataset, "panoptic", config_name=config_name).splits
        if is_generated
        else open_tables(dataset, config_name).splits
    )
    split = find_split(splits, split, usual)
    if split is None:
        raise DataError(f"Dataset '{dataset}' has the splits {', '.join(splits)}, but no split was named.")
    if is_generated:
        samples = splits[split]
        return PicturesOfRows(
            split, len(samples), lambda row: samples[row].image, lambda row: (row, ""), lambda row: GENERATED
        )
    return _pictures_of_rows(splits[split], split, image_column, max_pixels)


class PicturesOfRows(Sequence[Picture]):
    """The pictures of a table, named `<split>_<row>`.

    Args:
        split: its name.
        count: how many rows there are.
        load: a row's number -> its picture, as RGB.
        ids: a row's number -> what COCO files call its picture, and its file's name there, if it has one.
        stamp: a row's number -> what tells its picture from that of another dataset, or from an earlier one.
    """

    def __init__(
        self,
        split: str,
        count: int,
        load: Callable[[int], Image],
        ids: Callable[[int], tuple[int | str, str]],
        stamp: Callable[[int], str],
    ) -> None:
        self.split = split
        self.count = count
        self.load = load
        self.ids = ids
        self.stamp = stamp

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Picture:
        if not 0 <= row < self.count:
            raise IndexError(row)
        image_id, file_name = self.ids(row)
        name = f"{self.split}_{row:06d}"
        return Picture(name, image_id, partial(self.load, row), file_name, partial(self.stamp, row))


def _pictures_of_rows(rows: Dataset, split: str, image_column: str | None, max_pixels: int) -> PicturesOfRows:
    columns = find_columns(rows.features, image_column)
    encoded = with_encoded_images(rows.select_columns([columns.image]))

    def load(row: int) -> Image:
        return decode_rgb(encoded[row][columns.image], columns.image, max_pixels)

    own = [name for name in (columns.image_id, "file_name") if name in rows.column_names]
    described = rows.select_columns(own)

    def ids(row: int) -> tuple[int | str, str]:
        entry = described[row] if own else {}
        return entry.get(columns.image_id, row), entry.get("file_name") or ""

    def stamp(row: int) -> str:
        return _stamp_of(encoded[row][columns.image])

    return PicturesOfRows(split, len(rows), load, ids, stamp)


def _stamp_of(encoded: Mapping[str, Any] | None) -> str:
    """What tells an encoded picture from another: its bytes, or the file or address that has them."""
    content, path = (encoded or {}).get("bytes"), (encoded or {}).get("path")
    if content is not None:
        return hashlib.blake2b(content, digest_size=16).hexdigest()
    return path or "" if path is None or "://" in path or "::" in path else file_stamp(path)
