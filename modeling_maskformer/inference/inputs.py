"""Files and folders -> pictures to predict, read one by one when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")


@dataclass(frozen=True)
class Picture:
    """A picture that is not read yet.

    Attributes:
        name: unique among the pictures; results are called so. May hold folders: `street/0001`.
        image_id: what COCO files call it.
        load: reads it, as RGB; raises OSError or ValueError where it cannot.
    """

    name: str
    image_id: int | str
    load: Callable[[], Image.Image]


def find_pictures(paths: Sequence[str | Path]) -> list[Picture]:
    """The pictures of files, and of folders with all folders below, in the order of their paths.

    Raises:
        ValueError: a path does not exist, a folder holds no picture, or two pictures have one name.
    """
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not found:
                raise ValueError(f"The folder {path} holds no picture ({', '.join(SUFFIXES)}).")
            named = [(file.relative_to(path).with_suffix("").as_posix(), file) for file in found]
        elif path.is_file():
            named = [(path.stem, path)]
        else:
            raise ValueError(f"There is no file or folder {path}.")
        for name, file in named:
            if name in files:
                raise ValueError(
                    f"The results of {files[name]} and {file} would both be called {name}: predict them separately."
                )
            files[name] = file
    return [Picture(name, number, partial(read_picture, file)) for number, (name, file) in enumerate(files.items())]


def read_picture(path: Path) -> Image.Image:
    """The picture in a file as RGB, turned the way its camera was held.

    Raises:
        OSError, ValueError: it cannot be read, or has more than 8 bits per channel.
    """
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"it has more than 8 bits a channel (mode {image.mode}), expected 8-bit grey or RGB")
            return image.convert("RGB")
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
