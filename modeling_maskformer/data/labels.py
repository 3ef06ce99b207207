"""The label set of a dataset: which id in its annotations means which class of the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError

VOID_LABEL = -1  # the annotation's id means "unlabelled"
NO_LABEL = -2  # the annotation's id means "no segment": background of every mask
BACKGROUND_NAMES = frozenset({"background", "unlabeled", "unlabelled", "unknown", "void", "ignore", "none"})


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset, numbered 0..K-1 as the model numbers them.

    Attributes:
        names: K names.
        dataset_ids: K ids, those that stand for the classes in the annotations.
        is_thing: K flags, True for countable objects, False for stuff; None where nobody knows.
        void_ids: ids in the annotations whose pixels are unlabelled.
        background_ids: ids in the annotations whose pixels belong to no segment.
    """

    names: tuple[str, ...]
    dataset_ids: tuple[int, ...]
    is_thing: tuple[bool, ...] | None = None
    void_ids: frozenset[int] = frozenset()
    background_ids: frozenset[int] = frozenset()

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
    def label2id(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self.names)}

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
            raise DataError(
                f"class id {error.args[0]} is not in the label set, whose {len(self)} classes have the ids "
                f"{summarize(self.dataset_ids)}; name it in the label file, or make it the ignore_index"
            ) from None

    def things(self) -> LabelSet:
        """The label set of the things alone, numbered anew; pixels of stuff belong to no segment."""
        if self.is_thing is None or all(self.is_thing):
            return self
        things = [label for label, thing in enumerate(self.is_thing) if thing]
        stuff = {raw for raw, thing in zip(self.dataset_ids, self.is_thing, strict=True) if not thing}
        return LabelSet(
            tuple(self.names[label] for label in things),
            tuple(self.dataset_ids[label] for label in things),
            (True,) * len(things),
            self.void_ids,
            self.background_ids | stuff,
        )


def summarize(ids: Iterable[int]) -> str:
    """'0 to 10', or the ids themselves where they have gaps."""
    ids = sorted(ids)
    if len(ids) > 2 and ids[-1] - ids[0] == len(ids) - 1:
        return f"{ids[0]} to {ids[-1]}"
    return ", ".join(map(str, ids[:20])) + (", ..." if len(ids) > 20 else "")


@dataclass
class NamedIds:
    """Names by id as a label file or column gives them, and which are things where it says so."""

    names: dict[int, str]
    things: dict[int, bool] | None = None


def read_named_ids(source: str | Path | Mapping | list) -> NamedIds:
    """Names by id out of a JSON file, its text or its content.

    Accepted: `{"0": "sky"}`, `{"sky": 0}`, `["sky", "road"]`, and COCO's categories
    `[{"id": 1, "name": "person", "isthing": 1}]`.
    """
    where = "the label set"
    if isinstance(source, Path) or (isinstance(source, str) and not source.lstrip().startswith(("{", "["))):
        where = f"label file '{source}'"
        if not Path(source).is_file():
            raise DataError(f"There is no label file '{source}'.")
        source = Path(source).read_text(encoding="utf-8")
    if isinstance(source, str):
        try:
            source = json.loads(source)
        except json.JSONDecodeError as error:
            raise DataError(f"In {where} JSON is expected: {error}.") from error
    if isinstance(source, list) and source and all(isinstance(item, Mapping) for item in source):
        return _from_categories(source, where)
    if isinstance(source, list) and all(isinstance(item, str) for item in source):
        return NamedIds(dict(enumerate(source)))
    if isinstance(source, Mapping) and source:
        return NamedIds(_from_mapping(source, where))
    raise DataError(
        f'In {where} one of {{"0": "sky"}}, {{"sky": 0}}, ["sky", "road"] or a list of COCO categories is expected.'
    )


def _from_mapping(mapping: Mapping[Any, Any], where: str) -> dict[int, str]:
    mapping = {key: value for key, value in mapping.items() if value is not None}  # absent keys of an Arrow struct
    if all(isinstance(value, str) for value in mapping.values()):
        pairs = [(key, value) for key, value in mapping.items()]
    else:
        pairs = [(value, key) for key, value in mapping.items()]
    try:
        names = {int(raw): str(name) for raw, name in pairs}
    except (TypeError, ValueError):
        raise DataError(f"In {where} every class needs an integer id and a name, got {dict(mapping)}.") from None
    if len(names) != len(pairs):
        raise DataError(f"In {where} an id stands twice.")
    return names


def _from_categories(categories: list[Mapping], where: str) -> NamedIds:
    try:
        names = {int(category["id"]): str(category["name"]) for category in categories}
    except KeyError as error:
        raise DataError(f"In {where} a category has no {error}: id and name are expected.") from None
    things = None
    if all("isthing" in category for category in categories):
        things = {int(category["id"]): bool(category["isthing"]) for category in categories}
    return NamedIds(names, things)


def make_label_set(
    named: NamedIds,
    void_ids: Iterable[int] = (),
    background_ids: Iterable[int] = (),
    reduce_labels: bool = False,
) -> LabelSet:
    """Numbers the named ids 0..K-1 in ascending order.

    With `reduce_labels`, id 0 of the annotations is background and no class. Two customs exist for the names then: if
    entry 0 is missing or named like a background, the ids are those of the annotations; otherwise they are those after
    the reduction, and name `i` stands for id `i + 1`.
    """
    names, things = dict(named.names), named.things
    if reduce_labels:
        if 0 in names and names[0].lower() not in BACKGROUND_NAMES:
            names = {raw + 1: name for raw, name in names.items()}
            things = None if things is None else {raw + 1: thing for raw, thing in things.items()}
        names.pop(0, None)
    ids = sorted(names)
    return LabelSet(
        tuple(names[raw] for raw in ids),
        tuple(ids),
        None if things is None else tuple(things[raw] for raw in ids),
        frozenset(void_ids),
        frozenset(background_ids),
    )
