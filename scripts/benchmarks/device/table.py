"""The results of a benchmark on a device as Markdown: while it runs, and from its JSON file into a README."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- measured on devices: begin -->", "<!-- measured on devices: end -->"
LONG_WARM_UP = 10  # seconds, from which on the table tells of it: something was compiled


@dataclass
class TableArguments:
    _argument_group_name = "tables"

    results: list[str] = field(metadata={"help": "JSON files that the benchmarks on a device wrote."})
    readme: str = field(
        default="", metadata={"help": f"Markdown file whose part from {BEGIN} to {END} they replace. Empty: print."}
    )


def run(arguments: TableArguments) -> None:
    """Writes the tables of result files into a Markdown file, or prints them."""
    tables = "\n\n".join(table(json.loads(Path(path).read_text())) for path in arguments.results)
    if not arguments.readme:
        print(tables)
        return
    path = Path(arguments.readme)
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must have the lines {BEGIN} and {END}, between which the tables go.")
    path.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


def table(report: dict[str, Any]) -> str:
    """All of a report."""
    return "\n".join([header(report), *(line(row, report["benchmark"]) for row in report["rows"])])


def header(report: dict[str, Any]) -> str:
    """The command, what it ran on, and the first lines of the table."""
    machine, arguments = report["machine"], report["arguments"]
    flags = f"--device {arguments['device'].split(':')[0]} --dtype {arguments['dtype']}"
    flags += " --compile" if arguments["compile"] else ""
    where = f"{machine['device']}, torch {machine['torch']}, transformers {machine['transformers']}"
    columns = _columns(report["benchmark"])
    alignment = ["---" if title in ("work", "program", "note") else "---:" for title in columns]
    title = f"**`python scripts/benchmark.py {report['benchmark']} {flags}`** ({where})"
    return f"{title}\n\n| {' | '.join(columns)} |\n|{'|'.join(alignment)}|"


def line(row: dict[str, Any], benchmark: str) -> str:
    """One row of the table."""
    return f"| {' | '.join(text(row) for text in _columns(benchmark).values())} |"


def _columns(benchmark: str) -> dict[str, Callable[[dict[str, Any]], str]]:
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "work": lambda row: row["work"],
        "program": lambda row: row["program"],
        "ms (least to largest)": _time,
    }
    if benchmark == "training":
        columns["of the model alone"] = lambda row: _median(row, "of_baseline")
    columns |= {
        "faster than transformers": lambda row: _median(row, "times_faster"),
        "images a second": lambda row: f"{row['images'] / row['seconds']['median']:.0f}" if "seconds" in row else "-",
        "memory": _memory,
        "launches": lambda row: _call(row, "launches"),
        "waits": lambda row: _call(row, "waits"),
        "note": _note,
    }
    return columns


def _time(row: dict[str, Any]) -> str:
    if "seconds" not in row:
        return "-"
    digits = 2 if row["seconds"]["median"] < 0.01 else 1 if row["seconds"]["median"] < 0.1 else 0
    median, least, largest = (f"{1000 * row['seconds'][name]:.{digits}f}" for name in ("median", "least", "largest"))
    return f"{median} ({least} to {largest})"


def _median(row: dict[str, Any], key: str) -> str:
    return f"{row[key]['median']:.2f} x" if key in row else "-"


def _memory(row: dict[str, Any]) -> str:
    number = row.get("peak_bytes", row.get("extra_bytes"))
    if number is None:
        return "-"
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _call(row: dict[str, Any], name: str) -> str:
    calls = row.get("calls")
    return "-" if calls is None else f"{calls[name]}"


def _note(row: dict[str, Any]) -> str:
    notes = [row.get("error", ""), row["note"]]
    if row.get("warm_up_seconds", 0) > LONG_WARM_UP:
        notes.append(f"the first runs took {row['warm_up_seconds']:.0f} s")
    return "; ".join(note.replace("|", "/") for note in notes if note)
