"""BatchQueue: requests that arrive together -> one call for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any


class QueueFull(Exception):
    """There are as many requests in work as there may be."""


@dataclass(frozen=True, eq=False)  # no entry is another one, and to find one no pictures are compared
class _Entry:
    """A request, the future of its answer, and when it came by the loop's clock."""

    request: Any
    answer: asyncio.Future
    came: float

    def set(self, result: Any = None, error: Exception | None = None) -> None:
        """Answers, unless nobody waits any more."""
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(error)


class BatchQueue:
    """Makes calls of several requests, one at a time, in a thread beside the event loop that it is used in.

    A call takes what waits, up to `max_batch_size`. Where less waits, it is begun `max_wait` seconds after its first
    request came, so that those which come together go together; while a call runs, the next ones gather.

    Args:
        call: requests -> their results. Where it fails, each request is tried alone, so that only the cause fails.
        max_batch_size: requests of one call.
        max_wait: seconds that the first request of a call waits for others.
        max_requests: requests that may hold a place at once, those that are read or answered included.
        observe: is told the number of requests of each call.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Any]], Sequence[Any]],
        max_batch_size: int = 8,
        max_wait: float = 0.005,
        max_requests: int = 64,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._call, self._observe = call, observe
        self.max_batch_size, self.max_wait, self.max_requests = max_batch_size, max_wait, max_requests
        self.in_work = 0
        self._waiting: deque[_Entry] = deque()
        self._some, self._enough = asyncio.Event(), asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, "model")
        self._loop_task: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """Requests that are in no call yet."""
        return len(self._waiting)

    @property
    def is_running(self) -> bool:
        """Whether requests are answered."""
        return self._loop_task is not None and not self._loop_task.done() and not self._closing

    async def start(self) -> None:
        """Begins to make calls."""
        self._loop_task = asyncio.create_task(self._make_calls())

    async def close(self) -> None:
        """Makes the calls that are left, and ends."""
        self._closing = True
        self._signal()
        if self._loop_task is not None:
            await asyncio.wait([self._loop_task])
        self._thread.shutdown()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place for a request from before its picture is read until it is answered.

        Raises:
            QueueFull: all places are taken.
        """
        if self.in_work >= self.max_requests:
            raise QueueFull
        self.in_work += 1
        try:
            yield
        finally:
            self.in_work -= 1

    async def submit(self, request: Any) -> Any:
        """The result of a request, or the error that it caused. Where this is cancelled, no call is made for it."""
        loop = asyncio.get_running_loop()
        entry = _Entry(request, loop.create_future(), loop.time())
        self._waiting.append(entry)
        self._signal()
        try:
            return await entry.answer
        finally:
            if entry in self._waiting:  # cancelled: its picture is not kept until its turn comes
                self._waiting.remove(entry)
                self._signal()

    async def _make_calls(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            if not self._waiting:
                if self._closing:
                    return
                continue  # who came has left
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._enough.wait(), self._waiting[0].came + self.max_wait - loop.time())
            batch = [self._waiting.popleft() for _ in range(min(self.max_batch_size, len(self._waiting)))]
            self._signal()
            batch = [entry for entry in batch if not entry.answer.done()]  # else cancelled a moment ago
            if batch:
                await self._answer(batch)

    def _signal(self) -> None:
        """Sets the events as the state is."""
        for event, least in ((self._some, 1), (self._enough, self.max_batch_size)):
            if self._closing or len(self._waiting) >= least:
                event.set()
            else:
                event.clear()

    async def _answer(self, batch: list[_Entry]) -> None:
        self._observe(len(batch))
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._call, [entry.request for entry in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].set(error=error)
            else:
                for one in batch:
                    await self._answer([one])
            return
        for entry, result in zip(batch, results, strict=True):
            entry.set(result)
