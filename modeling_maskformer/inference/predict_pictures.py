"""Many pictures -> files of results, while the next are read and the last are drawn and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from .inputs import Picture
from .writer import Failure, ResultWriter


def predict_pictures(
    pictures: Sequence[Picture],
    predictor: Callable[[Sequence[Image.Image]], list[Any]],
    writer: ResultWriter,
    batch_size: int = 1,
    num_threads: int = 1,
) -> list[Failure]:
    """Predicts and writes every picture it can, and returns those it cannot, whatever the cause.

    What is done is listed also where the run is broken off, as by Ctrl-C.

    Results are listed in the order of the pictures, whichever thread is done first. There are never more pictures in
    memory than two batches and two for each thread.

    Args:
        pictures: what to read.
        predictor: a batch of pictures -> their predictions; called by this thread alone.
        writer: where results go; it is closed, and gets the failures.
        batch_size: pictures that are predicted at once.
        num_threads: threads that read, and as many that draw and write.
    """
    failures: list[Failure] = []
    written: deque[tuple[Picture, Image.Image, Future]] = deque()

    def list_written(at_most: int) -> None:
        while len(written) > at_most:
            picture, image, result = written.popleft()
            try:
                writer.add(picture, image, result.result())
            except Exception as error:  # a full disk, a picture that cannot be drawn: the others may do
                failures.append(Failure.of(picture, "writing", error))

    try:
        with (
            tqdm(total=len(pictures), desc="Segmenting", unit="picture") as progress,
            ThreadPoolExecutor(num_threads, "read") as readers,
            ThreadPoolExecutor(num_threads, "write") as writers,
        ):
            read = _read_ahead(pictures, readers, batch_size + num_threads, failures)
            for start in range(0, len(pictures), batch_size):
                batch = [next(read) for _ in pictures[start : start + batch_size]]
                batch = [(picture, image) for picture, image in batch if image is not None]
                for picture, image, prediction in _predict(batch, predictor, failures):
                    written.append((picture, image, writers.submit(writer.write_files, picture, image, prediction)))
                list_written(at_most=num_threads)
                progress.update(min(batch_size, len(pictures) - start))
            list_written(at_most=0)
    finally:
        writer.close(failures)
    return failures


def _predict(
    batch: Sequence[tuple[Picture, Image.Image]],
    predictor: Callable[[Sequence[Image.Image]], list[Any]],
    failures: list[Failure],
) -> list[tuple[Picture, Image.Image, Any]]:
    """The pictures with their predictions; where a batch fails, each alone, so that only the cause is left out."""
    if not batch:
        return []
    try:
        predictions = predictor([image for _, image in batch])
        return [(*pair, prediction) for pair, prediction in zip(batch, predictions, strict=True)]
    except Exception as error:
        if len(batch) == 1:
            failures.append(Failure.of(batch[0][0], "predicting", error))
            return []
    return [found for pair in batch for found in _predict([pair], predictor, failures)]


def _read_ahead(
    pictures: Sequence[Picture], readers: ThreadPoolExecutor, ahead: int, failures: list[Failure]
) -> Iterator[tuple[Picture, Image.Image | None]]:
    """The pictures with what they show, None where that cannot be read: then `failures` gets the cause."""
    waiting: deque[tuple[Picture, Future]] = deque()
    upcoming = iter(pictures)
    while True:
        while len(waiting) <= ahead and (picture := next(upcoming, None)) is not None:
            waiting.append((picture, readers.submit(picture.load)))
        if not waiting:
            return
        picture, image = waiting.popleft()
        try:
            loaded = image.result()
        except Exception as error:  # decoders fail in many ways
            failures.append(Failure.of(picture, "reading", error))
            loaded = None
        yield picture, loaded
