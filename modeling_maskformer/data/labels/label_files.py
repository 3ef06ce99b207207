"""Names of classes as people write them down -> `NamedIds`: JSON, YAML, CSV and text, or the content of such."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ...files.unique_keys import read_json, read_yaml
from ..errors import DataError
from .label_set import NamedIds

# Where a larger file keeps the classes: YOLO's data.yaml, a checkpoint's config.json, a COCO file.
KEYS_OF_CLASSES = ("names", "id2label", "categories")
# Headers of CSV columns in lower case, the surest first. Where two of them tell the name, the other is the id.
NAME_HEADERS = ("name", "names", "class_name", "label_name", "category_name", "class name", "title")
NAME_HEADERS += ("class", "classes", "category", "label", "labels")
ID_HEADERS = ("id", "class_id", "label_id", "category_id", "class id", "pixel value", "pixel_value", "value")
ID_HEADERS += ("index", "idx", "number", "label", "class", "category")
COLOUR_HEADERS = (("r", "red"), ("g", "green"), ("b", "blue"))
IGNORED_LABEL = "__ignore__"  # the first line of LabelMe's labels.txt: objects that are not to be learnt


def read_named_ids(source: str | Path | Mapping | list) -> NamedIds:
    """Names by id, out of a file, the text of a JSON file, or its content; with colours where it tells them.

    What LabelMe calls `__ignore__` is no class.

    - JSON and YAML: `{"0": "sky"}`, `{"sky": 0}`, `["sky", "road"]`, `{"sky": [70, 130, 180]}` (colours), and COCO's
      categories `[{"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60]}]`; or any of these under the key
      names, id2label or categories.
    - CSV, with a header or without: a column of names, and perhaps one of ids, and three of red, green and blue.
    - Text: a name in each line, or `id name`, `id: name`, or `r g b name` (colours).

    Where no id is told, classes are numbered from 0 in their order.

    Raises:
        DataError: there is no such file, or no classes in one of these forms.
    """
    named = _read(source)
    names = {raw: name for raw, name in named.names.items() if name != IGNORED_LABEL}
    return named if len(names) == len(named.names) else replace(named, names=names)


def _read(source: str | Path | Mapping | list) -> NamedIds:
    where = "label set"
    if isinstance(source, Path) or (isinstance(source, str) and not source.lstrip().startswith(("{", "["))):
        where = f"label file '{source}'"
        text = _text_of(Path(source), where)
        suffix = Path(source).suffix.lower()
        if suffix in (".csv", ".tsv"):
            return _from_table(text, where)
        if suffix in (".txt", ".names"):
            return _from_lines(text, where)
        source = _parse_yaml(text, where) if suffix in (".yaml", ".yml") else _parse_json(text, where)
    elif isinstance(source, str):
        source = _parse_json(source, where)
    return _from_content(source, where)


def _text_of(file: Path, where: str) -> str:
    if not os.path.isfile(file):  # Path.is_file raises an error where a name is too long
        raise DataError(f"There is no label file '{file}'.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"In the {where} text in UTF-8 is expected: {error}.") from error


def _parse_json(text: str, where: str) -> Any:
    try:
        return read_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"In the {where} JSON is expected: {error}.") from error


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return read_yaml(text, yaml.BaseLoader)  # makes nothing but texts: a class may be called no, or on
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"In the {where} YAML is expected: {error}.") from error


# JSON and YAML


def _from_content(content: Any, where: str) -> NamedIds:
    if isinstance(content, Mapping):
        content = next(
            (content[key] for key in KEYS_OF_CLASSES if isinstance(content.get(key), (list, dict))), content
        )
    if isinstance(content, list) and content and all(isinstance(item, Mapping) for item in content):
        return _from_categories(content, where)
    if isinstance(content, list) and content and all(isinstance(item, str) for item in content):
        return NamedIds(dict(enumerate(content)))
    if isinstance(content, Mapping) and content:
        return _from_mapping(content, where)
    raise DataError(
        f'In the {where} one of {{"0": "sky"}}, {{"sky": 0}}, ["sky", "road"] or a list of COCO categories is '
        "expected."
    )


def _from_mapping(mapping: Mapping[Any, Any], where: str) -> NamedIds:
    mapping = {key: value for key, value in mapping.items() if value is not None}  # absent keys of an Arrow struct
    if mapping and all(isinstance(value, list) for value in mapping.values()):
        return with_colours(dict(enumerate(map(str, mapping))), dict(enumerate(mapping.values())), where)
    if mapping and all(isinstance(value, Mapping) for value in mapping.values()):
        return _from_categories([{"id": key} | dict(value) for key, value in mapping.items()], where)
    by_id = all(isinstance(value, str) for value in mapping.values()) and (
        all(map(_is_integer, mapping)) or not all(map(_is_integer, mapping.values()))
    )
    pairs = [(key, value) if by_id else (value, key) for key, value in mapping.items()]
    try:
        names = {int(raw): str(name) for raw, name in pairs}
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"In the {where} every class needs an integer id and a name, got {_some(mapping)}.") from None
    if len(names) != len(pairs):
        raise DataError(f"In the {where} an id stands twice.")
    return NamedIds(names)


def _from_categories(categories: Sequence[Mapping[str, Any]], where: str) -> NamedIds:
    if not any("id" in category for category in categories):
        categories = [{"id": number} | dict(category) for number, category in enumerate(categories)]
    names: dict[int, str] = {}
    for category in categories:
        for key in ("id", "name"):
            if key not in category:
                raise DataError(f"In the {where} a category has no '{key}': id and name are expected.")
        if not _is_integer(category["id"]) or not isinstance(category["name"], str):
            raise DataError(
                f"In the {where} a category has the id {category['id']!r} and the name {category['name']!r}: "
                "an integer and a text are expected."
            )
        if int(category["id"]) in names:
            raise DataError(f"In the {where} the id {int(category['id'])} stands twice.")
        names[int(category["id"])] = category["name"]
    colours = {int(item["id"]): item["color"] for item in categories if isinstance(item.get("color"), list)}
    named = with_colours(names, colours, where) if len(colours) == len(names) else NamedIds(names)
    if all("isthing" in category for category in categories):
        named.things = {int(item["id"]): str(item["isthing"]).lower() in ("1", "true") for item in categories}
    return named


# CSV


def _from_table(text: str, where: str) -> NamedIds:
    lines = [line for line in text.splitlines() if line.strip(" ,;\t")]
    separator = max(",;\t", key=lambda mark: lines[0].count(mark)) if lines else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    if not rows:
        raise DataError(f"The {where} names no class.")
    header = [cell.lower() for cell in rows[0]]
    numbers = [
        cell for at, cell in enumerate(header) if rows[1:] and all(_has_integer(row[at : at + 1]) for row in rows[1:])
    ]
    name_column = _column([name for name in NAME_HEADERS if name not in numbers], header)
    if name_column is None:  # no header, or one of words of its own
        body = rows[1:] if len(rows) > 1 and not _has_integer(rows[0]) and _has_integer(rows[1]) else rows
        return _from_rows([_guess(row) for row in body], where)
    id_column = _column(ID_HEADERS, header, but=name_column)
    colour_columns = [_column(names, header) for names in COLOUR_HEADERS]
    if None in colour_columns:
        colour_columns = []
    body = [row + [""] * (len(header) - len(row)) for row in rows[1:]]
    wrong = next((row for row in body if id_column is not None and not _is_integer(row[id_column])), None)
    if wrong is not None or any(not row[name_column] for row in body):
        raise DataError(f"In the {where} a value of pixels and a name are expected in each line after the first.")
    found = [
        (None if id_column is None else row[id_column], row[name_column], [row[column] for column in colour_columns])
        for row in body
    ]
    if colour_columns and any(len(row) > len(header) for row in body):
        raise DataError(f"In the {where} a line has more cells than the first.")
    return _from_rows(found, where)


def _column(names: Sequence[str], header: list[str], but: int | None = None) -> int | None:
    found = (header.index(name) for name in names if name in header and header.index(name) != but)
    return next(found, None)


def _guess(row: list[str]) -> tuple[str | None, str, list[str]]:
    """Id, name and colour of a row without a header: `sky`, `0,sky`, `sky,0`, `sky,1,2,3`, `0,sky,1,2,3`."""
    numbers = [cell for cell in row if _is_integer(cell)]
    name = next((cell for cell in row if not _is_integer(cell)), "")
    if len(numbers) >= 3:
        return (numbers[0] if len(numbers) > 3 else None), name, numbers[-3:]
    return (numbers[0] if numbers else None), name, []


# Text


def _from_lines(text: str, where: str) -> NamedIds:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for form in (
        r"(?P<r>\d+)[\s,]+(?P<g>\d+)[\s,]+(?P<b>\d+)[\s,]+(?P<name>\D.*)",  # 70 130 180 sky
        r"(?P<name>[^:]+):(?P<r>\d+),(?P<g>\d+),(?P<b>\d+)(:.*)?",  # sky:70,130,180:: of CVAT's labelmap.txt
        r"(?P<id>-?\d+)\s*[\s:,;=]\s*(?P<name>\S.*)",  # 0 sky, 0: sky
        r"(?P<name>.+?)\s*[:,;=]\s*(?P<id>-?\d+)",  # sky: 0
    ):
        found = [re.fullmatch(form, line) for line in lines]
        if all(found):
            parts = [match.groupdict() for match in found]
            return _from_rows(
                [(part.get("id"), part["name"], [part[key] for key in "rgb" if key in part]) for part in parts], where
            )
    if lines[:1] == [IGNORED_LABEL]:
        lines = lines[1:]
    return _from_rows([(None, line, []) for line in lines], where)


# All of them


def _from_rows(rows: Sequence[tuple[str | None, str, list[str]]], where: str) -> NamedIds:
    """Of ids, names and colours as texts; ids are all told, or none is."""
    if not rows or any(not name for _, name, _ in rows):
        raise DataError(f"In the {where} a name is expected in each line." if rows else f"The {where} names no class.")
    told = [raw for raw, _, _ in rows if raw is not None]
    if told and len(told) < len(rows):
        raise DataError(
            f"In the {where} some classes have an id and some have none: an id for each, or none is expected."
        )
    ids = [int(raw) for raw in told] or range(len(rows))
    names = {raw: name for raw, (_, name, _) in zip(ids, rows, strict=True)}
    if len(names) != len(rows):
        raise DataError(f"In the {where} an id stands twice.")
    colours = {raw: colour for raw, (_, _, colour) in zip(ids, rows, strict=True) if colour}
    return with_colours(names, colours, where) if colours else NamedIds(names)


def with_colours(names: dict[int, str], colours: Mapping[int, Sequence[Any]], where: str) -> NamedIds:
    """Names by id with the colour of each, from its red, green and blue.

    Raises:
        DataError: three numbers up to 255 are missing, or two classes have one colour.
    """
    found: dict[int, int] = {}
    for raw, colour in colours.items():
        if len(colour) != 3 or not all(_is_integer(part) and 0 <= int(part) <= 255 for part in colour):
            given = ", ".join(str(part) for part in colour if part != "")
            raise DataError(f"In the {where} class '{names[raw]}' has the colour {given}: red, green and blue.")
        red, green, blue = map(int, colour)
        other = found.setdefault(red + 256 * green + 65536 * blue, raw)
        if other != raw:
            raise DataError(f"In the {where} classes '{names[other]}' and '{names[raw]}' have one colour.")
    return NamedIds(names, colours=found)


def _is_integer(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value) is not None
    )


def _has_integer(cells: list[str]) -> bool:
    return any(map(_is_integer, cells))


def _some(mapping: Mapping) -> str:
    text = str(dict(mapping))
    return text if len(text) <= 200 else f"{text[:200]}..."
