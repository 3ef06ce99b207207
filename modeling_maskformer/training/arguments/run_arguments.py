"""RunArguments: how long, how fast and in what precision a run trains, and what it keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.utils import logging

from ...evaluation.metrics.mask_ap import MAX_DETECTIONS
from .arguments import MaskFormerTrainingArguments
from .data_defaults import (
    EPOCHS,
    LEARNING_RATE,
    LEARNING_RATE_FROM_CHECKPOINT,
    default_epochs,
    default_eval_steps,
    default_warmup_steps,
)
from .device_defaults import MAX_WORKERS, Machine, default_batch_size, default_num_workers, this_machine
from .loggers import default_loggers

logger = logging.get_logger(__name__)

# fields of transformers.TrainingArguments that the help shows with those that are redefined here
EVERYDAY_FIELDS = (
    "max_steps",
    "gradient_accumulation_steps",
    "bf16",
    "fp16",
    "activation_checkpointing",
    "dataloader_num_workers",
    "eval_steps",
    "seed",
    "use_cpu",
)


# what is decided once the data are known, and what holds until then
_UNTIL_DATA_ARE_KNOWN = {
    "num_train_epochs": float(EPOCHS),
    "learning_rate": LEARNING_RATE,
    "warmup_steps": 100,
    "eval_strategy": "epoch",
}


@dataclass
class RunArguments(MaskFormerTrainingArguments):
    """Training arguments with the defaults of a run on one's own data: a small batch, the best checkpoint kept.

    What is None is decided by the machine at once, or by the data in `choose_for`, which a run calls.
    """

    _argument_group_name = "training"

    output_dir: str = field(
        metadata={"help": "Folder for checkpoints, the final model, metrics, pictures and model card."}, kw_only=True
    )
    num_train_epochs: float | None = field(
        default=None,
        metadata={
            "help": "Times the training images are gone through. Default: 24; more for few images, so that there are "
            "1,000 steps, less for many, so that there are at most 160,000."
        },
    )
    per_device_train_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Training images per device and step. Default: 4, on a GPU with bfloat16 8; not more than there "
            "are."
        },
    )
    per_device_eval_batch_size: int = field(default=4, metadata={"help": "Evaluation images per device and step."})
    total_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Training images per optimizer step, over all devices: --gradient_accumulation_steps follows from "
            "it. Default: as many as the devices take at once, times --gradient_accumulation_steps."
        },
    )
    learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Highest learning rate, of all but the backbone. Default: 5e-4 for a new model, 2e-4 for a "
            "checkpoint, all of which is trained already."
        },
    )
    backbone_lr_factor: float = field(
        default=0.5, metadata={"help": "The backbone's learning rate is --learning_rate times this."}
    )
    max_grad_norm: float = field(
        default=1.0, metadata={"help": "The gradient of the whole model is scaled down to this norm; 0 turns it off."}
    )
    warmup_steps: float | None = field(
        default=None,
        metadata={
            "help": "Steps of warm-up; below 1, the part of the training that is warm-up. Default: a twentieth of the "
            "training, at most 1,500 steps."
        },
    )
    logging_steps: float = field(
        default=20, metadata={"help": "Steps between two logs of the loss and its parts; below 1, part of training."}
    )
    eval_strategy: Literal["no", "steps", "epoch"] | None = field(
        default=None,
        metadata={
            "help": "When to evaluate: after each epoch, every --eval_steps steps, or no. Default: steps with "
            "--eval_steps, else epoch; where few images make more than 40 epochs, 20 times in all."
        },
    )
    save_strategy: Literal["no", "steps", "epoch", "best"] | None = field(
        default=None,
        metadata={
            "help": "When to save: after each epoch, every --save_steps steps, best, or no. Default: steps with "
            "--save_steps, else when evaluated, else epoch."
        },
    )
    save_steps: float | None = field(
        default=None,
        metadata={"help": "Steps between two checkpoints; below 1, part of training. Default: --eval_steps, or 500."},
    )
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints to keep; the best one is always among them."}
    )
    load_best_model_at_end: bool | None = field(
        default=None,
        metadata={
            "help": "End with the best checkpoint, by the task's metric, instead of the last. Default: if each "
            "checkpoint is evaluated, as --eval_strategy and --save_strategy say."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "End after so many evaluations in a row without a better one. Default: never."},
    )
    bf16: bool | None = field(
        default=None,
        metadata={
            "help": "Mixed precision with bfloat16. Default: as `accelerate launch` is told, else on a GPU that has "
            "it, unless --fp16 is passed; not on a CPU."
        },
    )
    tf32: bool | None = field(
        default=None, metadata={"help": "Let a GPU compute float32 as TF32, which is faster. Default: if it can."}
    )
    dataloader_num_workers: int | None = field(
        default=None,
        metadata={
            "help": f"Processes that prepare images. Default: on a GPU one a CPU core but one, at most {MAX_WORKERS}; "
            "on a CPU none."
        },
    )
    dataloader_persistent_workers: bool | None = field(
        default=None, metadata={"help": "Keep these processes from one epoch to the next. Default: if there are any."}
    )
    report_to: list[str] | None = field(
        default=None,
        metadata={
            "help": "Where to send logs: none, tensorboard, wandb, ... (must be installed). Default: tensorboard, if "
            "it is installed."
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "Go on from this checkpoint folder, or from the last one in --output_dir: last."},
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Start anew in an --output_dir that holds another run: its files are replaced."},
    )
    panoptic_threshold: float = field(
        default=0.8,
        metadata={"help": "Least class probability of a panoptic segment in evaluation (paper: 0.8; on ADE20K 0.7)."},
    )
    max_detections: int = field(
        default=MAX_DETECTIONS,
        metadata={
            "help": "Of instance segmentation, how many detections of an image and class count in evaluation, the "
            "surest. COCO's is 100; pictures with more objects need a larger one."
        },
    )
    num_pictures: int = field(
        default=8,
        metadata={
            "help": "Evaluation images to draw the final model's predictions of, from the best to the worst by their "
            "own score; 0 for none."
        },
    )

    def __post_init__(self) -> None:
        self._fill_in_defaults(this_machine(self.use_cpu))
        self._settle_until_data_are_known()
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = self._every_checkpoint_is_evaluated()
        super().__post_init__()
        if not 0 <= self.panoptic_threshold <= 1:
            raise ValueError(f"panoptic_threshold must lie in [0, 1], got {self.panoptic_threshold}.")
        if self.max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, got {self.max_detections}.")
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise ValueError(f"early_stopping_patience must be at least 1, got {self.early_stopping_patience}.")
            if self.eval_strategy == IntervalStrategy.NO:
                raise ValueError("early_stopping_patience counts evaluations: it needs eval_strategy epoch or steps.")
        if self.total_batch_size is not None:
            self.gradient_accumulation_steps = self._steps_of_total_batch()

    def _fill_in_defaults(self, machine: Machine) -> None:
        """Decides what was left open; pinned memory and the fused optimizer are transformers' own defaults."""
        self._compute_as_accelerate_is_told()
        if self.bf16 is None:
            self.bf16 = machine.has_bf16 and not self.fp16
        if self.tf32 is None and machine.has_tf32:
            self.tf32 = True
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = default_num_workers(machine)
        if self.dataloader_persistent_workers is None:
            self.dataloader_persistent_workers = self.dataloader_num_workers > 0
        if self.report_to is None:
            self.report_to = default_loggers()

    def _every_checkpoint_is_evaluated(self) -> bool:
        """Whether the checkpoints can be compared; where they could not, though there are some, that is said."""
        evaluated, saved = IntervalStrategy(self.eval_strategy), SaveStrategy(self.save_strategy)
        if evaluated == IntervalStrategy.NO or saved == SaveStrategy.NO:
            return False
        if saved == SaveStrategy.BEST:
            return True
        if evaluated == saved == IntervalStrategy.EPOCH:
            return True
        steps = self.eval_steps or self.logging_steps  # as transformers has it
        are_alike = evaluated == saved and (steps < 1) == (self.save_steps < 1)
        if are_alike and steps > 0 and round(1e6 * self.save_steps) % round(1e6 * steps) == 0:
            return True
        logger.warning(
            "Not every checkpoint is evaluated, so the run ends with the last one, not with the best: for that, save "
            "as often as is evaluated (eval_strategy, save_strategy, eval_steps, save_steps), or save_strategy best."
        )
        return False

    def _settle_until_data_are_known(self) -> None:
        if self.eval_strategy is None and self.eval_steps is not None:
            self.eval_strategy = "steps"
        if self.save_strategy is None and self.save_steps is not None:
            self.save_strategy = "steps"
        self._open = {name for name in (*_UNTIL_DATA_ARE_KNOWN, "save_strategy") if getattr(self, name) is None}
        for name in self._open - {"save_strategy"}:
            setattr(self, name, _UNTIL_DATA_ARE_KNOWN[name])
        if self.per_device_train_batch_size is None:
            self.per_device_train_batch_size = 4
            if self.total_batch_size is None:
                self._open.add("per_device_train_batch_size")
        if self.save_strategy is None:
            self.save_strategy = "epoch" if self.eval_strategy == "no" else self.eval_strategy
        if self.save_steps is None:
            self.save_steps = self.eval_steps if self.save_strategy == "steps" and self.eval_steps else 500

    def choose_for(self, num_images: int, machine: Machine | None = None, from_checkpoint: bool = False) -> None:
        """Decides what was left open, for a training on so many images: batch, epochs, learning rate, evaluations.

        Raises:
            ValueError: `dataloader_drop_last` leaves no batch.
        """
        if "learning_rate" in self._open and from_checkpoint:
            self.learning_rate = LEARNING_RATE_FROM_CHECKPOINT
        if "per_device_train_batch_size" in self._open:
            default = default_batch_size(machine or this_machine(self.use_cpu))
            self.per_device_train_batch_size = max(1, min(default, num_images // self.world_size))
        at_once = self.train_batch_size * self.world_size
        if self.dataloader_drop_last and num_images < at_once:
            raise ValueError(
                f"dataloader_drop_last leaves out batches that are not full, and the {num_images} training images "
                f"fill none of {at_once}: leave it out, or lower per_device_train_batch_size."
            )
        if "num_train_epochs" in self._open:
            self.num_train_epochs = float(default_epochs(self.steps_per_epoch(num_images)))
        steps = self.total_steps(num_images)
        if "warmup_steps" in self._open:
            self.warmup_steps = default_warmup_steps(steps)
        every = default_eval_steps(self.num_train_epochs, steps)
        if every is not None and self.max_steps < 0 and {"num_train_epochs", "eval_strategy"} <= self._open:
            if "save_strategy" in self._open:
                self.save_strategy, self.save_steps = SaveStrategy.STEPS, every
            # the best checkpoint is one of those that are evaluated
            if "save_strategy" in self._open or not self.load_best_model_at_end:
                self.eval_strategy, self.eval_steps = IntervalStrategy.STEPS, every

    @property
    def images_per_step(self) -> int:
        """Training images of one optimizer step, over all devices."""
        return self.train_batch_size * self.world_size * self.gradient_accumulation_steps

    def smallest_batch(self, num_images: int) -> int:
        """Images of the smallest batch that a device gets: the last one of an epoch, if that is come by."""
        if self.dataloader_drop_last or self.total_steps(num_images) < self.steps_per_epoch(num_images):
            return self.train_batch_size
        rest = num_images % (self.train_batch_size * self.world_size) % self.train_batch_size
        return rest or self.train_batch_size

    def steps_per_epoch(self, num_images: int) -> int:
        """Optimizer steps that take each image once, or with `dataloader_drop_last` those that fill whole batches."""
        at_once = self.train_batch_size * self.world_size
        batches = num_images // at_once if self.dataloader_drop_last else math.ceil(num_images / at_once)
        return max(1, math.ceil(batches / self.gradient_accumulation_steps))

    def total_steps(self, num_images: int) -> int:
        """Optimizer steps of a training on so many images."""
        if self.max_steps > 0:
            return self.max_steps
        return math.ceil(self.num_train_epochs * self.steps_per_epoch(num_images))

    def _steps_of_total_batch(self) -> int:
        """How many batches of all devices make `total_batch_size` images."""
        if self.gradient_accumulation_steps != 1:
            raise ValueError("gradient_accumulation_steps follows from total_batch_size: pass one of them.")
        at_once = self.train_batch_size * self.world_size
        steps, rest = divmod(self.total_batch_size, at_once)
        if rest or steps < 1:
            raise ValueError(
                f"total_batch_size must be a multiple of the {at_once} images that all devices take at once "
                f"(per_device_train_batch_size {self.per_device_train_batch_size}), got {self.total_batch_size}."
            )
        return steps
