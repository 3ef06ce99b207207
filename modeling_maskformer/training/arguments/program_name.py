"""How the user called this program, for usage lines, errors and the card of a model; and that it can say any name."""

from __future__ import annotations

import re
import sys
from io import TextIOWrapper
from pathlib import Path

PACKAGE = __name__.partition(".")[0]


def program_name(command: str | None = None) -> str:
    """Such as `maskformer train`, `python scripts/train.py` or `python -m modeling_maskformer.commands.train`.

    Args:
        command: as `maskformer` calls it: the name where it was called from Python.
    """
    started = getattr(sys.modules["__main__"], "__spec__", None)  # a script that was called by its path has none
    if started is not None and started.name.startswith(f"{PACKAGE}.commands."):
        return f"python -m {started.name}"
    called = sys.argv[0]
    if called.startswith(("maskformer ", "python -m ")):  # as commands/command_line.py leaves it
        return called
    if started is None and called.endswith(".py") and Path(called).resolve().parent.name == "scripts":
        return f"python {called}"
    return f"maskformer {command}" if command else Path(called).name


def named_as_called(text: str, command: str | None) -> str:
    """The text of a help with `maskformer <command>` as `program_name` has it."""
    return text if command is None else re.sub(rf"\bmaskformer {command}\b", program_name(command), text)


def launched(program: str, num_processes: int) -> str:
    """The same program as it is started with several processes, through Accelerate."""
    if num_processes == 1:
        return program
    interpreter, _, rest = program.partition(" ")
    what = rest if interpreter == "python" else f"-m {PACKAGE}.commands.{rest}"
    return f"accelerate launch --num_processes {num_processes} {what}"


def say_any_name() -> None:
    """Lets the standard output take every text: of names in letters that its encoding lacks, their codes.

    Redirected on Windows, or under an old locale, it has some 200 letters, and would end a run at the name of a class.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # None without a console, and a notebook's takes everything
        sys.stdout.reconfigure(errors="backslashreplace")
