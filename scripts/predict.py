"""Segments pictures with a MaskFormer or per-pixel checkpoint: overlays to look at, and files that other tools read.

    python scripts/predict.py --model outputs/street --inputs photos/ portrait.jpg --output_dir predictions
    python scripts/predict.py --model outputs/street --dataset data/street --split validation --output_dir predictions

Written are overlays, and: for semantic segmentation PNG images of class ids; for instance segmentation COCO JSON with
run-length encoded masks; for panoptic segmentation COCO PNG images and JSON.
With --tta semantic segmentation is the mean of several scales and mirror images.
Pictures that cannot be read are left out and named at the end; the exit code is 1 then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from tqdm.auto import tqdm

from modeling_maskformer.data.dataset_pictures import dataset_pictures
from modeling_maskformer.inference.inputs import Picture, find_pictures
from modeling_maskformer.inference.loading import check_task, load_image_processor, load_model, task_of
from modeling_maskformer.inference.multi_scale import MultiScalePredictor, TtaArguments
from modeling_maskformer.inference.predictor import Predictor
from modeling_maskformer.inference.writer import ResultWriter
from modeling_maskformer.training.arguments.argument_parser import ScriptArgumentParser

DEFAULT_THRESHOLDS = {"semantic": 0.0, "instance": 0.5, "panoptic": 0.8}


@dataclass
class PredictionArguments:
    _argument_group_name = "prediction"

    model: str = field(metadata={"help": "Checkpoint: a folder, or a name on the Hub."})
    output_dir: str = field(metadata={"help": "Folder for overlays and results."})
    inputs: list[str] = field(default_factory=list, metadata={"help": "Picture files, and folders of pictures."})
    dataset: str | None = field(
        default=None,
        metadata={"help": "Instead of --inputs: a dataset, as for scripts/train.py; needs no annotations."},
    )
    split: str | None = field(default=None, metadata={"help": "Split of --dataset, if it has more than one."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of --dataset."})
    image_column: str | None = field(default=None, metadata={"help": "Its column of images. Default: found by name."})
    task: Literal["semantic", "instance", "panoptic"] | None = field(
        default=None, metadata={"help": "What to predict. Default: what the checkpoint was trained for."}
    )
    threshold: float | None = field(
        default=None,
        metadata={"help": "Least score of a segment, in [0, 1]. Default: 0.5 for instance, 0.8 for panoptic."},
    )
    overlays: bool = field(default=True, metadata={"help": "Draw pictures with their segments."})
    overwrite: bool = field(default=False, metadata={"help": "Replace results that are already there."})
    batch_size: int = field(default=1, metadata={"help": "Pictures that go through the model at once."})
    use_cpu: bool = field(default=False, metadata={"help": "Do not use a GPU that is there."})

    def __post_init__(self) -> None:
        if bool(self.inputs) == (self.dataset is not None):
            raise ValueError("Pass either --inputs (files and folders) or --dataset.")
        if self.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1, got {self.batch_size}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold must lie in [0, 1], got {self.threshold}.")


def main(argv: Sequence[str] | None = None) -> None:
    parser = ScriptArgumentParser((PredictionArguments, TtaArguments), description=__doc__)
    arguments, tta = parser.parse(argv)
    try:
        pictures, predictor, writer = prepare_prediction(arguments, tta)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    failures = predict(pictures, predictor, writer, arguments.batch_size)
    print(f"{len(pictures) - len(failures)} of {len(pictures)} pictures segmented, results in {writer.folder}.")
    if failures:
        print("Left out:", *(f"  {name}: {reason}" for name, reason in failures.items()), sep="\n", file=sys.stderr)
        sys.exit(1)


def prepare_prediction(
    arguments: PredictionArguments, tta: TtaArguments
) -> tuple[list[Picture], Predictor | MultiScalePredictor, ResultWriter]:
    """The pictures to read, what predicts them and what writes the results."""
    if arguments.dataset is None:
        pictures = find_pictures(arguments.inputs)
    else:
        pictures = dataset_pictures(
            arguments.dataset, arguments.split, arguments.dataset_config, arguments.image_column
        )
    model = load_model(arguments.model)
    image_processor = load_image_processor(arguments.model)
    task = arguments.task or task_of(model.config)
    if task is None:
        raise ValueError("The checkpoint does not say what it was trained for: pass --task.")
    check_task(type(model.config), task)
    tta.check_task(task)
    if task == "semantic" and arguments.threshold is not None:
        raise ValueError("--threshold has no meaning for semantic segmentation: every pixel gets its best class.")
    threshold = DEFAULT_THRESHOLDS[task] if arguments.threshold is None else arguments.threshold
    stuff = image_processor.label_ids_to_fuse or ()
    writer = ResultWriter(Path(arguments.output_dir), task, model.config.id2label, stuff, arguments.overlays)
    if not arguments.overwrite:
        writer.refuse_to_overwrite(picture.name for picture in pictures)
    if torch.cuda.is_available() and not arguments.use_cpu:
        model.to("cuda")
    if tta.tta:
        return pictures, tta.predictor_of(image_processor)(model), writer
    return pictures, Predictor(model, image_processor, task, threshold), writer


def predict(
    pictures: Sequence[Picture], predictor: Predictor | MultiScalePredictor, writer: ResultWriter, batch_size: int
) -> dict[str, str]:
    """Predicts and writes every picture that can be read; name -> reason of those that cannot."""
    failures: dict[str, str] = {}
    with tqdm(total=len(pictures), desc="Segmenting", unit="picture") as progress:
        for start in range(0, len(pictures), batch_size):
            batch = list(read(pictures[start : start + batch_size], failures))
            predictions = predictor([image for _, image in batch]) if batch else []
            for (picture, image), prediction in zip(batch, predictions, strict=True):
                writer.write(picture, image, prediction)
            progress.update(min(batch_size, len(pictures) - start))
    writer.close()
    return failures


def read(pictures: Sequence[Picture], failures: dict[str, str]) -> Iterator[tuple[Picture, Image.Image]]:
    """The pictures with what they show; those that cannot be read go to `failures`, with the reason."""
    for picture in pictures:
        try:
            yield picture, picture.load()
        except (OSError, ValueError) as error:
            failures[picture.name] = str(error)


if __name__ == "__main__":
    main()
