"""The files of an evaluation: its numbers, and beside them the folder of its errors. None is replaced unasked."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..files.whole_file import unused


def errors_folder(path: Path) -> Path:
    """The folder of errors beside a file of numbers: `results_errors` beside `results.json`."""
    return path.with_name(f"{path.name.removesuffix('.json')}_errors")


def files_of(path: Path, with_errors: bool) -> list[Path]:
    """The file of numbers and, where there is to be one, the folder of errors."""
    return [path, errors_folder(path)] if with_errors else [path]


def unused_file(path: Path, with_errors: bool) -> Path:
    """The path, or the first of `name-2.json`, `name-3.json`, ... of which no file is there."""
    return unused(path, lambda candidate: any(file.exists() for file in files_of(candidate, with_errors)))


def check_files(path: Path, with_errors: bool, overwrite: bool) -> None:
    """Makes the folder that a file of numbers is to be in, and tries to write there: before hours of evaluation.

    Raises:
        ValueError: what is there already, or why nothing can be written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file as --output_file.")
    for there in files_of(path, with_errors):
        if there.exists() and not overwrite:
            raise ValueError(f"{there} is already there: pass another --output_file, or --overwrite.")
    places = [path.parent]
    if with_errors and errors_folder(path).exists():
        places.append(errors_folder(path))
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place) as folder:
                (Path(folder) / path.name).touch()
        except OSError as error:
            raise ValueError(f"{place / path.name} cannot be written: {error.strerror}. See --output_file.") from error
