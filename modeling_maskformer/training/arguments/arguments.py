"""MaskFormerTrainingArguments: transformers' training arguments and the few that MaskFormer's recipes need besides."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments, get_scheduler
from transformers.trainer_utils import SchedulerType
from transformers.utils import is_torch_xla_available, logging

from .loggers import check_loggers

logger = logging.get_logger(__name__)

# what transformers' evaluation loop would read, while ours gathers states of metrics, no predictions; and what would
# hide a loss that is not finite, at which a run ends
_WITHOUT_EFFECT = (
    "batch_eval_metrics",
    "eval_accumulation_steps",
    "eval_use_gather_object",
    "include_for_metrics",
    "label_smoothing_factor",
    "logging_nan_inf_filter",
    "prediction_loss_only",
    "use_liger_kernel",
)
_HALF = ("bf16", "fp16")  # names of flags, and of accelerate's precisions
# what no command line can set: objects, and the lengths by which texts are sorted
_NOT_FOR_COMMANDS = ("length_column_name", "liger_kernel_config", "parallelism_config")


@dataclass
class MaskFormerTrainingArguments(TrainingArguments):
    """Arguments of `MaskFormerTrainer`. The defaults are the paper's recipe for ResNet backbones.

    Learning rate, weight decay, warm-up, clip and precision are called as in `transformers.TrainingArguments`; only
    their defaults differ. `metric_for_best_model` is by default the task's own (mean IoU, mask AP or PQ).

    Raises:
        ValueError: on a value out of range, settings of another schedule than the chosen one, or a logger that is not
            there.
    """

    _refused_fields = ("remove_unused_columns", *_WITHOUT_EFFECT, *_NOT_FOR_COMMANDS)

    learning_rate: float = field(default=1e-4, metadata={"help": "Highest learning rate, of all but the backbone."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Weight decay of AdamW."})
    max_grad_norm: float = field(
        default=0.01, metadata={"help": "The gradient of the whole model is scaled down to this norm; 0 turns it off."}
    )
    lr_scheduler_type: SchedulerType | str = field(
        default="polynomial",
        metadata={
            "help": "How the learning rate falls. polynomial: as (1 - step / steps) ** poly_power, to 0. "
            "constant_with_warmup: in steps, see --lr_milestones. The others are those of transformers."
        },
    )
    bf16: bool | None = field(
        default=None,
        metadata={"help": "Mixed precision with bfloat16. Default: if `accelerate launch` is told so."},
    )
    fp16: bool | None = field(
        default=None,
        metadata={"help": "Mixed precision with float16. Default: if `accelerate launch` is told so."},
    )
    metric_for_best_model: str | None = field(
        default=None,
        metadata={"help": "What the best checkpoint has most of. Default: the task's (mean_iou, ap or pq)."},
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay off: the collator reads more than the model."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Must stay off: a run ends at the first loss that is not finite."}
    )

    backbone_lr_factor: float = field(
        default=0.1, metadata={"help": "The backbone's learning rate is --learning_rate times this."}
    )
    decay_norms_and_embeddings: bool = field(
        default=False,
        metadata={"help": "Let weight decay also act on normalisation layers, embeddings and position tables."},
    )
    poly_power: float = field(default=0.9, metadata={"help": "Exponent of the polynomial schedule."})
    warmup_factor: float = field(
        default=1e-6,
        metadata={"help": "Warm-up (--warmup_steps) starts at this part of the learning rate, and rises linearly."},
    )
    lr_milestones: list[float] = field(
        default_factory=list,
        metadata={
            "help": "With --lr_scheduler_type constant_with_warmup: the steps (below 1: the parts of the training) "
            "after which the learning rate is multiplied by --lr_gamma. Default: none."
        },
    )
    lr_gamma: float = field(default=0.1, metadata={"help": "Factor of the learning rate at each of --lr_milestones."})
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "Average the weights over the steps with this decay, as 0.999 (less in the first steps). "
            "Evaluation, the best checkpoint and the final model are of the averaged weights. Default: no average."
        },
    )
    eval_loss: bool = field(
        default=False, metadata={"help": "Compute the loss on the evaluation images too, which takes longer."}
    )

    def __post_init__(self) -> None:
        metric_is_chosen = self.metric_for_best_model is not None
        self._compute_as_accelerate_is_told()
        self.bf16, self.fp16 = bool(self.bf16), bool(self.fp16)
        if self.bf16 and not torch.accelerator.is_available() and not is_torch_xla_available():
            self.use_cpu = True  # transformers wants it said, though there is nothing else
        super().__post_init__()
        if self.n_gpu > 1:  # transformers would take nn.DataParallel, which cuts each image's segments into parts
            logger.warning(f"One of {self.n_gpu} GPUs is used: accelerate launch starts a process for each of them.")
            self._n_gpu = 1
        if not (self.bf16 or self.fp16) and self.mixed_precision in _HALF:
            self.mixed_precision = "no"  # transformers lets what accelerate is told win over flags that are off
        check_loggers(self.report_to)
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # which is for copies to a GPU
        if not metric_is_chosen:  # transformers would take the loss; the trainer knows the task's metric
            self.metric_for_best_model = None
            self.greater_is_better = None
        if self.remove_unused_columns:
            raise ValueError(
                "remove_unused_columns must be False: the collator reads columns that the model does not."
            )
        for name in _WITHOUT_EFFECT:
            if getattr(self, name):
                raise ValueError(f"{name} has no effect in MaskFormerTrainer: leave it out.")
        sharing = self.accelerator_config
        if sharing.dispatch_batches or not sharing.even_batches:
            raise ValueError(
                "accelerator_config must leave dispatch_batches off and even_batches on: MaskFormerTrainer counts the "
                "images of several processes by batches that each of them reads, as many in each."
            )
        if self.train_sampling_strategy not in ("random", "sequential"):
            raise ValueError(
                f"train_sampling_strategy must be random or sequential, got {self.train_sampling_strategy}: images "
                "have no lengths to sort by."
            )
        for name in ("seed", "data_seed"):
            if not 0 <= (getattr(self, name) or 0) < 2**32:
                raise ValueError(f"{name} must lie between 0 and 2**32 - 1, got {getattr(self, name)}.")
        if self.backbone_lr_factor < 0:
            raise ValueError(f"backbone_lr_factor must be at least 0, got {self.backbone_lr_factor}.")
        if not 0 <= self.warmup_factor <= 1:
            raise ValueError(f"warmup_factor must lie in [0, 1], got {self.warmup_factor}.")
        if self.poly_power <= 0:
            raise ValueError(f"poly_power must be above 0, got {self.poly_power}.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie between 0 and 1, got {self.ema_decay}.")
        if any(milestone <= 0 for milestone in self.lr_milestones):
            raise ValueError(f"lr_milestones must be above 0, got {self.lr_milestones}.")
        own_schedules = (SchedulerType.POLYNOMIAL, SchedulerType.CONSTANT_WITH_WARMUP)
        if self.lr_scheduler_kwargs and self.lr_scheduler_type in own_schedules:
            raise ValueError(
                f"lr_scheduler_kwargs has no effect with lr_scheduler_type={self.lr_scheduler_type.value}, which has "
                f"arguments of its own (poly_power; lr_milestones and lr_gamma): got {self.lr_scheduler_kwargs}."
            )
        if self.lr_scheduler_kwargs and self.lr_scheduler_type == SchedulerType.CONSTANT:
            raise ValueError(
                f"lr_scheduler_kwargs has no effect with lr_scheduler_type=constant: got {self.lr_scheduler_kwargs}."
            )
        if self.lr_scheduler_type not in own_schedules:
            self._check_schedule()
        if self.lr_milestones and self.lr_scheduler_type != SchedulerType.CONSTANT_WITH_WARMUP:
            raise ValueError(
                f"lr_milestones need lr_scheduler_type=constant_with_warmup, got {self.lr_scheduler_type.value}."
            )

    def _check_schedule(self) -> None:
        """Makes the schedule, one of transformers', for a weight of its own: what it lacks is said before training."""
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=self.learning_rate)
        try:
            get_scheduler(
                self.lr_scheduler_type,
                optimizer,
                num_warmup_steps=0,
                num_training_steps=max(self.max_steps, 1),
                scheduler_specific_kwargs=self.lr_scheduler_kwargs,
            )
        except (TypeError, ValueError) as error:
            name, given = self.lr_scheduler_type.value, self.lr_scheduler_kwargs or "none"
            raise ValueError(
                f"lr_scheduler_type={name} needs other lr_scheduler_kwargs than {given}: {error}"
            ) from error

    def _compute_as_accelerate_is_told(self) -> None:
        """Half precision that `accelerate launch` is told of, by a flag or its file, where no flag here is given."""
        told = os.environ.get("ACCELERATE_MIXED_PRECISION")
        if told in _HALF and not (self.bf16 or self.fp16) and getattr(self, told) is None:
            setattr(self, told, True)

    def milestones_in_steps(self, num_training_steps: int) -> list[int]:
        """`lr_milestones` as optimizer steps."""
        return [
            int(milestone if milestone >= 1 else milestone * num_training_steps) for milestone in self.lr_milestones
        ]
