"""Measures a MaskFormer or per-pixel checkpoint on a dataset: mean IoU, mask AP or PQ, of the whole and of each class.

    maskformer evaluate --model outputs/street --dataset data/street

The checkpoint is a folder or a name on the Hub, of this package or of transformers' MaskFormer. With --tta semantic
segmentation is measured at several scales and mirrored, as the paper's "multi-scale" results. With --sweep the images
are measured at several sizes, one after another, and the log says which is best. With --tile they are predicted in
tiles.
Several devices: accelerate launch -m modeling_maskformer.commands.evaluate ...
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from ..data.check_samples import check_dataset
from ..data.datasets import SegmentationData
from ..data.errors import DataError
from ..data.held_out import held_out_of, part
from ..data.labels.label_matching import RelabelledSamples, match_labels
from ..data.samples import SampleSource
from ..data.streams import stream_of
from ..data.views.collate import EvaluationCollator, SegmentationDataset, collate_images
from ..data.views.worker_memory import problem_of_worker
from ..evaluation.error_analysis import ErrorAnalysis
from ..evaluation.error_report import write_error_report
from ..evaluation.evaluator import Evaluator
from ..evaluation.image_size import resize_to_shortest_edge, sizes_to_try
from ..evaluation.report_files import check_files, errors_folder
from ..evaluation.results import nan_last, number_text, results_table, sweep_table, totals_of, write_results
from ..exporting.card import record_quality
from ..half_precision import slow_precision_text
from ..inference.exported_folder import check_flags
from ..inference.exported_model import ExportedSegmentationModel
from ..inference.loading import choose_task, load_image_processor, load_model
from ..inference.multi_scale import TtaArguments
from ..inference.predictor import Predictor
from ..inference.tiles.tiled_predictor import TileArguments
from ..training.arguments.argument_parser import ScriptArgumentParser
from ..training.arguments.arguments import MaskFormerTrainingArguments
from ..training.arguments.data_arguments import DatasetArguments
from ..training.arguments.device_defaults import default_num_workers, this_machine
from ..training.cards.card_text import shown_name
from ..training.first_process import leave_processes, on_first_process
from ..training.trainer import MaskFormerTrainer
from .broken_off import saying_when_broken_off
from .evaluation_arguments import EvaluationArguments

logger = logging.get_logger(__name__)

CHECK_ALL = "Nothing is measured. A larger --check_samples finds such images before the evaluation starts."


def main(argv: Sequence[str] | None = None) -> None:
    groups = (EvaluationArguments, DatasetArguments, TtaArguments, TileArguments)
    parser = ScriptArgumentParser(groups, (), __doc__, "evaluate")
    arguments, data_arguments, tta, tiles = parser.parse(argv)
    broken_off = f"{parser.prog}: The evaluation was broken off. Nothing is measured."
    try:
        with saying_when_broken_off(lambda: broken_off):
            trainer = prepare_evaluation(arguments, data_arguments, tta, tiles)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    sizes, analysis = arguments.shortest_edge or [None], trainer.evaluator.analysis
    reports, analyses = [], []
    try:
        with saying_when_broken_off(lambda: broken_off):
            for size in sizes:
                reports.append({**described(arguments, data_arguments, tta, tiles), **measure(trainer, size)})
                analyses.append(None if analysis is None else analysis.state())
    except DataError as error:  # numbers of the other images would be those of another dataset
        parser.exit(1, f"\n{parser.prog}: {error.sentence} {CHECK_ALL}\n")  # below the progress bar
    except (RuntimeError, MemoryError) as error:
        problem = problem_of_worker(error)
        if problem is None:
            raise
        lower = "Lower --num_workers (with 0 there are no such processes) or --batch_size"
        parser.exit(1, f"\n{parser.prog}: {problem} Nothing is measured. {lower}.\n")
    best = max(range(len(sizes)), key=lambda place: nan_last(reports[place][trainer.evaluator.main_metric]))
    report = reports[best]
    if trainer.is_world_process_zero():
        told, problem = [results_table(report)], None
        if len(reports) > 1:
            sweep = [totals_of(report) for report in reports]
            told += ["", sweep_table(sweep, trainer.evaluator.main_metric)]
            report |= {"sweep": sweep}
        path = arguments.path()
        try:  # before anything is said, which ends a program whose output nobody reads any more
            write_results(path, report)
            told.append(f"\nAll numbers are in {path}.")
            if isinstance(trainer.model, ExportedSegmentationModel):
                record_quality(Path(arguments.model), quality_text(report, trainer.evaluator.main_metric))
            if analysis is not None:
                analysis.reset()
                analysis.merge(analyses[best])
                told += ["", *write_error_report(errors_folder(path), analysis, trainer.eval_dataset.samples)]
        except (OSError, DataError) as error:  # a full disk, a picture that is gone
            problem = f"{parser.prog}: Not all of the evaluation is written: {error}\n"
        print(*told, sep="\n", flush=True)
        if problem is not None:
            parser.exit(1, problem)
    leave_processes()


def quality_text(report: dict[str, Any], metric: str) -> str:
    """The main metric of a report in words, and how it was measured where the folder by itself does otherwise."""
    measured = f"{report['num_images']} images of {shown_name(report['dataset'])}"
    told = [f"{metric} {number_text(report[metric])} on {measured}"]
    if "shortest_edge" in report:
        told.append(f"at a short edge of {report['shortest_edge']}")
    if "tta_scales" in report:
        told.append(f"at scales {', '.join(map(str, report['tta_scales']))}")
    if "tile" in report:
        told.append(f"in tiles of {report['tile']}")
    return ", ".join(told)


def described(
    arguments: EvaluationArguments, data_arguments: DatasetArguments, tta: TtaArguments, tiles: TileArguments
) -> dict[str, Any]:
    """What is measured, and how, for the report."""
    scales = {"tta_scales": tta.tta_scales, "tta_flip": tta.tta_flip} if tta.tta else {}
    in_tiles = {"tile": tiles.tile, "overlap": tiles.overlap} if tiles.tile else {}
    return {"model": arguments.model, "dataset": data_arguments.dataset, **scales, **in_tiles}


def measure(trainer: MaskFormerTrainer, shortest_edge: int | None) -> dict[str, Any]:
    """The results at one size; None: at that of the checkpoint."""
    if shortest_edge is not None:
        resize_to_shortest_edge(trainer.processing_class, shortest_edge)
    start = time.perf_counter()
    trainer.evaluate()
    seconds = time.perf_counter() - start
    evaluator = trainer.evaluator
    return {
        "task": evaluator.task,
        "num_images": evaluator.num_images,
        **({} if shortest_edge is None else {"shortest_edge": shortest_edge}),
        "seconds": round(seconds, 1),
        "images_per_second": round(evaluator.num_images / seconds, 2),
        **evaluator.results,
    }


def prepare_evaluation(
    arguments: EvaluationArguments, data_arguments: DatasetArguments, tta: TtaArguments, tiles: TileArguments
) -> MaskFormerTrainer:
    """A trainer that holds checkpoint and data and is ready to evaluate."""
    model = load_model(arguments.model, arguments.trust_remote_code)
    image_processor = load_image_processor(arguments.model)
    task = choose_task(model.config, data_arguments.task)
    tta.check_task(task)
    resizing = {"--tta": tta.tta, "--sweep": arguments.sweep, "--shortest_edge": arguments.shortest_edge}
    check_flags(model, arguments.dtype, arguments.compile, [flag for flag, given in resizing.items() if given])
    in_parts = tta.tta or tiles.tile is not None
    if arguments.mask_resize == "scores" and (task != "semantic" or in_parts):
        raise ValueError("--mask_resize scores is for semantic segmentation without --tta and --tile: leave it out.")
    if arguments.sweep:
        if arguments.shortest_edge:
            raise ValueError("--sweep chooses short edges itself: leave it out, or --shortest_edge.")
        arguments.shortest_edge = sizes_to_try(image_processor)
    for length in arguments.shortest_edge:  # a wrong one is found before hours of evaluation
        resize_to_shortest_edge(copy.deepcopy(image_processor), length)
    training_arguments = MaskFormerTrainingArguments(
        output_dir=tempfile.gettempdir(),  # nothing is written there
        per_device_eval_batch_size=arguments.batch_size,
        dataloader_num_workers=default_num_workers(this_machine(arguments.use_cpu))
        if arguments.num_workers is None
        else arguments.num_workers,
        bf16=arguments.dtype == "bfloat16",
        fp16=arguments.dtype == "float16",
        torch_compile=arguments.compile,
        use_cpu=arguments.use_cpu,
        report_to="none",
    )
    with_errors = arguments.num_pictures > 0
    on_first_process(lambda: check_files(arguments.path(), with_errors, arguments.overwrite))
    if slow := slow_precision_text(training_arguments.device, getattr(torch, arguments.dtype)):
        logger.warning(f"{slow}.")
    with training_arguments.main_process_first(desc="opening the dataset"):
        data = data_arguments.open(task)
    samples = samples_to_measure(data, data_arguments, arguments.model)
    learnt = getattr(model.config, "category_ids", None)
    class_ids = match_labels(model.config.id2label, data.labels, learnt, int(data_arguments.reduce_labels))
    on_first_process(lambda: check_dataset(samples, data_arguments.check_samples, "images"))
    if image_processor.label_ids_to_fuse is None and data.labels.label_ids_to_fuse is not None:
        image_processor.label_ids_to_fuse = [class_ids[label] for label in data.labels.label_ids_to_fuse]
    can_ask_again = stream_of(samples) is None  # of a stream no image can be asked for once more
    evaluator = Evaluator(
        task,
        image_processor,
        model.config.id2label,
        arguments.panoptic_threshold,
        arguments.mask_resize,
        ErrorAnalysis(task, model.config.id2label, arguments.num_pictures)
        if arguments.num_pictures and can_ask_again
        else None,
        arguments.max_detections,
    )

    def make_predictor(model: nn.Module) -> Callable[[list[Any]], list[Any]]:
        if tta.tta:
            predictor = tta.predictor_of(image_processor)(model)
        else:
            predictor = Predictor(model, image_processor, task, evaluator.threshold)
        return tiles.tiled(predictor, arguments.batch_size)

    return MaskFormerTrainer(
        model,
        training_arguments,
        image_processor=image_processor,
        eval_dataset=SegmentationDataset(RelabelledSamples(samples, class_ids)),
        eval_data_collator=collate_images if in_parts else EvaluationCollator(image_processor),
        evaluator=evaluator,
        make_predictor=make_predictor if in_parts else None,
    )


def samples_to_measure(data: SegmentationData, data_arguments: DatasetArguments, model: str) -> SampleSource:
    """The split asked for, the validation split, or else what the model's run has set aside of the training images."""
    if data_arguments.validation_split is not None or data.has_validation_split:
        return data.evaluation(data_arguments.validation_split)
    held_out = held_out_of(model)
    if held_out is None:
        logger.warning(
            "The dataset has no validation split, and the checkpoint does not say which images it was not trained on: "
            "all are measured, training images may be among them."
        )
        return data.evaluation()
    split = held_out.train_split if held_out.train_split in data.splits else data_arguments.train_split
    samples = data.training(split)
    found = held_out.find(samples)
    if not found.indices:
        image = f", '{found.missing}' for one" if found.missing else ""
        logger.warning(
            f"The dataset has no validation split, nor all images that the checkpoint's run has set aside{image}: all "
            "are measured. If the checkpoint was trained on this dataset, or on others with the same images, training "
            "images are among them."
        )
        return data.evaluation()
    count = len(found.indices)
    measured = "is the one image" if count == 1 else f"are the {count} images"
    logger.warning(f"Measured {measured} that the run has set aside.")
    return part(samples, found.indices)[1]


if __name__ == "__main__":  # accelerate launch -m modeling_maskformer.commands.evaluate
    main()
