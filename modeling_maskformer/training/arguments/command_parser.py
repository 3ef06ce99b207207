"""CommandParser: argparse for commands with positional arguments, which behaves as `ScriptArgumentParser` does."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import NoReturn

from .flag_names import unknown_flag
from .program_name import named_as_called, program_name, say_any_name


class CommandParser(ArgumentParser):
    """Names the program as it was called, takes no abbreviations, and says of an unknown flag which one is meant.

    Args:
        command: as `maskformer` calls it.
        description: the first lines of the help, as written; `maskformer <command>` is named as it was called.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=program_name(command),
            description=named_as_called(description, command),
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_known_args(self, args=None, namespace=None):
        say_any_name()
        known, unknown = super().parse_known_args(args, namespace)
        for word in unknown:
            if word.startswith("--"):
                self.error(unknown_flag(word.split("=")[0], self._actions))
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Ends the program with code 2 and the message alone."""
        self.exit(2, f"{self.prog}: {message}\n")
