"""A mark in the PNG files that this package draws, by which it tells them from those of anybody else."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, PngImagePlugin

SOFTWARE = "modeling-maskformer"  # in the chunk of that name, where programs say what they are


def save_signed(picture: Image.Image, path: Path) -> None:
    """Writes the picture as PNG with the mark."""
    marks = PngImagePlugin.PngInfo()
    marks.add_text("Software", SOFTWARE)
    picture.save(path, format="PNG", pnginfo=marks)


def is_drawn_here(path: Path) -> bool:
    """Whether the file is a PNG with the mark. Its pixels are not read."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return picture.info.get("Software") == SOFTWARE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises on a broken header
        return False
