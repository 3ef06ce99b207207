"""Streams: datasets larger than memory or disk, whose rows come one after the other.

Rows are read in the process that trains, still encoded, and only decoded where a sample is asked for: so the workers
of a DataLoader share the decoding, and skipping rows costs no more than reading them.
"""

from __future__ import annotations

import atexit
import gc
import weakref
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node

from .errors import DataError
from .labels.label_matching import RelabelledSamples
from .layouts.inside_dataset import is_own_file
from .samples import RowReader, Sample, SampleSource, file_stem, with_encoded_images

_being_read: weakref.WeakSet[Iterator[Any]] = weakref.WeakSet()


@atexit.register
def close_streams() -> None:
    """Ends the reading of all streams while Python is whole: PyArrow, in the middle of a file, would abort its end."""
    for rows in list(_being_read):
        rows.close()
    gc.collect()


class StreamedRow(NamedTuple):
    """One row, its pictures encoded, and its number: unlike those of all others in this epoch, in any process."""

    number: int
    content: Mapping[str, Any]


class StreamSamples(RowReader):
    """The samples of a `datasets.IterableDataset`: `samples[row]` decodes one of `samples.rows()`. Without a length.

    Args:
        rows: with an image column and the columns that the annotation format reads.
        arguments: those of `RowReader`.
        folders: a picture that is a file has to lie in one of these; None: in any.
    """

    def __init__(self, rows: IterableDataset, *arguments: Any, folders: list[str] | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.stream = with_encoded_images(rows)
        self.folders = folders

    def rows(
        self,
        seed: int | None = None,
        epoch: int = 0,
        buffer_size: int = 1000,
        process: int = 0,
        num_processes: int = 1,
    ) -> Iterator[StreamedRow]:
        """The rows of one process in one epoch.

        Where the stream has as many files (shards) as processes, or a multiple, each process reads its own, which with
        a seed are others in each epoch; else each reads all rows and keeps every `num_processes`-th. Together they
        give each row once.

        Args:
            seed: of the order, which is drawn anew for each epoch; None: the order of the stream.
            epoch: counted from 0.
            buffer_size: each row is drawn from so many that are held in memory.
            process, num_processes: which process this is, of how many.
        """
        stream = self.stream
        if seed is not None:
            stream = stream.shuffle(seed=seed, buffer_size=buffer_size)
        if num_processes > 1:
            stream = split_dataset_by_node(stream, process, num_processes)
        if seed is not None:
            stream.set_epoch(epoch)  # last: a stream that is split begins with epoch 0 again
        rows = (StreamedRow(number * num_processes + process, content) for number, content in enumerate(stream))
        _being_read.add(rows)
        return rows

    def __getitem__(self, row: StreamedRow) -> Sample:
        cells = [
            (name, v) for name, value in row.content.items() for v in (value if isinstance(value, list) else [value])
        ]
        for column, value in cells:  # each picture, also of those in lists
            path = value.get("path") if isinstance(value, Mapping) and value.get("bytes", b"") is None else None
            if path is not None and self.folders is not None and not is_own_file(path, self.folders):
                name = file_stem(row.content[self.image_column])
                raise DataError(
                    f"Sample {row.number} of split '{self.split}' ({name}): the picture in column '{column}' is the "
                    f"file {path!r}, which is not the dataset's own."
                )
        return self.read(row.content, row.number)


def stream_of(samples: Any) -> StreamSamples | None:
    """The stream that samples come from; None where each can be asked for by its number."""
    while isinstance(samples, RelabelledSamples):
        samples = samples.samples
    return samples if isinstance(samples, StreamSamples) else None


def some_of(samples: SampleSource, count: int | None) -> Iterator[int | StreamedRow]:
    """What to ask `samples` for to look at `count` of them (None: all): evenly spread, the first ones of a stream."""
    stream = stream_of(samples)
    if stream is not None:
        yield from islice(stream.rows(), count)
        return
    count = len(samples) if count is None else min(count, len(samples))
    for number in range(count):
        yield number * len(samples) // count
