"""Many pictures -> files and records of results, while the next are read and the last are drawn and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from ..inputs import Picture
from .records import RecordFile
from .writer import Failure, ResultWriter, is_full


class FullDiskError(RuntimeError):
    """No result can be written any more; those that were written are whole."""


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
    written: deque[tuple[Picture, Image.Image, Future]] = deque()

    def record_written(at_most: int) -> None:
        while len(written) > at_most:
            picture, image, result = written.popleft()
            try:
                annotations = result.result()
            except Exception as error:  # a picture that cannot be drawn: the others may be
                if isinstance(error, OSError) and is_full(writer.folder, error):
                    raise FullDiskError(f"Nothing more can be written to {writer.folder}: {error}.") from error
                records.add_failure(Failure.of(picture, "writing", error))
            else:
                records.add(
                    picture.name,
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
                for picture, image, error in batch:
                    if error is None:
                        found.append((picture, image))
                    else:
                        records.add_failure(Failure.of(picture, "reading", error))
                for picture, image, prediction in _predict(found, predictor, records):
                    written.append((picture, image, writers.submit(writer.write, picture, image, prediction)))
                record_written(at_most=num_threads)
                progress.update(len(batch))
            record_written(at_most=0)
    except OSError as error:  # of the records themselves
        if not is_full(writer.folder, error):
            raise
        raise FullDiskError(f"Nothing more can be written to {writer.folder}: {error}.") from error


def _predict(
    batch: Sequence[tuple[Picture, Image.Image]],
    predictor: Callable[[Sequence[Image.Image]], list[Any]],
    records: RecordFile,
) -> list[tuple[Picture, Image.Image, Any]]:
    """The pictures with their predictions; where a batch fails, each alone, so that only the cause is left out."""
    if not batch:
        return []
    try:
        predictions = predictor([image for _, image in batch])
        return [(*pair, prediction) for pair, prediction in zip(batch, predictions, strict=True)]
    except Exception as error:
        if len(batch) == 1:
            records.add_failure(Failure.of(batch[0][0], "predicting", error))
            return []
    return [found for pair in batch for found in _predict([pair], predictor, records)]


def _read_ahead(
    pictures: Sequence[Picture], readers: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Picture, Image.Image | None, Exception | None]]:
    """The pictures with what they show, or with the error that says why that cannot be read."""
    waiting: deque[tuple[Picture, Future]] = deque()
    upcoming = iter(pictures)
    while True:
        while len(waiting) <= ahead and (picture := next(upcoming, None)) is not None:
            waiting.append((picture, readers.submit(picture.load)))
        if not waiting:
            return
        picture, image = waiting.popleft()
        error = image.exception()  # decoders fail in many ways
        if isinstance(error, Exception):
            yield picture, None, error
        else:
            yield picture, image.result(), None
