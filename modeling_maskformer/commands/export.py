"""A checkpoint -> a folder that ONNX Runtime, OpenVINO or torch runs: one graph for all batch sizes and image sizes.

    maskformer export outputs/street outputs/street-openvino --format openvino --dtype bf16
    maskformer export outputs/street outputs/street-int8 --format openvino --int8 --dataset data/street --split train

The folder opens like a checkpoint in `maskformer predict` and `maskformer evaluate`, which measures what the precision
costs. With --with the graph gives the finished result, for programs that have no post-processing of their own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..data.dataset_pictures import dataset_pictures
from ..data.datasets import TRAIN_SPLITS
from ..exporting import FORMATS, ExportSettings, export_model
from ..exporting.export import DTYPES, check_output, fix_size
from ..exporting.graphs import RESULTS
from ..exporting.quantization import calibration_batches
from ..inference.exported_folder import check_not_exported
from ..inference.inputs import find_pictures
from ..inference.loading import load_image_processor, load_model
from ..training.arguments.command_parser import CommandParser
from ..training.arguments.program_name import program_name
from ..training.cards.card_text import shown_name

NUM_CALIBRATION_IMAGES = 64


def main(argv: Sequence[str] | None = None) -> None:
    """Exports the checkpoint that the command line names, or says in a sentence why not."""
    try:
        export(parse_arguments(argv))
    except (ValueError, OSError) as error:
        sys.exit(f"{program_name('export')}: {error}")


def export(args: argparse.Namespace) -> None:
    """Reads checkpoint and calibration images, and writes the folder."""
    check_output(args.output)
    if (args.height is None) != (args.width is None):
        raise ValueError("--height and --width go together: pass both, or none for images of any size.")
    if args.int8 and not args.dataset and not args.calibration:
        raise ValueError("--int8 is calibrated on training images: pass --dataset and --split, or --calibration.")
    if not args.int8 and (args.dataset or args.split or args.calibration or args.calibration_images is not None):
        raise ValueError(
            "--dataset, --split, --calibration and --calibration_images are what --int8 is calibrated on: pass it, "
            "too."
        )
    if args.calibration and (args.dataset or args.split):
        raise ValueError("--calibration stands for --dataset and --split: pass one or the other.")
    size = None if args.height is None else (args.height, args.width)
    settings = ExportSettings(args.format, args.dtype, args.int8, args.result, size)
    check_not_exported(args.checkpoint, "exported once more")
    model = load_model(args.checkpoint)
    image_processor = load_image_processor(args.checkpoint)
    batches = []
    if args.int8:
        if size is not None:
            fix_size(image_processor, size)
        if args.dataset:
            pictures = dataset_pictures(args.dataset, args.split, usual=TRAIN_SPLITS)
        else:
            pictures = find_pictures(args.calibration)
        count = NUM_CALIBRATION_IMAGES if args.calibration_images is None else args.calibration_images
        batches = calibration_batches(pictures, image_processor, count)
    export_model(model, image_processor, args.output, settings, batches, shown_name(args.checkpoint))
    print(f"{args.output}: {settings.format}, {settings.precision}, {settings.result}.")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser("export", __doc__)
    parser.add_argument("checkpoint", help="a folder, or a name on the Hub")
    parser.add_argument("output", type=Path, help="a folder that is empty or does not exist yet")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="f32", help="what the graph computes in (default: f32)")
    parser.add_argument("--int8", action="store_true", help="quantize: int8 where it can be, --dtype elsewhere")
    parser.add_argument("--dataset", help="with --int8: the dataset whose training images it is calibrated on")
    parser.add_argument("--split", help="the split of --dataset (default: the one that it is trained on, train*)")
    parser.add_argument("--calibration", nargs="+", help="instead of --dataset: files, and folders of pictures")
    parser.add_argument(
        "--calibration_images", type=int, help=f"how many are used (default: {NUM_CALIBRATION_IMAGES})"
    )
    parser.add_argument("--height", type=int, help="of all images, with --width; default: any size")
    parser.add_argument("--width", type=int)
    parser.add_argument(
        "--with", dest="result", choices=RESULTS[1:], default=RESULTS[0], help="the graph gives this finished result"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":  # python -m modeling_maskformer.commands.export
    main()
