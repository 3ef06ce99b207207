"""Many pictures -> files of results, while the next are read and the last are drawn and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from .inputs import Picture
from .writer import ResultWriter


def predict_pictures(
    pictures: Sequence[Picture],
    predictor: Callable[[Sequence[Image.Image]], list[Any]],
    writer: ResultWriter,
    batch_size: int = 1,
    num_threads: int = 1,
) -> dict[str, str]:
    """Predicts and writes every picture that can be read; name -> reason of those that cannot.

    Results are listed in the order of the pictures, whichever thread is done first. There are never more pictures in
    memory than two batches and two for each thread.

    Args:
        pictures: what to read.
        predictor: a batch of pictures -> their predictions; called by this thread alone.
        writer: where results go; it is closed.
        batch_size: pictures that are predicted at once.
        num_threads: threads that read, and as many that draw and write.
    """
    failures: dict[str, str] = {}
    written: deque[tuple[Picture, Image.Image, Future]] = deque()

    def list_written(at_most: int) -> None:
        while len(written) > at_most:
            picture, image, result = written.popleft()
            writer.add(picture, image, result.result())

    with (
        tqdm(total=len(pictures), desc="Segmenting", unit="picture") as progress,
        ThreadPoolExecutor(num_threads, "read") as readers,
        ThreadPoolExecutor(num_threads, "write") as writers,
    ):
        read = _read_ahead(pictures, readers, batch_size + num_threads, failures)
        for start in range(0, len(pictures), batch_size):
            batch = [next(read) for _ in pictures[start : start + batch_size]]
            batch = [(picture, image) for picture, image in batch if image is not None]
            predictions = predictor([image for _, image in batch]) if batch else []
            for (picture, image), prediction in zip(batch, predictions, strict=True):
                written.append((picture, image, writers.submit(writer.write_files, picture, image, prediction)))
            list_written(at_most=num_threads)
            progress.update(min(batch_size, len(pictures) - start))
        list_written(at_most=0)
    writer.close()
    return failures


def _read_ahead(
    pictures: Sequence[Picture], readers: ThreadPoolExecutor, ahead: int, failures: dict[str, str]
) -> Iterator[tuple[Picture, Image.Image | None]]:
    """The pictures with what they show, None where that cannot be read: then `failures` gets the reason."""
    waiting: deque[tuple[Picture, Future]] = deque()
    upcoming = iter(pictures)
    while True:
        while len(waiting) <= ahead and (picture := next(upcoming, None)) is not None:
            waiting.append((picture, readers.submit(picture.load)))
        if not waiting:
            return
        picture, image = waiting.popleft()
        try:
            yield picture, image.result()
        except (OSError, ValueError) as error:
            failures[picture.name] = str(error)
            yield picture, None
