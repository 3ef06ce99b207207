"""Where the name of a segment is written: deep inside its largest part, over no other name."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

Box = tuple[int, int, int, int]  # left, top, right, bottom

WORK_SIDE = 256  # masks are looked at in about this size: places need no pixel precision


class LabelPlacer:
    """Finds free boxes in one picture of (width, height) = `size`; later boxes avoid earlier ones.

    Attributes:
        step: of a mask's rows and columns every so many are looked at.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.step = max(1, max(size) // WORK_SIDE)
        self.boxes: list[Box] = []

    def place(self, mask: np.ndarray, width: int, height: int) -> Box | None:
        """A box of this width and height for the name of a mask; None if there is no free place for it.

        Args:
            mask: `(h, w)` bool, every `step`-th row and column of the segment's mask.
            width, height: of the box, in pixels of the picture.
        """
        step = self.step
        depth = self._depth(mask)
        for left, top, right, bottom in self.boxes:  # no centre from which the box would reach one of these
            rows = slice(max(0, (top - height // 2) // step), (bottom + height // 2) // step + 1)
            columns = slice(max(0, (left - width // 2) // step), (right + width // 2) // step + 1)
            depth[rows, columns] = 0
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        box = self._box_around(int(x) * step, int(y) * step, width, height)
        if depth[y, x] <= 0 or any(_overlap(box, other) for other in self.boxes):
            return None
        self.boxes.append(box)
        return box

    @staticmethod
    def _depth(mask: np.ndarray) -> np.ndarray:
        """`(h, w)`: in the largest connected part the distance to its edge, 0 elsewhere."""
        parts, count = ndimage.label(mask)
        if count == 0:  # a mask too thin for the coarse look
            return np.zeros(mask.shape)
        largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
        return ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]

    def _box_around(self, x: int, y: int, width: int, height: int) -> Box:
        left = min(max(0, x - width // 2), max(0, self.size[0] - width))
        top = min(max(0, y - height // 2), max(0, self.size[1] - height))
        return left, top, left + width, top + height


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
