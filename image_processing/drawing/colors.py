"""A colour for each class: the same in every picture, and far from those of its neighbours in the list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

Color = tuple[int, int, int]

PALETTE_SIZE = 256
LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)  # of red, green and blue that the palette is chosen from
SHADES = (0.0, 0.35, -0.30, 0.55, -0.50, 0.18, -0.15)  # towards white, or (below 0) towards black
# Björn Ottosson's matrices, transposed
TO_CONES = np.array(
    [
        [0.4122214708, 0.2119034982, 0.0883024619],
        [0.5363325363, 0.6806995451, 0.2817188376],
        [0.0514459929, 0.1073969566, 0.6299787005],
    ]
)
TO_OKLAB = np.array(
    [
        [0.2104542553, 1.9779984951, 0.0259040371],
        [0.7936177850, -2.4285922050, 0.7827717662],
        [-0.0040720468, 0.4505937099, -0.8086757660],
    ]
)


def class_color(label_id: int) -> Color:
    """(red, green, blue) in 0..255 of a class; after 256 classes they come again."""
    return _palette()[label_id % PALETTE_SIZE]


def segment_color(label_id: int, nth: int) -> Color:
    """The colour of the nth (0, 1, ...) segment of a class in a picture: a shade of the class's colour."""
    shade = SHADES[nth % len(SHADES)]
    goal = 255 if shade > 0 else 0
    red, green, blue = (round(part + abs(shade) * (goal - part)) for part in class_color(label_id))
    return red, green, blue


def shades_of(labels: Iterable[int]) -> list[Color]:
    """The colour of each segment of a picture: another shade of its class's colour for each one of the class."""
    seen: Counter[int] = Counter()
    colors = []
    for label in labels:
        colors.append(segment_color(label, seen[label]))
        seen[label] += 1
    return colors


def text_color(background: Color) -> Color:
    """Black or white, whichever is easier to read on the background."""
    luminance = 0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)


@lru_cache
def _palette() -> list[Color]:
    """256 colours, each as far from all before it as can be, so the first ones differ most."""
    colors = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), -1).reshape(-1, 3)
    lively = (np.ptp(colors, axis=1) >= 60) & (colors.max(1) >= 100)  # neither gray nor nearly black
    colors = colors[lively]
    places = _oklab(colors)
    chosen = [int(np.flatnonzero((colors == (219, 36, 36)).all(1))[0])]
    distance = np.linalg.norm(places - places[chosen[0]], axis=1)
    while len(chosen) < PALETTE_SIZE:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return [(int(red), int(green), int(blue)) for red, green, blue in colors[chosen]]


def _oklab(colors: np.ndarray) -> np.ndarray:
    """`(n, 3)` sRGB in 0..255 in Oklab, where equal distances look equally large."""
    srgb = colors / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_CONES) @ TO_OKLAB
