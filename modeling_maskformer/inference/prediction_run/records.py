"""What is known of each picture of a run, on disk as soon as it is known: a line of JSON in the file of its process.

Each process of each run, the first and those that go on with it, has a file of its own, to which it appends. A line
that a killed process has left half written counts for nothing, and of two lines about one picture the later one holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .writer import Failure

BEFORE_NAME = b'{"name": '
FAILED = b', "failure": '
BEFORE_STAMP = b', "stamp": '
OWN_NAME = re.compile(r"[0-9]{6}-[0-9]{6}\.jsonl")  # the start of the run, and the process


def name_key(name: str) -> int:
    """A number of 64 bits that stands for a text; that two of a million names share one is a matter of 1 to 10^7."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def record_files(folder: Path) -> list[Path]:
    """The files of records in a folder, which need not exist, in the order of the starts of their run."""
    return sorted(file for file in folder.glob("*.jsonl") if OWN_NAME.fullmatch(file.name))


class RecordFile:
    """Where one process writes what has become of its pictures.

    Args:
        folder: of all records of the run; made if needed.
        run: which start of the run this is, counted from 1.
        process: the number of this process.
    """

    def __init__(self, folder: Path, run: int = 1, process: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{run:06d}-{process:06d}.jsonl").open("wb", buffering=0)

    def add(
        self, name: str, stamp: str, files: list[str], image: dict[str, Any], annotations: list[dict[str, Any]]
    ) -> None:
        """A picture is done: what it was (`Picture.stamp`), its result's own files, and its entries for COCO files."""
        self._write({"name": name, "stamp": stamp, "files": files, "image": image, "annotations": annotations})

    def add_failure(self, failure: Failure) -> None:
        """A picture has no result."""
        self._write({"name": failure.name, "failure": {"step": failure.step, "cause": failure.cause}})

    def close(self) -> None:
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        line = json.dumps(record).encode("ascii") + b"\n"
        while line:  # a disk that is nearly full takes a part
            line = line[self._file.write(line) :]


class Records:
    """The records of all processes and runs in a folder; of each picture the latest. Some 28 bytes a picture are kept.

    Args:
        folder: which need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._files = record_files(folder)
        keys, stamps, files, offsets, failed = array("Q"), array("Q"), array("H"), array("q"), array("b")
        for number, file in enumerate(self._files):
            for offset, line in _whole_lines(file):
                text = line.decode("ascii")
                name, end = json.JSONDecoder().raw_decode(text, len(BEFORE_NAME))
                stamp = ""
                if line.startswith(BEFORE_STAMP, end):
                    stamp, _ = json.JSONDecoder().raw_decode(text, end + len(BEFORE_STAMP))
                keys.append(name_key(name))
                stamps.append(name_key(stamp))
                files.append(number)
                offsets.append(offset)
                failed.append(line.startswith(FAILED, end))
        self._keys, from_the_end = np.unique(np.asarray(keys)[::-1], return_index=True)
        latest = len(keys) - 1 - from_the_end
        self._file_of, self._offsets = np.asarray(files)[latest], np.asarray(offsets)[latest]
        self._failed, self._stamps = np.asarray(failed)[latest].astype(bool), np.asarray(stamps)[latest]

    @property
    def num_done(self) -> int:
        """How many pictures have a result."""
        return len(self._keys) - int(self._failed.sum())

    def is_done(self, name: str) -> bool:
        """Whether the picture has a result."""
        place = self._place(name)
        return place is not None and not self._failed[place]

    def has_stamp(self, name: str, stamp: str) -> bool:
        """Whether the picture's result was made of the picture that has this stamp."""
        place = self._place(name)
        return place is not None and self._stamps[place] == np.uint64(name_key(stamp))

    def of(self, name: str) -> dict[str, Any] | None:
        """The picture's record, None if there is none.

        It has `name`, and either `stamp`, `files`, `image` and `annotations` or `failure`.
        """
        place = self._place(name)
        if place is None:
            return None
        with self._files[self._file_of[place]].open("rb") as file:
            file.seek(self._offsets[place])
            return json.loads(file.readline())

    def written_files(self) -> Iterator[str]:
        """The files of all results that were ever recorded, as paths below the output folder."""
        for file in self._files:
            for _, line in _whole_lines(file):
                yield from json.loads(line).get("files", ())

    def _place(self, name: str) -> int | None:
        key = np.uint64(name_key(name))
        place = int(np.searchsorted(self._keys, key))
        return place if place < len(self._keys) and self._keys[place] == key else None


def _whole_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that were written to their ends, each with its place in the file."""
    offset = 0
    with file.open("rb") as stream:
        for line in stream:
            if line.startswith(BEFORE_NAME) and line.endswith(b"}\n"):
                yield offset, line
            offset += len(line)
