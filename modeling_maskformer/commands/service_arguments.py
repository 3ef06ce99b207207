"""What `maskformer serve` and `maskformer app` have in common: where they listen, what they take, how they compute."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module

from ..inference.checkpoint import Checkpoint
from ..inference.uploads import UploadLimits
from ..training.arguments.command_parser import CommandParser
from ..training.arguments.device_defaults import this_machine


def service_parser(command: str, description: str, port: int) -> CommandParser:
    """A parser with the flags of both."""
    parser = CommandParser(command, description)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is all of them (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=at_least(0, most=65_535), default=port, help="port to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--max_upload_mb",
        type=at_least(0.001, float),
        default=UploadLimits.max_upload_mb,
        help="largest upload (default: %(default)s)",
    )
    parser.add_argument(
        "--max_pixels",
        type=at_least(1),
        default=UploadLimits.max_pixels,
        help="most pixels of a picture (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="compute in this precision; those of 16 bits are mixed precision (default: %(default)s)",
    )
    parser.add_argument("--compile", action="store_true", help="compile the model (torch.compile)")
    parser.add_argument("--use_cpu", action="store_true", help="do not use a GPU that is there")
    parser.add_argument(
        "--trust_remote_code",
        action="store_true",
        help="open an exported folder of format torch, which holds pickled code",
    )
    return parser


def load_checkpoint(name: str, arguments: argparse.Namespace) -> Checkpoint:
    """The checkpoint of a folder or Hub name, as the flags say.

    Raises:
        ValueError: there is none, or a flag has no meaning for it.
    """
    device = "cuda" if this_machine(arguments.use_cpu).has_gpu else "cpu"
    return Checkpoint.load(name, device, arguments.dtype, arguments.compile, arguments.trust_remote_code)


def upload_limits(arguments: argparse.Namespace) -> UploadLimits:
    """What the flags say of uploads."""
    return UploadLimits(arguments.max_upload_mb, arguments.max_pixels)


def at_least(least: float, kind: Callable[[str], float] = int, most: float = 1_000_000_000) -> Callable[[str], float]:
    """Text -> number of a kind, for argparse, which says it if it is too small, or larger than anything means."""

    def number(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}.")
        if value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {text}.")
        return value

    number.__name__ = kind.__name__  # what argparse says of text that is no number
    return number


def check_installed(modules: Sequence[str], extra: str) -> None:
    """Raises a ValueError that says what to install if one of these modules is missing."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise ValueError(
                f"`maskformer {extra}` needs {module}: in the repository, pip install -e '.[{extra}]'."
            ) from error
