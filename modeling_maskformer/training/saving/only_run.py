"""One training at a time in a folder: two would write over each other's checkpoints, and mix them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where nothing is locked
    fcntl = None

from ..first_process import on_first_process

# processes that read images for a training that was killed hold its lock until they look for it, every 5 seconds
SECONDS_TO_TRY = 12.0


class FolderInUseError(ValueError):
    """Another training writes into the output folder now, or has left there what this one may not remove."""


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Keeps other trainings out of the folder, which is made if need be, until this one ends, however it does.

    The folder itself is locked, by the first process: nothing is left in it, and a lock ends with its process. Where a
    disk has no such locks, as some of networks, nothing is.

    Raises:
        FolderInUseError: on all processes, another training is in the folder.
    """
    held: list[int] = []

    def take() -> None:
        if fcntl is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        held.append(os.open(folder, os.O_RDONLY))
        end = time.monotonic() + SECONDS_TO_TRY
        while True:
            try:
                return fcntl.flock(held[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise FolderInUseError(
                        f"Another training writes into {folder} now: wait for its end, or choose another --output_dir."
                    ) from None
            except OSError:  # no locks on this disk
                return None
            time.sleep(0.2)

    try:
        on_first_process(take)
        yield
    finally:
        for descriptor in held:
            with suppress(OSError):  # no locks on this disk
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that reads images may hold it, too
            os.close(descriptor)
