"""What the loss is given, checked, and in the form in which matching and mask losses read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor

from ..targets import NO_SEGMENT, segments_from_masks, void_value


def check_class_labels(class_labels: Sequence[Tensor], batch_size: int, num_labels: int) -> list[Tensor]:
    """The class labels as int64 tensors, one per image.

    Raises:
        ValueError: not one tensor per image, or a class id outside `0 .. num_labels - 1`.
    """
    if len(class_labels) != batch_size:
        raise ValueError(f"class_labels has {len(class_labels)} entries, expected one per image: {batch_size}.")
    checked = [labels.to(torch.int64) for labels in class_labels]
    for image, labels in enumerate(checked):
        outside = labels[(labels < 0) | (labels >= num_labels)]
        if len(outside):
            raise ValueError(
                f"class_labels[{image}] holds class id {int(outside[0])}, "
                f"expected ids from 0 to {num_labels - 1} (the model has {num_labels} labels)."
            )
    return checked


def gather_segment_ids(
    segment_ids: Tensor | None, mask_labels: Sequence[Tensor] | None, class_labels: Sequence[Tensor]
) -> Tensor:
    """Id maps `(B, L, H, W)` of either form of target. Mask stacks of unequal size are padded with background."""
    if (segment_ids is None) == (mask_labels is None):
        raise ValueError("Pass either segment_ids or mask_labels beside class_labels, not both and not none.")
    if segment_ids is not None:
        segment_ids = segment_ids[:, None] if segment_ids.ndim == 3 else segment_ids
        if segment_ids.ndim != 4 or len(segment_ids) != len(class_labels):
            raise ValueError(
                f"segment_ids has shape {tuple(segment_ids.shape)}, expected (B, L, H, W), B = {len(class_labels)}."
            )
        return segment_ids
    if len(mask_labels) != len(class_labels):
        raise ValueError(f"mask_labels has {len(mask_labels)} entries, expected one per image: {len(class_labels)}.")
    for image, (masks, labels) in enumerate(zip(mask_labels, class_labels, strict=True)):
        if masks.ndim != 3 or len(masks) != len(labels):
            raise ValueError(
                f"mask_labels[{image}] has shape {tuple(masks.shape)}, expected ({len(labels)}, height, width): "
                f"one mask for each of the {len(labels)} entries of class_labels[{image}]."
            )
    maps = [
        segments_from_masks(masks, labels, size=tuple(masks.shape[-2:])).ids
        for masks, labels in zip(mask_labels, class_labels, strict=True)
    ]
    shape = [max(ids.shape[axis] for ids in maps) for axis in range(3)]
    dtype = max((ids.dtype for ids in maps), key=lambda dtype: dtype.itemsize)
    padded = torch.zeros(len(maps), *shape, dtype=dtype)
    for target, ids in zip(padded, maps, strict=True):
        target[: ids.shape[0], : ids.shape[1], : ids.shape[2]] = ids
    return padded


def average_num_masks(class_labels: Sequence[Tensor], device: torch.device) -> Tensor:
    """Number of target masks, averaged over all processes, at least 1."""
    num_masks = torch.tensor(float(sum(len(labels) for labels in class_labels)), device=device)
    if PartialState._shared_state:  # set up by Accelerate: asking for it otherwise would set it up
        num_masks = reduce(num_masks, reduction="mean")
    return num_masks.clamp(min=1)


@dataclass
class TargetMaps:
    """The segments of a batch, void set apart.

    Attributes:
        ids: `(B, L, H, W)` id maps, 0 at pixels of no segment and at void.
        void: `(B, H, W)` bool.
        layers: B x `(S_b,)` int64, the layer in which each segment lies; 0 for segments without pixels.
    """

    ids: Tensor
    void: Tensor
    layers: Sequence[Tensor]

    def nearest(self, size: tuple[int, int]) -> TargetMaps:
        """The same brought to another size, picking the pixels that `interpolate(mode="nearest")` picks."""
        rows, columns = (
            (torch.arange(new, device=self.ids.device) * (old / new)).long().clamp(max=old - 1)
            for old, new in zip(self.ids.shape[-2:], size, strict=True)
        )
        rows = rows[:, None]
        return replace(self, ids=self.ids[..., rows, columns], void=self.void[..., rows, columns])


def target_maps(segment_ids: Tensor, num_segments: Sequence[int]) -> TargetMaps:
    """The maps of `segment_ids` `(B, L, H, W)`, see `Segments`, of images with `num_segments` segments each.

    Raises:
        ValueError: an id has no class label, or a segment lies in two layers.
    """
    void = segment_ids[:, 0] == void_value(segment_ids.dtype)  # (B, H, W)
    ids = segment_ids.masked_fill(void[:, None], NO_SEGMENT)
    layers = []
    for image, count in enumerate(num_segments):
        lowest, highest = (int(bound) for bound in ids[image].aminmax())
        if lowest < 0 or highest > count:
            raise ValueError(
                f"segment_ids[{image}] holds id {lowest if lowest < 0 else highest}, expected 0 (no segment), 1 to "
                f"{count} (one for each entry of class_labels[{image}]) or, in the first layer, void."
            )
        layers.append(_layers_of_segments(ids[image], count, image))
    return TargetMaps(ids, void, layers)


def _layers_of_segments(ids: Tensor, num_segments: int, image: int) -> Tensor:
    """`(S,)` int64, the layer of ids `(L, H, W)` in which each segment lies."""
    if len(ids) == 1:
        return torch.zeros(num_segments, dtype=torch.int64, device=ids.device)
    counts = [layer.flatten().to(torch.int64).bincount(minlength=num_segments + 1)[1:] for layer in ids]
    present = torch.stack(counts) > 0  # (L, S)
    if (present.sum(0) > 1).any():
        number = int((present.sum(0) > 1).nonzero()[0]) + 1
        raise ValueError(f"segment_ids[{image}] has segment {number} in several layers, expected it in one only.")
    return present.to(torch.int64).argmax(0) if num_segments else counts[0]
