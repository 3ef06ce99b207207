"""How fast a training goes, and how much of its time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Throughput:
    """A clock that runs while a training makes steps. It never asks a device whether it is done.

    On a GPU the time of single steps would mean nothing, since the host runs ahead; over a logging interval, at whose
    end the loss is fetched, it does.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started: float | None = None
        self._seconds = self._waited = 0.0
        self._images = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time that passes inside is spent waiting for data. Starts the clock if it stands."""
        start = self._clock()
        if self._started is None:
            self._started = start
        yield
        self._waited += self._clock() - start

    def count(self, images: int) -> None:
        """So many images more."""
        self._images += images

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stops the clock: what happens inside, as an evaluation, is no training. The next batch starts it again."""
        if self._started is not None:
            self._seconds += self._clock() - self._started
            self._started = None
        yield

    def report(self) -> dict[str, float]:
        """`images_per_second` and `waiting_for_data`, the share of the time in [0, 1], since the last report."""
        seconds, waited, images = self._seconds, self._waited, self._images
        self._seconds = self._waited = 0.0
        self._images = 0
        if seconds == 0:
            return {}
        return {"images_per_second": images / seconds, "waiting_for_data": waited / seconds}
