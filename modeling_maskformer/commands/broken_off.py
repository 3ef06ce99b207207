"""Ctrl-C: a program ends with a sentence in place of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType


@contextmanager
def saying_when_broken_off(say: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C Python writes `say()`, on the first of several processes, and ends by the signal, as shells expect.

    Args:
        say: is called where the program was broken off.
    """
    try:
        yield
    except KeyboardInterrupt:
        said = f"\n{say()}\n" if os.environ.get("RANK", "0") == "0" else ""  # below a progress bar
        others = sys.excepthook

        def write(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
            if issubclass(kind, KeyboardInterrupt):
                sys.stderr.write(said)
            else:  # of a program that has caught this one, and goes on
                others(kind, error, traceback)

        sys.excepthook = write
        raise
