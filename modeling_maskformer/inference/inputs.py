"""Files and folders -> pictures to predict, read one by one when their turn comes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from PIL import Image
from transformers.utils import logging

from .decoding import FORMATS, decode_picture, has_deep_pixels
from .result_names import FAILURES, RECORDS, RESULT_FOLDERS, SETTINGS, SUMMARIES

logger = logging.get_logger(__name__)

MAX_PIXELS = 100_000_000  # a prediction of one takes some 50 bytes of memory a pixel
MAX_TILED_PIXELS = 1_000_000_000  # and in tiles some 20, four of them for the picture
BEGINNING = 1 << 16  # bytes of a file that are looked at to tell it from another
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_NAMED = 5  # endings
RESULT_NAMES = (*RESULT_FOLDERS, *SUMMARIES.values(), FAILURES)


@dataclass(frozen=True)
class Picture:
    """A picture that is not read yet.

    Attributes:
        name: unique among the pictures; results are called so. May hold folders: `street/0001`.
        image_id: what COCO files call it.
        load: reads it, as RGB; raises OSError or ValueError where it cannot.
        file_name: of its file, below the folder that it was found in; the name where it has no file.
        stamp: a text that is another one where the name stands for another picture than before; raises as `load` does.
    """

    name: str
    image_id: int | str
    load: Callable[[], Image.Image]
    file_name: str = ""
    stamp: Callable[[], str] = str  # the same of all, where names tell pictures apart

    def __post_init__(self) -> None:
        if not self.file_name:
            object.__setattr__(self, "file_name", self.name)


class PictureFiles(Sequence[Picture]):
    """The pictures in files: of each only its path and, where that is not its name, its name are kept.

    Args:
        files: each one's folder and its path below it.
        max_pixels: a picture of more cannot be read.

    Raises:
        ValueError: two pictures have one name.
    """

    def __init__(self, files: Sequence[tuple[str, str]], max_pixels: int = MAX_PIXELS) -> None:
        self.files = files
        self.max_pixels = max_pixels
        self.long_names = self._names_with_endings()

    def _names_with_endings(self) -> dict[int, str]:
        """The names of those whose name without ending another has too, also where they differ by case alone."""
        if len({hash(_as_on_any_disk(_stem(path))) for _, path in self.files}) == len(self.files):
            return {}
        counts = Counter(_as_on_any_disk(_stem(path)) for _, path in self.files)
        places = [place for place, (_, path) in enumerate(self.files) if counts[_as_on_any_disk(_stem(path))] > 1]
        taken = {name: -1 for name, count in counts.items() if count == 1}
        for place in places:
            name = _as_on_any_disk(self.files[place][1])
            if name in taken:
                others = [os.path.join(*self.files[other]) for other in (taken[name], place) if other >= 0]
                raise ValueError(
                    f"The results of {' and '.join(others)} would have the name of another picture's, "
                    f"{self.files[place][1]}: predict them separately."
                )
            taken[name] = place
        return {place: self.files[place][1] for place in places}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Picture:
        folder, path = self.files[place]
        name = self.long_names.get(place) or _stem(path)
        file = os.path.join(folder, path)
        return Picture(name, place, partial(read_picture, file, self.max_pixels), path, partial(file_stamp, file))


def find_pictures(
    paths: Sequence[str | Path], max_pixels: int = MAX_PIXELS, output_dir: str | Path | None = None
) -> PictureFiles:
    """The pictures of files, and of folders with all folders below, in the order of their paths.

    A picture's name is its path below the folder, without its ending; with it where two differ in nothing else, as
    `a.jpg` and `a.png`. Where a folder holds results of a prediction, these are no pictures to predict: its folders
    `overlays`, `class_ids`, `panoptic` and `records` are passed over. It is said which, and how many files have
    endings that are no picture's. A file that several of the paths lead to is one picture, called as the first has it.

    Args:
        paths: files and folders.
        max_pixels: a picture of more cannot be read.
        output_dir: where results will be written, if anywhere.

    Raises:
        ValueError: a path does not exist or is where predictions are kept in `output_dir`, a folder holds no picture,
            or two pictures have one name.
    """
    files: list[tuple[str, str]] = []
    passed_over = PassedOver()
    results = [] if output_dir is None else [Path(os.path.realpath(output_dir), name) for name in RESULT_FOLDERS]
    real_folder = cache(os.path.realpath)  # of many files in one folder
    for path in map(Path, paths):
        where = Path(real_folder(path if path.is_dir() else path.parent))
        for folder in results:
            if where.is_relative_to(folder):
                raise ValueError(f"{path} lies in {folder}, where predictions are kept: choose another --output_dir.")
        if path.is_dir():
            found = len(files)
            files.extend((str(path), below) for below in _pictures_in(str(path), output_dir, passed_over))
            if len(files) == found:
                others = f", but other things: {passed_over}" if passed_over else ""
                raise ValueError(f"The folder {path} holds no picture ({', '.join(SUFFIXES)}){others}.")
        elif path.is_file():
            files.append((str(path.parent), path.name))
        else:
            raise ValueError(f"There is no file or folder {path}.")
    if passed_over:
        logger.warning(f"Passed over in the folders of pictures: {passed_over}.")
    if len(paths) > 1:  # else no file is come by twice
        absolute = cache(os.path.abspath)
        once: dict[str, tuple[str, str]] = {}
        for folder, path in files:
            once.setdefault(os.path.join(absolute(folder), path), (folder, path))
        files = list(once.values())
    return PictureFiles(files, max_pixels)


@dataclass
class PassedOver:
    """What a search has found beside pictures.

    Attributes:
        endings: of files that are no pictures by their endings, in lower case, each with how many there are.
        folders: of results.
    """

    endings: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.endings or self.folders)

    def __str__(self) -> str:
        told = []
        if self.endings:
            named = sorted(self.endings.items(), key=lambda item: (-item[1], item[0]))[:MAX_NAMED]
            kinds = [
                f"{count} {repr(ending)[1:-1][:20] or 'without'}" for ending, count in named
            ]  # steers no terminal
            more = self.endings.total() - sum(count for _, count in named)
            kinds += [f"{more} more"] if more else []
            told.append(f"files of other endings ({', '.join(kinds)})")
        if self.folders:
            told.append(f"folders of results ({len(self.folders)}, such as {self.folders[0]!r})")
        return ", ".join(told)


def _holds_results(folder: str, output_dir: str | Path | None) -> bool:
    """Whether results are, or will be, written to the folder."""
    if output_dir is not None and os.path.exists(output_dir) and os.path.samefile(folder, output_dir):
        return True
    return os.path.isfile(os.path.join(folder, RECORDS, SETTINGS))


def _pictures_in(folder: str, output_dir: str | Path | None, passed_over: PassedOver) -> Iterator[str]:
    """The paths of pictures below a folder, in order. Links to folders are not followed: they may lead in circles."""
    waiting = [("", True)]
    while waiting:
        below, is_folder = waiting.pop()
        if not is_folder:
            yield below
            continue
        with os.scandir(os.path.join(folder, below)) as found:
            entries = sorted(found, key=lambda entry: entry.name, reverse=True)
        left_out = RESULT_NAMES if _holds_results(os.path.join(folder, below), output_dir) else ()
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in left_out:
                    waiting.append((path, True))
                elif entry.name != RECORDS:
                    passed_over.folders.append(entry.path)
            elif _is_picture(entry):
                waiting.append((path, False))
            elif entry.name not in left_out and not entry.name.startswith(".") and os.path.isfile(entry.path):
                passed_over.endings[os.path.splitext(entry.name)[1].lower()] += 1


def _is_picture(entry: os.DirEntry) -> bool:
    """Whether a file has the name of a picture; a link to nothing too: it fails when it is read, and is told."""
    has_name = entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
    return has_name and (os.path.isfile(entry.path) or not os.path.exists(entry.path))


def _stem(path: str) -> str:
    """The path without its ending."""
    return os.path.splitext(path)[0]


def _as_on_any_disk(name: str) -> str:
    """What is the same for two names that some disk takes for one: those of Windows and macOS know no case."""
    return name.casefold()


def file_stamp(file: str | Path) -> str:
    """A text that is another one for a changed file, or for another one: its size, time of change and beginning.

    Where the file lies makes no difference: a folder may be moved, or copied together with its times.

    Raises:
        OSError: it cannot be read.
    """
    with open(file, "rb") as stream:
        status = os.fstat(stream.fileno())
        beginning = hashlib.blake2b(stream.read(BEGINNING), digest_size=8).hexdigest()
    return f"{status.st_size} {status.st_mtime_ns} {beginning}"


def read_picture(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file as RGB, turned the way its camera was held.

    Raises:
        OSError, ValueError: it cannot be read, has more than 8 bits per channel, or more pixels than `max_pixels`.
    """
    image = decode_picture(source, max_pixels)
    if has_deep_pixels(image):
        raise ValueError(f"it has more than 8 bits a channel (mode {image.mode}), expected 8-bit grey or RGB")
    return image.convert("RGB")
