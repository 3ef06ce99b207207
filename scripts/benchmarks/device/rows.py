"""The rows of a benchmark on a device: each group of programs runs in turn; a row is printed once it is measured."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..measuring import machine, summary, time_in_turn
from .measuring import Meter, check_device, describe_device, set_precision
from .table import header, line

WARM_UPS = 2  # a compiled program compiles in the first and records its graph in the second

Program = Callable[[], dict[str, float]]


@dataclass
class DeviceArguments:
    """What both benchmarks on a device are told."""

    device: str = field(metadata={"help": "cuda or cuda:<number>; or cpu, to see that all works."})
    dtype: Literal["bf16", "fp16", "tf32", "fp32"] = field(
        default="bf16", metadata={"help": "bf16, fp16: by autocast; tf32, fp32: how float32 products are rounded."}
    )
    compile: bool = field(default=False, metadata={"help": "Also measure this package under torch.compile."})
    only: list[str] = field(default_factory=list, metadata={"help": "Rows to measure. None: all."})
    num_queries: int = field(default=100, metadata={"help": "Queries of the models."})
    rounds: int = field(default=20, metadata={"help": "How often each program runs; the median is reported."})
    seconds_per_row: float = field(
        default=2.0, metadata={"help": "No further round begins once a group of rows has had this much time a row."}
    )
    output: str = field(
        default="", metadata={"help": "JSON file for the results. Empty: outputs/<benchmark>_<device>_<dtype>.json."}
    )
    quick: bool = field(default=False, metadata={"help": "Tiny models, sizes and one round, to see that all works."})

    def __post_init__(self) -> None:
        check_device(self.device)
        if self.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {self.rounds}.")

    def check_only(self, rows: tuple[str, ...]) -> None:
        """Raises a ValueError where `--only` has a name that is none of the benchmark's rows."""
        unknown = [name for name in self.only if name not in rows]
        if unknown:
            raise ValueError(f"--only must be of {', '.join(rows)}, got {unknown[0]}.")

    def wants(self, row: str) -> bool:
        return not self.only or row in self.only


class Rows:
    """The rows of one run of a benchmark: measured, printed as Markdown and saved as JSON group by group.

    Args:
        benchmark: `training` or `inference`.
        arguments: of the run.

    Attributes:
        report: what is saved: `benchmark`, `machine`, `arguments`, `rows`.
    """

    def __init__(self, benchmark: str, arguments: DeviceArguments):
        self.arguments = arguments
        self.meter = Meter(arguments.device)
        set_precision(arguments.dtype)
        name = f"{benchmark}_{arguments.device.replace(':', '')}_{arguments.dtype}.json"
        self.path = Path(arguments.output or f"outputs/{name}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        where = {**describe_device(self.meter.device), **machine()}
        self.report: dict[str, Any] = {
            "benchmark": benchmark,
            "machine": where,
            "arguments": asdict(arguments),
            "rows": [],
        }
        print(header(self.report), flush=True)

    def measure(
        self,
        work: str,
        programs: Mapping[str, Callable[[], Program]],
        *,
        images: int,
        baseline: str | None = None,
        rival: str | None = None,
        resident: Mapping[str, Callable[[], int]] | None = None,
        notes: Mapping[str, Callable[[], str]] | None = None,
    ) -> None:
        """Measures programs that do the same work, in turn, and adds a row for each.

        Args:
            work: what they do.
            programs: by name what makes the program; one that fails, by lack of memory say, leaves its reason.
            images: how many the work has.
            baseline, rival: the programs to whose times those of all are compared: how many times a program's time is
                the baseline's, and how many times faster than the rival it is. Of paired runs.
            resident: for a program the bytes that lie on the device before and after it, which count with its own.
            notes: for a program what tells something else of it.
        """
        rows = {name: {"work": work, "program": name, "images": images, "note": ""} for name in programs}
        ready: dict[str, Program] = {}
        for name, prepare in programs.items():
            program = self._warm_up(rows[name], prepare)
            self.meter.free()
            if program is not None:
                ready[name] = program
                with _failures_told([rows[name]]):
                    rows[name]["note"] = notes[name]() if notes and name in notes else ""
                if resident and rows[name]["extra_bytes"] is not None:
                    rows[name]["peak_bytes"] = rows[name]["extra_bytes"] + resident[name]()
        seconds: dict[str, list[float]] = {}
        with _failures_told(rows[name] for name in ready):
            budget = self.arguments.seconds_per_row * len(ready)
            results = time_in_turn(ready, self.arguments.rounds, budget)
            for name, phases in results.items():
                seconds[name] = [sum(parts) for parts in zip(*phases.values(), strict=True)]
                rows[name]["seconds"] = summary(seconds[name])
                rows[name]["rounds"] = len(seconds[name])
                if len(phases) > 1:
                    rows[name]["phases"] = {phase: summary(values) for phase, values in phases.items()}
        for name in seconds:
            if baseline in seconds:
                rows[name]["of_baseline"] = _ratio(seconds[name], seconds[baseline])
            if rival in seconds and rival != name:
                rows[name]["times_faster"] = _ratio(seconds[rival], seconds[name])
            with _failures_told([rows[name]]):
                rows[name]["calls"] = self.meter.calls(ready[name])
        self._add(list(rows.values()))

    def _warm_up(self, row: dict[str, Any], prepare: Callable[[], Program]) -> Program | None:
        """The program, when it has run; its row gets the memory it takes."""
        with _failures_told([row]):
            start = time.perf_counter()
            program = prepare()
            for _ in range(WARM_UPS):
                program()
            row["warm_up_seconds"] = time.perf_counter() - start
            row["extra_bytes"] = self.meter.extra_memory(program)
            return program
        return None

    def _add(self, rows: list[dict[str, Any]]) -> None:
        self.report["rows"] += rows
        for row in rows:
            print(line(row, self.report["benchmark"]), flush=True)
        self.path.write_text(json.dumps(self.report, indent=2) + "\n")


@contextlib.contextmanager
def _failures_told(rows: Iterable[dict[str, Any]]) -> Iterator[None]:
    """A failure inside becomes the `error` of the rows, and what follows is measured all the same."""
    rows = list(rows)
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())
        sentence = "out of memory" if "out of memory" in text else f"{type(error).__name__}: {text[:200]}"
        for row in rows:
            row["error"] = sentence


def _ratio(seconds: list[float], others: list[float]) -> dict[str, float]:
    return summary([mine / other for mine, other in zip(seconds, others, strict=True)])
