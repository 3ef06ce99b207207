"""Tables of classes that tools write beside masks: names, and the colour or the value of each class in the masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..labels.label_files import read_named_ids
from ..labels.label_set import NamedIds
from .folders.folder_layouts import split_of_name
from .folders.picture_files import is_hidden

# With colours: CamVid on Kaggle, and as downloaded; CVAT. With values: Roboflow.
TABLE_FILES = ("class_dict.csv", "label_colors.txt", "labelmap.txt", "_classes.csv")
VOID_NAMES = frozenset({"void", "unlabelled", "unlabeled", "ignore"})


@dataclass
class LabelTable:
    """What such a file tells.

    Attributes:
        named: names by class id; in a table of colours without ids these are the places in it.
        colours: R + 256 G + 65536 B -> class id; None where the masks hold the ids themselves.
        void_ids: ids of classes that are called void or unlabelled.
    """

    named: NamedIds
    colours: dict[int, int] | None
    void_ids: frozenset[int]


def find_label_table(root: Path) -> LabelTable | None:
    """The table in a folder, or else in those of splits in it, or else in any in it; None where there is none.

    Raises:
        DataError: tables of several folders differ.
    """
    for name in TABLE_FILES:
        below = sorted(file for file in root.glob(f"*/{name}") if file.is_file() and not is_hidden(file.parent.name))
        of_splits = [file for file in below if split_of_name(file.parent.name) is not None]
        files = [root / name] if (root / name).is_file() else of_splits or below
        tables = [label_table(read_named_ids(file), f"'{file}'") for file in files]
        for file, table in zip(files, tables, strict=True):
            if table != tables[0]:
                raise DataError(
                    f"'{files[0]}' and '{file}' name different classes, or give them other values: the same value or "
                    f"colour would be another class there, so one table for all splits is expected, in '{root}'."
                )
        if tables:
            return tables[0]
    return None


def label_table(named: NamedIds, where: str) -> LabelTable:
    """The table that names with colours or values are; classes called void are none."""
    void_ids = frozenset(raw for raw, name in named.names.items() if name.lower() in VOID_NAMES)
    names = {raw: name for raw, name in named.names.items() if raw not in void_ids}
    if not names:
        raise DataError(f"{where} names no class.")
    return LabelTable(NamedIds(names, named.things), named.colours, void_ids)
