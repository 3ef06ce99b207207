"""Which segments of two neighbouring tiles are one object, told by their masks where both tiles look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

SAME_OBJECT_IOU = 0.5
INSIDE = 0.8  # share of a part that lies in a segment of the other tile
SIMILAR_SCORE = 0.5  # the lower score is at least this share of the higher one


@dataclass(frozen=True)
class Part:
    """What a segment has in the pixels that two tiles share.

    Attributes:
        number: of the segment.
        label_id, score: its class and score.
        rle: COCO RLE of its pixels there, not empty.
        is_cut: whether its own tile's border that faces the other tile cuts it, so that it goes on over there.
    """

    number: int
    label_id: int
    score: float
    rle: dict
    is_cut: bool


def links(first: Sequence[Part], second: Sequence[Part]) -> list[tuple[int, int]]:
    """Pairs of numbers, of a part in `first` and one in `second`, that belong to one object. Both have one class.

    1. A part has at most one equal on the other side: the pairs of highest IoU, of at least 0.5. So two objects that
       touch each other are told apart as long as a tile does.
    2. Of the parts without an equal those that their tile's border cuts, and of which at least 0.8 lie in a part of
       similar score, belong to it: a tile sees the two legs of a horseshoe as two, the next one knows better.
    """
    if not first or not second:
        return []
    overlaps = _intersections(first, second)  # (n, m)
    areas = [coco_mask.area([part.rle for part in parts]).astype(float) for parts in (first, second)]
    unions = areas[0][:, None] + areas[1] - overlaps
    pairs = _best_pairs(overlaps / unions)
    homes = _homes(first, second, overlaps / areas[0][:, None], {one for one, _ in pairs})
    other_homes = _homes(second, first, overlaps.T / areas[1][:, None], {other for _, other in pairs})
    pairs += list(homes.items()) + [(one, other) for other, one in other_homes.items()]
    return [(first[one].number, second[other].number) for one, other in pairs]


def _intersections(first: Sequence[Part], second: Sequence[Part]) -> np.ndarray:
    """`(n, m)` pixels that two parts of one class share, 0 for two classes."""
    rles = [[part.rle for part in parts] for parts in (first, second)]
    # of a crowd region COCO's IoU is the share of the other mask that lies in it
    shares = coco_mask.iou(rles[0], rles[1], [1] * len(second)).reshape(len(first), len(second))
    labels = [np.array([part.label_id for part in parts]) for parts in (first, second)]
    return shares * coco_mask.area(rles[0])[:, None] * (labels[0][:, None] == labels[1])


def _best_pairs(iou: np.ndarray) -> list[tuple[int, int]]:
    """Places of the highest values, each row and column once at most."""
    rows, columns = (iou >= SAME_OBJECT_IOU).nonzero()
    pairs: list[tuple[int, int]] = []
    seen: tuple[set[int], set[int]] = (set(), set())
    for place in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if row not in seen[0] and column not in seen[1]:
            pairs.append((row, column))
            seen[0].add(row)
            seen[1].add(column)
    return pairs


def _homes(parts: Sequence[Part], others: Sequence[Part], shares: np.ndarray, paired: set[int]) -> dict[int, int]:
    """The places of cut parts without an equal -> those of the parts that they belong to, by shares `(n, m)`."""
    homes = {}
    for place, part in enumerate(parts):
        home = int(shares[place].argmax())
        lower, higher = sorted((part.score, others[home].score))
        if place not in paired and part.is_cut and shares[place, home] >= INSIDE and lower >= SIMILAR_SCORE * higher:
            homes[place] = home
    return homes
