"""What an earlier run has left in an output folder, told from what lies there of the user's, and removed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..result_names import FAILURES, RECORDS, SETTINGS
from .records import record_files

PART = re.compile(r"\.[0-9a-f]{16}\.part\.json")  # of settings that a killed process was writing


def earlier_settings(output: Path) -> dict[str, Any] | None:
    """The settings of the run in the folder, None if there is none.

    Raises:
        ValueError: their file holds something else.
    """
    file = output / RECORDS / SETTINGS
    if not file.exists():
        return None
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} holds no settings of a run ({error}): choose another --output_dir.") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file} holds no settings of a run, but {settings!r:.60}: choose another --output_dir.")
    return settings


def refuse_earlier_run(output: Path) -> None:
    """Raises a ValueError where the folder has a run, or where a run would have its records lies something else."""
    folder = output / RECORDS
    check_records(folder)
    if (folder / SETTINGS).exists():
        raise ValueError(
            f"{output} holds results of an earlier run: go on with it (--resume), choose another "
            "--output_dir, or pass --overwrite."
        )
    if record_files(folder):
        raise ValueError(
            f"{output} holds results of an earlier run, which cannot be gone on with, since {folder / SETTINGS} is "
            "missing: choose another --output_dir, or pass --overwrite."
        )
    others = [path for path in folder.glob("*") if not PART.fullmatch(path.name)]
    if others:
        raise ValueError(
            f"{folder} is a folder of other things, such as {min(others)}, where a prediction keeps its records: "
            "choose another --output_dir."
        )


def check_records(folder: Path) -> None:
    """Raises a ValueError where the folder of records cannot be one."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, where a prediction keeps its records: choose another --output_dir.")


def remove_run(output: Path, summary: str) -> None:
    """Removes the files of an earlier run that the next one makes anew, and nothing else.

    Args:
        output: its folder.
        summary: the name of the file that tells of all pictures.
    """
    folder = output / RECORDS
    check_records(folder)
    parts = [path for path in folder.glob(".*") if PART.fullmatch(path.name)]
    for path in (output / summary, output / FAILURES, *parts, *record_files(folder), folder / SETTINGS):
        path.unlink(missing_ok=True)
