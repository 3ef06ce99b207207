"""Batches of a stream's rows for a DataLoader, and the position from which a run that was ended goes on."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path

from ..errors import DataError
from ..streams import StreamedRow, StreamSamples
from .view_sampler import View, view_seed


@dataclass(frozen=True)
class StreamPosition:
    """What one process has trained on.

    Attributes:
        batches: in all, counted as if every step had taken as many as the last one.
        epoch, rows: the epoch it is in, from 0, and the rows of it that are done.
        process, num_processes: which process it is, of how many.
    """

    batches: int = 0
    epoch: int = 0
    rows: int = 0
    process: int = 0
    num_processes: int = 1

    def save(self, folder: Path) -> None:
        """Writes the file of this process."""
        self._file(folder, self.process).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, process: int, num_processes: int) -> StreamPosition:
        """What a process has trained on at a checkpoint.

        Raises:
            DataError: the checkpoint is not of such a run.
        """
        try:
            position = cls(**json.loads(cls._file(folder, process).read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError):
            raise DataError(
                f"{folder} does not say how far process {process} had read its stream: resume a run of --streaming, "
                "with as many processes as it had."
            ) from None
        if position.num_processes != num_processes:
            raise DataError(
                f"{folder} was written by {position.num_processes} processes, each with its part of the stream: "
                f"resume with as many, not with {num_processes}."
            )
        return position

    @staticmethod
    def _file(folder: Path, process: int) -> Path:
        return folder / f"stream_position_{process}.json"


class StreamBatches:
    """Lists of rows, as a DataLoader takes them from a batch sampler: epoch after epoch, or one epoch in order.

    What comes follows from the stream, the seed and the process alone; a batch may hold rows of two epochs.

    Args:
        samples: the stream.
        batch_size: rows a batch.
        seed: of the order and of each row's view; None: one epoch, in the order of the stream, whole images.
        shuffle: draw the order of each epoch.
        buffer_size: see `StreamSamples.rows`.
        position: where to start; the batches before it come first, and empty, to be skipped.
    """

    drop_last = False

    def __init__(
        self,
        samples: StreamSamples,
        batch_size: int,
        position: StreamPosition,
        seed: int | None = None,
        shuffle: bool = True,
        buffer_size: int = 1000,
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.position = position
        self.seed = seed
        self.shuffle = shuffle
        self.buffer_size = buffer_size
        self._ahead: deque[tuple[int, int]] = deque()  # (epoch, rows) after each batch that was handed out

    def __iter__(self) -> Iterator[list[View | StreamedRow]]:
        self._ahead.clear()
        for _ in range(self.position.batches):
            yield []
        batch = []
        for epoch, rows, row in self._rows():
            batch.append(row if self.seed is None else View(row, view_seed(self.seed, epoch, row.number)))
            if len(batch) == self.batch_size:
                self._ahead.append((epoch, rows))
                yield batch
                batch = []
        if batch:
            yield batch

    def trained(self, batches: int) -> None:
        """Moves the position on, by batches that were handed out."""
        for _ in range(batches):
            epoch, rows = self._ahead.popleft()
            position = self.position
            self.position = StreamPosition(position.batches + 1, epoch, rows, position.process, position.num_processes)

    def _rows(self) -> Iterator[tuple[int, int, StreamedRow]]:
        """Epoch, rows of it that are read afterwards, and the row."""
        start = self.position
        for epoch in count(start.epoch) if self.seed is not None else [0]:
            rows = self.samples.rows(
                self.seed if self.shuffle else None, epoch, self.buffer_size, start.process, start.num_processes
            )
            skipped = start.rows if epoch == start.epoch else 0
            number = skipped
            for number, row in enumerate(islice(rows, skipped, None), skipped + 1):
                yield epoch, number, row
            if number == 0 and self.seed is not None:
                raise DataError(
                    f"The stream of split '{self.samples.split}' has no row for process {start.process}: train with "
                    "fewer processes."
                )
