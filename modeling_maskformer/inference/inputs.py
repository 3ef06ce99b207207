"""Files and folders -> pictures to predict, read one by one when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000  # a prediction of one takes some 50 bytes of memory a pixel
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")


@dataclass(frozen=True)
class Picture:
    """A picture that is not read yet.

    Attributes:
        name: unique among the pictures; results are called so. May hold folders: `street/0001`.
        image_id: what COCO files call it.
        load: reads it, as RGB; raises OSError or ValueError where it cannot.
        file_name: of its file, below the folder that it was found in; the name where it has no file.
    """

    name: str
    image_id: int | str
    load: Callable[[], Image.Image]
    file_name: str = ""

    def __post_init__(self) -> None:
        if not self.file_name:
            object.__setattr__(self, "file_name", self.name)


def find_pictures(paths: Sequence[str | Path], max_pixels: int = MAX_PIXELS) -> list[Picture]:
    """The pictures of files, and of folders with all folders below, in the order of their paths.

    Args:
        paths: files and folders.
        max_pixels: a picture of more cannot be read.

    Raises:
        ValueError: a path does not exist, a folder holds no picture, or two pictures have one name.
    """
    files: dict[str, tuple[str, Path]] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not found:
                raise ValueError(f"The folder {path} holds no picture ({', '.join(SUFFIXES)}).")
            named = [(file.relative_to(path).as_posix(), file) for file in found]
        elif path.is_file():
            named = [(path.name, path)]
        else:
            raise ValueError(f"There is no file or folder {path}.")
        for file_name, file in named:
            name = PurePosixPath(file_name).with_suffix("").as_posix()
            if name in files:
                raise ValueError(
                    f"The results of {files[name][1]} and {file} would both be called {name}: predict them separately."
                )
            files[name] = file_name, file
    return [
        Picture(name, number, partial(read_picture, file, max_pixels), file_name)
        for number, (name, (file_name, file)) in enumerate(files.items())
    ]


def check_pixels(image: Image.Image, max_pixels: int) -> None:
    """Raises a ValueError where a picture, which need not be decoded yet, has more pixels than allowed."""
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"it is {image.width} x {image.height} pixels (width x height), expected at most {max_pixels} in all "
            "(--max_pixels)"
        )


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file as RGB, turned the way its camera was held.

    Raises:
        OSError, ValueError: it cannot be read, has more than 8 bits per channel, or more pixels than `max_pixels`.
    """
    try:
        with Image.open(path) as image:
            check_pixels(image, max_pixels)
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"it has more than 8 bits a channel (mode {image.mode}), expected 8-bit grey or RGB")
            return image.convert("RGB")
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
