"""Measures this package beside transformers' MaskFormer, in one process, run in turn.

    python scripts/benchmark.py inference
    python scripts/benchmark.py training
    python scripts/benchmark.py streaming
    python scripts/benchmark.py deployment

Each prints a table and writes JSON and a plot (deployment: Markdown) to --output_dir; `--help` after the name explains
its flags.

    python scripts/benchmark.py tiles
    python scripts/benchmark.py serving --model outputs/street --pictures photos/

measure a large picture in tiles, without a model, and `maskformer serve` under load.

    python scripts/benchmark.py inference --device cuda --dtype bf16 [--compile]
    python scripts/benchmark.py training --device cuda --dtype bf16 [--compile]

Each prints the rows of a GPU as they are measured and writes them as JSON; `--device cuda --help` explains its flags.

    python scripts/benchmark.py table --results outputs/training_cuda_bf16.json

prints the tables of such files once more, or writes them into the README of the benchmarks (--readme).

    python scripts/benchmark.py curves --runs outputs/points_seed0 outputs/dense_seed0

compares trained runs: their metric against training time and steps, as a plot and a table.

    python scripts/benchmark.py accuracy --recipe scripts/recipes/finetune_small.yaml --dataset data/street

trains MaskFormer, the per-pixel baselines and transformers' MaskFormer for an equal time, and compares them so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import (
    accuracy,
    curves,
    deployment,
    inference,
    serving,
    streaming,
    tiles,
    training,
)
from benchmarks.device import inference as device_inference
from benchmarks.device import table as device_table
from benchmarks.device import training as device_training
from modeling_maskformer.training.arguments.argument_parser import ScriptArgumentParser

BENCHMARKS = {
    "inference": (inference, inference.InferenceBenchmarkArguments),
    "training": (training, training.TrainingBenchmarkArguments),
    "serving": (serving, serving.ServingBenchmarkArguments),
    "tiles": (tiles, tiles.TilesBenchmarkArguments),
    "streaming": (streaming, streaming.StreamingBenchmarkArguments),
    "deployment": (deployment, deployment.DeploymentBenchmarkArguments),
    "accuracy": (accuracy, accuracy.AccuracyArguments),
    "curves": (curves, curves.CurvesArguments),
    "table": (device_table, device_table.TableArguments),
}
ON_A_DEVICE = {
    "inference": (device_inference, device_inference.DeviceInferenceArguments),
    "training": (device_training, device_training.DeviceTrainingArguments),
}


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] in ("-h", "--help"):
        print(f"{__doc__}\nThe first word is {' or '.join(BENCHMARKS)}; --help after it explains its flags.")
        return
    if not argv or argv[0] not in BENCHMARKS:
        found = argv[0] if argv else "nothing"
        print(f"{__doc__}\nThe first word must be {' or '.join(BENCHMARKS)}, got {found}.", file=sys.stderr)
        raise SystemExit(2)
    module, arguments_class = BENCHMARKS[argv[0]]
    if any(argument.split("=")[0] == "--device" for argument in argv):
        module, arguments_class = ON_A_DEVICE.get(argv[0], BENCHMARKS[argv[0]])
    parser = ScriptArgumentParser((arguments_class,), description=module.__doc__)
    (arguments,) = parser.parse(argv[1:])
    module.run(arguments)


if __name__ == "__main__":
    main()
