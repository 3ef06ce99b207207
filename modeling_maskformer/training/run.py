"""One whole run: data and model from arguments, training, evaluation, and the files that are left of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch.utils.data import Subset
from transformers import set_seed
from transformers.image_processing_utils import BaseImageProcessor
from transformers.trainer_utils import has_length

from ..architectures import ARCHITECTURES
from ..data.check_samples import check_classes, check_dataset
from ..data.errors import DataError, WorkerError
from ..data.held_out import HeldOut, parts_of_run
from ..data.labels.label_set import LabelSet
from ..data.statistics import DataStatistics, found_text
from ..data.streams import some_of, stream_of
from ..data.views.augmentation import Augmentation
from ..data.views.collate import EvaluationCollator, SegmentationDataset, TrainingCollator
from ..data.views.copy_paste import choose_copy_paste
from ..data.views.worker_memory import problem_of_worker
from ..evaluation.error_analysis import SCORE_THRESHOLD, ErrorAnalysis
from ..evaluation.evaluator import Evaluator
from ..evaluation.image_ranking import spread_by_score
from ..evaluation.metrics.base import unique_labels
from ..evaluation.results import results_table, write_results
from ..files.error_text import first_line
from ..inference.loading import check_task, load_image_processor
from ..inference.pictures import draw_samples
from ..inference.predictor import Predictor
from .arguments.augmentation_arguments import AugmentationArguments
from .arguments.data_arguments import DataArguments
from .arguments.device_defaults import this_machine
from .arguments.model_arguments import ModelArguments
from .arguments.run_arguments import RunArguments
from .cards.card_data import card_data
from .cards.model_card import RunDescription
from .cards.training_plot import draw_training
from .early_stopping import EarlyStopping, was_ended_early
from .first_process import on_first_process
from .lone_views import check_lone_views
from .model_building import build_model, normalization_of
from .opening import TimeEstimate, chosen_text
from .saving.checkpoint_folders import last_checkpoint
from .saving.checkpointing import WRITE_ERRORS, EndOnSigterm, NotSavedError
from .saving.only_run import only_run_in
from .saving.output_folder import PICTURES_NAME, TakeFolder, goes_on, prepare_output_dir
from .saving.same_model import check_same_model
from .saving.same_optimizer import check_same_optimizer
from .trainer import MaskFormerTrainer

GO_ON = "go on with --resume_from_checkpoint last"

# of a checkpoint's image processor, what its weights expect of pixels
PIXEL_VALUES = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")


def prepare_training(
    data_arguments: DataArguments,
    model_arguments: ModelArguments,
    augmentation_arguments: AugmentationArguments,
    arguments: RunArguments,
    command: Sequence[str] = (),
) -> MaskFormerTrainer:
    """The trainer of a run, ready to go. Whatever can be checked before training is checked here.

    Nothing in the output folder is changed before the training starts.

    Args:
        data_arguments, model_arguments, augmentation_arguments, arguments: the settings.
        command: the program that they come from, as it was called, and its flags, for the model's card.

    Raises:
        ValueError, OSError: data, model or folder cannot be used; the message is a sentence.
    """
    task = data_arguments.task
    if task is None:
        raise ValueError("--task is needed: semantic, instance or panoptic.")
    check_task(ARCHITECTURES[model_arguments.find_architecture()].config_class, task)
    start_from = {"model": model_arguments.model, "backbone_weights": model_arguments.backbone_weights}
    prepare_output_dir(arguments, start_from)
    set_seed(arguments.seed)
    with arguments.main_process_first(desc="opening the dataset"):  # what takes long is then remembered for the others
        data = data_arguments.open(task)
    train, validation = data.train_and_validation(
        data_arguments.train_split, data_arguments.validation_split, data_arguments.validation_fraction, arguments.seed
    )
    if arguments.resume_from_checkpoint is not None:
        train, validation = parts_of_run((train, validation), arguments.resume_from_checkpoint)
    if stream_of(train) is not None:
        check_steps(arguments)
    copy_paste = choose_copy_paste(augmentation_arguments.copy_paste_probability, data, train)
    augmentation_arguments.copy_paste_probability = 0.0 if copy_paste is None else copy_paste.probability

    def check() -> tuple[DataStatistics, DataStatistics]:
        found = check_dataset(train, data_arguments.check_samples, "training images")
        check_classes(found.segments, data.labels, task)
        return found, check_dataset(validation, data_arguments.check_samples, "validation images")

    found, found_in_validation = on_first_process(check)
    held_out = None
    if isinstance(validation, Subset) and not goes_on(arguments):  # else it is kept from the run's beginning
        held_out = on_first_process(lambda: HeldOut.of(data.splits, validation))
    is_first = arguments.process_index == 0
    reason = model_arguments.choose_for(this_machine(arguments.use_cpu), max(found.num_segments, default=0))
    augmentation_arguments.choose_for(found.short_edge)
    num_images = len(train) if has_length(train) else sys.maxsize
    arguments.choose_for(num_images, from_checkpoint=model_arguments.model is not None)
    if is_first:
        measured = f"Measured on {len(validation):,} more." if has_length(validation) else "Both are streams."
        print(found_text(found, data.labels.names), measured)
        if reason is not None:
            print(f"No --backbone was named: {model_arguments.backbone} is taken, {reason}.", flush=True)
    model = build_model(model_arguments, data.labels.id2label, task, data.labels.dataset_ids)
    if arguments.resume_from_checkpoint is not None:
        check_same_model(model.config, Path(arguments.resume_from_checkpoint))
    if arguments.activation_checkpointing and not any(hasattr(m, "gradient_checkpointing") for m in model.modules()):
        raise ValueError("--activation_checkpointing has no effect: this model has no layers that can do it.")
    if arguments.smallest_batch(num_images) == 1:
        check_lone_views(model, augmentation_arguments.config(), found.sizes)
    if is_first:
        print(chosen_text(found, model, model_arguments, augmentation_arguments, arguments), flush=True)
    image_processor = build_image_processor(model_arguments, data_arguments, augmentation_arguments, data.labels)
    if copy_paste is not None:
        copy_paste = replace(copy_paste, max_segments=model.config.decoder_config.num_queries)
    callbacks = [TakeFolder(held_out), EndOnSigterm(), TimeEstimate()]
    if arguments.early_stopping_patience is not None:
        callbacks.append(EarlyStopping(arguments.early_stopping_patience))
    trainer = MaskFormerTrainer(
        model,
        arguments,
        image_processor=image_processor,
        train_dataset=SegmentationDataset(train, Augmentation(augmentation_arguments.config()), copy_paste),
        eval_dataset=SegmentationDataset(validation),
        data_collator=TrainingCollator(),
        eval_data_collator=EvaluationCollator(image_processor),
        evaluator=Evaluator(
            task,
            image_processor,
            data.labels.id2label,
            arguments.panoptic_threshold,
            max_detections=arguments.max_detections,
        ),
        callbacks=callbacks,
        run_description=RunDescription(
            data_arguments,
            model_arguments,
            augmentation_arguments,
            tuple(command),
            card_data(found, found_in_validation, unique_labels(data.labels.id2label)),
        ),
        shuffle_buffer=data_arguments.shuffle_buffer,
    )
    if arguments.resume_from_checkpoint is not None:
        check_same_optimizer(trainer.new_optimizer(model), Path(arguments.resume_from_checkpoint))
    return trainer


def check_steps(arguments: RunArguments) -> None:
    """Refuses arguments that count in epochs, of which nobody knows how long those of a stream are.

    Raises:
        ValueError: which arguments are needed instead.
    """
    if arguments.max_steps <= 0:
        raise ValueError("With --streaming nobody knows how long an epoch is: pass --max_steps.")
    for name in ("eval", "save"):
        if getattr(arguments, f"{name}_strategy") == "epoch":
            raise ValueError(
                f"With --streaming nobody knows when an epoch ends: pass --{name}_strategy steps and --{name}_steps, "
                f"or --{name}_strategy no."
            )


def run_training(trainer: MaskFormerTrainer) -> None:
    """Trains, evaluates and leaves everything in the output folder.

    There lie afterwards: the model and its image processor, ready for `from_pretrained` and `pipeline`; checkpoints;
    `train_results.json` and `eval_results.json`; the trainer's state; `pictures/` of evaluation images, best first;
    `training.png`, loss and metric over the steps; the model's card, `README.md`. How good the final model is stands
    in `trainer.evaluator.results`. `train_results.json` is written last: a run that is resumed and has it for its last
    step is finished, and nothing is changed.

    Raises:
        DataError: a sample that was not looked at before cannot be used; how to go on is said.
        FolderInUseError: another training writes into the output folder now, or has done so meanwhile.
        WorkerError: a process that reads images was lost or has no memory; how to go on is said.
        FloatingPointError: the loss is not finite.
        NotSavedError: a checkpoint, or what the run leaves in the end, could not be written.
    """
    folder = Path(trainer.args.output_dir)
    try:
        with only_run_in(folder):
            _train_and_evaluate(trainer, folder)
    except DataError as error:
        raise DataError(_met_in_training(error, trainer)) from error
    except (RuntimeError, MemoryError) as error:
        problem = problem_of_worker(error)
        if problem is None:
            raise
        again = "start anew" if last_checkpoint(folder) is None else GO_ON
        lower = "Lower --dataloader_num_workers (with 0 there are no such processes) or the batch sizes"
        raise WorkerError(f"{problem} {lower}, and {again}.") from error


def _met_in_training(error: DataError, trainer: MaskFormerTrainer) -> str:
    """What is wrong with a sample that training has come upon, and how to go on."""
    step = trainer.state.global_step
    if step == 0:
        return error.sentence
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    mend = f"Mend it, and {'start anew' if checkpoint is None else GO_ON}"
    return (
        f"{error.sentence} That was met after step {step}. {mend}; more --check_samples find others before training."
    )


def _train_and_evaluate(trainer: MaskFormerTrainer, output_dir: Path) -> None:
    if goes_on(trainer.args) and on_first_process(lambda: _is_finished(trainer, output_dir / "train_results.json")):
        print(f"The run in {output_dir} is finished: there is nothing to go on with.")
        return
    result = trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    with _saying_what_is_not_written(output_dir, WRITE_ERRORS):
        trainer.save_model()
        trainer.save_state()
    evaluator = trainer.evaluator
    evaluator.analysis = ErrorAnalysis(evaluator.task, trainer.model.config.id2label, num_worst=0)  # scores of images
    trainer.evaluate()
    if trainer.is_world_process_zero():
        try:  # before anything is said, which ends a program whose output nobody reads any more
            with _saying_what_is_not_written(output_dir, OSError):
                write_results(output_dir / "eval_results.json", evaluator.results)
                _draw_pictures(trainer, output_dir / PICTURES_NAME)
                metric = trainer.args.metric_for_best_model
                trainer.plot = draw_training(output_dir, trainer.state.log_history, metric)
                trainer.create_model_card()
                write_results(output_dir / "train_results.json", {"global_step": result.global_step, **result.metrics})
        finally:  # on a full disk the numbers are needed all the more
            print(results_table(evaluator.results), flush=True)
    if trainer.args.push_to_hub:  # what was pushed with the checkpoints had neither results nor pictures yet
        trainer.push_to_hub()


@contextmanager
def _saying_what_is_not_written(
    output_dir: Path, errors: type[Exception] | tuple[type[Exception], ...]
) -> Iterator[None]:
    """Turns errors of writing what a run that has made all its steps leaves into a sentence that says how to go on."""
    try:
        yield
    except errors as error:
        mend = GO_ON if last_checkpoint(output_dir) else "start anew"
        raise NotSavedError(
            f"All steps are made, but not all that a run leaves could be written to {output_dir}: "
            f"{first_line(error)}. Mend that, and {mend}."
        ) from error


def _draw_pictures(trainer: MaskFormerTrainer, folder: Path) -> None:
    """Draws evaluation images from the best to the worst, those of a stream, which come only once, in their order."""
    evaluator, samples, count = trainer.evaluator, trainer.eval_dataset.samples, trainer.args.num_pictures
    analysis = evaluator.analysis
    predictor = Predictor(
        trainer.model, trainer.processing_class, evaluator.task, evaluator.threshold or SCORE_THRESHOLD
    )
    if stream_of(samples) is None and analysis.scores:
        ranked = spread_by_score(analysis.scores, count)
        titles = [f"{analysis.score_name} {image.score:.2f}" for image in ranked]
        trainer.pictures = draw_samples(predictor, [samples[image.index] for image in ranked], folder, titles)
        captions = [image.caption(analysis.score_name) if image.name else None for image in ranked]
    else:
        trainer.pictures = draw_samples(predictor, [samples[key] for key in some_of(samples, count)], folder)
        captions = ["An image that it was measured on: not a chosen one, the first that was drawn."]
    pairs = zip(captions, trainer.pictures, strict=False)
    trainer.examples = {caption: picture for caption, picture in pairs if caption is not None}


def _is_finished(trainer: MaskFormerTrainer, results: Path) -> bool:
    """Whether these are the results of all steps that the run is to make, or of those before it was ended early."""
    if not results.is_file():
        return False
    if was_ended_early(Path(trainer.args.resume_from_checkpoint), trainer.args.early_stopping_patience):
        return True
    *_, max_steps = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    return json.loads(results.read_text(encoding="utf-8")).get("global_step", 0) >= max_steps


def build_image_processor(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    augmentation_arguments: AugmentationArguments,
    labels: LabelSet,
) -> BaseImageProcessor:
    """The processor to train with and to save: normalised as the weights expect it, and aware of what stuff is."""
    label_ids_to_fuse = labels.label_ids_to_fuse if data_arguments.task == "panoptic" else None
    if data_arguments.task == "semantic":  # panoptic results of a semantic model have one segment per class
        label_ids_to_fuse = list(range(len(labels)))
    settings = {
        "size": {
            "shortest_edge": augmentation_arguments.shortest_edge,
            "longest_edge": augmentation_arguments.longest_edge,
        },
        "size_divisor": 0,  # any size will do, so no image is stretched
        "ignore_index": data_arguments.ignore_index,
        "do_reduce_labels": False,
        "num_labels": len(labels),
        "label_ids_to_fuse": label_ids_to_fuse,
    }
    if model_arguments.model is None:
        mean, std = normalization_of(model_arguments.backbone)
        settings |= {"image_mean": list(mean), "image_std": list(std)}
    else:
        processor = load_image_processor(model_arguments.model)
        settings |= {name: getattr(processor, name) for name in PIXEL_VALUES}
    processor_class = ARCHITECTURES[model_arguments.find_architecture()].image_processor_class
    return processor_class(**settings)
