"""The records of all pictures -> the files that tell of all of them, one record at a time in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ...files.whole_file import whole_file
from ..inputs import Picture
from ..result_names import FAILURES
from .records import Records


@dataclass(frozen=True)
class Totals:
    """How many pictures have a result, and how many have none for some cause."""

    done: int
    failed: int


def write_coco(
    path: Path, pictures: Sequence[Picture], records: Records, categories: Sequence[Mapping[str, Any]]
) -> None:
    """Writes COCO JSON of the pictures that are done, in their order; annotations of objects are numbered from 1."""
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        file.write('{"images": [')
        _write_items(file, _images(pictures, records))
        file.write('], "annotations": [')
        _write_items(file, _annotations(pictures, records))
        file.write(f'], "categories": {json.dumps(list(categories))}}}\n')


def write_failures(folder: Path, pictures: Iterable[Picture], records: Records) -> Totals:
    """Writes the manifest of the pictures without a result, each with the step that failed and the cause, if any."""
    done = failed = 0
    path = folder / FAILURES
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        file.write("[")
        for picture in pictures:
            record = records.of(picture.name) or {}
            done += "image" in record
            if "failure" in record:
                file.write((",\n " if failed else "") + json.dumps({"name": picture.name, **record["failure"]}))
                failed += 1
        file.write("]\n")
    if not failed:
        path.unlink()
    return Totals(done, failed)


def _done(pictures: Iterable[Picture], records: Records) -> Iterator[tuple[Picture, dict[str, Any]]]:
    """Each picture with a result, and its record."""
    for picture in pictures:
        record = records.of(picture.name)
        if record is not None and "image" in record:
            yield picture, record


def _images(pictures: Iterable[Picture], records: Records) -> Iterator[dict[str, Any]]:
    for picture, record in _done(pictures, records):
        yield {"id": picture.image_id, **record["image"], "file_name": picture.file_name}


def _annotations(pictures: Iterable[Picture], records: Records) -> Iterator[dict[str, Any]]:
    number = 0
    for picture, record in _done(pictures, records):
        for entry in record["annotations"]:
            number += 1
            entry["image_id"] = picture.image_id
            yield entry if "segments_info" in entry else {"id": number, **entry}


def _write_items(file: TextIO, items: Iterable[Mapping[str, Any]]) -> None:
    separator = ""
    for item in items:
        file.write(separator + json.dumps(item))
        separator = ",\n"
