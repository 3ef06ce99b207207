"""Segments pictures with a MaskFormer or per-pixel checkpoint: overlays to look at, and files that other tools read.

    maskformer predict --model outputs/street --inputs photos/ portrait.jpg --output_dir predictions
    maskformer predict --model outputs/street --dataset data/street --split validation --output_dir predictions

Written are overlays, and: for semantic segmentation PNG images of class ids; for instance segmentation COCO JSON with
run-length encoded masks; for panoptic segmentation COCO PNG images and JSON. With --coco FILE these have the ids of
that file, and are scored against it: COCOeval(COCO("FILE"), COCO("predictions/instances.json"), "segm"). Add
--threshold 0 for that: average precision counts segments of any score.
With --tile pictures of any size are segmented in tiles, in little memory.
With --tta semantic segmentation is the mean of several scales and mirror images.
Pictures that cannot be read, segmented or written are left out and named at the end and, with the cause, in
failures.json; the exit code is 1 then. Each file appears when it is whole.
What is done is also recorded, picture by picture, in the folder records/: a run that ended early goes on with
--resume, which tries again what failed. Several processes share the pictures, as accelerate launch or torchrun start
them; the first one joins their results at the end: accelerate launch -m modeling_maskformer.commands.predict ...
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from accelerate import PartialState

from ..data.coco_ids import CocoIds
from ..data.dataset_pictures import dataset_pictures
from ..inference.exported_folder import check_flags
from ..inference.inputs import MAX_PIXELS, MAX_TILED_PIXELS, Picture, find_pictures
from ..inference.loading import category_ids_of, choose_task, load_image_processor, load_model
from ..inference.multi_scale import TtaArguments
from ..inference.prediction_run.predict_pictures import FullDiskError, predict_pictures
from ..inference.prediction_run.processes import LostProcessError, device_of, join_processes, wait_for_all
from ..inference.prediction_run.records import RecordFile, Records
from ..inference.prediction_run.run import clear_results, digest_of, join_results, pictures_to_do, start_run
from ..inference.prediction_run.writer import ResultWriter
from ..inference.predictor import DEFAULT_THRESHOLDS, Predictor, prepare_model
from ..inference.result_names import FAILURES, RECORDS
from ..inference.tiles.tiled_predictor import TileArguments, TiledPredictor, TilePredictor
from ..training.arguments.argument_parser import ScriptArgumentParser
from ..training.arguments.device_defaults import default_num_workers, this_machine
from ..training.first_process import on_first_process

MAX_NAMED = 20  # pictures named at the end


@dataclass
class PredictionArguments:
    _argument_group_name = "prediction"

    model: str = field(metadata={"help": "Checkpoint: a folder, or a name on the Hub."})
    output_dir: str = field(metadata={"help": "Folder for overlays and results."})
    inputs: list[str] = field(
        default_factory=list,
        metadata={"help": "Picture files, and folders of pictures, in which results of predictions are left out."},
    )
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
            "and of categories (by name), and pictures of other sizes are left out. Default: the ids of --dataset, "
            "and those the checkpoint was trained on."
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
    max_pixels: int | None = field(
        default=None,
        metadata={
            "help": "Pictures of more pixels are left out: memory grows with them. Default: 100 million, and with "
            "--tile ten times as many."
        },
    )
    overwrite: bool = field(
        default=False,
        metadata={"help": "Replace results that are already there: those of the run in --output_dir go first."},
    )
    resume: bool = field(
        default=False,
        metadata={
            "help": "Go on with the run in --output_dir, if there is one: leave out pictures whose results are whole, "
            "try again those that failed, and make anew the results of pictures that were replaced since."
        },
    )
    batch_size: int = field(default=1, metadata={"help": "Pictures, or tiles, that go through the model at once."})
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
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Open an exported folder of format torch, which holds pickled code."}
    )

    def __post_init__(self) -> None:
        if bool(self.inputs) == (self.dataset is not None):
            raise ValueError("Pass either --inputs (files and folders) or --dataset.")
        if self.resume and self.overwrite:
            raise ValueError("--resume goes on with a run, --overwrite replaces it: pass one of them.")
        if self.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1, got {self.batch_size}.")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise ValueError(f"--max_pixels must be at least 1, got {self.max_pixels}.")
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError(f"--num_threads must be at least 1, got {self.num_threads}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold must lie in [0, 1], got {self.threshold}.")


@dataclass
class Prediction:
    """What a run works with.

    Attributes:
        pictures: all of them, whichever process has them.
        predictor: pictures -> predictions.
        writer: writes results.
        state: which of the processes this is.
        run: which start of this run this is, counted from 1.
    """

    pictures: Sequence[Picture]
    predictor: TilePredictor | TiledPredictor
    writer: ResultWriter
    state: PartialState
    run: int


def main(argv: Sequence[str] | None = None) -> None:
    parser = ScriptArgumentParser((PredictionArguments, TtaArguments, TileArguments), (), __doc__, "predict")
    arguments, tta, tiles = parser.parse(argv)
    try:
        prediction = prepare_prediction(arguments, tta, tiles)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    start = time.perf_counter()
    pictures, writer, state = prediction.pictures, prediction.writer, prediction.state
    before = Records(writer.folder / RECORDS)
    share = pictures_to_do(pictures, before, writer, state.process_index, state.num_processes)
    records = RecordFile(writer.folder / RECORDS, prediction.run, state.process_index)
    problem, again = "", 0
    try:
        again = clear_results(share, before, writer, records)
        is_first = state.is_main_process
        at_once = arguments.batch_size if tiles.tile is None else 1
        predict_pictures(share, prediction.predictor, writer, records, at_once, arguments.num_threads, is_first)
        wait_for_all(state)
    except KeyboardInterrupt:
        problem = "The run was broken off."
    except (FullDiskError, LostProcessError) as error:
        problem = str(error)
    except OSError as error:
        problem = f"{error}."
    records.close()
    if problem:
        problem += " What is done is kept: go on with --resume."
    if not state.is_main_process:
        sys.exit(problem or None)
    try:
        totals = join_results(writer, pictures)
    except OSError as error:
        sys.exit(f"{problem or error} The results are not joined yet: {error}.")
    now = totals.done - (before.num_done - again)
    speed = f" ({now / (time.perf_counter() - start):.2f} a second)" if now > 0 else ""
    print(f"{totals.done} of {len(pictures)} pictures segmented{speed}, results in {writer.folder}.")
    if totals.failed:
        first = json.loads((writer.folder / FAILURES).read_text(encoding="utf-8"))[:MAX_NAMED]
        more = [f"  ... and {totals.failed - MAX_NAMED} more, in {FAILURES}"] if totals.failed > MAX_NAMED else []
        print("Left out:", *(f"  {each['name']}: {each['cause']}" for each in first), *more, sep="\n", file=sys.stderr)
    if problem:
        sys.exit(problem)
    if totals.failed:
        sys.exit(1)


def prepare_prediction(arguments: PredictionArguments, tta: TtaArguments, tiles: TileArguments) -> Prediction:
    """The pictures to read, what predicts them and what writes the results, in a folder that is ready for them."""
    if arguments.max_pixels is None:
        arguments.max_pixels = MAX_PIXELS if tiles.tile is None else MAX_TILED_PIXELS
    if arguments.dataset is None:
        pictures = find_pictures(arguments.inputs, arguments.max_pixels, arguments.output_dir)
    else:
        pictures = dataset_pictures(
            arguments.dataset,
            arguments.split,
            arguments.dataset_config,
            arguments.image_column,
            arguments.max_pixels,
        )
    model = load_model(arguments.model, arguments.trust_remote_code)
    image_processor = load_image_processor(arguments.model)
    task = choose_task(model.config, arguments.task)
    tta.check_task(task)
    check_flags(model, arguments.dtype, arguments.compile, ["--tta"] if tta.tta else [])
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
    summary = writer.folder / writer.summary
    if arguments.coco is not None and os.path.realpath(arguments.coco) == os.path.realpath(summary):
        raise ValueError(f"The results would replace {summary}, the file of --coco: choose another --output_dir.")
    machine = this_machine(arguments.use_cpu)
    state = join_processes(machine.has_gpu)
    scales = [tta.tta_scales, tta.tta_flip] if tta.tta else None
    settings = {"model": digest_of(model, image_processor), "task": task, "threshold": threshold, "scales": scales}
    settings |= {"dtype": arguments.dtype, "categories": writer.categories}
    if tiles.tile is not None:
        settings["tiles"] = [tiles.tile, tiles.overlap]
    run = on_first_process(lambda: start_run(writer, pictures, settings, arguments.resume, arguments.overwrite))
    if arguments.num_threads is None:
        arguments.num_threads = default_num_workers(machine) or 1
    prepare_model(model, device_of(state) if machine.has_gpu else "cpu", arguments.dtype, arguments.compile)
    predictor = tta.predictor_of(image_processor)(model) if tta.tta else None
    predictor = predictor or Predictor(model, image_processor, task, threshold)
    return Prediction(pictures, tiles.tiled(predictor, arguments.batch_size), writer, state, run)


if __name__ == "__main__":  # python -m modeling_maskformer.commands.predict
    main()
