"""InTurn: calls made one after another, in the background."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class InTurn:
    """Makes calls one at a time, in a thread: a batch is measured while the device computes the next one.

    Args:
        in_background: False does it at once, as on a CPU, which has nothing else to compute on.
    """

    def __init__(self, in_background: bool) -> None:
        self._thread = ThreadPoolExecutor(1) if in_background else None
        self._pending: Future | None = None

    def __enter__(self) -> InTurn:
        return self

    def do(self, function: Callable[..., None], *args: Any) -> None:
        """Calls the function once what was given before is done, whose error is raised here if it had one."""
        if self._thread is None:
            function(*args)
            return
        self._wait()
        self._pending = self._thread.submit(function, *args)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if self._thread is not None:
            try:
                if kind is None:
                    self._wait()
            finally:
                self._thread.shutdown()
