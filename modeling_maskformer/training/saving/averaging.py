"""AveragingTrainer: transformers' Trainer with whole checkpoints, and with averaged weights (EMA) on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import PredictionOutput, TrainOutput

from ..arguments.arguments import MaskFormerTrainingArguments
from .checkpointing import CheckpointingTrainer
from .weight_average import WeightAverage, check_average_in, save_weights_in_training


class AveragingTrainer(CheckpointingTrainer):
    """With `args.ema_decay` evaluation and everything that is saved are of the averaged weights.

    So is the model when the training has ended. A checkpoint has the weights in training in a file of their own, from
    which a resumed run goes on.

    Attributes:
        average: of the weights while they are trained; None otherwise.
    """

    average: WeightAverage | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.ema_decay is not None:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError("ema_decay averages whole weights, which FSDP and DeepSpeed spread over processes.")
            self.add_callback(_Averaging(self))

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `transformers.Trainer.train`; with `ema_decay` the model ends with the averaged weights."""
        self.average = None
        result = super().train(*args, **kwargs)
        if self.average is not None:
            self.average.copy_to_the_model()
            self.average = None
        return result

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        check_average_in(Path(resume_from_checkpoint), self.args.ema_decay)
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.args.ema_decay is not None:
            self.average = WeightAverage(self.model, self.args.ema_decay)
            self.average.go_on_from(Path(resume_from_checkpoint))

    def _finalize_training(self, *args: Any, **kwargs: Any) -> TrainOutput:
        self._give_the_model_the_weights_to_measure()
        return super()._finalize_training(*args, **kwargs)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self.average = None  # what is loaded is one

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves model and image processor, ready for `from_pretrained`; while it is trained, the averaged weights."""
        with self._averaged() as in_training:
            super().save_model(output_dir, _internal_call)
        if in_training and _internal_call and self.args.should_save and not self.args.save_only_model:
            with self._noting_problems():
                save_weights_in_training(in_training, Path(output_dir))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of the evaluation set, as `transformers.Trainer.evaluate`; of the averaged weights, if any."""
        with self._averaged():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        """The metrics of another set, as `evaluate` gives them; predictions are not kept."""
        with self._averaged():
            return super().predict(*args, **kwargs)

    @contextmanager
    def _averaged(self) -> Iterator[dict[str, Tensor]]:
        """The model has the averaged weights inside, if there are any; given are its own then."""
        self._give_the_model_the_weights_to_measure()
        if self.average is None:
            yield {}
            return
        with self.average.in_the_model() as in_training:
            yield in_training

    def _give_the_model_the_weights_to_measure(self) -> None:
        """Schedule-free optimizers have others than those in training, which come back with the next step."""
        if callable(getattr(self.optimizer, "eval", None)):
            self.optimizer.eval()


class _Averaging(TrainerCallback):
    """Takes the weights into the average of a trainer, after each step."""

    def __init__(self, trainer: AveragingTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: MaskFormerTrainingArguments, *_: Any, **__: Any) -> None:
        if self._trainer.average is None:
            self._trainer.average = WeightAverage(self._trainer.model, args.ema_decay)

    def on_step_end(self, args: MaskFormerTrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        self._trainer.average.update(state.global_step)
