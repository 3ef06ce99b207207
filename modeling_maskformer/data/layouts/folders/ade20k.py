"""The table of classes that comes with ADE20K's scene parsing challenge: ids from 1, and 0 for all other pixels."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from ...errors import DataError
from ...labels.label_set import NamedIds

FILE = "objectInfo150.txt"
_ROW = re.compile(r"\s*(?P<id>\d+)\s+[\d.]+\s+\d+\s+\d+\s+(?:[01]\s+)?(?P<name>\S.*)")
OTHER = 0  # "other objects", which count in no result


def read_object_info(root: Path) -> NamedIds | None:
    """Names by id; of several words for a class the first, unless that is another class's too. None without table."""
    file = root / FILE
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = filter(None, map(_ROW.fullmatch, lines))
    words = {int(row["id"]): [word.strip() for word in re.split("[,;]", row["name"])] for row in rows}
    if not words or min(words) <= OTHER:
        raise DataError(f"In '{file}' lines of an id from 1 to 150, three numbers and a name are expected.")
    count = Counter(first for first, *_ in words.values())
    return NamedIds(
        {raw: first if count[first] == 1 else ", ".join([first, *more]) for raw, (first, *more) in words.items()}
    )
