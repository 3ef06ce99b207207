"""Shows checkpoints as a page: drop a picture, see its segments, download the result files.

    maskformer app outputs/street outputs/cells --examples photos/

The page is at http://127.0.0.1:7860. It is for this machine alone unless --host says otherwise, and everything in it
comes from this machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..inference.inputs import SUFFIXES
from ..training.arguments.command_parser import CommandParser
from .service_arguments import at_least, check_installed, load_checkpoint, service_parser, upload_limits


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    try:
        check_installed(("gradio",), "app")
        from ..page.page import PageSettings, launch, make_page

        settings = PageSettings(
            upload=upload_limits(arguments),
            concurrency=arguments.concurrency,
            max_waiting=arguments.max_waiting,
            examples=pictures_in(arguments.examples),
        )
        page = make_page([load_checkpoint(name, arguments) for name in arguments.checkpoint], settings)
        print(f"The page is at http://{arguments.host}:{arguments.port}; Ctrl-C ends it.", flush=True)
        launch(page, arguments.host, arguments.port, settings)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def make_parser() -> CommandParser:
    parser = service_parser("app", __doc__, port=7860)
    parser.add_argument("checkpoint", nargs="+", help="a folder, or a name on the Hub; several: the page lets choose")
    parser.add_argument("--examples", nargs="*", default=[], help="pictures to try, and folders of them")
    parser.add_argument(
        "--concurrency",
        type=at_least(1),
        default=1,
        help="pictures that are segmented at once, others wait in turn (default: %(default)s)",
    )
    parser.add_argument(
        "--max_waiting", type=at_least(1), default=32, help="pictures that may wait (default: %(default)s)"
    )
    return parser


def pictures_in(paths: Sequence[str]) -> list[Path]:
    """The picture files among these and directly in these folders.

    Raises:
        ValueError: a path does not exist.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"There is no file or folder {path} (--examples).")
        found += sorted(path.iterdir()) if path.is_dir() else [path]
    return [path.absolute() for path in found if path.suffix.lower() in SUFFIXES]


if __name__ == "__main__":  # python -m modeling_maskformer.commands.app
    main()
