"""Lists of dicts in a table's cell, however the table stores them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import DataError


def read_records(value: Any, column: str) -> list[Mapping[str, Any]]:
    """The dicts of a list of dicts, of a dict of lists, or of JSON of either; none where the cell is empty."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DataError(f"the text in column '{column}' is not JSON: {error}") from error
    if isinstance(value, Mapping):
        lengths = {len(items) if isinstance(items, list) else None for items in value.values()}
        if len(lengths) > 1 or None in lengths:
            raise DataError(f"column '{column}' holds a dict, but not one of lists of one length")
        value = [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    if not isinstance(value or [], list) or not all(isinstance(item, Mapping) for item in value or ()):
        raise DataError(f"column '{column}' holds {type(value).__name__}, a list of dicts is expected")
    return list(value or ())


def read_integer(record: Mapping[str, Any], keys: tuple[str, ...], column: str) -> int:
    """The integer under the first of the keys that the record has."""
    value = next((record[key] for key in keys if record.get(key) is not None), None)
    if value is None:
        raise DataError(f"an entry of column '{column}' has no {' or '.join(keys)}, only {', '.join(record)}")
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"an entry of column '{column}' has the {keys[0]} {value!r:.60}, an integer is expected"
        ) from None
