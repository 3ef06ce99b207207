"""JSON files of annotation tools: which of them a file is, and its content."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError

PEEK = 1 << 16  # bytes at each end of a JSON file by which it is recognised


def ends_of(file: Path) -> bytes:
    """The beginning and the end of a JSON file; nothing of another file."""
    if file.suffix.lower() != ".json" or not file.is_file():
        return b""
    with file.open("rb") as stream:
        ends = stream.read(PEEK)
        stream.seek(max(0, file.stat().st_size - PEEK))
        return ends + stream.read()


def holds(file: Path, word: bytes) -> bool:
    """Whether a word is anywhere in a file, which may be large."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(word) >= 0


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is none.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8
        raise DataError(f"'{file}' is not JSON: {error}.") from error


def dicts_in(content: Mapping[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    """The list of dicts under a key of a JSON file, empty where there is none.

    Raises:
        DataError: something else is there.
    """
    found = content.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError(f"In '{file}' a list of objects, [{{...}}, ...], is expected under '{key}'.")
    return found


def integer_in(item: Mapping[str, Any], key: str, where: str) -> int | None:
    """The integer under a key, also one written as text or as 640.0; None where nothing is there.

    Raises:
        DataError: something else is there; `where` names the item.
    """
    value = item.get(key)
    try:
        number = None if value is None else int(value)
        if number is None or (abs(number) < 1 << 31 and float(value) == number):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise DataError(f"{where} has the {key} {value!r:.60}: an integer is expected.")
