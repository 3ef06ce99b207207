"""A checkpoint of the original MaskFormer (model_final_xxx.pkl) -> a folder that from_pretrained loads.

    maskformer convert model_final_8657a5.pkl maskformer-swin-tiny-ade

The weights tell what the model is and which dataset it was trained on. Nothing in the file is executed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from image_processing import SegmentationImageProcessor

from ..architectures import ARCHITECTURES
from ..checkpoints import (
    DATASETS,
    PRESET_TASKS,
    Kind,
    Preset,
    find_preset,
    infer_architecture,
    load_weights,
    read_checkpoint,
)
from ..checkpoints.presets import PIXEL_MEAN, PIXEL_STD
from ..data.labels.label_files import read_named_ids
from ..data.labels.label_set import LabelSet, make_label_set
from ..exporting.export import check_output
from ..training.arguments.command_parser import CommandParser
from ..training.arguments.program_name import program_name


def main(arguments: Sequence[str] | None = None) -> None:
    """Converts the checkpoint that the command line names, or says in a sentence why not."""
    try:
        convert(parse_arguments(arguments))
    except (ValueError, OSError) as error:
        sys.exit(f"{program_name('convert')}: {error}")


def convert(args: argparse.Namespace) -> None:
    """Reads the checkpoint, and writes model and image processor."""
    check_output(args.output)
    weights = read_checkpoint(args.checkpoint)
    architecture = infer_architecture(weights)
    preset = find_preset(architecture, args.dataset, args.task)
    labels = make_label_set(read_named_ids(args.id2label)) if args.id2label else None
    model = load_weights(weights, architecture, labels.names if labels else None)
    model.config.segmentation_task = preset.task  # what everything that loads the folder does by default
    if labels and architecture.kind is Kind.MASKFORMER and labels.dataset_ids != tuple(range(len(labels))):
        model.config.category_ids = list(labels.dataset_ids)  # which files of results have, too
    model.save_pretrained(args.output)
    build_processor(architecture.kind, preset, labels).save_pretrained(args.output)
    print(
        f"{args.output}: {architecture.kind.value} for {preset.dataset} ({preset.task}), {architecture.num_labels} "
        f"classes, {model.num_parameters() / 1e6:.1f} million parameters."
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser("convert", __doc__)
    parser.add_argument("checkpoint", type=Path, help="a .pkl file of the original's model zoo")
    parser.add_argument("output", type=Path, help="a folder that is empty or does not exist yet")
    parser.add_argument(
        "--id2label",
        type=Path,
        help='JSON file with the names of the classes: {"0": "wall"}, ["wall"] or COCO\'s panoptic categories; '
        "without it they are called class_0, class_1, ...",
    )
    parser.add_argument("--dataset", choices=DATASETS, help="what it was trained on; default: told from the weights")
    parser.add_argument("--task", choices=PRESET_TASKS, help="default: told from the weights")
    return parser.parse_args(arguments)


def build_processor(kind: Kind, preset: Preset, labels: LabelSet | None) -> SegmentationImageProcessor:
    """The image processor that feeds a model as the original did, and reads annotations of its dataset."""
    fused = preset.label_ids_to_fuse
    if preset.task == "panoptic" and labels is not None and labels.label_ids_to_fuse is not None:
        fused = labels.label_ids_to_fuse
    return ARCHITECTURES[kind.name.lower()].image_processor_class(
        size={"shortest_edge": preset.shortest_edge, "longest_edge": preset.longest_edge},
        size_divisor=0,  # no image is stretched: the model pads, as the original does
        image_mean=[mean / 255 for mean in PIXEL_MEAN],
        image_std=[std / 255 for std in PIXEL_STD],
        ignore_index=preset.ignore_index,
        do_reduce_labels=preset.reduce_labels,
        num_labels=preset.num_labels,
        label_ids_to_fuse=None if fused is None else list(fused),
    )


if __name__ == "__main__":  # python -m modeling_maskformer.commands.convert
    main()
