"""The id maps of a batch in the form in which matching and mask losses read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .targets import NO_SEGMENT, void_value


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
