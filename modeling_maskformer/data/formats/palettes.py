"""Palettes of masks: programs number the colours of a picture as they like, so that an index need not be an id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import PIL.Image

from ..errors import DataError


def used_colours(picture: PIL.Image.Image) -> dict[int, tuple[int, ...]]:
    """Index -> red, green and blue, of those that pixels of a picture with a palette have."""
    palette = picture.getpalette("RGB") or []
    return {index: tuple(palette[3 * index : 3 * index + 3]) for _, index in picture.getcolors(256)}


def has_grey_palette(picture: PIL.Image.Image) -> bool:
    """Whether all colours that pixels of a picture with a palette have are grey."""
    return all(len(set(colour)) == 1 for colour in used_colours(picture).values())


def first_colours(pictures: Sequence[PIL.Image.Image]) -> dict[int, tuple[int, ...]]:
    """Index -> the colour that it has in the first of the pictures with a palette that uses it."""
    found: dict[int, tuple[int, ...]] = {}
    for picture in pictures:
        found = (used_colours(picture) if picture.mode == "P" else {}) | found
    return found


def check_colours(picture: PIL.Image.Image, known: Mapping[int, tuple[int, ...]], column: str) -> None:
    """Raises a DataError where a picture's palette has another colour for an index than is known."""
    for index, colour in used_colours(picture).items():
        if known.get(index, colour) != colour:
            here, there = (", ".join(map(str, each)) for each in (colour, known[index]))
            raise DataError(
                f"the palette of the picture in column '{column}' has the colour {here} (red, green, blue) for "
                f"{index}, that of another one {there}: each was numbered for itself, so that numbers are no class "
                "ids. A table of the colours of classes (class_dict.csv: name,r,g,b) tells them; if the numbers are "
                "ids all the same, pass --annotation_format class_map"
            )
