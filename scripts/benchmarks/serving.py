"""`maskformer serve` under load: is every request answered, how soon, and what batches gain over one by one.

    python scripts/benchmark.py serving --model outputs/street --pictures photos/

The service runs in a process of its own on this machine, so the clients take some of its time. Measured in turn are
one client, several without batches, and several with them.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modeling_maskformer.inference.inputs import SUFFIXES

from .measuring import machine

START_SECONDS = 120


@dataclass
class ServingBenchmarkArguments:
    _argument_group_name = "benchmark"

    model: str = field(metadata={"help": "Checkpoint: a folder, or a name on the Hub."})
    pictures: str = field(metadata={"help": "Folder of pictures, sent in turn."})
    output_dir: str = field(default="outputs/benchmark", metadata={"help": "Folder for serving.json."})
    requests: int = field(default=1000, metadata={"help": "Requests of all clients together."})
    clients: int = field(default=16, metadata={"help": "Clients at once; each sends its next request when answered."})
    max_batch_size: int = field(default=8, metadata={"help": "Of the run with batches."})
    alone: int = field(default=100, metadata={"help": "Requests of the run with one client."})
    format: Literal["rle", "coco", "png"] = field(default="rle", metadata={"help": "What is asked for."})

    def __post_init__(self) -> None:
        for name in ("requests", "clients", "max_batch_size", "alone"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}.")


def run(arguments: ServingBenchmarkArguments) -> None:
    """Prints a row for each run, and writes all as JSON."""
    files = sorted(Path(arguments.pictures).rglob("*"))
    pictures = [file.read_bytes() for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not pictures:
        raise SystemExit(f"The folder {arguments.pictures} holds no picture.")
    runs = {
        "one client": (1, 1, arguments.alone),
        f"{arguments.clients} clients, one by one": (arguments.clients, 1, arguments.requests),
        f"{arguments.clients} clients, in batches": (arguments.clients, arguments.max_batch_size, arguments.requests),
    }
    rows = {}
    for name, (clients, batch_size, count) in runs.items():
        rows[name] = measure(arguments, pictures, clients, batch_size, count)
        print(name, rows[name], flush=True)
    report = {"arguments": asdict(arguments), "machine": machine(), "runs": rows}
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(
    arguments: ServingBenchmarkArguments, pictures: list[bytes], clients: int, batch_size: int, count: int
) -> dict[str, Any]:
    """Answers by status, requests a second, percentiles of the seconds to an answer, and the mean size of batches."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [arguments.model, "--port", str(port), "--max_batch_size", str(batch_size)]
    code = "from modeling_maskformer.commands.serve import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *flags], stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        warm, _ = send(port, pictures, clients, 2 * clients, arguments.format)
        if not warm[200]:
            raise SystemExit(
                f"No request is answered with 200, but with {dict(warm)} (status: requests): can the model's task be "
                f"written as --format {arguments.format}, and are these pictures?"
            )
        before = metrics_of(port)
        start = time.perf_counter()
        statuses, seconds = send(port, pictures, clients, count, arguments.format)
        took = time.perf_counter() - start
        after = metrics_of(port)
        batches = after["maskformer_batch_size_count"] - before["maskformer_batch_size_count"]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    percentiles = np.percentile(seconds, [50, 90, 99, 100]).round(3).tolist()
    return {
        "requests": count,
        "statuses": dict(statuses),
        "lost": count - sum(statuses.values()),
        "requests_per_second": round(count / took, 2),
        "seconds": dict(zip(("p50", "p90", "p99", "most"), percentiles, strict=True)),
        "mean_batch_size": round(count / batches, 2),
    }


def send(port: int, pictures: list[bytes], clients: int, count: int, form: str) -> tuple[Counter[int], list[float]]:
    """Sends requests from several clients at once; the statuses of the answers, and the seconds that each took."""
    numbers, lock = iter(range(count)), threading.Lock()
    statuses: Counter[int] = Counter()
    seconds: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return
            start = time.perf_counter()
            connection.request("POST", f"/segment?format={form}", pictures[number % len(pictures)])
            answer = connection.getresponse()
            answer.read()
            with lock:
                statuses[answer.status] += 1
                seconds.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, seconds


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Returns when the service answers."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            get(port, "/health")
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.2)


def metrics_of(port: int) -> dict[str, float]:
    """The service's counters, by name."""
    lines = [line.rsplit(" ", 1) for line in get(port, "/metrics").splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text
