"""`maskformer train`, `maskformer evaluate`, ...: one command for all that scripts/ do.

This file imports nothing of the package before it knows the subcommand: help and mistakes need no torch.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

COMMANDS = {
    "data": "shows a dataset as a training will see it: pictures, classes, numbers",
    "train": "trains on a dataset: semantic, instance or panoptic segmentation",
    "evaluate": "measures a checkpoint on a dataset",
    "predict": "segments pictures",
    "export": "writes a checkpoint as a graph for ONNX Runtime, OpenVINO or torch, also in int8",
    "app": "shows a checkpoint as a page: drop a picture, see its segments",
    "serve": "serves a checkpoint over HTTP",
    "convert": "turns a checkpoint of the original MaskFormer into a folder for from_pretrained",
}


def main(argv: Sequence[str] | None = None, program: str = "maskformer") -> None:
    """Runs the subcommand that the command line names; its own arguments follow the name.

    Args:
        argv: the words after `program`; None takes those of this process.
        program: how the user called it.
    """
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(help_text(program))
    elif name == "--version":
        print(f"maskformer {version()}")
    elif name in COMMANDS:
        sys.argv = [f"{program} {name}", *arguments]  # what usage and errors call the program
        import_module(f"modeling_maskformer.commands.{name}").main()
    else:
        sys.stderr.write(f"{program}: {unknown(name)}\n")
        sys.exit(2)


def help_text(program: str) -> str:
    """What there is, a line for each subcommand."""
    lines = [f"  {name:10} {text}" for name, text in COMMANDS.items()]
    flags = [f"  {'--version':10} says which version is installed"]
    return "\n".join(
        [f"usage: {program} COMMAND ...", "", *lines, *flags, "", f"{program} COMMAND --help explains its flags."]
    )


def version() -> str:
    """The version that is installed."""
    try:
        return metadata.version("modeling-maskformer")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its folder)"


def unknown(name: str) -> str:
    """A sentence about a subcommand that does not exist."""
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Choose one of {', '.join(COMMANDS)}."
    return f"There is no command {name!r}. {hint}"
