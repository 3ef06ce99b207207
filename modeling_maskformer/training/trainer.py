"""MaskFormerTrainer: transformers' Trainer with MaskFormer's loss, optimizer, schedule and streamed evaluation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, TrainerCallback, get_scheduler
from transformers.image_processing_utils import BaseImageProcessor
from transformers.trainer_utils import SchedulerType

from ..data.views.collate import PixelNormalization, SegmentationDataset
from ..data.views.view_sampler import ViewSampler
from ..evaluation.evaluator import Evaluator
from ..losses.totals import as_bits
from .arguments.arguments import MaskFormerTrainingArguments
from .batches import NUM_IMAGES, cut, out_of_graph, targets_of
from .cards.model_card import RunDescription, trained_model_card, write_card
from .divergence import DivergenceWatch
from .evaluating import EvaluatingTrainer
from .optimizer import parameter_groups, poly_schedule, step_schedule
from .throughput import Throughput

_AUXILIARY_LOSS = re.compile(r"_\d+$")  # the loss parts of intermediate decoder layers end in the layer's number


class MaskFormerTrainer(EvaluatingTrainer):
    """Trains and evaluates a MaskFormer for any of the three tasks: only the evaluator knows which one it is.

    Training batches hold what `model.forward` takes, and may hold the samples' `names`. Evaluation batches hold
    `pixel_values`, `pixel_mask` and `references`, the list of each image's `Segments` at its original size; with
    `args.eval_loss` also the targets `segment_ids` and `class_labels`. With `make_predictor` they hold `images` and
    `references` only.

    Args:
        model: the model to train.
        args: see `MaskFormerTrainingArguments`. Where `metric_for_best_model` is not set, it becomes the evaluator's.
        train_dataset: rows for `data_collator`.
        eval_dataset: rows for `eval_data_collator`.
        data_collator: list of rows -> training batch; uint8 pixels are normalised on the device, as `image_processor`
            does it.
        eval_data_collator: list of rows -> evaluation batch.
        image_processor: saved with every checkpoint, so that each can be loaded by `pipeline`.
        evaluator: turns outputs into predictions and measures them. Needed only to evaluate.
        make_predictor: model -> callable from a batch's `images` to their predictions, for evaluation where one
            forward pass does not make a prediction, as with test-time augmentation.
        callbacks: as in `transformers.Trainer`.
        run_description: what the model's card says beyond what the trainer knows.
        shuffle_buffer: rows of a stream among which the next is drawn.

    Raises:
        ValueError: `args.metric_for_best_model` is nothing that is measured, or `args.eval_loss` cannot be.

    Attributes:
        pictures: files in the output folder that show predictions.
        examples: caption -> picture, of those that the model's card shows.
        plot: file in the output folder that shows how the training went, for the card.
    """

    args: MaskFormerTrainingArguments

    def __init__(
        self,
        model: PreTrainedModel,
        args: MaskFormerTrainingArguments,
        *,
        image_processor: BaseImageProcessor,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        eval_data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        evaluator: Evaluator | None = None,
        make_predictor: Callable[[nn.Module], Callable[[list[Any]], list[Any]]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        run_description: RunDescription | None = None,
        shuffle_buffer: int = 1000,
    ) -> None:
        if make_predictor is not None and args.eval_loss:
            raise ValueError("eval_loss is the loss of one forward pass, which a predictor of its own does not have.")
        if evaluator is not None:
            if args.metric_for_best_model is None:
                args.metric_for_best_model = evaluator.main_metric
                args.greater_is_better = True
            elif not isinstance(eval_dataset, Mapping):  # of several sets each has names of its own
                _check_metric(args, evaluator)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=image_processor,
            callbacks=callbacks,
        )
        self.get_optimizer_cls_and_kwargs(args, model)  # says now, not after the first batch, which package is missing
        self.eval_data_collator = eval_data_collator
        self.evaluator = evaluator
        self.make_predictor = make_predictor
        self.run_description = run_description
        self.pictures: Sequence[Path] = ()
        self.examples: Mapping[str, Path] = {}
        self.plot: Path | None = None
        self.loss_is_scaled_for_ga = False  # the model's loss is a mean over its batch
        self._normalize: PixelNormalization | None = None
        self.shuffle_buffer = shuffle_buffer
        self._throughput = Throughput()
        self._loss_parts: dict[str, Tensor] = {}  # sums since the last log
        self._num_loss_parts = 0
        add_up = self.accelerator.reduce if args.world_size > 1 else None
        self._watch = DivergenceWatch(Path(args.output_dir), args.process_index, scaled=args.fp16, add_up=add_up)
        self._batch: tuple[int, int, dict[str, Any], Sequence[str]] = (-1, 0, {}, ())  # step, number in it, names

    # Optimizer and schedule

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer that `args.optim` names (AdamW by default) on the parameter groups of the recipes."""
        if self.optimizer is None:
            self.optimizer = self.new_optimizer(self.model if model is None else model)
        return self.optimizer

    def new_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """One that has made no step, which the trainer does not keep."""
        groups = parameter_groups(
            model,
            learning_rate=self.args.learning_rate,
            weight_decay=self.args.weight_decay,
            backbone_lr_factor=self.args.backbone_lr_factor,
            decay_norms_and_embeddings=self.args.decay_norms_and_embeddings,
        )
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        return optimizer_class(groups, **options)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The poly schedule, the step schedule, or one of transformers': see `args.lr_scheduler_type`.

        Those that follow the metric are told whether more of it is better: they would take it for a loss.
        """
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            args = self.args
            warmup = {"warmup_steps": args.get_warmup_steps(num_training_steps), "warmup_factor": args.warmup_factor}
            if args.lr_scheduler_type == SchedulerType.POLYNOMIAL:
                self.lr_scheduler = poly_schedule(optimizer, num_training_steps, args.poly_power, **warmup)
            elif args.lr_scheduler_type == SchedulerType.CONSTANT_WITH_WARMUP:
                milestones = args.milestones_in_steps(num_training_steps)
                self.lr_scheduler = step_schedule(optimizer, milestones, args.lr_gamma, **warmup)
            elif args.lr_scheduler_type in (SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY):
                settings = {"mode": "max" if args.greater_is_better else "min"} | (args.lr_scheduler_kwargs or {})
                self.lr_scheduler = get_scheduler(
                    args.lr_scheduler_type, optimizer, scheduler_specific_kwargs=settings
                )
            else:
                return super().create_scheduler(num_training_steps, optimizer)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_learning_rate(self) -> float:
        """What is logged: the learning rate of the head, which `args.learning_rate` is; the backbone's follows it."""
        heads = [group for group in self.optimizer.param_groups if group.get("name", "").startswith("head")]
        return float(heads[0]["lr"]) if heads else super()._get_learning_rate()

    # Data

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """For a `SegmentationDataset`, one that gives each image the seed of its view; else transformers' own."""
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        strategy = self.args.train_sampling_strategy
        if not isinstance(train_dataset, SegmentationDataset) or strategy not in ("random", "sequential"):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ViewSampler(
            len(train_dataset), seed, epoch=lambda: int(self.state.epoch or 0), shuffle=strategy == "random"
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | int | None]:
        """The batches of one optimizer step, without images that only fill up the last one of an epoch.

        Beside them the means over all batches and processes of what their losses are divided by. How long the batches
        let the step wait is measured.
        """
        with self._throughput.waiting():
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        sizes = [len(batch["pixel_values"]) for batch in batches]
        counts = [*sizes[:-1], self._num_unseen(sizes[-1])] if batches else []
        batches = [cut(*batch) for batch in zip(batches, sizes, counts, strict=True)]
        self._throughput.count(self.args.world_size * sum(batch[NUM_IMAGES] for batch in batches))
        return batches, self._loss_normalizers(batches)

    def _loss_normalizers(self, batches: Sequence[dict[str, Any]]) -> Tensor | None:
        """The means over all processes and batches of a step of what losses are divided by; None: of its one batch."""
        count = getattr(self.model, "loss_normalizers", None)
        num_parts = self.args.world_size * len(batches)
        if num_parts <= 1 or count is None:
            return None
        totals = [count(**targets_of(batch)) * min(batch[NUM_IMAGES], 1) for batch in batches]
        return self.accelerator.reduce(sum(totals), reduction="sum") / num_parts

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        control = self.control
        if control.should_log or control.should_save or control.should_evaluate or control.should_training_stop:
            self._watch.check_all()
        with self._throughput.stopped():
            super()._maybe_log_save_evaluate(*args, **kwargs)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The batch on the model's device; pixels that came as uint8 are normalised there."""
        inputs = super()._prepare_inputs(inputs)
        if inputs["pixel_values"].dtype == torch.uint8:
            self._normalize = self._normalize or PixelNormalization(self.processing_class)
            inputs["pixel_values"] = self._normalize(inputs["pixel_values"], inputs.get("pixel_mask"))
        return inputs

    # Loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward of one batch; its loss.

        Raises:
            FloatingPointError: this loss, or one before it, is not finite; step, batch and samples are named, and the
                batch is saved.
        """
        batch = {name: value for name, value in inputs.items() if name != "names"}
        step, number = self.state.global_step, self._batch[1] + 1 if self._batch[0] == self.state.global_step else 1
        content = {name: value for name, value in batch.items() if name != NUM_IMAGES}
        self._batch = (step, number, content, inputs.get("names", ()))
        try:
            loss = super().training_step(model, batch, num_items_in_batch)
        except FloatingPointError as error:
            self._watch.refuse(str(error), *self._batch)
        self._watch.add("loss", loss, *self._batch)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None:
            self._watch.add("gradient", torch.as_tensor(norm), *self._batch)
        self._watch.end_step(self.args.device)
        return norm

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The model's own loss; its parts are kept, summed, for the next log."""
        counts = min(inputs.pop(NUM_IMAGES, 1), 1)  # 0: the images only fill up, as others wait for a loss
        normalizers = {} if num_items_in_batch is None else {"loss_normalizers": as_bits(num_items_in_batch)}
        if self.args.torch_compile:
            inputs = out_of_graph(inputs)
        outputs = model(**inputs, **normalizers)
        loss = outputs["loss"]
        if loss is None:
            raise ValueError(f"The model returned no loss for a training batch of {sorted(inputs)}.")
        loss = loss * counts
        if model.training:
            for name, value in (outputs["loss_dict"] or {}).items():
                if _AUXILIARY_LOSS.search(name):
                    name = _AUXILIARY_LOSS.sub("_auxiliary", name)
                value = counts * value.detach().float().mean()
                self._loss_parts[name] = self._loss_parts.get(name, torch.zeros_like(value)) + value
            self._num_loss_parts += 1
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs `logs` and, beside a training loss, the mean of each loss part and the speed since the last one."""
        if "loss" in logs and self._num_loss_parts:
            if names := sorted(self._loss_parts):  # a loss may have none
                means = torch.stack([self._loss_parts[name] for name in names]) / self._num_loss_parts
                means = self.accelerator.reduce(means, reduction="mean")
                logs.update(zip(names, means.tolist(), strict=True))
            logs.update(self._throughput.report())
            self._loss_parts, self._num_loss_parts = {}, 0
        super().log(logs, start_time)

    # Model card

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | Sequence[str] | None = None,
        model_name: str | None = None,
    ) -> None:
        """Writes README.md into the output folder: see `trained_model_card`. One that is not ours stays as it is."""
        if self.is_world_process_zero():
            write_card(Path(self.args.output_dir), trained_model_card(self, language, license, tags, model_name))


def _check_metric(args: MaskFormerTrainingArguments, evaluator: Evaluator) -> None:
    """Refuses a metric to find the best checkpoint by that no evaluation gives, before one is waited for."""
    metric, names = args.metric_for_best_model.removeprefix("eval_"), evaluator.metric_names
    if metric == "loss" and not args.eval_loss:
        raise ValueError("metric_for_best_model is the loss, which is not measured without eval_loss: pass it too.")
    if metric not in [*names, "loss"]:
        raise ValueError(
            f"metric_for_best_model must be one of {', '.join(names)}, or with eval_loss loss, got "
            f"{args.metric_for_best_model}."
        )
