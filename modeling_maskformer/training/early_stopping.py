"""EarlyStopping: transformers' own, which goes on counting where a run is resumed."""

from __future__ import annotations

from pathlib import Path

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME


class EarlyStopping(EarlyStoppingCallback):
    """Ends the training after so many evaluations in a row that were not the best so far.

    Transformers starts to count anew when a run is resumed, or takes all that its callbacks and the trainer's control
    had in mind, also what no longer holds; here only the count is taken over.
    """

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience_counter = count_in(state)
        control.should_training_stop = self.early_stopping_patience_counter >= self.early_stopping_patience


def count_in(state: TrainerState) -> int:
    """How many evaluations in a row were not better, as a state that was saved tells it; 0 where it does not."""
    saved = state.stateful_callbacks.get(EarlyStopping.__name__, {})
    saved = saved if isinstance(saved, dict) else saved[-1]
    return saved.get("attributes", {}).get("early_stopping_patience_counter", 0)


def was_ended_early(checkpoint: Path, patience: int | None) -> bool:
    """Whether the run of a checkpoint had come to its end there, with this patience."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    return patience is not None and count_in(state) >= patience
