"""The text of model cards: templates filled strictly, no folder of a machine, and a mark on what a run has written."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

CARD_NAME = "README.md"  # where the Hub looks for the card of a model

_SIGNATURE = "\n<!-- modeling-maskformer "
_SECRET = re.compile("_(token|secret|password|api_key)$")


def render_card(template: str, metadata: ModelCardData, **values: Any) -> str:
    """A model card: the Hub's front matter, then the template filled with `values` as `fill_template` does it."""
    return f"---\n{metadata.to_yaml()}\n---\n\n{fill_template(template, **values)}"


def fill_template(template: str, **values: Any) -> str:
    """The Jinja template filled with `values`.

    Raises:
        jinja2.UndefinedError: the template names a value that was not given.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = table_cell
    return environment.from_string(template).render(**values)


def table_cell(value: Any) -> str:
    """The value as text within one line of Markdown: no name of a class makes markup, a link, a mention or HTML."""
    text = "".join(char for char in " ".join(str(value).split()) if char.isprintable())
    # what has no meaning stays as it is, for readers of the source: _ within a word, : before a space
    return re.sub(
        r"([\\|*`<>\[\]~$&@#!]|(?<![^\W_])_|_(?![^\W_])|:(?=[\w/+-])|(?<=www)\.)", r"\\\1", text, flags=re.IGNORECASE
    )


# What a run has written


def sign(text: str) -> str:
    """The text with a last line that tells it from text that somebody has written or changed."""
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
    return f"{text}{_SIGNATURE}{digest}: a later run in this folder replaces this file unless it was edited -->\n"


def is_signed(path: Path) -> bool:
    """Whether the file is as `sign` made it: False where there is none, or a single character was changed."""
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return text == sign(unsigned(text))


def unsigned(text: str) -> str:
    """The text that `sign` was given, of what it made."""
    return text.rpartition(_SIGNATURE)[0]


# Names and command lines


def shown_name(name: str) -> str:
    """A name on the Hub as it is, a local path without its folders."""
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() else without_folders(name)


def without_folders(text: str) -> str:
    """The text, an argument of a command line; a path that leads out of the working folder is cut to its last part.

    `/data/street` becomes `street`, `--model=../runs/7` becomes `--model=7`; `data/street`, names on the Hub and URLs
    stay.
    """
    flag, equals, value = text.partition("=") if text.startswith("--") else ("", "", text)
    path = PureWindowsPath(value)  # knows both kinds of slashes
    if value.startswith(("file:", "~", "/", "\\")) or path.is_absolute() or ".." in path.parts:
        value = path.name if path.name not in ("", "..", "~") else "..."
    return f"{flag}{equals}{value}"


def shown_command(command: Sequence[str]) -> str:
    """A command to read and to copy: a line for each setting, no folder of this machine and no secret.

    Args:
        command: the program's words, then flags, each followed by its values. Of a flag that is given twice the last
            counts, as for argparse.
    """
    settings: dict[str, list[str]] = {"": []}  # the program's words come before all flags
    name = ""
    for word in command:
        if word.startswith("--"):
            name = word.partition("=")[0].replace("-", "_")
            settings.pop(name, None)
        settings.setdefault(name, []).append(without_folders(word))
    return " \\\n  ".join(shlex.join(words) for name, words in settings.items() if not _SECRET.search(name))
