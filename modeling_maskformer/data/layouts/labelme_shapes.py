"""Shapes as LabelMe draws them -> COCO's polygons or run lengths."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
from pycocotools import mask as coco_mask

from ..errors import DataError
from ..formats.objects.mask_checks import MAX_COORDINATE
from ..formats.objects.objects_format import run_lengths_of

SHAPES = ("polygon", "rectangle", "circle", "mask", "oriented_rectangle", "rotation")
CORNERS_OF_A_CIRCLE = 72


def polygons_of_shape(
    shape: Mapping[str, Any], kind: str, size: tuple[int | None, int | None], where: str
) -> list[list[float]] | dict | None:
    """The mask of a shape, as COCO's `segmentation`; None where its points enclose nothing.

    Args:
        shape: with `points`, and `mask` where it is one.
        kind: one of SHAPES.
        size: (H, W) of the image; needed by masks.
        where: names the shape in messages.

    Raises:
        DataError: points or mask are damaged.
    """
    points = _points(shape.get("points"), where)
    if kind == "mask":
        return _mask(shape.get("mask"), points, size, where)
    if kind == "circle":
        if len(points) != 2:
            raise DataError(f"{where} is a circle of {len(points)} points: its centre and a point of it are expected.")
        (x, y), (edge_x, edge_y) = points
        radius = math.hypot(edge_x - x, edge_y - y)
        angles = [2 * math.pi * corner / CORNERS_OF_A_CIRCLE for corner in range(CORNERS_OF_A_CIRCLE)]
        points = [[x + radius * math.cos(angle), y + radius * math.sin(angle)] for angle in angles] if radius else []
    elif kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    if len(points) < 3:
        return None
    return [[number for point in points for number in point]]


def join_parts(masks: Sequence[list[list[float]] | dict], size: tuple[int | None, int | None]) -> Any:
    """The `segmentation` of an object in parts."""
    if not any(isinstance(mask, dict) for mask in masks):
        return [polygon for mask in masks for polygon in mask]
    return _as_json(coco_mask.merge([run_lengths_of(mask, size) for mask in masks]))


def _points(points: Any, where: str) -> list[list[float]]:
    points = points or []
    if not isinstance(points, list) or not all(
        isinstance(point, list)
        and len(point) == 2
        and all(isinstance(number, (int, float)) and abs(number) <= MAX_COORDINATE for number in point)
        for point in points
    ):
        raise DataError(f"{where} has the points {str(points)[:80]}: pairs of pixels, [[x, y], ...], are expected.")
    return points


def _mask(encoded: Any, points: list, size: tuple[int | None, int | None], where: str) -> dict | None:
    """The run lengths of a picture of the box that the points are corners of."""
    if None in size or len(points) != 2 or not isinstance(encoded, str):
        raise DataError(f"{where} is a mask: the corners of its box and the size of the image are expected.")
    try:
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(encoded)))
        (left, top), (right, bottom) = [[round(number) for number in point] for point in points]
        if picture.size != (right - left + 1, bottom - top + 1):
            raise DataError(f"{where} has a mask of {picture.size} pixels for the box {points}: its size is expected.")
        if left < 0 or top < 0 or bottom >= size[0] or right >= size[1]:
            raise DataError(f"{where} has a mask for the box {points}, beyond its image of {size} (H, W).")
        inside = np.asarray(picture)
    except (OSError, SyntaxError, binascii.Error, PIL.Image.DecompressionBombError) as error:
        raise DataError(f"{where} has a mask that is no picture in base64: {error}.") from error
    if inside.ndim != 2:
        raise DataError(f"{where} has a mask in colours: black and white are expected.")
    whole = np.zeros(size, dtype=np.uint8, order="F")
    whole[top : bottom + 1, left : right + 1] = inside > 0
    return _as_json(coco_mask.encode(whole)) if whole.any() else None


def _as_json(run_lengths: Mapping[str, Any]) -> dict:
    return {"size": [int(length) for length in run_lengths["size"]], "counts": run_lengths["counts"].decode("ascii")}
