"""Masks of 0 and 255, as drawing tools and scripts write them: black is background, white is foreground."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from ..errors import DataError
from ..labels.label_set import NamedIds
from ..samples import decode_mask
from .class_map import ClassMapFormat
from .id_maps import INTEGER_MODES, unique_ids
from .palettes import has_grey_palette

BLACK_AND_WHITE = {0, 255}
MIDDLE = 128  # from here on a grey value is nearer to white than to black


@dataclass
class BinaryMaskFormat(ClassMapFormat):
    """Row -> one segment for each of two classes; 0 is class 0 and 255 is class 1, in one channel or equal ones.

    Args:
        column: of the masks.
        nearest: whether other values are taken for the nearer one.
    """

    nearest: bool = False
    names = NamedIds({0: "background", 1: "foreground"})
    why = (
        "black and white do not tell objects apart. If each mask is of one object, pass --annotation_format "
        "object_masks"
    )

    def classes(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        values, index = unique_ids(read_grey(row[self.column], self.column, self.nearest))
        if self.nearest:
            return (values >= MIDDLE).astype(np.int64), index
        other = set(values.tolist()) - BLACK_AND_WHITE
        if other:
            raise DataError(
                f"the mask in column '{self.column}' has value {min(other)}, the others only 0 and 255: name the form "
                "with annotation_format if 255 is void (class_map), or pass --nearest_colour if there are smooth edges"
            )
        return values // 255, index


def read_grey(value: Any, column: str, nearly: bool = False) -> np.ndarray:
    """`(H, W)` values of a picture of one channel, or of equal colour channels; with `nearly`, of their brightness.

    White is 255, also of pictures of one bit, and of those whose palette is grey, whatever its order.

    Raises:
        DataError: it cannot be read, has colours, or is drawn by its transparency.
    """
    picture = value if isinstance(value, (list, np.ndarray)) else decode_mask(value, column)
    if isinstance(picture, PIL.Image.Image):
        check_transparency(picture, column)
        has_colours = picture.mode in ("RGB", "RGBA", "CMYK")
        if (nearly and has_colours) or picture.mode == "1" or (picture.mode == "P" and has_grey_palette(picture)):
            picture = picture.convert("L")
    pixels = np.asarray(picture)
    if pixels.ndim == 3 and picture.mode in ("RGB", "RGBA", "LA"):
        colours = pixels[..., : 1 if picture.mode == "LA" else 3]  # not the transparency
        if (colours != colours[..., :1]).any():
            raise DataError(f"the mask in column '{column}' has colours: black and white are expected")
        return colours[..., 0]
    if pixels.ndim != 2 or not (pixels.dtype.kind in "iu" or getattr(picture, "mode", "") in INTEGER_MODES):
        raise DataError(f"the mask in column '{column}' has {pixels.shape} values of {pixels.dtype}: (H, W) integers")
    return pixels


def check_transparency(picture: PIL.Image.Image, column: str) -> None:
    """Raises a DataError where the transparency of a mask draws what its values do not."""
    if picture.mode not in ("LA", "RGBA"):
        return
    alpha = np.asarray(picture.getchannel("A"))
    is_black = (np.asarray(picture)[..., :-1] == 0).all(-1)
    is_clear = alpha == 0
    if is_clear.any() and not is_clear.all() and (is_black.all() or not is_black[is_clear].all()):
        raise DataError(
            f"the mask in column '{column}' is drawn by its transparency, which is not read: save it in black and "
            "white, without transparency"
        )


def is_nearly_black_and_white(values: Iterable[Any], column: str) -> bool:
    """Whether nearly all pixels of some pictures are nearly black or nearly white, as of masks saved as JPEG."""
    counts = np.zeros(256, dtype=np.int64)
    for value in values:
        counts += np.bincount(read_grey(value, column, nearly=True).ravel(), minlength=256)[:256]
    black, white = counts[: MIDDLE // 4].sum(), counts[-MIDDLE // 4 :].sum()
    return bool(black and white and black + white >= 0.9 * counts.sum())


def has_smooth_edges(values: Iterable[Any], column: str) -> bool:
    """Whether some pictures are black and white but for greys between, of edges that were resized or drawn smoothly.

    Class ids are told from such greys by their area: these have less of it than white, which is void in class maps.
    """
    counts = np.zeros(256, dtype=np.int64)
    for value in values:
        try:
            pixels = read_grey(value, column)
        except DataError:  # which is said where it is read
            return False
        if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
            return False
        counts += np.bincount(pixels.ravel(), minlength=256)
    greys = counts[MIDDLE // 4 : -MIDDLE // 4]  # those that is_nearly_black_and_white takes for neither
    is_white = counts[255] > 0 and counts[-MIDDLE // 4 :].sum() >= greys.sum()
    return bool(counts[0] and is_white and (greys > 0).sum() >= 3 and greys.sum() <= 0.1 * counts.sum())


def is_black_and_white(values: Iterable[Any], column: str) -> bool:
    """Whether pictures hold 0 and 255 and nothing else, both among them."""
    found: set[int] = set()
    for value in values:
        try:
            found |= set(np.unique(read_grey(value, column)).tolist())
        except DataError:
            return False
        if not found <= BLACK_AND_WHITE:
            return False
    return found == BLACK_AND_WHITE
