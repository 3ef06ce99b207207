"""Tables of classes that tools write beside masks: names, and the colour or the value of each class in the masks."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..labels import NamedIds

COLOUR_TABLES = ("class_dict.csv", "label_colors.txt")  # CamVid on Kaggle, and as downloaded
VALUE_TABLE = "_classes.csv"  # Roboflow
TABLE_FILES = (*COLOUR_TABLES, VALUE_TABLE)
VOID_NAMES = frozenset({"void", "unlabelled", "unlabeled", "ignore"})


@dataclass
class LabelTable:
    """What such a file tells.

    Attributes:
        named: names by class id; in a table of colours the ids are the places in it.
        colours: R + 256 G + 65536 B -> class id; None where the masks hold the ids themselves.
        void_ids: ids of classes that are called void or unlabelled.
    """

    named: NamedIds
    colours: dict[int, int] | None
    void_ids: frozenset[int]


def find_label_table(root: Path) -> LabelTable | None:
    """The table in a folder, or else in one of the folders in it; None where there is none."""
    for name in TABLE_FILES:
        file = next((file for file in (root / name, *sorted(root.glob(f"*/{name}"))) if file.is_file()), None)
        if file is not None:
            return _read_values(file) if name == VALUE_TABLE else _read_colours(file)
    return None


def _read_colours(file: Path) -> LabelTable:
    """A line for each class: name, r, g, b in CSV; r g b name in text."""
    if file.suffix == ".csv":
        rows = [(cells[1:], cells[0]) for cells in _csv_rows(file)[1:]]
    else:
        lines = [line.split(maxsplit=3) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
        rows = [(cells[:3], cells[-1]) for cells in lines]
    names, colours = {}, {}
    for number, (cells, name) in enumerate(rows):
        values = [int(cell) for cell in cells if re.fullmatch(r"\s*\d{1,3}\s*", cell)]
        if len(values) != 3 or len(cells) != 3 or max(values) > 255:
            raise DataError(f"In '{file}' class '{name}' has the colour {', '.join(cells)}: red, green and blue.")
        names[number] = name.strip()
        colour = values[0] + 256 * values[1] + 65536 * values[2]
        if colour in colours:
            raise DataError(f"In '{file}' classes '{names[colours[colour]]}' and '{name}' have one colour.")
        colours[colour] = number
    return _table(file, names, colours)


def _read_values(file: Path) -> LabelTable:
    """Roboflow's CSV: the value of a class in the masks, and its name."""
    try:
        return _table(file, {int(cells[0]): cells[1].strip() for cells in _csv_rows(file)[1:]}, None)
    except (ValueError, IndexError):
        raise DataError(
            f"In '{file}' a value of pixels and a name are expected in each line after the first."
        ) from None


def _csv_rows(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        return [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]


def _table(file: Path, names: dict[int, str], colours: dict[int, int] | None) -> LabelTable:
    void_ids = frozenset(raw for raw, name in names.items() if name.lower() in VOID_NAMES)
    named = {raw: name for raw, name in names.items() if raw not in void_ids}
    if not named:
        raise DataError(f"'{file}' names no class.")
    return LabelTable(NamedIds(named), colours, void_ids)
