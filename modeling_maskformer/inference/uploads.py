"""Uploaded pictures -> decoded ones, within limits: what a page and a service take alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .inputs import read_picture

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class UploadLimits:
    """The largest upload that is taken.

    Attributes:
        max_upload_mb: megabytes of its file.
        max_pixels: of the picture in it.
    """

    max_upload_mb: float = 20.0
    max_pixels: int = 25_000_000

    @property
    def max_bytes(self) -> int:
        return round(self.max_upload_mb * MEGABYTE)

    def decode(self, source: Path | bytes) -> Image.Image:
        """The picture in a file or in its bytes, as RGB.

        Raises:
            ValueError: it cannot be read, or has too many pixels; a sentence for who has uploaded it.
        """
        try:
            return read_picture(source, self.max_pixels)
        except UnidentifiedImageError:
            raise ValueError("The picture cannot be read: it is of no known kind, such as JPEG or PNG.") from None
        except Exception as error:  # decoders fail in many ways
            raise ValueError(f"The picture cannot be read: {str(error).rstrip('.')}.") from error
