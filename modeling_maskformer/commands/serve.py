"""Serves a checkpoint over HTTP: pictures in, segments out, as run-length codes, COCO's files or PNG.

    maskformer serve outputs/street
    curl --data-binary @photo.jpg http://127.0.0.1:8000/segment

Pictures that arrive together go through the model together. http://127.0.0.1:8000/docs describes the service, /health
and /metrics watch it. Ctrl-C and SIGTERM end it once what it has taken is answered. It listens to this machine alone
unless --host says otherwise, and knows no users: put what knows them in front of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from ..training.arguments.command_parser import CommandParser
from .service_arguments import at_least, check_installed, load_checkpoint, service_parser, upload_limits

NEEDED = ("fastapi", "fastapi_offline", "uvicorn", "prometheus_client", "python_multipart")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        application = prepare_service(arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    import_module("uvicorn").run(
        application, host=arguments.host, port=arguments.port, timeout_graceful_shutdown=arguments.grace_seconds
    )


def make_parser() -> CommandParser:
    parser = service_parser("serve", __doc__, port=8000)
    parser.add_argument("checkpoint", help="a folder, or a name on the Hub")
    parser.add_argument(
        "--max_batch_size",
        type=at_least(1),
        default=8,
        help="pictures that the model takes at once (default: %(default)s)",
    )
    parser.add_argument(
        "--max_wait_ms",
        type=at_least(0, float),
        default=5.0,
        help="so long a picture waits for others to come (default: %(default)s)",
    )
    parser.add_argument(
        "--max_requests",
        type=at_least(1),
        default=64,
        help="requests in work at once; more are answered with 429 (default: %(default)s)",
    )
    parser.add_argument(
        "--upload_seconds",
        type=at_least(0.001, float),
        default=60.0,
        help="so long an upload may take; slower ones are answered with 408 (default: %(default)s)",
    )
    parser.add_argument(
        "--grace_seconds",
        type=at_least(0),
        default=30,
        help="so long open requests are waited for at the end (default: %(default)s)",
    )
    return parser


def prepare_service(arguments: argparse.Namespace) -> Any:
    """The application with its checkpoint loaded."""
    check_installed(NEEDED, "serve")
    from ..serving.application import Limits, make_application

    limits = Limits(
        max_batch_size=arguments.max_batch_size,
        max_wait=arguments.max_wait_ms / 1000,
        max_requests=arguments.max_requests,
        upload_seconds=arguments.upload_seconds,
        upload=upload_limits(arguments),
    )
    return make_application(load_checkpoint(arguments.checkpoint, arguments), limits)


if __name__ == "__main__":  # python -m modeling_maskformer.commands.serve
    main()
