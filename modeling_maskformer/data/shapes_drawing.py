"""Random scenes of shapes on regions: the pictures behind the generated dataset."""

from __future__ import annotations

import numpy as np

THINGS = ("circle", "square", "triangle", "star", "cross")
STUFF = ("sky", "grass", "water")
# Typical colour of each class. Single objects and regions lie around it, so far that neighbours mix.
THING_COLOURS = np.float32([(205, 60, 60), (225, 140, 50), (150, 80, 190), (235, 215, 90), (225, 130, 175)])
STUFF_COLOURS = np.float32([(150, 190, 230), (90, 150, 70), (50, 100, 150)])
THING_SPREAD = 28.0  # standard deviation of an object's colour around that of its class, each channel
STUFF_SPREAD = 12.0
RADII = (0.09, 0.24)  # of the shapes, in parts of the image
MIN_VISIBLE = 0.4  # a shape that would leave less than that of another one visible is not drawn


def draw_scene(rng: np.random.Generator, size: int, max_things: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An `(S, S, 3)` uint8 image, the `(S, S)` uint8 region of each pixel, and the `(R,)` int64 class of each region.

    Classes are positions in THINGS + STUFF. Regions of stuff come first, then shapes from back to front.
    """
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / size  # (S, S), both in [0, 1)
    regions, classes = draw_stuff(rng, columns, rows)
    image = np.empty((size, size, 3), dtype=np.float32)
    for region, label in enumerate(classes):
        inside = regions == region
        image[inside] = stuff_texture(rng, label - len(THINGS), rows[inside], columns[inside])
    full_areas: dict[int, int] = {}
    for _ in range(int(rng.integers(0, max_things + 1))):
        kind = int(rng.integers(len(THINGS)))
        window, mask, colours = draw_thing(rng, kind, rows, columns)
        visible = np.bincount(regions.ravel(), minlength=len(classes))
        visible -= np.bincount(regions[window][mask], minlength=len(classes))
        if any(visible[region] < MIN_VISIBLE * full for region, full in full_areas.items()):
            continue
        full_areas[len(classes)] = np.count_nonzero(mask)
        regions[window][mask] = len(classes)
        image[window][mask] = colours
        classes.append(kind)
    image += 6 * rng.standard_normal(image.shape, dtype=np.float32)  # the camera's noise
    image *= np.float32(rng.uniform(0.8, 1.15))  # and exposure
    return image.clip(0, 255).astype(np.uint8), regions, np.array(classes, dtype=np.int64)


def draw_stuff(rng: np.random.Generator, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Sky above one or two of grass and water, with wavy borders: `(S, S)` region of each pixel and their classes."""
    kinds = [0, *(1 + rng.permutation(2)[: rng.integers(1, 3)]).tolist()]
    heights = [rng.uniform(0.25, 0.5), rng.uniform(0.65, 0.85)][: len(kinds) - 1]
    regions = np.zeros(rows.shape, dtype=np.uint8)
    for height in heights:
        waves = sum(
            rng.uniform(0.01, 0.04) * np.sin(2 * np.pi * (frequency * columns[0] + rng.uniform()))
            for frequency in (1, 2, 5)
        )
        tilt = rng.uniform(-0.1, 0.1) * (columns[0] - 0.5)
        regions += rows > (height + waves + tilt)[None]
    return regions, [len(THINGS) + kind for kind in kinds]


def stuff_texture(rng: np.random.Generator, kind: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`(P, 3)` colours of P pixels: clouds in the sky, blades in the grass, waves on the water."""
    colour = rng.normal(STUFF_COLOURS[kind], STUFF_SPREAD).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, size=2).astype(np.float32)
    if STUFF[kind] == "sky":
        light = 30 * rows + 14 * np.sin(9 * columns + phase[0]) * np.sin(14 * rows + phase[1])
    elif STUFF[kind] == "grass":
        light = 16 * rng.standard_normal(len(rows), dtype=np.float32) + 8 * np.sin(110 * columns + phase[0])
    else:
        light = 14 * np.sin(90 * rows + 4 * np.sin(8 * columns + phase[0]) + phase[1])
    return colour + light[:, None]


def draw_thing(
    rng: np.random.Generator, kind: int, rows: np.ndarray, columns: np.ndarray
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """One shape: a window of the image, the bool mask within the window and the `(P, 3)` colours of its pixels."""
    (x, y), radius, angle = rng.uniform(0.06, 0.94, size=2), rng.uniform(*RADII), rng.uniform(0, 2 * np.pi)
    size = len(rows)
    window = tuple(slice(max(0, int((c - radius) * size)), int((c + radius) * size) + 2) for c in (y, x))
    across, down = (columns[window] - np.float32(x)) / radius, (rows[window] - np.float32(y)) / radius
    u = np.cos(angle) * across + np.sin(angle) * down
    v = np.cos(angle) * down - np.sin(angle) * across
    mask = OUTLINES[THINGS[kind]](u, v)
    u, v = u[mask], v[mask]
    light = rng.uniform(-25, 25) * u + 8 * rng.integers(0, 3) * np.sin(rng.uniform(6, 12) * v)  # shade and stripes
    return window, mask, rng.normal(THING_COLOURS[kind], THING_SPREAD) + light[:, None]


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u**2 + v**2 < 0.85**2


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u), abs(v)) < 0.7


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(v, abs(u) * 0.866 - v / 2) < 0.5


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five rays; all ten halves of rays are folded onto one, whose outline is a straight line."""
    inner, half = 0.45, np.pi / 5
    angle = abs((np.arctan2(v, u) + half) % (2 * half) - half)
    radius = np.hypot(u, v)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return y * (1 - inner * np.cos(half)) < (1 - x) * inner * np.sin(half)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    short, long = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    return (short < 0.28) & (long < 0.95)


OUTLINES = dict(zip(THINGS, (_circle, _square, _triangle, _star, _cross), strict=True))
