"""The pictures of a dataset, without its annotations: for prediction."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

from ..inference.inputs import MAX_PIXELS, Picture, check_pixels
from .columns import find_columns
from .datasets import GENERATED, open_dataset
from .errors import DataError
from .layouts.tables import open_tables
from .samples import decode_image, decode_rgb, with_encoded_images


def dataset_pictures(
    dataset: str,
    split: str | None = None,
    config_name: str | None = None,
    image_column: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Picture]:
    """The pictures of one split, named `<split>_<row>`; annotations are not needed and not read.

    Args:
        dataset, config_name, image_column: as in `open_dataset`.
        split: None where the dataset has only one.
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
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        found = "no split was named" if split is None else f"there is no split '{split}'"
        raise DataError(f"Dataset '{dataset}' has the splits {', '.join(splits)}, but {found}.")
    if is_generated:
        samples = splits[split]
        return [Picture(f"{split}_{row:06d}", row, lambda row=row: samples[row].image) for row in range(len(samples))]
    return _pictures_of_rows(splits[split], split, image_column, max_pixels)


def _pictures_of_rows(rows: Dataset, split: str, image_column: str | None, max_pixels: int) -> list[Picture]:
    columns = find_columns(rows.features, image_column)
    image_ids = range(len(rows)) if columns.image_id is None else rows[columns.image_id]
    file_names = rows["file_name"] if "file_name" in rows.column_names else [""] * len(rows)  # COCO's
    encoded = with_encoded_images(rows.select_columns([columns.image]))

    def load(row: int) -> Any:
        image = decode_image(encoded[row][columns.image], columns.image)
        check_pixels(image, max_pixels)
        return decode_rgb(image, columns.image)

    return [
        Picture(f"{split}_{row:06d}", image_id, lambda row=row: load(row), file_name)
        for row, (image_id, file_name) in enumerate(zip(image_ids, file_names, strict=True))
    ]
