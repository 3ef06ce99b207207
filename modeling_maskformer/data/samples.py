"""What every source of data yields: a `Sample`, an RGB image with its segments."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol, TypeVar

import fsspec
import PIL.Image
import pyarrow.compute as pc
from datasets import Dataset, Image, IterableDataset, List

from ..inference.decoding import decode_picture, has_deep_pixels
from ..targets import Segments
from .columns import is_list_of_pictures
from .errors import DataError
from .labels.label_set import LabelSet, NamedIds


@dataclass
class Sample:
    """One annotated image.

    Attributes:
        image: RGB picture, H x W.
        segments: its segments, `(L, H, W)` ids.
        name: unique within its split as far as file names are; without folder and extension.
        image_id: the dataset's own id of the image, else its position in the split.
    """

    image: PIL.Image.Image
    segments: Segments
    name: str
    image_id: int | str | None = None


class SampleSource(Protocol):
    """Random access to samples: what datasets read from disk and generated ones have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class AnnotationFormat(Protocol):
    """A way to write segments down. Errors are DataErrors that do not name the sample."""

    tasks: tuple[str, ...]  # that it can serve
    why: str  # it cannot serve the others
    has_categories: bool  # ids are categories of segments, so no value of a pixel means void or background
    names: NamedIds | None  # of the classes, where the form itself has them: 0 is background, 1 is not

    def read(self, row: Mapping[str, Any], labels: LabelSet, task: str, size: tuple[int, int]) -> Segments:
        """The segments of a row whose image has `size` (H, W), as `task` needs them."""

    def class_ids(self, row: Mapping[str, Any]) -> dict[int, bool]:
        """Ids of the classes in a row's annotation, True for those that have instances."""


class RowReader:
    """A row of a table or stream -> its sample.

    Args:
        image_column: the column of images.
        annotation_format: how segments are written.
        labels: the classes and their ids in the annotations.
        task: "semantic", "instance" or "panoptic".
        id_column: column with the image's id, if there is one.
        split: name of the split, for messages.
    """

    def __init__(
        self,
        image_column: str,
        annotation_format: AnnotationFormat,
        labels: LabelSet,
        task: str,
        id_column: str | None = None,
        split: str = "train",
    ) -> None:
        self.image_column = image_column
        self.annotation_format = annotation_format
        self.labels = labels
        self.task = task
        self.id_column = id_column
        self.split = split

    def read(self, row: Mapping[str, Any], index: int) -> Sample:
        """The sample of a row, whose pictures are still encoded.

        Raises:
            DataError: what is wrong with which sample.
        """
        name = self.name_of(row, index)
        try:
            image = decode_rgb(row[self.image_column], self.image_column)
            size = (image.height, image.width)
            segments = self.annotation_format.read(row, self.labels, self.task, size)
            if segments.size != size:
                mend = why_sizes_differ(segments.size, size, "they must have the same size")
                raise DataError(
                    f"the annotation is {segments.size[1]} x {segments.size[0]} pixels (width x height) but the image "
                    f"is {image.width} x {image.height}: {mend}"
                )
        except DataError as error:
            raise DataError(f"Sample {index} of split '{self.split}' ({name}): {error}.") from error.__cause__
        image_id = row[self.id_column] if self.id_column is not None else index
        return Sample(image, segments, name, image_id)

    def name_of(self, row: Mapping[str, Any], index: int) -> str:
        """The name of a row's sample: that of its file, else the split and the row's number."""
        return file_stem(row[self.image_column]) or f"{self.split}_{index:06d}"


def why_sizes_differ(annotated: tuple[int, int], size: tuple[int, int], else_do: str) -> str:
    """What to do where an annotation is of an image of another (H, W) than its image: `else_do` if none was turned."""
    if annotated != size[::-1]:
        return else_do
    return (
        "it is a photo that its EXIF tag turns, while its annotations were made of it unturned, or one of the two was "
        "rotated. Remove the tag (exiftool -Orientation= FILE), or annotate the turned image"
    )


class RowSamples(RowReader):
    """The samples of a `datasets.Dataset`, each row read and decoded when it is asked for.

    Args:
        rows: table with an image column and the columns that the annotation format reads.
        arguments: those of `RowReader`.
    """

    def __init__(self, rows: Dataset, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.rows = with_encoded_images(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.read(self.rows[index], index)

    def identity(self, index: int) -> tuple[str, str]:
        """The name of an image and a digest of its file, which is not decoded.

        Raises:
            DataError: there is no such file.
        """
        row = self.rows[index]
        name = self.name_of(row, index)
        try:
            content = read_encoded(row[self.image_column], self.image_column)
        except DataError as error:
            raise DataError(f"Sample {index} of split '{self.split}' ({name}): {error}.") from error.__cause__
        return name, hashlib.sha256(content).hexdigest()

    def lengths(self) -> list[int]:
        """The bytes of each image's file, which equal images have in common; one of its own where there is none."""
        if not isinstance(self.rows.features[self.image_column], Image):
            return list(range(len(self)))
        lengths: list[int] = []
        for batch in self.rows.select_columns([self.image_column]).with_format("arrow").iter(1000):
            for cells in batch[self.image_column].chunks:
                contents, paths = (pc.struct_field(cells, field) for field in ("bytes", "path"))
                for length, path in zip(pc.binary_length(contents).to_pylist(), paths.to_pylist(), strict=True):
                    if length is None:
                        is_file = path is not None and os.path.isfile(path)
                        length = os.path.getsize(path) if is_file else -1 - len(lengths)
                    lengths.append(length)
        return lengths


Rows = TypeVar("Rows", Dataset, IterableDataset)


def with_encoded_images(rows: Rows) -> Rows:
    """The same rows with pictures left encoded, so that they are decoded one by one, with errors that name them."""
    for column, feature in rows.features.items():
        if isinstance(feature, Image) and feature.decode:
            rows = rows.cast_column(column, Image(mode=feature.mode, decode=False))
        elif is_list_of_pictures(feature) and feature.feature.decode:
            rows = rows.cast_column(column, List(Image(mode=feature.feature.mode, decode=False)))
    return rows


def file_stem(encoded: Any) -> str | None:
    """File name of an encoded image without folder and extension, None where it has none."""
    path = encoded.get("path") if isinstance(encoded, Mapping) else None
    return PurePath(path).stem if path else None


def content_or_path(encoded: Any, column: str) -> tuple[bytes | None, str | None]:
    """The file of an encoded `datasets.Image` value, or where it lies."""
    content, path = (encoded.get("bytes"), encoded.get("path")) if isinstance(encoded, Mapping) else (None, None)
    if content is None and path is None:
        raise DataError(f"column '{column}' is empty, a picture is expected")
    return content, path


def read_encoded(encoded: Any, column: str) -> bytes:
    """The file of an encoded `datasets.Image` value, of a picture in memory its pixels."""
    if isinstance(encoded, PIL.Image.Image):
        return encoded.tobytes()
    content, path = content_or_path(encoded, column)
    if content is not None:
        return content
    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise DataError(f"the picture in column '{column}' cannot be read: {error}") from error


def decode_mask(encoded: Any, column: str) -> PIL.Image.Image:
    """The picture of an encoded `datasets.Image` value, in its own mode, if it is the only one of its file."""
    return decode_image(encoded, column, is_alone=True)


def decode_image(encoded: Any, column: str, max_pixels: int | None = None, is_alone: bool = False) -> PIL.Image.Image:
    """The picture of an encoded `datasets.Image` value, in its own mode, if it has at most `max_pixels`."""
    if isinstance(encoded, PIL.Image.Image):
        return encoded
    content, path = content_or_path(encoded, column)
    try:
        if content is None and ("://" in path or "::" in path):  # of a stream: `datasets` writes archives so
            with fsspec.open(path, "rb") as file:
                content = file.read()
        return decode_picture(path if content is None else content, max_pixels, is_alone)
    except (OSError, ValueError) as error:
        raise DataError(f"the picture in column '{column}' cannot be read: {error}") from error


def decode_rgb(encoded: Any, column: str, max_pixels: int | None = None) -> PIL.Image.Image:
    """The picture of an encoded `datasets.Image` value as 8-bit RGB, if it has at most `max_pixels`."""
    image = decode_image(encoded, column, max_pixels)
    if has_deep_pixels(image):
        raise DataError(
            f"the image in column '{column}' has more than 8 bits a channel (mode {image.mode}): "
            "8-bit grey or RGB is expected"
        )
    return image if image.mode == "RGB" else image.convert("RGB")
