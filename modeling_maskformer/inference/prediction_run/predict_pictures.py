"""Many pictures -> files and records of results, while the next are read and the last are drawn and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

from PIL import Image
from tqdm.auto import tqdm

from ..inputs import Picture
from .records import RecordFile
from .writer import Failure, ResultWriter, is_full


class FullDiskError(RuntimeError):
    """No result can be written any more; those that were written are whole."""


class ReadPicture(NamedTuple):
    """A picture that was read: what it shows, and the stamp it had before."""

    picture: Picture
    stamp: str
    image: Image.Image


def predict_pictures(
    pictures: Sequence[Picture],
    predictor: Callable[[Sequence[Image.Image]], list[Any]],
    writer: ResultWriter,
    records: RecordFile,
    batch_size: int = 1,
    num_threads: int = 1,
    show_progress: bool = True,
) -> None:
    """Predicts and writes every picture it can, and records each: with its result, or why it has none.

    While a batch is predicted the next pictures are read, and the last ones drawn and written, by threads of their
    own. Records come in the order of the pictures, whichever thread is done first. There are never more pictures in
    memory than two batches and two for each thread.

    Args:
        pictures: what to read.
        predictor: a batch of pictures -> their predictions; called by this thread alone.
        writer: writes the files of each picture.
        records: of each picture, as soon as its files are written.
        batch_size: pictures that are predicted at once.
        num_threads: threads that read, and as many that draw and write.
        show_progress: as a bar, with pictures a second.

    Raises:
        FullDiskError: nothing more can be written.
    """
    written: deque[tuple[ReadPicture, Future]] = deque()

    def record_written(at_most: int) -> None:
        while len(written) > at_most:
            (picture, stamp, image), result = written.popleft()
            try:
                annotations = result.result()
            except Exception as error:  # a picture that cannot be drawn: the others may be
                if isinstance(error, OSError) and is_full(writer.folder, error):
                    raise FullDiskError(f"Nothing more can be written to {writer.folder}: {error}.") from error
                records.add_failure(Failure.of(picture, "writing", error))
            else:
                records.add(
                    picture.name,
                    stamp,
                    writer.paths_of(picture.name),
                    {"file_name": picture.file_name, "width": image.width, "height": image.height},
                    annotations,
                )

    try:
        with (
            tqdm(total=len(pictures), desc="Segmenting", unit="picture", disable=not show_progress) as progress,
            ThreadPoolExecutor(num_threads, "read") as readers,
            ThreadPoolExecutor(num_threads, "write") as writers,
        ):
            read = _read_ahead(pictures, readers, batch_size + num_threads)
            while batch := list(islice(read, batch_size)):
                found = []
                for picture, reading in batch:
                    error = reading.exception()  # decoders fail in many ways
                    if isinstance(error, Exception):
                        records.add_failure(Failure.of(picture, "reading", error))
                    else:
                        found.append(reading.result())
                for each, prediction in _predict(found, predictor, records):
                    written.append((each, writers.submit(writer.write, each.picture, each.image, prediction)))
                record_written(at_most=num_threads)
                progress.update(len(batch))
            record_written(at_most=0)
    except OSError as error:  # of the records themselves
        if not is_full(writer.folder, error):
            raise
        raise FullDiskError(f"Nothing more can be written to {writer.folder}: {error}.") from error


def _predict(
    batch: Sequence[ReadPicture],
    predictor: Callable[[Sequence[Image.Image]], list[Any]],
    records: RecordFile,
) -> list[tuple[ReadPicture, Any]]:
    """The pictures with their predictions; where a batch fails, each alone, so that only the cause is left out."""
    if not batch:
        return []
    try:
        predictions = predictor([each.image for each in batch])
        return list(zip(batch, predictions, strict=True))
    except Exception as error:
        if len(batch) == 1:
            records.add_failure(Failure.of(batch[0].picture, "predicting", error))
            return []
    return [found for each in batch for found in _predict([each], predictor, records)]


def _read_ahead(
    pictures: Sequence[Picture], readers: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Picture, Future]]:
    """The pictures, each with what it shows or the error that says why it cannot be read, in their order."""
    waiting: deque[tuple[Picture, Future]] = deque()
    upcoming = iter(pictures)
    while True:
        while len(waiting) <= ahead and (picture := next(upcoming, None)) is not None:
            waiting.append((picture, readers.submit(_read, picture)))
        if not waiting:
            return
        yield waiting.popleft()


def _read(picture: Picture) -> ReadPicture:
    stamp = picture.stamp()  # of a file that is replaced meanwhile the earlier one, so that it is read again
    return ReadPicture(picture, stamp, picture.load())
