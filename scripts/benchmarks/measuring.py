"""How long programs take, run in turn, and how much memory a step needs, run in a process of its own."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

SPARE_MEMORY = 1 << 30  # left to the rest of the machine
STATUS = "/proc/self/status"
# what every measuring process starts with, so that it is imported once and not anew for each
PRELOADED = ["torch", "transformers", "modeling_maskformer.data.datasets", "image_processing"]


def time_in_turn(
    programs: Mapping[str, Callable[[], dict[str, float]]], rounds: int, budget: float = math.inf
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each phase of each program, one number a round.

    All programs run once in every round, so that whatever else the machine does strikes all alike: what counts is the
    ratio of two programs. Each program returns the seconds of its phases. No round but the first begins after `budget`
    seconds.
    """
    end = time.monotonic() + budget
    results: dict[str, dict[str, list[float]]] = {name: {} for name in programs}
    for number in range(rounds):
        if number > 0 and time.monotonic() > end:
            break
        for name, program in programs.items():
            for phase, seconds in program().items():
                results[name].setdefault(phase, []).append(seconds)
    return results


def summary(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)}


def peak_memory(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> dict[str, Any]:
    """Bytes of memory that a step needs, measured in a process of its own.

    Args:
        prepare: a function of a module; `prepare(*arguments)` makes ready and returns the step.
        arguments: picklable.

    Returns:
        `peak`: the most memory the process had during the step; `extra`: how much more that is than before it. Both
        are None, and `error` says why, where the step did not fit: it may not take what the machine does not have.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_and_report, args=(sender, prepare, arguments))
    process.start()
    sender.close()
    try:
        report = receiver.recv()
    except EOFError:
        report = {"peak": None, "extra": None, "error": "the process was stopped"}
    process.join()
    return report


def _run_and_report(sender: Any, prepare: Callable[..., Callable[[], object]], arguments: tuple) -> None:
    available = status_bytes("/proc/meminfo", "MemAvailable")
    own = status_bytes(STATUS, "VmSize")
    if available is not None and own is not None:
        limit = own + available - SPARE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        step = prepare(*arguments)
        before = _forget_the_peak()
        step()
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        sender.send({"peak": None, "extra": None, "error": "not enough memory"})
        return
    # getrusage counts what the parent had before this process was started, the system's file does not
    peak = status_bytes(STATUS, "VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sender.send({"peak": peak, "extra": peak - before})


def _forget_the_peak() -> int:
    """Bytes this process has now; from here on its peak is counted anew, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return status_bytes(STATUS, "VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def status_bytes(file: str, name: str) -> int | None:
    """What a file of the system, such as STATUS, says of this name, in bytes; None where there is no such file."""
    path = Path(file)
    if not path.exists():  # not Linux
        return None
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """PyTorch computes with so many threads, and then with as many as before; 0: as many as it takes by itself."""
    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
