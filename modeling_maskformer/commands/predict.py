"""Segments pictures with a MaskFormer or per-pixel checkpoint: overlays to look at, and files that other tools read.

    maskformer predict --model outputs/street --inputs photos/ portrait.jpg --output_dir predictions
    maskformer predict --model outputs/street --dataset data/street --split validation --output_dir predictions

Written are overlays, and: for semantic segmentation PNG images of class ids; for instance segmentation COCO JSON with
run-length encoded masks; for panoptic segmentation COCO PNG images and JSON. With --coco FILE these have the ids of
that file, and are scored against it: COCOeval(COCO("FILE"), COCO("predictions/instances.json"), "segm").
With --tta semantic segmentation is the mean of several scales and mirror images.
Pictures that cannot be read, segmented or written are left out and named at the end and, with the cause, in
failures.json; the exit code is 1 then. Each file appears when it is whole.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..data.coco_ids import CocoIds
from ..data.dataset_pictures import dataset_pictures
from ..inference.inputs import MAX_PIXELS, Picture, find_pictures
from ..inference.loading import category_ids_of, choose_task, load_image_processor, load_model
from ..inference.multi_scale import MultiScalePredictor, TtaArguments
from ..inference.predict_pictures import predict_pictures
from ..inference.predictor import DEFAULT_THRESHOLDS, Predictor, prepare_model
from ..inference.writer import ResultWriter
from ..training.arguments.argument_parser import ScriptArgumentParser
from ..training.arguments.device_defaults import default_num_workers, this_machine


@dataclass
class PredictionArguments:
    _argument_group_name = "prediction"

    model: str = field(metadata={"help": "Checkpoint: a folder, or a name on the Hub."})
    output_dir: str = field(metadata={"help": "Folder for overlays and results."})
    inputs: list[str] = field(default_factory=list, metadata={"help": "Picture files, and folders of pictures."})
    dataset: str | None = field(
        default=None,
        metadata={"help": "Instead of --inputs: a dataset, as for training; needs no annotations."},
    )
    split: str | None = field(default=None, metadata={"help": "Split of --dataset, if it has more than one."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of --dataset."})
    image_column: str | None = field(default=None, metadata={"help": "Its column of images. Default: found by name."})
    coco: str | None = field(
        default=None,
        metadata={
            "help": "COCO JSON file against which results will be scored: they take its ids of images (by file name) "
            "and of categories (by name). Default: the ids of --dataset, and those the checkpoint was trained on."
        },
    )
    task: Literal["semantic", "instance", "panoptic"] | None = field(
        default=None, metadata={"help": "What to predict. Default: what the checkpoint was trained for."}
    )
    threshold: float | None = field(
        default=None,
        metadata={"help": "Least score of a segment, in [0, 1]. Default: 0.5 for instance, 0.8 for panoptic."},
    )
    overlays: bool = field(default=True, metadata={"help": "Draw pictures with their segments."})
    max_pixels: int = field(
        default=MAX_PIXELS, metadata={"help": "Pictures of more pixels are left out: memory grows with them."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace results that are already there."})
    batch_size: int = field(default=1, metadata={"help": "Pictures that go through the model at once."})
    num_threads: int | None = field(
        default=None,
        metadata={
            "help": "Threads that read pictures ahead, and as many that draw and write results. Default: on a GPU by "
            "the CPU cores there are, on a CPU 1."
        },
    )
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "Compute in this precision; those of 16 bits are mixed precision."}
    )
    compile: bool = field(
        default=False,
        metadata={"help": "Compile the model (torch.compile): worth it for many pictures of few sizes."},
    )
    use_cpu: bool = field(default=False, metadata={"help": "Do not use a GPU that is there."})

    def __post_init__(self) -> None:
        if bool(self.inputs) == (self.dataset is not None):
            raise ValueError("Pass either --inputs (files and folders) or --dataset.")
        if self.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1, got {self.batch_size}.")
        if self.max_pixels < 1:
            raise ValueError(f"--max_pixels must be at least 1, got {self.max_pixels}.")
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError(f"--num_threads must be at least 1, got {self.num_threads}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold must lie in [0, 1], got {self.threshold}.")


def main(argv: Sequence[str] | None = None) -> None:
    parser = ScriptArgumentParser((PredictionArguments, TtaArguments), (), __doc__, "predict")
    arguments, tta = parser.parse(argv)
    try:
        pictures, predictor, writer = prepare_prediction(arguments, tta)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    start = time.perf_counter()
    failures = predict_pictures(pictures, predictor, writer, arguments.batch_size, arguments.num_threads)
    segmented = len(pictures) - len(failures)
    speed = segmented / (time.perf_counter() - start)
    print(f"{segmented} of {len(pictures)} pictures segmented ({speed:.2f} a second), results in {writer.folder}.")
    if failures:
        print("Left out:", *(f"  {failure.name}: {failure.cause}" for failure in failures), sep="\n", file=sys.stderr)
        sys.exit(1)


def prepare_prediction(
    arguments: PredictionArguments, tta: TtaArguments
) -> tuple[list[Picture], Predictor | MultiScalePredictor, ResultWriter]:
    """The pictures to read, what predicts them and what writes the results."""
    if arguments.dataset is None:
        pictures = find_pictures(arguments.inputs, arguments.max_pixels)
    else:
        pictures = dataset_pictures(
            arguments.dataset,
            arguments.split,
            arguments.dataset_config,
            arguments.image_column,
            arguments.max_pixels,
        )
    model = load_model(arguments.model)
    image_processor = load_image_processor(arguments.model)
    task = choose_task(model.config, arguments.task)
    tta.check_task(task)
    if task == "semantic" and arguments.threshold is not None:
        raise ValueError("--threshold has no meaning for semantic segmentation: every pixel gets its best class.")
    threshold = DEFAULT_THRESHOLDS[task] if arguments.threshold is None else arguments.threshold
    category_ids = category_ids_of(model.config)
    if arguments.coco is not None and task == "semantic":
        raise ValueError("--coco is for instance and panoptic results: semantic ones are images of class ids.")
    if arguments.coco is not None:
        ids = CocoIds(arguments.coco)
        pictures, category_ids = ids.pictures(pictures), ids.categories(model.config.id2label)
    stuff = image_processor.label_ids_to_fuse or ()
    writer = ResultWriter(
        Path(arguments.output_dir), task, model.config.id2label, stuff, arguments.overlays, category_ids
    )
    if not arguments.overwrite:
        writer.refuse_to_overwrite(picture.name for picture in pictures)
    machine = this_machine(arguments.use_cpu)
    if arguments.num_threads is None:
        arguments.num_threads = default_num_workers(machine) or 1
    prepare_model(model, "cuda" if machine.has_gpu else "cpu", arguments.dtype, arguments.compile)
    if tta.tta:
        return pictures, tta.predictor_of(image_processor)(model), writer
    return pictures, Predictor(model, image_processor, task, threshold), writer


if __name__ == "__main__":  # python -m modeling_maskformer.commands.predict
    main()
