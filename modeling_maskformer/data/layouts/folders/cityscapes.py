"""The names of Cityscapes' classes, which its files do not tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ...errors import DataError
from ...labels.label_set import NamedIds

# Labels of which results are measured, in the order of their training ids, with their ids in labelIds.png.
IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
MAX_ID = 34
LEAST_THING = 24  # from person on, classes have instances


def maps_of_instances(masks: Mapping[str, Path]) -> dict[str, Path] | None:
    """The maps of instances beside Cityscapes' class maps by the same keys; None where some are not there."""
    found = {}
    for key, file in masks.items():
        name = re.sub(r"_label(Train)?Ids$", "_instanceIds", file.stem)
        found[key] = file.with_name(f"{name}{file.suffix}")
        if name == file.stem or not found[key].is_file():
            return None
    return found


def named_ids_of(template: str) -> tuple[NamedIds | None, frozenset[int]]:
    """Names by id, and ids of unlabelled pixels, of maps whose files are called so; None where not Cityscapes'."""
    if template.endswith("_gtFine_labelTrainIds"):
        things = {label: raw >= LEAST_THING for label, raw in enumerate(IDS.values())}
        return NamedIds(dict(enumerate(IDS)), things), frozenset()
    if template.endswith("_gtFine_labelIds"):
        names = {raw: name for name, raw in IDS.items()}
        things = {raw: raw >= LEAST_THING for raw in names}
        return NamedIds(names, things), frozenset(range(MAX_ID + 1)) - names.keys()
    return None, frozenset()


def named_ids_of_all(templates: Mapping[str, str]) -> tuple[NamedIds | None, frozenset[int]]:
    """`named_ids_of` what the masks of each split are called.

    Raises:
        DataError: the ids of one split are others than those of another, as where training ids were made of one only.
    """
    (first, template), *others = templates.items()
    named = named_ids_of(template)
    for split, other in others:
        if named_ids_of(other) != named:
            names = [name.rpartition("_")[2] for name in (template, other)]  # what follows gtFine
            raise DataError(
                f"The masks of split '{first}' are called {names[0]}, those of split '{split}' {names[1]}: the same "
                "number is another class there. One kind in all splits is expected: make labelTrainIds of all, or "
                "move those there are out of the folder."
            )
    return named
