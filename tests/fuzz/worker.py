"""Runs generated cases of one area in this process, and prints a line of JSON for each finding."""

from __future__ import annotations

import importlib
import json
import pickle
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from .own_errors import is_own, place_of

AREAS = ("datasets", "processor", "models", "post_processing", "files")
SECONDS = 20  # of computing that a case may take
MEMORY = 4 << 30  # that all cases together may take, beside what the process starts with
GROWTH = 1 << 30  # of one case


class TooSlowError(BaseException):
    """A case takes longer than it may."""


def area_of(name: str) -> Any:
    """The module of an area, with `cases` and `run`."""
    return importlib.import_module(f"{__package__}.{name}_area")


def outcome_of(run: Callable[[Any], None], case: Any) -> tuple[str, BaseException | None]:
    """ "result", "refused" (the project's own error) or where an error came from, and the error."""
    try:
        run(case)
    except Exception as error:
        return ("refused", error) if is_own(error) else (place_of(error), error)
    return "result", None


def work(area: str, first_seed: int, count: int, folder: Path) -> None:
    """Runs `count` cases. The current one is always in `folder/current.pickle`, should the process die."""
    module = area_of(area)
    limit_memory()
    signal.signal(signal.SIGPROF, _too_slow)
    warnings.simplefilter("ignore")
    numbers = {"result": 0, "refused": 0}

    @seed(first_seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(module.cases)
    def run_all(case: Any) -> None:
        number = sum(numbers.values())
        (folder / "current.pickle").write_bytes(pickle.dumps(case))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        error: BaseException | None
        try:
            outcome, error = outcome_of(module.run, case)
        except TooSlowError as slow:
            outcome, error = "slow: " + place_of(slow), slow
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        if growth > GROWTH:
            outcome = f"memory: {growth >> 20} MB"
        numbers[outcome] = numbers.get(outcome, 0) + 1
        if outcome not in ("result", "refused") and numbers[outcome] == 1:
            report(folder, f"{area}-{first_seed}-{number}", outcome, case, error)

    run_all()
    print(json.dumps({"counts": numbers}), flush=True)


def report(folder: Path, name: str, outcome: str, case: Any, error: BaseException | None) -> None:
    """Keeps the input of a finding, and prints what it is."""
    (folder / f"{name}.pickle").write_bytes(pickle.dumps(case))
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    (folder / f"{name}.txt").write_text(f"{outcome}\n\n{case!r}\n\n{trace}", errors="backslashreplace")
    print(json.dumps({"finding": outcome, "input": name, "message": str(error)[:200]}), flush=True)


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    allowed = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))


def _too_slow(*_: Any) -> None:
    raise TooSlowError(f"a case takes more than {SECONDS} seconds")


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
