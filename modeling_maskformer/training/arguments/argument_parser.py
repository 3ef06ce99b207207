"""ScriptArgumentParser: dataclasses -> a command line whose help can be read and whose errors are sentences."""

from __future__ import annotations

import json
import re
import sys
from argparse import SUPPRESS, ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool

from ...files.unique_keys import read_json, read_yaml
from .flag_names import in_words_of_flags, names_of, unknown_flag
from .program_name import named_as_called, program_name, say_any_name


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Shows `--name` once (not also `--na-me`), defaults only where they say something, and examples as written."""

    def _format_action_invocation(self, action) -> str:
        options = action.option_strings
        action.option_strings = [option for option in options if option.startswith("--")][:1]
        try:
            return super()._format_action_invocation(action)
        finally:
            action.option_strings = options

    def _get_help_string(self, action) -> str | None:
        if action.nargs == 0 and action.dest != "help" and action.help is not SUPPRESS:
            return f"Turns --{action.dest} off."
        if action.default in (None, "", [], MISSING):
            return action.help
        return super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action) -> str:
        return getattr(action.type, "__name__", "value").replace("string_to_bool", "true|false").replace("str", "text")


class ScriptArgumentParser(HfArgumentParser):
    """Parser of scripts: `script.py --flag value` or `script.py run.yaml --flag value`, where flags win over the file.

    The fields of each dataclass form a group of the help, titled by its `_argument_group_name`. Of a subclass of
    `TrainingArguments`, the fields that it leaves as they are come in a group of their own, last; those in its
    `_refused_fields` are read, so that the error says why not, and not shown. What may be true, false or open takes
    `--name`, `--name false` and `--no_name`, as every switch.

    Args:
        dataclass_types: what the command line fills.
        everyday_fields: names of transformers' training arguments to show with the script's own all the same.
        description: the first lines of the help, as written; `maskformer <command>` is named as it was called.
        command: as `maskformer` calls it.

    Attributes:
        flags: what the last `parse` took, as flags and values; the settings of a file come first.
    """

    def __init__(
        self,
        dataclass_types: Sequence[type],
        everyday_fields: Sequence[str] = (),
        description: str = "",
        command: str | None = None,
    ) -> None:
        self._everyday_fields = set(everyday_fields)
        self.flags: tuple[str, ...] = ()
        super().__init__(
            dataclass_types,
            prog=program_name(command),
            description=named_as_called(description, command),
            formatter_class=lambda prog: HelpFormatter(prog, max_help_position=30, width=110),
            allow_abbrev=False,
            usage="%(prog)s [run.yaml | run.json] [--flag value ...]",
        )

    def _add_dataclass_arguments(self, dtype: type) -> None:
        super()._add_dataclass_arguments(dtype)
        for action in list(self._action_groups[-1]._group_actions):
            if action.type is string_to_bool and action.default is None:
                action.nargs, action.const = "?", True
                names = [f"--no_{action.dest}", f"--no-{action.dest.replace('_', '-')}"]
                self.add_argument(*names, action="store_false", dest=action.dest, default=None, help=SUPPRESS)
            if action.dest in getattr(dtype, "_refused_fields", ()):
                action.help = SUPPRESS
        if not issubclass(dtype, TrainingArguments):
            return
        subclasses = dtype.__mro__[: dtype.__mro__.index(TrainingArguments)]
        redefined = {name for subclass in subclasses for name in subclass.__annotations__}
        rare = {field.name for field in fields(TrainingArguments)} - redefined - self._everyday_fields
        group = self._action_groups[-1]
        last = self.add_argument_group("everything else that transformers.TrainingArguments takes")
        last._group_actions = [action for action in group._group_actions if action.dest in rare]
        group._group_actions = [action for action in group._group_actions if action.dest not in rare]

    def parse(self, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
        """The filled dataclasses. A wrong argument ends the program with code 2 and one sentence."""
        say_any_name()
        argv = list(sys.argv[1:] if argv is None else argv)
        if argv and argv[0].endswith((".json", ".yaml", ".yml")):
            argv = self._flags_of_file(Path(argv[0])) + argv[1:]
        self.flags = tuple(argv)
        for argument in argv:  # first of all: a mistyped flag is also a missing one
            if argument.startswith("--") and argument.split("=")[0] not in self._option_string_actions:
                self.error(unknown_flag(argument.split("=")[0], self._actions))
        try:
            *values, unexpected = self.parse_args_into_dataclasses(
                argv, return_remaining_strings=True, look_for_args_file=False
            )
        except (ValueError, ImportError, OSError) as error:
            self.error(str(error))
        if unexpected:
            self.error(f"Unexpected value {unexpected[0]!r}: every value follows a flag (see --help).")
        return tuple(values)

    def error(self, message: str) -> NoReturn:
        """Ends the program with code 2; `message` alone, since the usage of some hundred flags would bury it."""
        message = re.sub(r"^argument (--\w+)/--[\w-]+:", r"\1:", message)  # not also `--na-me`
        self.exit(2, f"{self.prog}: {in_words_of_flags(message, names_of(self._actions))}\n")

    def _flags_of_file(self, path: Path) -> list[str]:
        """The settings of a JSON or YAML file, written as flags: so both ways are read and checked alike."""
        try:
            text = path.read_text(encoding="utf-8")
            settings = read_json(text) if path.suffix == ".json" else read_yaml(text)
        except OSError as error:
            self.error(f"Cannot read the settings file {path}: {error.strerror}.")
        except (ValueError, yaml.YAMLError) as error:
            self.error(f"The settings file {path} is not valid {path.suffix[1:].upper()}: {error}")
        if not isinstance(settings, dict):
            self.error(f"The settings file {path} must hold names and values, got {type(settings).__name__}.")
        flags: list[str] = []
        names: dict[str, str] = {}  # of what is set already: --washed may be written --no_washed, too
        for name, value in settings.items():
            action = self._option_string_actions.get(f"--{name}")
            if action is not None and names.setdefault(action.dest, name) != name:
                both = f"--{names[action.dest]} and by --{name}"
                self.error(f"The settings file {path} sets one thing twice, by {both}.")
            if value is None:
                continue
            values = value if isinstance(value, list) else [value]
            flags += [f"--{name}", *(json.dumps(v) if isinstance(v, (dict, bool)) else str(v) for v in values)]
        return flags
