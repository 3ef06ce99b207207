"""Processes that find each other, as torchrun starts them, and a port for them or for a service."""

import os
import socket
import subprocess
from collections.abc import Sequence


def free_port() -> int:
    """The number of a port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environments(count: int) -> list[dict[str, str]]:
    """What each of `count` processes is told of the others."""
    together = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [together | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def run_together(commands: Sequence[Sequence], **environment: str) -> tuple[list[int], list[tuple[str, str]]]:
    """Runs each command in a process: their codes, and what they wrote to standard output and error."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen(list(map(str, command)), env=environment | own, **pipes)
        for command, own in zip(commands, environments(len(commands)), strict=True)
    ]
    said = [process.communicate(timeout=300) for process in started]
    return [process.returncode for process in started], said
