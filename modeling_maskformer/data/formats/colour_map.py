"""Colour masks with a table: each pixel has the colour of its class, exactly or nearly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from ..samples import decode_mask
from .class_map import ClassMapFormat
from .id_maps import read_colour_ids, unique_ids

FAR = 64  # from its nearest colour; JPEG changes colours by less but for few pixels at edges
MAX_FAR = 0.1  # part of the pixels of an image


@dataclass
class ColourMapFormat(ClassMapFormat):
    """Row -> one segment per class, as of class maps.

    Args:
        column: of pictures in colours, a palette, or grey.
        colours: R + 256 G + 65536 B -> class id.
        nearest: whether other colours are taken for the nearest one in the table.
    """

    colours: dict[int, int]
    nearest: bool = False
    why = "a colour per class does not tell objects of one class apart"

    def classes(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        picture = decode_mask(row[self.column], self.column)
        if picture.mode == "P" or (self.nearest and picture.mode in ("L", "1", "LA", "CMYK")):
            picture = picture.convert("RGB")
        colours, index = unique_ids(read_colour_ids(picture, self.column))
        if self.nearest:
            return self._nearest(colours, np.bincount(index.ravel())), index
        other = [colour for colour in colours.tolist() if colour not in self.colours]
        if other:
            raise DataError(
                f"the picture in column '{self.column}' has {len(other)} colours that the table of classes lacks, the "
                f"first is {_describe(other[0])}: masks that were resized with smooth edges, or saved as JPEG, have "
                "such. --nearest_colour takes each for the nearest in the table"
            )
        return np.array([self.colours[colour] for colour in colours.tolist()], dtype=np.int64), index

    def _nearest(self, colours: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """`(U,)` class ids of U colours that `counts` pixels have."""
        known = np.array(sorted(self.colours), dtype=np.int64)
        parts, known_parts = _red_green_blue(colours), _red_green_blue(known)
        best, distance = np.zeros(len(colours), dtype=np.int64), np.full(len(colours), np.inf)
        for number, part in enumerate(known_parts):  # one colour at a time: JPEG makes many thousands of colours
            squares = np.square(parts - part).sum(1)
            best, distance = np.where(squares < distance, number, best), np.minimum(squares, distance)
        is_far = distance > FAR**2
        if counts[is_far].sum() > MAX_FAR * counts.sum():
            first = colours[np.where(is_far, counts, 0).argmax()]
            raise DataError(
                f"{counts[is_far].sum() / counts.sum():.0%} of the pixels of the picture in column '{self.column}' "
                f"have a colour that is far from all in the table of classes, most of them {_describe(first)}: is a "
                "class missing there?"
            )
        return np.array([self.colours[colour] for colour in known[best].tolist()], dtype=np.int64)


def _red_green_blue(colours: np.ndarray) -> np.ndarray:
    """`(U, 3)` of `(U,)`."""
    colours = colours.astype(np.int64)
    return np.stack([colours & 0xFF, colours >> 8 & 0xFF, colours >> 16], axis=1)


def _describe(colour: int) -> str:
    red, green, blue = _red_green_blue(np.array([colour]))[0].tolist()
    return f"{red} {green} {blue} (red, green, blue)"
