"""Requests that come together are one call; none is lost, whatever fails or ends."""

import asyncio
import threading

import pytest

from modeling_maskformer.serving.batch_queue import BatchQueue, QueueFull


class Calls:
    """Doubles numbers; remembers its calls, and waits in each until it may go on."""

    def __init__(self, fail_on=()):
        self.batches, self.fail_on = [], set(fail_on)
        self.may_go_on, self.is_in = threading.Event(), threading.Event()
        self.may_go_on.set()

    def __call__(self, numbers):
        self.batches.append(list(numbers))
        self.is_in.set()
        assert self.may_go_on.wait(20)
        if self.fail_on & set(numbers):
            raise RuntimeError(f"cannot double {numbers}")
        return [2 * number for number in numbers]


def in_queue(calls, work, **settings):
    """What the coroutine function `work` of a running queue returns."""

    async def main():
        queue = BatchQueue(calls, **settings)
        await queue.start()
        try:
            return await work(queue)
        finally:
            calls.may_go_on.set()
            await queue.close()

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_requests_that_come_together_are_one_call():
    calls = Calls()

    async def work(queue):
        return await asyncio.gather(*map(queue.submit, range(10)))

    sizes = []  # the last call waits in vain for two more, as long as it may
    doubled = in_queue(calls, work, max_batch_size=4, max_wait=0.5, observe=sizes.append)
    assert doubled == [2 * number for number in range(10)]
    assert calls.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] and sizes == [4, 4, 2]


def test_what_comes_while_a_call_runs_goes_together():
    calls = Calls()

    async def work(queue):
        calls.may_go_on.clear()
        first = asyncio.create_task(queue.submit(0))
        await asyncio.to_thread(calls.is_in.wait, 20)
        others = [asyncio.create_task(queue.submit(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        calls.may_go_on.set()
        return await asyncio.gather(first, *others)

    assert in_queue(calls, work, max_wait=0) == [0, 2, 4, 6]
    assert calls.batches == [[0], [1, 2, 3]]


def test_a_request_that_fails_fails_alone():
    calls = Calls(fail_on=[2])

    async def work(queue):
        return await asyncio.gather(*map(queue.submit, range(4)), return_exceptions=True)

    zero, one, two, three = in_queue(calls, work, max_batch_size=4)
    assert (zero, one, three) == (0, 2, 6) and str(two) == "cannot double [2]"


def test_what_waits_at_the_end_is_answered():
    calls = Calls()

    async def main():
        queue = BatchQueue(calls, max_batch_size=2, max_wait=20)
        await queue.start()
        assert queue.is_running
        tasks = [asyncio.create_task(queue.submit(number)) for number in range(5)]
        await asyncio.sleep(0)
        await queue.close()
        assert not queue.is_running
        return await asyncio.gather(*tasks)

    assert asyncio.run(asyncio.wait_for(main(), 30)) == [0, 2, 4, 6, 8]


def test_a_client_that_has_left_costs_no_call():
    calls = Calls()

    async def work(queue):
        calls.may_go_on.clear()
        first = asyncio.create_task(queue.submit(0))
        await asyncio.to_thread(calls.is_in.wait, 20)
        gone, stays = asyncio.create_task(queue.submit(1)), asyncio.create_task(queue.submit(2))
        await asyncio.sleep(0)
        gone.cancel()
        calls.may_go_on.set()
        return await asyncio.gather(first, stays)

    assert in_queue(calls, work, max_wait=0) == [0, 4]
    assert calls.batches == [[0], [2]]


def test_a_cancelled_request_is_let_go_at_once_and_the_next_one_is_answered():
    calls = Calls()

    async def work(queue):
        alone = asyncio.create_task(queue.submit(0))
        await asyncio.sleep(0)
        alone.cancel()  # before the queue has looked
        with pytest.raises(asyncio.CancelledError):
            await alone
        await asyncio.sleep(0.01)
        calls.may_go_on.clear()
        first = asyncio.create_task(queue.submit(1))
        await asyncio.to_thread(calls.is_in.wait, 20)
        gone = [asyncio.create_task(queue.submit(7)) for _ in range(3)]
        stays = asyncio.create_task(queue.submit(7))  # equal, and not the same
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        waiting = queue.waiting
        calls.may_go_on.set()
        return waiting, queue.is_running, await asyncio.gather(first, stays)

    assert in_queue(calls, work, max_wait=0) == (1, True, [2, 14])
    assert calls.batches == [[1], [7]]


def test_no_more_places_are_given_than_there_are():
    async def work(queue):
        with queue.place(), queue.place():
            assert queue.in_work == 2
            with pytest.raises(QueueFull), queue.place():
                pass
        with queue.place():
            return queue.in_work

    assert in_queue(Calls(), work, max_requests=2) == 1
