"""Encoded pictures -> decoded ones: of the usual formats only, turned as the camera was held, within a limit."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from threading import Lock

from PIL import ExifTags, Image, ImageOps

# Pillow itself reads others too: for EPS it would start another program
FORMATS = {  # and the endings of their files
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "MPO": (".mpo",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),  # none of .pfm, whose values are no 8 bits
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}

_OPENING = Lock()


class TooManyPixelsError(ValueError):
    """A picture is larger than what is allowed."""


class StackError(ValueError):
    """A file has several pictures where one is expected."""


def decode_picture(source: Path | str | bytes, max_pixels: int | None = None, is_alone: bool = False) -> Image.Image:
    """The picture of a file or of a file's bytes in its own mode; of an animated one the first image.

    Raises:
        OSError, ValueError: it cannot be read, or has more pixels than `max_pixels`, which is found before decoding;
            or, if it has to be alone in its file, it is the first of several of one size.
    """
    try:
        with _open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            if max_pixels is not None:
                check_pixels(image, max_pixels)
            if is_alone and _is_stack(image):
                raise StackError(f"its file has {image.n_frames} pictures of one size, one is expected")
            image.load()
            is_turned = image.getexif().get(ExifTags.Base.Orientation) is not None
            return ImageOps.exif_transpose(image) if is_turned else image  # else it would copy for nothing
    except (OSError, TooManyPixelsError, StackError):
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads to
        raise ValueError(f"it cannot be decoded: {str(error) or type(error).__name__}") from error


def _is_stack(image: Image.Image) -> bool:
    """Whether a TIFF file has a second page of the size of the first; those of smaller sizes are its overviews."""
    if image.format != "TIFF" or image.n_frames == 1:
        return False
    first = image.size
    image.seek(1)
    second = image.size
    image.seek(0)
    return first == second


def _open(source: BytesIO | Path | str) -> Image.Image:
    """A picture that is not decoded yet, also where Pillow would warn of its size or refuse it: see `check_pixels`."""
    with _OPENING:  # the limit is Pillow's for all threads
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source, formats=_known_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _known_formats() -> list[str]:
    """Those of the formats that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def check_pixels(image: Image.Image, max_pixels: int) -> None:
    """Raises a TooManyPixelsError where a picture, which need not be decoded yet, has more pixels than allowed."""
    if image.width * image.height > max_pixels:
        raise TooManyPixelsError(
            f"it is {image.width} x {image.height} pixels (width x height), expected at most {max_pixels} in all "
            "(--max_pixels)"
        )


def has_deep_pixels(image: Image.Image) -> bool:
    """Whether its values have more than 8 bits, so that nobody can tell which is white."""
    return image.mode.startswith(("I", "F"))
