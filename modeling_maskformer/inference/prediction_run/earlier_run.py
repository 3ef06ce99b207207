"""What an earlier run has left in an output folder, told from what lies there of the user's, and removed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path, PurePath
from typing import Any

from ..result_names import FAILURES, FOLDERS, OVERLAYS, RECORDS, SETTINGS, SUMMARIES
from .records import Records, record_files

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


def remove_run(output: Path, task: str) -> None:
    """Removes the files of the run in the folder, and those of all pictures that the next one writes; nothing else.

    Args:
        output: the folder, which need not have a run.
        task: of the next one.
    """
    folder = output / RECORDS
    check_records(folder)
    try:
        earlier = earlier_settings(output) or {}
    except ValueError:
        earlier = {}
    for path in Records(folder).written_files():
        _remove_result(output, PurePath(path))
    summaries = [name for each, name in SUMMARIES.items() if each in (task, earlier.get("task"))]
    parts = [path for path in folder.glob(".*") if PART.fullmatch(path.name)]
    of_all = [output / name for name in (*summaries, FAILURES)]
    for path in (*of_all, *parts, *record_files(folder), folder / SETTINGS):
        path.unlink(missing_ok=True)


def _remove_result(output: Path, path: PurePath) -> None:
    """Removes a file of a picture's result, and the folders that are empty then."""
    folder = path.parts[0] if path.parts else ""
    if ".." in path.parts or folder not in (OVERLAYS, *FOLDERS.values()):
        return  # no run has written it
    file = output / path
    if os.path.isfile(file) or os.path.islink(file):
        file.unlink()
    try:
        for parent in path.parents[:-1]:
            (output / parent).rmdir()
    except OSError:  # not empty
        return
