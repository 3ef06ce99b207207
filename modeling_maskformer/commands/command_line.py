"""`maskformer train`, `maskformer evaluate`, ...: one command for all that scripts/ do."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "data": "shows a dataset as a training will see it: pictures, classes, numbers",
    "train": "trains on a dataset: semantic, instance or panoptic segmentation",
    "evaluate": "measures a checkpoint on a dataset",
    "predict": "segments pictures",
    "convert": "turns a checkpoint of the original MaskFormer into a folder for from_pretrained",
}


def main() -> None:
    """Runs the subcommand that the command line names; its own arguments follow the name."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: maskformer COMMAND ...\n", *(f"  {key:10} {text}" for key, text in COMMANDS.items()), sep="\n")
        print("\nmaskformer COMMAND --help explains its flags.")
        return
    if name not in COMMANDS:
        sys.exit(f"maskformer: there is no command {name!r}: choose one of {', '.join(COMMANDS)}.")
    sys.argv = [f"maskformer {name}", *sys.argv[2:]]
    import_module(f".{name}", __package__).main()
