"""The label set of a dataset: which id in its annotations means which class of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError

VOID_LABEL = -1  # the annotation's id means "unlabelled"
NO_LABEL = -2  # the annotation's id means "no segment": background of every mask
BACKGROUND_NAMES = frozenset({"background", "unknown", "void", "ignore", "ignored", "none", "null", "nodata"})
BACKGROUND_NAMES |= {"unlabeled", "unlabelled", "notlabeled", "notlabelled", "nolabel", "unannotated", "unassigned"}
BACKGROUND_NAMES |= {"unclassified", "undefined", "dontcare"}


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset, numbered 0..K-1 as the model numbers them.

    Attributes:
        names: K names.
        dataset_ids: K ids, those that stand for the classes in the annotations.
        is_thing: K flags, True for countable objects, False for stuff; None where nobody knows.
        void_ids: ids in the annotations whose pixels are unlabelled.
        background_ids: ids in the annotations whose pixels belong to no segment.
        rest_label: class of the pixels that no object covers, where annotations are lists of objects and the task
            wants a class for each pixel; None where such pixels belong to no segment.
        has_categories: whether ids are categories of segments, so that none can be an ignore_index.
    """

    names: tuple[str, ...]
    dataset_ids: tuple[int, ...]
    is_thing: tuple[bool, ...] | None = None
    void_ids: frozenset[int] = frozenset()
    background_ids: frozenset[int] = frozenset()
    rest_label: int | None = None
    has_categories: bool = False

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError("The label set is empty: at least one class is expected.")
        both = (self.void_ids | self.background_ids) & set(self.dataset_ids)
        if both:
            raise DataError(
                f"Id {min(both)} is void or background in the annotations and also the id of class "
                f"'{self.names[self.dataset_ids.index(min(both))]}': choose another ignore_index or label set."
            )
        table = {raw: VOID_LABEL for raw in self.void_ids} | {raw: NO_LABEL for raw in self.background_ids}
        table |= {raw: label for label, raw in enumerate(self.dataset_ids)}
        object.__setattr__(self, "_table", table)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def label_ids_to_fuse(self) -> list[int] | None:
        """Labels of stuff, whose segments are one in panoptic results; None where nobody knows."""
        if self.is_thing is None:
            return None
        return [label for label, thing in enumerate(self.is_thing) if not thing]

    def labels_of(self, raw_ids: Iterable[int]) -> np.ndarray:
        """`(U,)` int64 labels of U ids of the annotations; VOID_LABEL and NO_LABEL where they mean that."""
        try:
            return np.array([self._table[int(raw)] for raw in raw_ids], dtype=np.int64)
        except KeyError as error:
            mend = "name it in the label file"
            if not self.has_categories and error.args[0] == 0:
                mend = (
                    "pass --background if its pixels are a class called background, or --reduce_labels if they are "
                    f"unlabelled, so that nothing is learnt of them, or {mend}"
                )
            elif not self.has_categories:
                mend += ", or make it the ignore_index"
            raise DataError(
                f"class id {error.args[0]} is not in the label set, whose {len(self)} classes have the ids "
                f"{summarize(self.dataset_ids)}; {mend}"
            ) from None

    def things(self) -> LabelSet:
        """The label set of the things alone, numbered anew; pixels of stuff belong to no segment."""
        if self.is_thing is None or all(self.is_thing):
            return self
        things = [label for label, thing in enumerate(self.is_thing) if thing]
        stuff = {raw for raw, thing in zip(self.dataset_ids, self.is_thing, strict=True) if not thing}
        return replace(
            self,
            names=tuple(self.names[label] for label in things),
            dataset_ids=tuple(self.dataset_ids[label] for label in things),
            is_thing=(True,) * len(things),
            background_ids=self.background_ids | stuff,
        )


def summarize(ids: Iterable[int]) -> str:
    """'0 to 10', or the ids themselves where they have gaps."""
    ids = sorted(ids)
    if len(ids) > 2 and ids[-1] - ids[0] == len(ids) - 1:
        return f"{ids[0]} to {ids[-1]}"
    return ", ".join(map(str, ids[:20])) + (", ..." if len(ids) > 20 else "")


@dataclass
class NamedIds:
    """Names by id as a label file or column gives them, and which are things where it says so.

    Attributes:
        names: of the classes.
        things: id -> whether it is a thing; None where nobody says.
        colours: R + 256 G + 65536 B -> id of the class that has this colour in masks; None where nobody says.
    """

    names: dict[int, str]
    things: dict[int, bool] | None = None
    colours: dict[int, int] | None = None


def is_background(name: str) -> bool:
    """Whether a class is called like what is no object and no class of interest."""
    return re.sub(r"[^a-z]", "", name.lower()) in BACKGROUND_NAMES


def make_label_set(
    named: NamedIds,
    void_ids: Iterable[int] = (),
    background_ids: Iterable[int] = (),
    reduce_labels: bool = False,
) -> LabelSet:
    """Numbers the named ids 0..K-1 in ascending order.

    With `reduce_labels`, id 0 is no class: its pixels are void or background.
    """
    names, things = named.names, named.things
    ids = sorted(names.keys() - {0} if reduce_labels else names)
    return LabelSet(
        tuple(names[raw] for raw in ids),
        tuple(ids),
        None if things is None else tuple(things[raw] for raw in ids),
        frozenset(void_ids),
        frozenset(background_ids),
    )
