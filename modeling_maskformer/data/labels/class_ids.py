"""Which class ids annotations use: found by reading all of them once, and remembered between runs."""

from __future__ import annotations

from collections.abc import Mapping

from datasets import Dataset
from tqdm.auto import tqdm

from ..errors import DataError
from ..samples import AnnotationFormat, file_stem, with_encoded_images
from .remembered import remembered


def scan_class_ids(
    splits: Mapping[str, Dataset], annotation_format: AnnotationFormat, image_column: str
) -> dict[int, bool]:
    """Id of each class in the annotations -> whether any of its pixels belong to an instance.

    Args:
        splits: the tables to read.
        annotation_format: reads a row's class ids.
        image_column: names the samples in messages; images are not decoded.
    """

    def find() -> dict[int, bool]:
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
        return found

    found = remembered(find, repr(annotation_format), splits, image_column)
    return {int(raw): bool(thing) for raw, thing in found.items()}
