"""Results of an evaluation, as a table to read and a JSON file to keep."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.whole_file import whole_file


def results_table(results: Mapping[str, Any]) -> str:
    """Lines of text: the numbers of the whole, then a row for each class that has any. Undefined values are "-"."""
    totals = totals_of(results)
    width = max(map(len, totals))
    lines = [f"{name:<{width}}  {number_text(value)}" for name, value in totals.items()]
    for name, rows in results.items():
        if isinstance(rows, Mapping) and rows:
            measured, others = with_numbers(rows)
            lines += ["", *_rows(name, measured)] if measured else []
            lines += ["", f"Without numbers: {_printable(', '.join(others))}."] if others else []
    return "\n".join(lines)


def with_numbers(rows: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """The rows in which a value is defined, and the names of the others."""
    measured = {name: row for name, row in rows.items() if any(number_text(value) != "-" for value in row.values())}
    return measured, [name for name in rows if name not in measured]


def totals_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of the whole, without those of each class."""
    return {name: value for name, value in results.items() if not isinstance(value, Mapping)}


def sweep_table(sweep: Sequence[Mapping[str, Any]], main_metric: str) -> str:
    """Lines of text: the main metric and the speed at each size, and which size is best."""
    rows = {
        str(totals["shortest_edge"]): {name: totals[name] for name in (main_metric, "images_per_second")}
        for totals in sweep
    }
    best = max(sweep, key=lambda totals: nan_last(totals[main_metric]))
    sentence = f"Best: --shortest_edge {best['shortest_edge']}, {main_metric} {number_text(best[main_metric])}."
    return "\n".join([*_rows("shortest_edge", rows), "", sentence])


def nan_last(value: float) -> float:
    """The value to order by, where an undefined one is below all others."""
    return -math.inf if math.isnan(value) else value


def _rows(name: str, rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = {_printable(label): row for label, row in rows.items()}
    columns = list(next(iter(rows.values())))
    name = name.replace("_", " ")
    first = max(len(name), *map(len, rows))
    widths = [max(len(column), 8) for column in columns]
    header = "  ".join([f"{name:<{first}}", *(f"{c:>{w}}" for c, w in zip(columns, widths, strict=True))])
    body = [
        "  ".join(
            [f"{label:<{first}}", *(f"{number_text(row[c]):>{w}}" for c, w in zip(columns, widths, strict=True))]
        )
        for label, row in rows.items()
    ]
    return [header, "-" * len(header), *body]


def _printable(label: str) -> str:
    """The name of a dataset's class, which must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in label)


def number_text(value: Any) -> str:
    """The number as tables show it: four decimals of a float, "-" for NaN."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Writes results as JSON, undefined values as null. A file that is there is replaced at once, or stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write_text(json.dumps(_without_nan(results), indent=2) + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
