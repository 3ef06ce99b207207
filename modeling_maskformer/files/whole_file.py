"""Files that replace nobody else's, and appear under their names when they are whole, whatever ends the process."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file that is to appear at `path`, whole, at the end of the `with`; nowhere if that fails.

    What a killed process has left is replaced when the same file is written again. One process at a time writes it.
    """
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]  # names may be long
    part = path.with_name(f".{digest}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def unused(path: Path, is_taken: Callable[[Path], bool] = Path.exists) -> Path:
    """The path, or the first of `name-2.png`, `name-3.png`, ... at which nothing is."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([path], numbered) if not is_taken(candidate))
