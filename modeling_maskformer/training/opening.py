"""What a run says before it trains: what it will do, and after its first steps how long that will take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.statistics import DataStatistics, count_text, percent
from ..half_precision import slow_precision_text
from ..inference.loading import load_config
from .arguments.augmentation_arguments import AugmentationArguments
from .arguments.model_arguments import ModelArguments
from .arguments.run_arguments import RunArguments
from .cards.model_card import origin_of
from .hardware import duration, hardware

FIRST_STEPS = 2  # not measured: kernels are chosen and workers started
MEASURED_STEPS = 8


def chosen_text(
    found: DataStatistics,
    model: PreTrainedModel,
    model_arguments: ModelArguments,
    augmentation: AugmentationArguments,
    run: RunArguments,
) -> str:
    """One paragraph on what will be trained, how and how long, flags and defaults alike.

    Args:
        found: numbers of the training images.
        model: to be trained.
        model_arguments, augmentation, run: settled, nothing left open.
    """
    sentences = [
        f"Chosen: {origin_of(model_arguments)}, {model.num_parameters() / 1e6:.1f} million weights",
        *_classes_text(model, model_arguments),
        _sizes_text(augmentation),
        _length_text(run, found.num_images),
        f"{_precision_text(run)} on {hardware(run.device, run.world_size)}, {_workers_text(run)}",
    ]
    half = torch.bfloat16 if run.bf16 else torch.float16 if run.fp16 else torch.float32
    if slow := slow_precision_text(run.device, half):
        sentences.append(slow)
    queries = getattr(getattr(model.config, "decoder_config", None), "num_queries", None)
    if queries is not None and hasattr(model.config, "mask_loss"):  # in the baselines queries stand for classes
        most = max(found.num_segments, default=0)
        if most > queries:
            sentences.append(
                f"An image has {most} segments but the model {queries} queries: the others cannot be found "
                "(--num_queries, for a new model)"
            )
    return ". ".join(sentences) + "."


def _classes_text(model: PreTrainedModel, model_arguments: ModelArguments) -> list[str]:
    """A sentence where a checkpoint tells another number of classes, so that weights of their size begin anew."""
    if model_arguments.model is None:
        return []
    before, now = load_config(model_arguments.model).num_labels, model.config.num_labels
    return [f"The weights that tell classes apart are new: {now} here, {before} there"] if before != now else []


def _sizes_text(augmentation: AugmentationArguments) -> str:
    config = augmentation.config()
    if config.short_edges:
        low, high = min(config.short_edges), max(config.short_edges)
    else:
        low, high = (round(scale * min(config.crop_size)) for scale in config.scale_range)
    edges = f"a short edge of {low}" if low == high else f"short edges of {low} to {high}"
    views = "Whole images" if config.crop_size is None else f"Crops of {config.crop_size[0]}x{config.crop_size[1]}"
    if augmentation.copy_paste_probability:
        edges += f" (things of others pasted onto {percent(augmentation.copy_paste_probability)} of them)"
    return f"{views} at {edges} in training, whole images at {augmentation.shortest_edge} in evaluation"


def _length_text(run: RunArguments, num_images: int) -> str:
    steps = run.total_steps(num_images)
    epochs = f"{steps / run.steps_per_epoch(num_images):.3g}"
    epochs += " epoch" if epochs == "1" else " epochs"
    length = f"{count_text(steps, 'steps')} of {count_text(run.images_per_step, 'images')}, {epochs}"
    warm_up = count_text(run.get_warmup_steps(steps), "steps")
    rate = f"learning rate {run.learning_rate:g} after {warm_up} of warm-up"
    every = {"epoch": "after each epoch", "steps": f"every {run.eval_steps} steps", "no": "only at the end"}
    text = f"{length}, {rate}; measured {every[run.eval_strategy.value]}"
    if run.early_stopping_patience is not None:
        text += f", ended early after {count_text(run.early_stopping_patience, 'evaluations')} without a better one"
    if run.ema_decay is not None:
        text += f"; the weights are averaged over steps (decay {run.ema_decay:g})"
    return text


def _precision_text(run: RunArguments) -> str:
    return "bfloat16 where it is safe" if run.bf16 else "float16 where it is safe" if run.fp16 else "float32"


def _workers_text(run: RunArguments) -> str:
    count = run.dataloader_num_workers
    readers = {0: "the same process", 1: "another process"}.get(count, f"{count} processes")
    return f"images are read by {readers}"


class TimeEstimate(TrainerCallback):
    """Prints where a resumed run goes on; after some steps and after the first evaluation, how long the rest takes.

    Args:
        clock: gives seconds.
        say: is given the sentences.
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, say: Callable[[str], None] = tqdm.write
    ) -> None:
        self._clock = clock
        self._say = say
        self._last: float | None = None  # when the last step ended, or this one began
        self._seconds: list[float] = []  # of steps, without evaluations
        self._evaluation: float | None = None  # seconds
        self._is_estimated = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_) -> None:
        if state.global_step and state.is_world_process_zero:
            steps = f"step {state.global_step:,} of {state.max_steps:,}"
            self._say(f"Going on from {args.resume_from_checkpoint}, after {steps}.")

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_) -> None:
        if self._last is None:
            self._last = self._clock()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_) -> None:
        now = self._clock()
        if self._last is not None:
            self._seconds.append(now - self._last)
        self._last = now
        if len(self._seconds) == FIRST_STEPS + MEASURED_STEPS and not self._is_estimated:
            self._is_estimated = True
            if state.is_world_process_zero:
                more = "" if args.eval_strategy == "no" else ", and evaluations besides"
                self._say(f"Some {duration(self._steps_left(state))} to go for {state.max_steps:,} steps{more}.")

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_) -> None:
        if self._last is not None and self._evaluation is None:
            self._evaluation = self._clock() - self._last
            every = state.eval_steps if args.eval_strategy == "steps" else state.max_steps / state.num_train_epochs
            evaluations = math.ceil((state.max_steps - state.global_step) / every)
            if state.is_world_process_zero and evaluations and len(self._seconds) > FIRST_STEPS:
                left = self._steps_left(state) + evaluations * self._evaluation
                evaluation = duration(self._evaluation)
                self._say(f"An evaluation takes {evaluation}: with those to come, some {duration(left)} to go.")
        self._last = None  # what passes until the next step is no step

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_) -> None:
        self._last = None

    def _steps_left(self, state: TrainerState) -> float:
        """Seconds that the steps to come will take."""
        measured = self._seconds[FIRST_STEPS:]
        return (state.max_steps - state.global_step) * sum(measured) / len(measured)
