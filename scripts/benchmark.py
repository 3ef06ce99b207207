"""Measures this package beside transformers' MaskFormer, in one process, run in turn.

    python scripts/benchmark.py inference
    python scripts/benchmark.py training

Each prints a table and writes JSON and a plot to --output_dir; `--help` after the name explains its flags.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import inference, training
from modeling_maskformer.training.arguments.argument_parser import ScriptArgumentParser

BENCHMARKS = {
    "inference": (inference, inference.InferenceBenchmarkArguments),
    "training": (training, training.TrainingBenchmarkArguments),
}


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] not in BENCHMARKS:
        found = argv[0] if argv else "nothing"
        print(f"{__doc__}\nThe first word must be {' or '.join(BENCHMARKS)}, got {found}.", file=sys.stderr)
        raise SystemExit(2)
    module, arguments_class = BENCHMARKS[argv[0]]
    parser = ScriptArgumentParser((arguments_class,), description=module.__doc__)
    (arguments,) = parser.parse(argv[1:])
    module.run(arguments)


if __name__ == "__main__":
    main()
