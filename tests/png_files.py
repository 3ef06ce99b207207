"""Pixels -> the bytes of a PNG file."""

import io

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """Of `(H, W)` or `(H, W, 3)` uint8, or whatever else PIL makes pictures of."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
