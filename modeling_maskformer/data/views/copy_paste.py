"""Things of another training image pasted onto a view: Simple Copy-Paste (Ghiasi et al. 2021), without blending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...targets import NO_SEGMENT, VOID, Segments, smallest_id_dtype, void_value
from ..datasets import SegmentationData
from ..errors import DataError
from ..streams import stream_of

DEFAULT_PROBABILITY = 0.5


@dataclass(frozen=True)
class CopyPaste:
    """Onto such a part of the views, a random number of random things of another image's view are pasted.

    What they cover is no longer seen: masks lose those pixels, segments without a pixel left are dropped. Views of
    different sizes meet at a random place.

    Args:
        probability: of a view to get things pasted on.
        is_thing: for each class, whether its segments are pasted.
        max_segments: how many a view may have with what is pasted: those beyond the queries would not be learnt.
    """

    probability: float
    is_thing: Sequence[bool]
    max_segments: int | None = None

    def draw_partner(self, index: int, length: int, generator: Generator | None) -> int | None:
        """Index of another of `length` images whose things are pasted onto this one; None where none are."""
        if length < 2 or torch.rand((), generator=generator) >= self.probability:
            return None
        return (index + 1 + int(torch.randint(length - 1, (), generator=generator))) % length

    def __call__(
        self, image: Tensor, segments: Segments, other: Tensor, other_segments: Segments, generator: Generator | None
    ) -> tuple[Tensor, Segments]:
        """`(3, H, W)` image and segments with things of the `(3, h, w)` other one; nothing is changed in place."""
        things = torch.tensor(self.is_thing)[other_segments.class_ids].nonzero().flatten()  # (T,)
        most = len(things)
        if self.max_segments is not None:
            most = min(most, self.max_segments - len(segments))
        if most <= 0:
            return image, segments
        count = 1 + int(torch.randint(most, (), generator=generator))
        keep = torch.zeros(len(other_segments), dtype=torch.bool)
        keep[things[torch.randperm(len(things), generator=generator)[:count]]] = True
        pasted = other_segments.select(keep)
        rows, other_rows = _meet(segments.size[0], pasted.size[0], generator)
        columns, other_columns = _meet(segments.size[1], pasted.size[1], generator)

        layers = max(len(segments.ids), len(pasted.ids))
        ids = _signed_ids(segments, layers)  # (L, H, W)
        new = _signed_ids(pasted, layers)[:, other_rows, other_columns].clamp(min=NO_SEGMENT)  # (L, h', w')
        covered = (new != NO_SEGMENT).any(0)
        new = torch.where(new != NO_SEGMENT, new + len(segments), NO_SEGMENT)
        ids[:, rows, columns] = torch.where(covered, new, ids[:, rows, columns])
        image = image.clone()
        image[:, rows, columns] = torch.where(covered, other[:, other_rows, other_columns], image[:, rows, columns])

        dtype = smallest_id_dtype(len(segments) + count)
        return image, Segments(
            torch.where(ids == VOID, void_value(dtype), ids).to(dtype),
            torch.cat((segments.class_ids, pasted.class_ids)),
            torch.cat((segments.is_crowd, pasted.is_crowd)),
        ).without_empty()


def _meet(length: int, other: int, generator: Generator | None) -> tuple[slice, slice]:
    """The part of each of two lengths that lies over the other one, the shorter anywhere within the longer."""
    shared = min(length, other)
    starts = (int(torch.randint(whole - shared + 1, (), generator=generator)) for whole in (length, other))
    first, second = (slice(start, start + shared) for start in starts)
    return first, second


def _signed_ids(segments: Segments, layers: int) -> Tensor:
    """`(layers, H, W)` int32 ids with void as -1, a copy; layers that are added have no segment."""
    ids = torch.zeros(layers, *segments.size, dtype=torch.int32)
    ids[: len(segments.ids)] = torch.where(segments.ids == void_value(segments.ids.dtype), VOID, segments.ids.int())
    return ids


def choose_copy_paste(probability: float | None, data: SegmentationData, samples: object) -> CopyPaste | None:
    """What pastes things onto the training images of a dataset; None where the probability is 0.

    Args:
        probability: of a view to get things pasted on; None for 0.5 wherever there are things to paste.
        data: says what is a thing.
        samples: the training images.

    Raises:
        DataError: a probability was asked for, and the task or the data have no things to paste.
    """
    if probability == 0:
        return None
    problem = _nothing_to_paste(data, samples)
    if problem is not None:
        if probability is None:
            return None
        needs = f"copy_paste_probability {probability:g} pastes objects of one training image onto another"
        raise DataError(f"{needs}, but {problem}.")
    is_thing = (True,) * len(data.labels) if data.task == "instance" else data.labels.is_thing
    return CopyPaste(DEFAULT_PROBABILITY if probability is None else probability, is_thing)


def _nothing_to_paste(data: SegmentationData, samples: object) -> str | None:
    """Why there is nothing to paste; None where there is something."""
    if data.task == "semantic":
        return "task semantic has no objects: it is for instance and panoptic"
    if stream_of(samples) is not None:
        return "a stream has no other image at hand: leave --streaming out"
    if data.task == "panoptic" and not any(data.labels.is_thing or ()):
        return "no class is known to be a thing: an id2label file can tell that (isthing)"
    return None
