"""The targets of a batch, checked, and in the form in which matching and mask losses read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..fast_on_cpu import use_cpu_path
from ..targets import NO_SEGMENT, inside_of, segments_from_masks, smallest_id_dtype, void_value
from ..to_device import copies_first, to_device
from .enlargement import size_before_crop


@dataclass
class TargetMaps:
    """The segments of a batch, void set apart.

    Attributes:
        ids: `(B, L, H, W)` id maps, 0 at pixels of no segment and at void.
        void: `(B, H, W)` bool.
        layers: `(B, S)` int64, the layer in which each segment lies; 0 for segments without pixels. S is the most
            segments of an image, and at least 1.
    """

    ids: Tensor
    void: Tensor
    layers: Tensor

    def nearest(self, size: tuple[int, int]) -> TargetMaps:
        """The same at the smaller size of mask logits, picking pixels as `interpolate(mode="nearest")` does.

        The last cell of logits at stride 4 may reach beyond the image: see `enlarge`.
        """
        large = size_before_crop(size, tuple(self.void.shape[-2:]))
        rows, columns = (
            (torch.arange(new, device=self.ids.device) * (old / new)).long()
            for new, old in zip(size, large, strict=True)
        )
        rows = rows[:, None]
        return replace(self, ids=self.ids[..., rows, columns], void=self.void[..., rows, columns])

    def void_beyond(self, image_sizes: Tensor, size: tuple[int, int]) -> TargetMaps:
        """The same with void beyond each image's own `(height, width)` `(B, 2)` in a batch of `size`, in pixels."""
        rows, columns = (
            torch.arange(length, device=self.ids.device) * (of_batch / length) >= image_sizes[:, axis, None]
            for axis, (length, of_batch) in enumerate(zip(self.void.shape[-2:], size, strict=True))
        )
        beyond = rows[:, :, None] | columns[:, None, :]  # (B, H, W)
        return replace(self, ids=self.ids.masked_fill(beyond[:, None], NO_SEGMENT), void=self.void | beyond)

    def masks(self) -> Tensor:
        """`(B, S, H, W)` bool, one mask per segment."""
        images = torch.arange(len(self.ids), device=self.ids.device)[:, None]
        numbers = torch.arange(1, self.layers.shape[1] + 1, device=self.ids.device)[:, None, None]
        return self.ids[images, self.layers] == numbers


@dataclass
class Targets:
    """The targets of a batch.

    Attributes:
        maps: where the segments lie.
        class_ids: `(B, S)` int64, the class of each segment; 0 beyond an image's last segment.
        num_segments: of each image.
    """

    maps: TargetMaps
    class_ids: Tensor
    num_segments: list[int]

    @property
    def present(self) -> Tensor:
        """`(B, S)` bool, False beyond an image's last segment."""
        return _present(self.num_segments, self.class_ids)

    def void_beyond(self, image_sizes: Tensor, size: tuple[int, int]) -> Targets:
        """The same with void beyond each image's own size: see `TargetMaps.void_beyond`."""
        return replace(self, maps=self.maps.void_beyond(image_sizes, size))


@dataclass
class Findings:
    """What is to be checked of targets, found on their device, to be read with one copy.

    Attributes:
        numbers: `(B, 5)` int64: the lowest and the highest id, a segment in several layers (0: none), whether a class
            id is outside the label set, and this class id.
    """

    numbers: Tensor
    num_segments: list[int]
    num_labels: int

    def check(self, numbers: Sequence[Sequence[int]]) -> None:
        """Raises a ValueError that names what is wrong, given `numbers` on the host."""
        for image, (*_, is_outside, class_id) in enumerate(numbers):
            if is_outside:
                raise ValueError(
                    f"class_labels[{image}] holds class id {class_id}, "
                    f"expected ids from 0 to {self.num_labels - 1} (the model has {self.num_labels} labels)."
                )
        for image, (lowest, highest, repeated, *_) in enumerate(numbers):
            count = self.num_segments[image]
            if lowest < 0 or highest > count:
                raise ValueError(
                    f"segment_ids[{image}] holds id {lowest if lowest < 0 else highest}, expected 0 (no segment), 1 "
                    f"to {count} (one for each entry of class_labels[{image}]) or, in the first layer, void."
                )
            if repeated:
                raise ValueError(
                    f"segment_ids[{image}] has segment {repeated} in several layers, expected it in one only."
                )


def read_targets(
    class_labels: Sequence[Tensor],
    segment_ids: Tensor | None,
    mask_labels: Sequence[Tensor] | None,
    num_labels: int,
    device: torch.device,
) -> tuple[Targets, Findings]:
    """The targets on `device`, and what is to be checked before they are used. Does not wait for the device.

    Args:
        class_labels: B x `(S_b,)` class ids: tensors on any device, arrays or lists. Where an image has no mask, a
            single one is not read.
        segment_ids: `(B, L, H, W)` or `(B, H, W)` on any device, see `Segments`.
        mask_labels: instead of these, B x `(S_b, H_b, W_b)`, see `inside_of`, in such forms too. Those of unequal size
            are padded with background.
        num_labels: K.

    Raises:
        ValueError: the arguments do not fit each other.
    """
    class_labels = [torch.as_tensor(labels).to(torch.int64) for labels in class_labels]
    for image, labels in enumerate(class_labels):
        if labels.ndim != 1:
            raise ValueError(
                f"class_labels[{image}] has shape {tuple(labels.shape)}, expected (segments,): one class id for each "
                "segment of the image."
            )
    if not class_labels:
        raise ValueError("class_labels is empty, expected one entry for each image.")
    if mask_labels is not None:
        mask_labels = [torch.as_tensor(masks) for masks in mask_labels]
    class_labels = labels_of_masks(class_labels, mask_labels)
    num_segments = [len(labels) for labels in class_labels]
    check_shapes(num_segments, segment_ids, mask_labels)
    if segment_ids is None and not use_cpu_path(device):
        maps, ranges = maps_of_masks(mask_labels, device), torch.zeros(len(num_segments), 3, dtype=torch.int64)
        ranges = to_device(ranges, device)
    else:
        if segment_ids is None:
            segment_ids = gather_segment_ids(mask_labels, class_labels)
        segment_ids = segment_ids[:, None] if segment_ids.ndim == 3 else segment_ids
        maps, ranges = maps_of_ids(to_device(segment_ids, device), num_segments)
    class_ids, outside = pad_class_ids(class_labels, num_labels, device)
    findings = Findings(torch.cat((ranges, outside), 1), num_segments, num_labels)
    return Targets(maps, class_ids, num_segments), findings


def checked_targets(
    class_labels: Sequence[Tensor],
    segment_ids: Tensor | None,
    mask_labels: Sequence[Tensor] | None,
    num_labels: int,
    device: torch.device,
) -> Targets:
    """The targets on `device`, which the host waits for once. For the arguments see `read_targets`.

    Raises:
        ValueError: targets do not fit each other, or a class id is outside the label set.
    """
    targets, findings = read_targets(class_labels, segment_ids, mask_labels, num_labels, device)
    findings.check(findings.numbers.tolist())
    return targets


def labels_of_masks(class_labels: Sequence[Tensor], mask_labels: Sequence[Tensor] | None) -> list[Tensor]:
    """The class labels, without the single one of an image that has no mask.

    So the tutorials for transformers' model write an image without objects, and it takes them.
    """
    class_labels = list(class_labels)
    for image, masks in enumerate([] if mask_labels is None else mask_labels[: len(class_labels)]):
        if len(class_labels[image]) == 1:
            shape = torch.as_tensor(masks).shape
            if len(shape) == 3 and shape[0] == 0:
                class_labels[image] = class_labels[image][:0]
    return class_labels


def check_batch_size(class_labels: Sequence[Tensor], batch_size: int) -> None:
    """Raises a ValueError where there are not as many images with targets as there are predictions."""
    if len(class_labels) != batch_size:
        raise ValueError(f"class_labels has {len(class_labels)} entries, expected one per image: {batch_size}.")


def check_shapes(num_segments: list[int], segment_ids: Tensor | None, mask_labels: Sequence[Tensor] | None) -> None:
    """Raises a ValueError where masks are missing, twice there or do not fit the number of class labels."""
    if (segment_ids is None) == (mask_labels is None):
        raise ValueError("Pass either segment_ids or mask_labels beside class_labels, not both and not none.")
    batch_size = len(num_segments)
    if segment_ids is not None:
        if segment_ids.ndim not in (3, 4) or len(segment_ids) != batch_size or 0 in segment_ids.shape:
            raise ValueError(
                f"segment_ids has shape {tuple(segment_ids.shape)}, expected (B, L, H, W), B = {batch_size}."
            )
        return
    if len(mask_labels) != batch_size:
        raise ValueError(f"mask_labels has {len(mask_labels)} entries, expected one per image: {batch_size}.")
    for image, (masks, count) in enumerate(zip(mask_labels, num_segments, strict=True)):
        if masks.ndim != 3 or len(masks) != count or 0 in masks.shape[1:]:
            raise ValueError(
                f"mask_labels[{image}] has shape {tuple(masks.shape)}, expected ({count}, height, width): "
                f"one mask for each of the {count} entries of class_labels[{image}]."
            )


def gather_segment_ids(mask_labels: Sequence[Tensor], class_labels: Sequence[Tensor]) -> Tensor:
    """Id maps `(B, L, H, W)` of mask stacks, of as few layers as their overlaps allow: for a CPU, as it waits."""
    maps = [
        segments_from_masks(masks.cpu(), labels.cpu(), size=tuple(masks.shape[-2:])).ids
        for masks, labels in zip(mask_labels, class_labels, strict=True)
    ]
    shape = [max(ids.shape[axis] for ids in maps) for axis in range(3)]
    padded = torch.zeros(len(maps), *shape, dtype=max((ids.dtype for ids in maps), key=lambda dtype: dtype.itemsize))
    for target, ids in zip(padded, maps, strict=True):
        target[: ids.shape[0], : ids.shape[1], : ids.shape[2]] = ids
    return padded


def maps_of_masks(mask_labels: Sequence[Tensor], device: torch.device) -> TargetMaps:
    """The maps of mask stacks, each mask in a layer of its own, so that nobody has to find out which overlap."""
    num_segments = max(1, *map(len, mask_labels))
    size = [max(masks.shape[axis] for masks in mask_labels) for axis in (1, 2)]
    dtype = smallest_id_dtype(num_segments)
    ids = torch.zeros(len(mask_labels), num_segments, *size, dtype=dtype, device=device)
    for target, stack in zip(ids, mask_labels, strict=True):
        inside = inside_of(stack)
        target[: len(inside), : inside.shape[1], : inside.shape[2]].copy_(inside, non_blocking=copies_first(device))
    numbers = torch.arange(1, num_segments + 1, device=device)
    return TargetMaps(
        ids=ids.mul_(numbers[:, None, None].to(dtype)),
        void=torch.zeros(len(ids), *size, dtype=torch.bool, device=device),
        layers=(numbers - 1).expand(len(ids), -1),
    )


def maps_of_ids(segment_ids: Tensor, num_segments: list[int]) -> tuple[TargetMaps, Tensor]:
    """The maps of `segment_ids` `(B, L, H, W)`, and what `Findings` want to know of them, `(B, 3)`."""
    void = segment_ids[:, 0] == void_value(segment_ids.dtype)  # (B, H, W)
    ids = segment_ids.masked_fill(void[:, None], NO_SEGMENT)
    (batch_size, num_layers), most = ids.shape[:2], max(1, *num_segments)
    layers = torch.zeros(batch_size, most, dtype=torch.int64, device=ids.device)
    repeated = layers[:, 0]
    if num_layers > 1:
        # an id that is out of range must not reach beyond the table before it is reported
        numbers = ids.flatten(2).to(torch.int64).clamp(0, most)  # (B, L, H * W)
        in_layer = torch.zeros(batch_size, num_layers, most + 1, dtype=torch.int64, device=ids.device)
        in_layer = in_layer.scatter_(2, numbers, 1)[..., 1:]  # (B, L, S)
        layers = in_layer.argmax(1)
        in_several = (in_layer.sum(1) > 1).to(torch.int64)  # (B, S)
        repeated = (in_several.argmax(1) + 1) * in_several.amax(1)
    pixels = ids.flatten(1)
    ranges = torch.stack((pixels.amin(1).to(torch.int64), pixels.amax(1).to(torch.int64), repeated), 1)
    return TargetMaps(ids, void, layers), ranges


def pad_class_ids(class_labels: list[Tensor], num_labels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Class ids `(B, S)`, see `Targets`, and whether one is outside the label set and which, `(B, 2)`."""
    num_segments = [len(labels) for labels in class_labels]
    most = max(1, *num_segments)
    if len({labels.device for labels in class_labels}) > 1:
        class_labels = [to_device(labels, device) for labels in class_labels]
    flat = to_device(torch.cat(class_labels), device)
    places = np.concatenate([image * most + np.arange(count) for image, count in enumerate(num_segments)])
    padded = torch.zeros(len(num_segments) * most, dtype=torch.int64, device=device)
    padded = padded.scatter_(0, to_device(places.astype(np.int64), device), flat).unflatten(0, (-1, most))
    outside = ((padded < 0) | (padded >= num_labels)) & _present(num_segments, padded)
    first = outside.to(torch.int64).argmax(1, keepdim=True)
    return padded.clamp(0, num_labels - 1), torch.cat((outside.gather(1, first), padded.gather(1, first)), 1)


def _present(num_segments: list[int], like: Tensor) -> Tensor:
    counts = to_device(np.array(num_segments), like.device)
    return torch.arange(like.shape[1], device=like.device) < counts[:, None]
