"""The segments of an image, compact: integer id maps and one class id per segment.

A target of S masks at H x W costs S * H * W floats as a mask stack. The same target is one integer map where masks do
not overlap, and a few such maps ("layers") where they do: every segment lives in exactly one layer, and two segments
share a layer only if they share no pixel. Readers, augmentation, loss and metrics all work on this form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

TASKS = ("semantic", "instance", "panoptic")  # how segments are read, predictions merged, and both compared

NO_SEGMENT = 0  # the pixel belongs to no segment: it counts as background of every mask
VOID = -1  # the pixel is unlabelled: it takes part in no matching, no loss and no metric (255 in uint8)

PIXELS_AT_ONCE = 1 << 20  # of a large map that are computed together, as int64


def void_value(dtype: torch.dtype) -> int:
    """The value that means void in an id map of this dtype: -1, which is 255 in uint8."""
    return 255 if dtype == torch.uint8 else VOID


def smallest_id_dtype(num_segments: int) -> torch.dtype:
    """The smallest of uint8, int16 and int32 that holds `num_segments` ids next to NO_SEGMENT and void."""
    if num_segments <= 254:
        return torch.uint8
    return torch.int16 if num_segments <= torch.iinfo(torch.int16).max else torch.int32


@dataclass
class Segments:
    """The segments of one image.

    Attributes:
        ids: `(L, H, W)` uint8, int16 or int32. `k` in 1..S marks the pixels of segment `k`, whose class is
            `class_ids[k - 1]`; 0 marks pixels of no segment; -1 (255 in uint8) in layer 0 marks void.
        class_ids: `(S,)` int64, class of each segment.
        is_crowd: `(S,)` bool, True where the segment is a region of uncounted objects (COCO's `iscrowd`). Defaults to
            all False.
    """

    ids: Tensor
    class_ids: Tensor
    is_crowd: Tensor = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.ids.ndim == 2:
            self.ids = self.ids[None]
        if self.ids.ndim != 3 or self.ids.dtype not in (torch.uint8, torch.int16, torch.int32):
            raise ValueError(
                "Segments.ids must be an (L, H, W) map of uint8, int16 or int32, "
                f"got shape {tuple(self.ids.shape)} and {self.ids.dtype}."
            )
        self.class_ids = torch.as_tensor(self.class_ids, dtype=torch.int64)
        if self.is_crowd is None:
            self.is_crowd = torch.zeros(len(self.class_ids), dtype=torch.bool)
        self.is_crowd = torch.as_tensor(self.is_crowd, dtype=torch.bool)
        if self.is_crowd.shape != self.class_ids.shape:
            raise ValueError(
                f"Segments.is_crowd has shape {tuple(self.is_crowd.shape)}, class_ids {tuple(self.class_ids.shape)}."
            )

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.ids.shape[-2], self.ids.shape[-1]

    @property
    def void(self) -> Tensor:
        """`(H, W)` bool, True at void pixels."""
        return self.ids[0] == void_value(self.ids.dtype)

    def masks(self) -> Tensor:
        """`(S, H, W)` bool, one mask per segment. Large: for tests, metrics and small images."""
        return expand_masks(self.ids, len(self))

    def areas(self) -> Tensor:
        """`(S,)` int64, pixels of each segment."""
        return _count_ids(self.ids.flatten(), len(self))

    def select(self, keep: Tensor, dropped: int = NO_SEGMENT) -> Segments:
        """The segments where `keep` ((S,) bool) is True, renumbered; pixels of the others become `dropped`.

        With `dropped=VOID`, pixels that no kept segment covers become void.
        """
        dtype = smallest_id_dtype(int(keep.sum()))
        void = void_value(dtype)
        numbers = torch.zeros(len(self) + 2, dtype=dtype)  # of each old id; the last is void's
        numbers[1:-1] = torch.where(keep, keep.cumsum(0), NO_SEGMENT)
        numbers[-1] = void
        old = torch.where(self.ids == void_value(self.ids.dtype), len(self) + 1, self.ids.to(torch.int32))
        ids = numbers.index_select(0, old.flatten()).view(old.shape)
        if dropped == VOID:
            uncovered = ((ids == NO_SEGMENT) | (ids == void)).all(0) & (old > NO_SEGMENT).any(0)
            ids[0] = torch.where(uncovered, void, ids[0])
        return Segments(ids, self.class_ids[keep], self.is_crowd[keep])

    def without_crowd(self) -> Segments:
        """What training sees: crowd regions are no targets, their pixels are void."""
        return self.select(~self.is_crowd, dropped=VOID) if self.is_crowd.any() else self

    def without_empty(self) -> Segments:
        """Without the segments that have no pixel left, as after a crop."""
        flat = self.ids.numpy().reshape(-1)
        starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
        present = _count_ids(torch.from_numpy(flat[starts]), len(self)) > 0  # one pixel of each run of equal ids
        return self if bool(present.all()) else self.select(present)


def _count_ids(ids: Tensor, num_segments: int) -> Tensor:
    """`(S,)` int64: how often each of the ids 1 to S is in an `(N,)` id map; void is none of them."""
    ids = ids if ids.dtype == torch.uint8 else ids.clamp(min=NO_SEGMENT)
    return torch.bincount(ids, minlength=num_segments + 1)[1 : num_segments + 1]


def segments_from_class_map(class_map: np.ndarray | Tensor, ignore_index: int | None = 255) -> Segments:
    """One segment per class present in an `(H, W)` integer map; pixels of `ignore_index` are void."""
    class_map = torch.as_tensor(class_map)
    strips = class_map.split(max(1, PIXELS_AT_ONCE // max(1, class_map.shape[1])))
    class_ids = torch.cat([strip.to(torch.int64).unique() for strip in strips]).unique()
    if ignore_index is not None:
        class_ids = class_ids[class_ids != ignore_index]
    dtype = smallest_id_dtype(len(class_ids))
    parts = []
    for strip in strips:
        strip = strip.to(torch.int64).contiguous()
        numbers = torch.searchsorted(class_ids, strip) + 1
        if ignore_index is not None:
            numbers = torch.where(strip == ignore_index, void_value(dtype), numbers)
        parts.append(numbers.to(dtype))
    return Segments(torch.cat(parts), class_ids)


def segments_from_masks(
    masks: Sequence[np.ndarray | Tensor] | np.ndarray | Tensor,
    class_ids: Sequence[int] | Tensor,
    is_crowd: Sequence[bool] | Tensor | None = None,
    size: tuple[int, int] | None = None,
) -> Segments:
    """Segments of S masks, each `(H, W)` and read one at a time; overlapping ones go to different layers.

    Args:
        masks: S masks, see `inside_of`.
        class_ids: S class ids.
        is_crowd: S flags, default none.
        size: (H, W); needed where there is no mask.
    """
    class_ids = torch.as_tensor(class_ids, dtype=torch.int64)
    if len(masks) != len(class_ids):
        raise ValueError(f"{len(masks)} masks but {len(class_ids)} class ids: one class id per mask is expected.")
    if len(masks) == 0 and size is None:
        raise ValueError("segments_from_masks needs `size` where there are no masks.")
    dtype = smallest_id_dtype(len(class_ids))
    height, width = size if size is not None else tuple(masks[0].shape)
    layers = [torch.zeros(height, width, dtype=dtype)]
    for number, mask in enumerate(masks, start=1):
        mask = inside_of(torch.as_tensor(mask))
        for layer in layers:
            if not layer[mask].any():
                break
        else:
            layer = torch.zeros(height, width, dtype=dtype)
            layers.append(layer)
        layer[mask] = number
    return Segments(torch.stack(layers), class_ids, is_crowd)


def inside_of(masks: Tensor) -> Tensor:
    """Which pixels are inside masks of booleans or numbers: those not 0; of floating ones, from 0.5 on.

    Bilinear resizing leaves soft borders, of which every mask would otherwise be wider by a pixel or more.
    """
    return masks >= 0.5 if masks.is_floating_point() else masks != 0


def expand_masks(ids: Tensor, num_segments: int) -> Tensor:
    """`(S, H, W)` bool masks of `(L, H, W)` id maps."""
    masks = torch.zeros(num_segments, *ids.shape[-2:], dtype=torch.bool, device=ids.device)
    numbers = torch.arange(1, num_segments + 1, device=ids.device, dtype=torch.int64)[:, None, None]  # (S, 1, 1)
    for layer in ids:
        layer = layer.to(torch.int64)
        layer = torch.where(layer == void_value(ids.dtype), 0, layer) if ids.dtype == torch.uint8 else layer
        masks |= layer[None] == numbers
    return masks
